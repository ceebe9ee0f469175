"""Learnt sinks: by their definitions, with a cache and without, beside every other option; and who refuses them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models import build
from juliagpt_jax.models.attention import Attention
from juliagpt_jax.models.layers import linears
from juliagpt_jax.store import families

VOCAB, T, SLOTS = 13, 7, 16


def made(tiny, *more: str):
    """A model of one layer with its parameters, the sinks moved from where they begin."""
    config = tiny("model.width=16", "model.layers=1", "model.tie=false", *more)
    model = build.build_model(config, VOCAB)
    tokens = jax.random.randint(jax.random.key(0), (2, T), 0, VOCAB)
    params = jax.jit(model.init)(jax.random.key(1), tokens)["params"]
    mixer = params["block_0"]["mixer"]
    if "sink_logit" in mixer:
        mixer["sink_logit"] = jnp.linspace(-1.0, 2.0, config.model.heads)
    if "sink_token" in params:
        params["sink_token"] *= 3
    return model, params, tokens


def test_a_logit_joins_the_softmax_and_its_share_is_lost(tiny):
    """Written out, with grouped heads; what is left of a head's attention is what `weights` adds up to."""
    model = tiny("model.heads=4", "model.kv_heads=2", "model.sink=logit").model
    mixer, rng = Attention(model, 1.0, linears(model)), np.random.default_rng(0)
    q, k, v = (rng.normal(size=(1, heads, T, 8)).astype(np.float32) for heads in (4, 2, 2))
    sink = np.array([-1.0, 0.0, 1.0, 30.0], np.float32)
    bound, positions = mixer.bind({"params": {"sink_logit": sink}}), jnp.arange(T)[None]
    y, _ = bound.attend(q, k, v, positions, None, lambda weights: weights)
    weights = bound.weights(jnp.asarray(q), jnp.asarray(k), positions)
    for head in range(4):
        for t in range(T):
            scores = np.exp(k[0, head // 2, : t + 1] @ q[0, head, t] / 8**0.5)
            shares = scores / (scores.sum() + np.exp(sink[head]))
            np.testing.assert_allclose(y[0, t, 8 * head : 8 * head + 8], shares @ v[0, head // 2, : t + 1], atol=1e-5)
            np.testing.assert_allclose(weights[0, head, t, : t + 1], shares, atol=1e-6)
    assert float(weights[0, 3].sum()) < 1e-6, "a head whose sink is far above all looks at nothing"


def test_a_sink_of_minus_infinity_is_none(tiny):
    model, params, tokens = made(tiny, "model.sink=logit")
    plain, *_ = made(tiny)
    run = jax.jit(lambda params: model.apply({"params": params}, tokens)[0])
    here = run(params)
    params["block_0"]["mixer"]["sink_logit"] = jnp.full(2, -jnp.inf)
    gone = run(params)
    del params["block_0"]["mixer"]["sink_logit"]
    np.testing.assert_array_equal(gone, jax.jit(plain.apply)({"params": params}, tokens)[0])
    assert np.abs(here - gone).max() > 1e-3


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_a_sink_token_is_one_more_token_before_the_text(positions, tiny):
    """A plain model of one more token, which is put before the text, has the same logits behind it."""
    flags = [f"model.positions={positions}", "model.mask=sinks"]
    model, params, tokens = made(tiny, "model.sink=token", *flags)
    flags += ["model.width=16", "model.layers=1", "model.tie=false", "model.context=17"]
    plain = build.build_model(tiny(*flags), VOCAB + 1)
    own = {name: leaf for name, leaf in params.items() if name != "sink_token"}
    own["embedding"] = jnp.concatenate([params["embedding"], params["sink_token"][None]])
    own["head"] = jnp.pad(params["head"], ((0, 0), (0, 1)))
    longer = jnp.concatenate([jnp.full((2, 1), VOCAB), tokens], axis=1)
    wanted = jax.jit(plain.apply)({"params": own}, longer)[0][:, 1:, :VOCAB]
    np.testing.assert_allclose(jax.jit(model.apply)({"params": params}, tokens)[0], wanted, atol=1e-5)


@pytest.mark.parametrize(
    "more",
    [
        ("model.sink=logit", "model.kv_heads=1", "model.qk_norm=true", "model.mask=window", "model.window=3"),
        ("model.sink=logit", "model.mixer=attention monarch", "model.layers=2", "train.precision=bf16"),
        ("model.sink=token", "model.kv_heads=1", "model.qk_norm=true"),
        ("model.sink=token", "model.positions=learned", "train.precision=f16"),
        ("model.sink=token", "model.depth=ode", "model.x0_skip=true"),
    ],
    ids=lambda more: " ".join(more),
)
def test_decode_is_forward(more, tiny):
    """Rows of 2 and 5 tokens in one padded prefill, then one by one; and one by one from nothing."""
    model, params, tokens = made(tiny, *more)
    apply, close = jax.jit(model.apply), {"f32": 1e-5, "bf16": 0.1, "f16": 0.01}[model.precision]
    wanted = np.asarray(apply({"params": params}, tokens)[0])
    lengths = np.array([2, 5])
    positions = np.where(np.arange(5)[None] < lengths[:, None], np.arange(5)[None], SLOTS)
    logits, cache, _ = apply({"params": params}, tokens[:, :5], positions, model.init_cache(2, SLOTS))
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(logits[row, :length], wanted[row, :length], atol=close)
    for here in (lengths, lengths + 1):
        logits, cache, _ = apply({"params": params}, tokens[np.arange(2), here][:, None], here[:, None], cache)
        np.testing.assert_allclose(logits[:, 0], wanted[np.arange(2), here], atol=close)
    cache = model.init_cache(2, SLOTS)
    for at in range(3):
        logits, cache, _ = apply({"params": params}, tokens[:, at : at + 1], np.full((2, 1), at), cache)
        np.testing.assert_allclose(logits[:, 0], wanted[:, at], atol=close)


@pytest.mark.parametrize("word", ["logit", "token"])
def test_a_sink_is_learnt(word, tiny):
    model, params, tokens = made(tiny, f"model.sink={word}")
    loss = lambda params: -jax.nn.log_softmax(model.apply({"params": params}, tokens)[0])[..., 0].mean()
    slopes = jax.jit(jax.grad(loss))(params)
    slope = slopes["sink_token"] if word == "token" else slopes["block_0"]["mixer"]["sink_logit"]
    assert (np.abs(slope) > 1e-6).all()


def test_what_is_refused(tiny):
    with pytest.raises(UserError, match=r"config\.model\.sink: no layer of model\.mixer=monarch has a softmax"):
        build.check(tiny("model.mixer=monarch", "model.sink=logit"))
    with pytest.raises(UserError, match=r"config\.model\.sink: layer 1 is monarch_heads, made for model\.context tok"):
        build.check(tiny("model.mixer=attention monarch_heads", "model.sink=token"))
    with pytest.raises(UserError, match=r"model\.sink"):
        tiny("model.sink=tokens")
    for word in ("logit", "token"):
        with pytest.raises(UserError, match=rf"transformers has no such model: model\.sink={word} is not in"):
            families.family_of(tiny(f"model.sink={word}").model)
