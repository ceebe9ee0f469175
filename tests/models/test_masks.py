"""Masks: what each shows by its definition, in attention with a cache and without; and who refuses which."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.models import build
from juliagpt_jax.models.attention import Attention
from juliagpt_jax.models.layers import linears
from juliagpt_jax.models.masks import MASKS

VOCAB, T, SLOTS = 13, 11, 16
SHOWN = {  # does position q see key k, with a window of 3 and 2 sinks
    "causal": lambda q, k: k <= q,
    "none": lambda q, k: True,
    "window": lambda q, k: q - 3 < k <= q,
    "sinks": lambda q, k: k <= q and (k > q - 3 or k < 2),
}
CAUSAL = [word for word in MASKS if MASKS[word].causal]


def settings(tiny, word: str, *more: str):
    """A config with a mask; of `none`, which training refuses, the model's part alone is made so."""
    made = tiny("model.window=3", "model.sink_tokens=2", "model.tie=false", f"model.context={SLOTS}", *more)
    return dataclasses.replace(made, model=dataclasses.replace(made.model, mask=word))


def test_every_mask_is_here():
    assert SHOWN.keys() == MASKS.keys()


@pytest.mark.parametrize("word", MASKS)
def test_what_is_shown(word, tiny):
    """By the definition, and pads, which stand past the end, are seen by nobody that exists."""
    model = settings(tiny, word).model
    mixer = Attention(model, 1.0, linears(model), word)
    lengths = np.array([T, 4])
    positions = np.where(np.arange(T)[None] < lengths[:, None], np.arange(T)[None], SLOTS)
    shown = np.asarray(jnp.broadcast_to(mixer.visible(jnp.asarray(positions), jnp.asarray(positions)), (2, T, T)))
    for row, length in enumerate(lengths):
        wanted = [[SHOWN[word](q, k) and k < length for k in range(T)] for q in range(length)]
        np.testing.assert_array_equal(shown[row, :length], wanted)


@pytest.mark.parametrize("word", MASKS)
def test_attention_is_a_sum_over_what_is_shown(word, tiny):
    """softmax over the tokens of the definition, written out, with grouped heads."""
    model = settings(tiny, word, "model.heads=4", "model.kv_heads=2").model
    mixer, rng = Attention(model, 1.0, linears(model), word), np.random.default_rng(0)
    q, k, v = (rng.normal(size=(1, heads, T, 8)).astype(np.float32) for heads in (4, 2, 2))
    positions = jnp.arange(T)[None]
    y, _ = mixer.apply({}, q, k, v, positions, None, lambda weights: weights, method="attend")
    weights = mixer.weights(jnp.asarray(q), jnp.asarray(k), positions)
    for head in range(4):
        for t in range(T):
            seen = [s for s in range(T) if SHOWN[word](t, s)]
            scores = np.exp(k[0, head // 2, seen] @ q[0, head, t] / 8**0.5)
            wanted = scores / scores.sum() @ v[0, head // 2, seen]
            np.testing.assert_allclose(y[0, t, 8 * head : 8 * head + 8], wanted, atol=1e-5)
            np.testing.assert_allclose(weights[0, head, t, seen], scores / scores.sum(), atol=1e-5)
            assert weights[0, head, t].sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("word", [*CAUSAL, "sinks causal"])
def test_decode_is_forward(word, tiny):
    """Prompts of 4 and 7 tokens in one padded prefill, then one by one, past the window."""
    model = build.build_model(settings(tiny, word), VOCAB)
    tokens = jax.random.randint(jax.random.key(0), (2, T), 0, VOCAB)
    params = jax.jit(model.init)(jax.random.key(1), tokens)["params"]
    apply = jax.jit(model.apply)
    wanted = np.asarray(apply({"params": params}, tokens)[0])
    lengths = np.array([4, 7])
    positions = np.where(np.arange(7)[None] < lengths[:, None], np.arange(7)[None], SLOTS)
    logits, cache, _ = apply({"params": params}, tokens[:, :7], positions, model.init_cache(2, SLOTS))
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(logits[row, :length], wanted[row, :length], atol=1e-5)
    for at in range(T - 7):
        here = lengths + at
        logits, cache, _ = apply({"params": params}, tokens[np.arange(2), here][:, None], here[:, None], cache)
        np.testing.assert_allclose(logits[:, 0], wanted[np.arange(2), here], atol=1e-5)


def test_a_mask_acts_and_the_wide_ones_are_causal(tiny):
    """A window as long as the text is causal attention to the bit; short ones are not."""
    tokens = jax.random.randint(jax.random.key(0), (2, T), 0, VOCAB)
    params = build.build_model(settings(tiny, "causal"), VOCAB).init(jax.random.key(1), tokens)["params"]
    run = lambda made: np.asarray(build.build_model(made, VOCAB).apply({"params": params}, tokens)[0])
    causal = run(settings(tiny, "causal"))
    for word in ("window", "sinks"):
        np.testing.assert_array_equal(run(settings(tiny, word, f"model.window={T}")), causal)
        assert np.abs(run(settings(tiny, word)) - causal)[:, 5:].max() > 1e-3
    both = [run(settings(tiny, word)) for word in ("window", "sinks")]
    assert np.abs(both[0] - both[1])[:, 5:].max() > 1e-3


def test_an_encoder_sees_ahead_and_no_pads(tiny):
    made = settings(tiny, "none")
    model = build.build_model(made, VOCAB)
    tokens = jax.random.randint(jax.random.key(0), (1, T), 0, VOCAB)
    params = jax.jit(model.init)(jax.random.key(1), tokens)["params"]
    run = lambda tokens, length: np.asarray(
        model.apply({"params": params}, tokens, jnp.where(jnp.arange(T) < length, jnp.arange(T), SLOTS)[None])[0]
    )
    last = tokens.at[0, -1].add(1) % VOCAB
    assert np.abs(run(tokens, T) - run(last, T))[0, 0].max() > 1e-4
    np.testing.assert_array_equal(run(tokens, T - 1)[0, :-1], run(last, T - 1)[0, :-1])
    alone = model.apply({"params": params}, tokens[:, :6])[0]
    np.testing.assert_allclose(run(tokens, 6)[0, :6], alone[0], atol=1e-5)
    with pytest.raises(UserError, match=r"config\.model\.mask: none lets tokens see later ones.*writes no text"):
        next(Generator(model, params).stream([np.array([1])], 3, Rule()))


def test_what_is_refused(tiny):
    with pytest.raises(UserError, match=r"config\.model\.mask: none shows a token the ones that it is to predict"):
        tiny("model.mask=causal none")
    with pytest.raises(UserError, match=r"config\.model\.mask: layer 1 is monarch, which takes causal and not window"):
        build.check(tiny("model.mixer=attention monarch", "model.mask=window", "model.layers=2"))
    build.check(tiny("model.mixer=attention monarch", "model.mask=window causal", "model.layers=2"))
    with pytest.raises(UserError, match=r"config\.model\.mask: no mask is called 'windw'; did you mean window"):
        build.check(tiny("model.mask=windw"))
    with pytest.raises(UserError, match=r"config\.model\.kind: no kind is called 'encoder'"):
        build.check(tiny("model.kind=encoder"))


def test_old_configs_have_what_they_had(tiny):
    """A config of before there were masks and kinds reads as the baseline's."""
    values = config.to_dict(tiny("model.window=5"))
    for name in ("kind", "mask", "window", "sink_tokens"):
        del values["model"][name]
    model = config.of_dict(values).model
    assert (model.kind, model.mask) == ("decoder", "causal")
