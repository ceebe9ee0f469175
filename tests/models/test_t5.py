"""T5, of both versions as transformers computes them (tests/golden/t5), and its laws: what is seen by whom, what the
cache is, what is refused."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from juliagpt_jax.data.batch import IGNORED
from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.inference.scoring import token_losses
from juliagpt_jax.models import build, precision, t5
from juliagpt_jax.store import families, hf

OWN = ("model.kind=t5", "model.positions=none")


@pytest.fixture(scope="module", params=["v1_0", "v1_1"])
def given(request, golden, tiny):
    """A golden model: ours, its parameters, and a compiled function for the gradients of what the arrays are of."""
    folder = golden / "t5" / request.param
    facts = json.loads((folder / "config.json").read_text())
    fields, params = hf.read_model(folder, facts)
    values = config.to_dict(tiny())
    values["model"] |= fields
    model = build.build_model(config.build(values), facts["vocab_size"])
    model.check()
    io = np.load(folder / "io.npz")
    there = np.arange(io["source"].shape[1]) < io["lengths"][:, None]
    labels = io["labels"]
    inputs = {
        "source": np.where(there, io["source"], t5.ABSENT),
        "tokens": np.pad(np.where(labels == -100, 0, labels)[:, :-1], ((0, 0), (1, 0))),
    }
    targets = np.where(labels == -100, IGNORED, labels)

    def loss(params):
        logits, *_ = model.apply({"params": params}, inputs)
        return jnp.sum(token_losses(logits, targets)) / np.sum(targets != IGNORED), logits

    params = unflatten_dict({tuple(path.split("/")): jnp.asarray(leaf) for path, leaf in params.items()})
    (value, logits), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return SimpleNamespace(
        model=model, params=params, io=io, inputs=inputs, loss=value, logits=logits, grads=grads, name=request.param
    )


def test_what_the_files_say(given):
    model = given.model.config
    new = given.name == "v1_1"
    assert (model.t5.channel, model.t5.scale_head, model.tie) == (("geglu", False, False) if new else ("relu", True, True))
    assert (model.t5.encoder_layers, model.layers, model.t5.head_width) == (3 if new else 2, 2, 4)


def test_logits_loss_and_gradients(given):
    np.testing.assert_allclose(given.logits, given.io["logits"], atol=2e-5 * np.abs(given.io["logits"]).max())
    assert float(given.loss) == pytest.approx(float(given.io["loss"]), abs=2e-6)
    flat = {path: np.asarray(leaf) for path, leaf in flatten_dict(given.grads, sep="/").items()}
    ours = families.to_tensors(families.FAMILIES["t5"], flat, given.model.config)
    wanted = {name.split()[1]: given.io[name] for name in given.io.files if name.startswith("gradient_of ")}
    assert len(wanted) == 6
    for name, grad in wanted.items():
        np.testing.assert_allclose(ours[name], grad, atol=1e-4 * np.abs(grad).max(), err_msg=name)


def test_greedy_answers_of_prompts_of_different_length(given):
    prompts = [row[:n] for row, n in zip(given.io["source"], given.io["lengths"], strict=True)]
    generator = Generator(given.model, given.params, slots=32)
    np.testing.assert_array_equal(generator.generate(prompts, 16, Rule(greedy=True)), given.io["greedy"])
    np.testing.assert_array_equal(generator.generate(prompts[1:2], 16, Rule(greedy=True)), given.io["greedy"][1:2])


def test_buckets(golden, tiny):
    arrays, at = np.load(golden / "t5" / "buckets.npz"), np.arange(-300, 301)
    for name, buckets, distance, both_ways in [("both", 32, 128, True), ("causal", 32, 128, False), ("small", 8, 12, True)]:
        model = tiny(*OWN, f"model.t5.buckets={buckets}", f"model.t5.distance={distance}").model
        found = t5.bucket(model, jnp.zeros((1, 1), int), jnp.asarray(at)[None], both_ways)[0, 0]
        np.testing.assert_array_equal(found, arrays[name], err_msg=name)
