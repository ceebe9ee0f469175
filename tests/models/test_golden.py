"""Llama and GPT-2 as Hugging Face's transformers computes them, read as any model from outside is: from arrays made
outside this project (tests/golden/README.md)."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from juliagpt_jax.data.batch import IGNORED
from juliagpt_jax.ground import config
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.inference.scoring import token_losses
from juliagpt_jax.models.decoder import Decoder
from juliagpt_jax.store import families, hf


@pytest.fixture(scope="module", params=["llama_mha_tied", "llama_gqa_untied", "gpt2_tied"])
def given(request, golden, tiny):
    folder = golden / request.param
    facts = json.loads((folder / "config.json").read_text())
    fields, params = hf.read_model(folder, facts)
    values = config.to_dict(tiny())
    values["model"] |= fields
    params = unflatten_dict({tuple(path.split("/")): jnp.asarray(leaf) for path, leaf in params.items()})
    return SimpleNamespace(
        family=families.FAMILIES[facts["model_type"]],
        model=Decoder(config.build(values).model, facts["vocab_size"]),
        params=params,
        io=np.load(folder / "io.npz"),
        grads=np.load(folder / "param_grads.npz"),
    )


def test_the_folders_differ_where_they_should(golden):
    facts = [json.loads((golden / f / "config.json").read_text()) for f in ("llama_mha_tied", "llama_gqa_untied")]
    assert [f["tie_word_embeddings"] for f in facts] == [True, False]
    assert [f["num_key_value_heads"] for f in facts] == [4, 2]


def loss_of(given, params, labels):
    """Mean cross entropy of each label but the first, given what is before it; -100 is not scored."""
    logits, *_ = given.model.apply({"params": params}, jnp.asarray(given.io["input_ids"]))
    targets = np.where(labels == -100, IGNORED, labels)[:, 1:]
    return jnp.sum(token_losses(logits[:, :-1], jnp.asarray(targets))) / np.sum(targets != IGNORED)


def test_logits(given):
    logits, *_ = jax.jit(given.model.apply)({"params": given.params}, given.io["input_ids"])
    np.testing.assert_allclose(logits, given.io["logits"], atol=2e-5, rtol=0)
    np.testing.assert_allclose(logits, given.io["logits_f64run"], atol=2e-5, rtol=0)


def test_logits_at_the_positions_of_a_left_padded_batch(given):
    """Theirs are padded on the left; the same tokens at the same positions, padded on the right, must give the same."""
    mask, slots = given.io["leftpad_attention_mask"].astype(bool), given.model.config.context
    assert not mask.all()
    for row, kept in enumerate(mask):
        tokens, positions = (
            given.io["input_ids"][row : row + 1, kept],
            given.io["leftpad_position_ids"][row : row + 1, kept],
        )
        empty = given.model.init_cache(1, slots)
        logits, *_ = jax.jit(given.model.apply)({"params": given.params}, tokens, positions, empty)
        np.testing.assert_allclose(logits[0], given.io["leftpad_logits"][row, kept], atol=2e-5, rtol=0)


@pytest.mark.parametrize("labels, wanted", [("input_ids", "loss"), ("labels_masked", "loss_masked")])
def test_loss(given, labels, wanted):
    loss = jax.jit(lambda p: loss_of(given, p, given.io[labels]))(given.params)
    assert abs(float(loss) - float(given.io[wanted])) < 2e-6


def test_gradients(given):
    grads = jax.jit(jax.grad(lambda p: loss_of(given, p, given.io["input_ids"])))(given.params)
    flat = {path: np.asarray(grad) for path, grad in flatten_dict(grads, sep="/").items()}
    ours = families.to_tensors(given.family, flat, given.model.config)
    assert set(ours) == set(given.grads.files)
    for name, grad in ours.items():
        wanted = given.grads[name]
        assert np.linalg.norm(grad - wanted) <= 1e-4 * np.linalg.norm(wanted), name
        np.testing.assert_allclose(grad, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max(), err_msg=name)


def test_greedy_continuation(given):
    assert given.io["greedy_min_margin"] > 1e-4, "no tie that rounding could decide"
    prompts, length = given.io["prompt"], given.io["prompt"].shape[1]
    new = Generator(given.model, given.params).generate(list(prompts), 16, Rule(greedy=True))
    np.testing.assert_array_equal(new, given.io["greedy"][:, length:])
