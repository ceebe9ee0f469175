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
    assert (model.t5.channel, model.t5.scale_head, model.tie) == (
        ("geglu", False, False) if new else ("relu", True, True)
    )
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
    for name, buckets, distance, both_ways in [
        ("both", 32, 128, True),
        ("causal", 32, 128, False),
        ("small", 8, 12, True),
    ]:
        model = tiny(*OWN, f"model.t5.buckets={buckets}", f"model.t5.distance={distance}").model
        found = t5.bucket(model, jnp.zeros((1, 1), int), jnp.asarray(at)[None], both_ways)[0, 0]
        np.testing.assert_array_equal(found, arrays[name], err_msg=name)


# Laws.


SIZES = ("model.width=12", "model.heads=3", "model.t5.head_width=2", "model.layers=2", "model.t5.encoder_layers=1")


@pytest.fixture(scope="module")
def small(tiny):
    """A model with random weights, its forward pass, and a cached one of 8 slots."""
    settings = tiny(*OWN, *SIZES, "model.t5.buckets=8", "model.t5.distance=6", "model.tie=false")
    model = build.build_model(settings, 11)
    model.check()
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"]
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0.2, 0.5, leaf.shape), jnp.float32), shapes)
    source, tokens = rng.integers(11, size=(2, 3, 7)).astype(np.int32)
    source[1, 4:], source[2, :] = t5.ABSENT, t5.ABSENT
    forward = jax.jit(lambda source, tokens: model.apply({"params": params}, {"source": source, "tokens": tokens})[0])
    read = jax.jit(lambda given, at, cache: model.apply({"params": params}, given, at, cache)[:2])
    return SimpleNamespace(model=model, params=params, source=source, tokens=tokens, forward=forward, read=read)


def test_decoding_is_the_forward_pass(small):
    """A source and the beginnings of answers of different length in one padded prefill, then token by token."""
    wanted, lengths, slots = np.asarray(small.forward(small.source, small.tokens)), np.array([1, 3, 2]), np.arange(4)
    at = np.where(slots[None] < lengths[:, None], slots[None], 8)
    given = {"source": small.source, "tokens": small.tokens[:, :4]}
    logits, cache = small.read(given, at, small.model.init_cache(3, 8))
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(logits[row, :length], wanted[row, :length], atol=2e-6)
    for ahead in range(3):
        at = lengths + ahead
        logits, cache = small.read(small.tokens[np.arange(3), at][:, None], at[:, None], cache)
        np.testing.assert_allclose(logits[:, 0], wanted[np.arange(3), at], atol=2e-6)
    fresh, _ = small.read(given, np.where(slots[None] < 4, slots[None], 8).repeat(3, 0), cache)
    np.testing.assert_allclose(fresh, wanted[:, :4], atol=2e-6)  # a source begins a cache anew


def test_logits_of_one_token_of_each_answer(small):
    wanted, at = np.asarray(small.forward(small.source, small.tokens)), np.array([0, 2, 6])
    given = {"source": small.source, "tokens": small.tokens}
    found = jax.jit(small.model.apply)({"params": small.params}, given, at=at)[0]
    np.testing.assert_allclose(found, wanted[np.arange(3), at][:, None], atol=2e-6)


@pytest.mark.parametrize("sizes", [(7, 1), (1, 7)], ids=["source", "answer"])
def test_word_dropout_is_of_both(small, sizes, tiny):
    """A side of one token makes two outcomes at most; more than those come from the other side's seven."""
    settings = tiny(*OWN, *SIZES, "model.t5.buckets=8", "model.tie=false", "model.word_dropout=0.5")
    model = build.build_model(settings, 11)
    given = {name: np.arange(n)[None] for name, n in zip(("source", "tokens"), sizes, strict=True)}
    run = lambda key: model.apply({"params": small.params}, given, rngs={"dropout": key})[0][0, -1]
    outcomes = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 64))
    assert len(np.unique(np.round(outcomes, 4), axis=0)) > 4


def test_who_sees_whom(small):
    """No row sees another, no token a later one, every token all of its source; what is absent is seen by none, and a
    source of which nothing is there is as none."""
    one = np.asarray(small.forward(small.source, small.tokens))
    later = np.asarray(small.forward(small.source, np.where(np.arange(7) < 4, small.tokens, 1 + small.tokens % 10)))
    np.testing.assert_array_equal(one[:, :4], later[:, :4])
    assert (one[:, 4:] != later[:, 4:]).any(-1).all()
    changed = small.source.copy()
    changed[0, 6] = (changed[0, 6] + 1) % 11
    moved = np.asarray(small.forward(changed, small.tokens)) != one
    assert moved[0].any(-1).all() and not moved[1:].any()
    longer = np.pad(small.source, ((0, 0), (0, 3)), constant_values=t5.ABSENT)
    np.testing.assert_allclose(small.forward(longer, small.tokens), one, atol=2e-6)
    without = small.model.apply({"params": small.params}, small.tokens[2:])[0]
    np.testing.assert_allclose(without[0], one[2], atol=2e-6)


@pytest.mark.parametrize(
    "override, says",
    [
        ("model.positions=rotary", "config.model.positions: rotary is of decoders; a T5 has none"),
        ("model.kv_heads=1", "model.kv_heads: 1 is of decoders; a T5 has 0"),
        ("model.scan_layers=true", "model.scan_layers: True is of decoders"),
        ("model.depth=ode", "model.depth: ode is of decoders"),
        ("model.t5.buckets=7", "model.t5.buckets: 7 must be even"),
        ("model.t5.channel=swiglu", "model.t5.channel"),
    ],
)
def test_what_a_t5_does_not_have(override, says, tiny):
    with pytest.raises(UserError, match=says):
        build.check(tiny(*OWN, *SIZES, override))


def test_precisions(small):
    """bfloat16 and int8 stay near; float16, which activations of a T5 overflow, is refused."""
    given, wanted = {"source": small.source, "tokens": small.tokens}, small.forward(small.source, small.tokens)
    for word, far in [("bf16", 0.15), ("int8", 0.1)]:
        model, params = precision.prepare(small.model, small.params, word)
        logits = jax.jit(model.apply)({"params": params}, given)[0]
        assert logits.dtype == jnp.float32
        assert 0 < np.abs(logits - wanted).max() < far * np.abs(wanted).max(), word
    with pytest.raises(UserError, match="f16: the activations of a T5 overflow it"):
        precision.prepare(small.model, small.params, "f16")


def test_generators_refuse_what_a_t5_cannot(small):
    generator, prompt = Generator(small.model, small.params, slots=8), small.source[0]
    for prompts, new in [([prompt], 8), ([np.zeros(9, np.int32)], 2)]:
        with pytest.raises(UserError, match="must each fit into the 8 slots"):
            generator.generate(prompts, new, Rule(greedy=True))
    for more, says in [({"sinks": 2}, "--sinks: a T5 sees all"), ({"evict": True}, "--evict: a T5 has no cache")]:
        with pytest.raises(UserError, match=says):
            Generator(small.model, small.params, slots=8, **more)
