"""Attention under the masks of a window, by blocks and with a cache as large as the window, beside plain attention
under the same mask, which test_masks.py holds to the definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.inference.speculative import SpeculativeGenerator
from juliagpt_jax.models import windowed
from juliagpt_jax.models.attention import Attention
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.layers import linears
from juliagpt_jax.models.mixers import MIXERS, flops

B, H, K, C = 2, 4, 2, 8
MASKED = [("window", 5), ("sinks", 5), ("window", 1), ("sinks", 40), ("window", 300)]


def mixer(tiny, word, window, context=400, kind="attention", *flags):
    shape = (f"model.width={H * C}", f"model.heads={H}", f"model.kv_heads={K}", f"model.context={context}")
    model = tiny(*shape, f"model.window={window}", "model.sink_tokens=3", "model.sparse.top=4", *flags).model
    return MIXERS[kind](model, 1.0, linears(model), word)


def drawn(tokens):
    return [jax.random.normal(jax.random.key(i), (B, heads, tokens, C)) for i, heads in enumerate((H, K, K))]


def _attend(mixer, q, k, v, positions, cache, **params):
    return mixer.apply({"params": params}, q, k, v, positions, cache, lambda weights: weights, method="attend")


attend = jax.jit(_attend, static_argnums=0)


@pytest.mark.parametrize("kind", ["attention", "topk"])
@pytest.mark.parametrize("word, window", MASKED)
def test_blocks_are_the_masked_whole(word, window, kind, tiny, monkeypatch):
    """Value and gradients, with a learnt sink, of a text that fills no whole number of blocks."""
    monkeypatch.setattr(windowed, "BLOCK", 64)
    tokens, sink = 333, jnp.array([0.5, -1.0, 2.0, 0.0])
    layer, given = mixer(tiny, word, window, 400, kind, "model.sink=logit"), drawn(tokens)
    run = lambda *given: attend(layer, *given[:3], jnp.arange(tokens)[None], None, sink_logit=given[3])[0]
    loss = jax.jit(jax.value_and_grad(lambda *given: jnp.sum(jnp.sin(run(*given))), (0, 1, 2, 3)))
    got, slopes = loss(*given, sink)
    called: list[bool] = []
    monkeypatch.setattr(windowed, "pays", lambda *sizes: bool(called.append(True)))
    whole = lambda q, k, v, sink: _attend(layer, q, k, v, jnp.arange(tokens)[None], None, sink_logit=sink)[0]
    plain = jax.jit(jax.value_and_grad(lambda *given: jnp.sum(jnp.sin(whole(*given))), (0, 1, 2, 3)))
    wanted, theirs = plain(*given, sink)
    assert called
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    for mine, other in zip(slopes, theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=2e-5 * np.abs(other).max())


def test_blocks_are_taken_where_they_pay(tiny):
    """And cost what they meet; a short text is attended to as a whole."""
    assert windowed.shape(5, 100) == (16, 16) and windowed.shape(300, 1000) == (128, 384)
    assert windowed.pays(1000, (3, 300)) is False and windowed.pays(1100, (3, 300)) is True
    model = tiny("model.mask=window causal", "model.window=64", "model.context=512").model
    assert flops(model) == [4 * 32 * 128, 4 * 32 * 512]
    assert Attention.flops(tiny("model.window=64", "model.context=200").model, "window") == 4 * 32 * 200


@pytest.mark.parametrize("chunks", [[1] * 30, [7, 1, 1, 19, 2], [30]], ids=["one by one", "chunks", "whole"])
@pytest.mark.parametrize("word", ["window", "sinks"])
def test_a_bounded_cache_shows_what_the_mask_shows(word, chunks, tiny):
    """Rows of 30 and 22 tokens, the shorter one padded; the ring goes round, and what is in it first does not
    matter."""
    layer, (q, k, v) = mixer(tiny, word, 4, 64), drawn(30)
    wanted = np.asarray(attend(layer, q, k, v, jnp.arange(30)[None], None)[0])
    cache = layer.init_cache(B, 64, jnp.float32)
    assert cache["late_k"].shape[2] == 4 + windowed.SPARE and cache["early_k"].shape[2] == (3 if word == "sinks" else 0)
    assert jax.tree.map(jnp.shape, cache) == jax.tree.map(jnp.shape, layer.init_cache(B, 1_000_000, jnp.float32))
    cache = {name: leaf if name == "slots" else leaf + 50 for name, leaf in cache.items()}
    at, lengths = 0, np.array([[30], [22]])
    for count in chunks:
        positions = at + np.arange(count)[None]
        part = [x[:, :, at : at + count] for x in (q, k, v)]
        y, cache = attend(layer, *part, jnp.where(positions < lengths, positions, 64), cache)
        for row in range(B):
            real = max(0, min(count, int(lengths[row, 0]) - at))
            np.testing.assert_allclose(y[row, :real], wanted[row, at : at + real], atol=1e-5)
        at += count


def test_a_pad_leaves_the_ring_as_it_is(tiny):
    layer, (q, k, v) = mixer(tiny, "sinks", 4, 64), drawn(9)
    cache = attend(layer, q, k, v, jnp.arange(9)[None], layer.init_cache(B, 64, jnp.float32))[1]
    for count in (1, 5):
        part = [x[:, :, :count] for x in (q, k, v)]
        positions = jnp.array([[9], [64]]) + jnp.arange(count)[None]
        after = attend(layer, *part, positions, cache)[1]
        for name, leaf in after.items():
            np.testing.assert_array_equal(leaf[1], cache[name][1], err_msg=name)
        assert np.any(np.asarray(after["late_k"])[0] != np.asarray(cache["late_k"])[0])


@pytest.mark.parametrize("word", ["window", "sinks"])
def test_as_many_tokens_as_are_spare_can_be_taken_back(word, tiny):
    """After SPARE other tokens were read, the text goes on from where it was."""
    layer, (q, k, v) = mixer(tiny, word, 6, 100), drawn(64)
    wanted = np.asarray(attend(layer, q, k, v, jnp.arange(64)[None], None)[0])
    part = lambda a, b: [x[:, :, a:b] for x in (q, k, v)]
    cache = attend(layer, *part(0, 40), jnp.arange(40)[None], layer.init_cache(B, 100, jnp.float32))[1]
    others = [x + 1 for x in part(0, windowed.SPARE)]
    cache = attend(layer, *others, 40 + jnp.arange(windowed.SPARE)[None], cache)[1]
    for a, b in ((40, 42), (42, 43), (43, 60)):
        y, cache = attend(layer, *part(a, b), jnp.arange(a, b)[None], cache)
        np.testing.assert_allclose(y, wanted[:, a:b], atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("flags", [("model.mask=window",), ("model.mask=sinks causal", "model.sink=token")])
def test_text_of_a_model_with_a_window(flags, tiny, past_the_context):
    """Past the context, as a forward pass a token says; with a draft, the same text."""
    shape = ("model.window=4", "model.sink_tokens=2", "model.tie=false", "model.context=48", "model.unet=true")
    more = ("model.value_embedding=x0", "model.head_gate=true", "model.kv_heads=1")
    model = build_model(tiny(*shape, *more, *flags), 11)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 2), int))["params"]
    params = jax.tree.map(lambda p: p * 2 if p.ndim == 2 else p, params)
    assert "late_k" in model.init_cache(1, 48)[0]
    prompts = [np.arange(3), np.arange(40) % 11]
    past_the_context(model, params, prompts)
    small = build_model(tiny(*shape, *flags, "model.layers=1"), 11)
    others = jax.jit(small.init)(jax.random.key(1), jnp.zeros((1, 2), int))["params"]
    drafted = SpeculativeGenerator(model, params, small, others, 4).generate(prompts, 40, Rule(greedy=True))
    np.testing.assert_array_equal(drafted, Generator(model, params).generate(prompts, 40, Rule(greedy=True)))
