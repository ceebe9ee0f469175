"""The decoder's switches, each held to its formula. That decoding, causality and precision survive them is in
test_decoder.py; that they are off by default is in test_gpt.py, which holds the default decoder to the baseline."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.models.channels import CHANNELS
from juliagpt_jax.models.decoder import Decoder
from juliagpt_jax.models.depth import DEPTHS
from juliagpt_jax.models.layers import LINEARS, RMSNorm
from juliagpt_jax.models.mixers import MIXERS

VOCAB, TOKENS = 11, jnp.arange(24).reshape(2, 12) % 11
SHAPE = ("model.width=24", "model.monarch.blocks=2", "model.layers=2", "model.tie=false")


def built(tiny, *overrides):
    model = Decoder(tiny(*SHAPE, *overrides).model, VOCAB)
    init = jax.jit(model.init, compiler_options={"xla_backend_optimization_level": 0})
    params = init(jax.random.key(0), TOKENS)["params"]
    return model, params, jax.jit(lambda params: model.apply({"params": params}, TOKENS)[0])


def test_softcap(tiny):
    _, params, free = built(tiny)
    _, same, capped = built(tiny, "model.softcap=1.5")
    assert jax.tree.structure(same) == jax.tree.structure(params)
    logits = np.asarray(free(params))
    assert np.abs(logits).max() > 1.5
    np.testing.assert_allclose(capped(params), 1.5 * np.tanh(logits / 1.5), atol=1e-6)


def test_qk_norm_takes_the_size_of_queries_and_keys_away(tiny):
    """Kernels a hundred times as large give the same logits, and without the norm they do not."""

    def grown(params):
        path = lambda p: jax.tree_util.keystr(p, simple=True, separator="/")
        larger = lambda p, leaf: leaf * 100 if path(p).endswith(("query/kernel", "key/kernel")) else leaf
        return jax.tree_util.tree_map_with_path(larger, params)

    for switch, moved in [("true", False), ("false", True)]:
        _, params, run = built(tiny, f"model.qk_norm={switch}")
        assert (np.abs(run(grown(params)) - run(params)).max() > 1e-3) == moved


def test_qk_norm_stands_before_the_rotation(tiny):
    """With a scale of its own for each channel the order matters: norm, then rotary positions."""
    model, params, _ = built(tiny, "model.qk_norm=true", "model.layers=1")
    mixer, own = model.blocks()[0].mixer, params["block_0"]["mixer"]
    own["query_norm"]["scale"] = own["query_norm"]["scale"] * jnp.linspace(0.5, 2, own["query_norm"]["scale"].size)
    x = jax.random.normal(jax.random.key(1), (1, 5, 24))
    H, C = model.config.heads, 24 // model.config.heads
    heads = lambda name: np.asarray(x[0] @ own[name]["kernel"]).reshape(5, H, C)

    def turned(name):
        z = heads(name)
        z = z / np.sqrt((z * z).mean(-1, keepdims=True) + 1e-5) * np.asarray(own[f"{name}_norm"]["scale"])
        angles = np.arange(5)[:, None, None] * model.config.rope_base ** (-np.arange(C // 2) * 2 / C)
        waves = (z[..., : C // 2] + 1j * z[..., C // 2 :]) * np.exp(1j * angles)
        return np.concatenate([waves.real, waves.imag], axis=-1)

    scores = np.einsum("thc,shc->hts", turned("query"), turned("key")) / np.sqrt(C)
    scores = np.where(np.tri(5), scores, -np.inf)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    wanted = np.einsum("hts,shc->thc", weights, heads("value")).reshape(5, 24) @ np.asarray(own["out"]["kernel"])
    got, _ = mixer.apply({"params": own}, x, jnp.arange(5)[None])
    np.testing.assert_allclose(got[0], wanted, atol=1e-5)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(names, id="-".join(names))
        for names in itertools.zip_longest(MIXERS, CHANNELS, DEPTHS, LINEARS, fillvalue="")
    ],
)
def test_zero_init_starts_as_the_embedding_alone(names, tiny):
    """Every branch ends in a projection that is 0 and has a gradient, whatever it is made of."""
    keys = ("mixer", "channel", "depth", "linear")
    words = [f"model.{key}={word}" for key, word in zip(keys, names, strict=True) if word]
    model, params, run = built(tiny, "model.zero_init=true", "model.layers=1", *words)
    x = RMSNorm().apply({"params": params["norm"]}, params["embedding"][TOKENS])
    np.testing.assert_allclose(run(params), x @ params["head"], atol=1e-5)
    slopes = jax.jit(jax.grad(lambda p: jnp.mean(model.apply({"params": p}, TOKENS)[0] ** 2)))(params)
    for branch, last in [("mixer", "out"), ("channel", "down")]:
        moved = jax.tree.map(lambda g: float(jnp.abs(g).max()), slopes["block_0"][branch][last])
        assert max(jax.tree.leaves(moved)) > 0


def test_x0_skip(tiny):
    """x <- a x + b x_0 before each layer; a, b start as 1, 0: the plain decoder."""
    _, params, plain = built(tiny)
    _, more, skipping = built(tiny, "model.x0_skip=true")
    assert set(more) - set(params) == {"skip_0", "skip_1"}
    start = params | {"skip_0": more["skip_0"], "skip_1": more["skip_1"]}
    np.testing.assert_array_equal(skipping(start), plain(params))

    model, _, _ = built(tiny)
    numbers = {"skip_0": jnp.array([0.5, 0.25]), "skip_1": jnp.array([-0.75, 2.0])}
    x = x0 = params["embedding"][TOKENS]
    for i, block in enumerate(model.blocks()):
        a, b = numbers[f"skip_{i}"]
        x, *_ = block.apply({"params": params[f"block_{i}"]}, a * x + b * x0, jnp.arange(12)[None])
    wanted = RMSNorm().apply({"params": params["norm"]}, x) @ params["head"]
    np.testing.assert_allclose(skipping(params | numbers), wanted, atol=1e-5)


def test_relu2(tiny):
    model, params, _ = built(tiny, "model.channel=relu2", "model.ffn_mult=6")
    own, x = params["block_0"]["channel"], jax.random.normal(jax.random.key(1), (2, 3, 24))
    assert {name: leaf["kernel"].shape for name, leaf in own.items()} == {"up": (24, 144), "down": (144, 24)}
    wanted = np.maximum(np.asarray(x @ own["up"]["kernel"]), 0) ** 2 @ np.asarray(own["down"]["kernel"])
    np.testing.assert_allclose(model.blocks()[0].channel.apply({"params": own}, x, True)[0], wanted, atol=1e-5)
