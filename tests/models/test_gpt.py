"""The page and the kit: `decoder.py` with the default names is `gpt.py`; and `gpt.py` stays one page on its own."""

import ast
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.models import gpt
from juliagpt_jax.models.decoder import DTYPES, Decoder

VOCAB, SLOTS = 17, 16

CASES = {
    "default": [],
    "grouped": ["model.heads=4", "model.kv_heads=2"],
    "one key": ["model.heads=4", "model.kv_heads=1"],
    "untied": ["model.tie=false"],
    "deep": ["model.layers=4", "model.width=16"],
    "base": ["model.rope_base=500.0", "model.ffn_mult=2.75"],
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def pair(request, tiny):
    """The two models of one config, parameters for both, and tokens (2, 12)."""
    config = tiny(*request.param)
    m = config.model
    page = gpt.GPT(VOCAB, m.width, m.layers, m.heads, m.hidden, m.kv_heads, m.rope_base, m.dropout, m.tie)
    tokens = jax.random.randint(jax.random.key(1), (2, 12), 0, VOCAB)
    params = jax.jit(page.init)(jax.random.key(0), tokens)["params"]
    return page, Decoder(m, VOCAB), params, tokens


def test_same_parameters(pair):
    page, kit, _, tokens = pair
    ours, theirs = (jax.eval_shape(model.init, jax.random.key(0), tokens) for model in (kit, page))
    chex.assert_trees_all_equal_shapes_and_dtypes(ours, theirs)


def test_same_logits_and_gradients(pair):
    page, kit, params, tokens = pair

    def run(model):
        def loss(params):
            logits, cache, *_ = model.apply({"params": params}, tokens)
            assert cache is None
            return jnp.sum(jnp.sin(logits * 3)), logits

        (_, logits), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        return logits, grads

    logits, _ = ours = run(kit)
    chex.assert_shape(logits, (2, 12, VOCAB))
    chex.assert_type(logits, jnp.float32)
    chex.assert_trees_all_close(ours, run(page), atol=1e-6, rtol=1e-6)


def test_same_decode_steps(pair):
    page, kit, params, tokens = pair

    def run(model):
        cache, outputs = model.init_cache(2, SLOTS), []
        apply = jax.jit(model.apply)
        for at in range(4):
            logits, cache, *_ = apply({"params": params}, tokens[:, at : at + 1], jnp.full((2, 1), at), cache)
            outputs.append(logits)
        return outputs, cache

    chex.assert_trees_all_close(run(kit), run(page), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("precision", DTYPES)
def test_cache_shape(precision, tiny):
    """L caches of keys and values (B, K, S, C), empty, in the model's precision."""
    m = tiny("model.layers=3", "model.heads=4", "model.kv_heads=2").model
    page = gpt.GPT(VOCAB, m.width, m.layers, m.heads, m.hidden, m.kv_heads, dtype=DTYPES[precision])
    for cache in (page.init_cache(5, SLOTS), Decoder(m, VOCAB, precision).init_cache(5, SLOTS)):
        assert len(cache) == 3
        for block in cache:
            assert set(block) == {"k", "v"}
            chex.assert_shape(list(block.values()), (5, 2, SLOTS, 8))
            chex.assert_type(list(block.values()), DTYPES[precision])
        assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(cache))


def test_one_page():
    source = Path(gpt.__file__).read_text(encoding="utf-8")
    assert len(source.splitlines()) < 300
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0 and "juliagpt" not in (node.module or "")
        if isinstance(node, ast.Import):
            assert not any("juliagpt" in alias.name for alias in node.names)
