"""Cache and dynamic evaluation: they look back only, and with no strength they are plain scoring."""

import jax
import numpy as np
import pytest

from juliagpt_jax.evaluation import adapting
from juliagpt_jax.evaluation.adapting import Cache, Dynamic
from juliagpt_jax.inference.scoring import in_order
from juliagpt_jax.models.build import build_model
from juliagpt_jax.training.state import initial_state

VOCAB, CONTEXT, STRIDE, LEAD = 11, 16, 8, 7
TOKENS = np.random.default_rng(0).integers(VOCAB, size=75).astype(np.uint8)
TRAINING = np.random.default_rng(1).integers(VOCAB, size=200).astype(np.uint8)


@pytest.fixture(scope="module")
def scored(tiny):
    config = tiny("model.width=16", "model.layers=1", f"model.context={CONTEXT}")
    model = build_model(config, VOCAB)
    return model, jax.jit(lambda: initial_state(config, model).params)()


def cached(scored, tokens, cache):
    return adapting.cached(*scored, tokens, LEAD, STRIDE, cache, batch=4)


def dynamic(scored, tokens, how):
    return adapting.dynamic(*scored, tokens, LEAD, STRIDE, how, TRAINING)


WAYS = {
    "cache": lambda scored, tokens: cached(scored, tokens, Cache(20, 0.5, 0.3)),
    "rms": lambda scored, tokens: dynamic(scored, tokens, Dynamic("rms", 0.01, 0.02)),
    "sgd": lambda scored, tokens: dynamic(scored, tokens, Dynamic("sgd", 1.0, 0.02)),
}


@pytest.mark.parametrize("way", WAYS)
def test_later_tokens_never_change_earlier_probabilities(scored, way, monkeypatch):
    monkeypatch.setattr(adapting, "ROWS", 7)
    monkeypatch.setattr(adapting, "TRAINING_WINDOWS", 4)
    plain, _ = in_order(*scored, TOKENS, LEAD, STRIDE)
    whole = WAYS[way](scored, TOKENS)
    assert whole.shape == plain.shape and np.abs(whole - plain)[STRIDE * 3 :].max() > 1e-3, "it does adapt"
    for at in (0, 47, 74):
        other = TOKENS.copy()
        other[at] = (other[at] + 1) % VOCAB
        changed = WAYS[way](scored, other)
        np.testing.assert_allclose(changed[:at], whole[:at], rtol=2e-5)
        assert abs(changed[at] - whole[at]) > 1e-4


@pytest.mark.parametrize(
    "way",
    [
        lambda s: cached(s, TOKENS, Cache(20, 0.5, 0.0)),
        lambda s: cached(s, TOKENS, Cache(0, 0.5, 0.3)),
        lambda s: dynamic(s, TOKENS, Dynamic("rms", 0.0, 0.02)),
        lambda s: dynamic(s, TOKENS, Dynamic("sgd", 0.0, 0.5)),
    ],
    ids=["no share", "no size", "no rate", "no rate, sgd"],
)
def test_no_strength_is_plain_scoring(scored, way):
    plain, _ = in_order(*scored, TOKENS, LEAD, STRIDE)
    np.testing.assert_allclose(way(scored), plain, rtol=2e-5)


def test_cache_is_the_papers_sum(scored):
    """Its mixture written out for one token after another, with what the head reads; it is a distribution."""
    model, params = scored
    inputs = np.array([[LEAD, *TOKENS[: CONTEXT - 1].tolist()]])
    targets = TOKENS[None, :CONTEXT].astype(np.int32)
    _, states = adapting._states(model, params, inputs, targets)
    logits = jax.jit(model.apply)({"params": params}, inputs)[0]
    h = np.asarray(states)[0].astype(np.float64)
    np.testing.assert_allclose(h @ np.asarray(params["embedding"]).T, logits[0], atol=1e-4)  # the head reads it
    found = cached(scored, TOKENS[:CONTEXT], Cache(5, 0.7, 0.3))
    own = np.asarray(jax.nn.softmax(logits[0]), np.float64)
    for t in range(CONTEXT):
        back = range(max(0, t - 5), t)
        weights = np.exp([0.7 / 16**0.5 * h[t] @ h[i] for i in back])
        share = np.zeros(VOCAB)
        np.add.at(share, TOKENS[list(back)].astype(int), weights / weights.sum() if t else weights)
        mixed = 0.7 * own[t] + 0.3 * share if t else own[t]
        assert mixed.sum() == pytest.approx(1, abs=1e-5)
        assert found[t] == pytest.approx(-np.log(mixed[TOKENS[t]]), rel=1e-4)


def test_a_dynamic_step_is_gradient_descent_written_out(scored):
    """The second window under the weights after the first one's step; decay pulls the third's back."""
    model, params = scored
    windows = [(inputs, targets) for inputs, targets, _ in adapting._windows(TOKENS, CONTEXT, STRIDE, LEAD, 1)]
    moving, wanted = params, []

    @jax.jit
    def losses(params, inputs, targets):
        logs = jax.nn.log_softmax(model.apply({"params": params}, inputs)[0][0])
        return -logs[np.arange(CONTEXT), targets[0]]

    mean = jax.jit(jax.grad(lambda params, inputs, targets, new: losses(params, inputs, targets) @ new / new.sum()))
    for inputs, targets in windows[:3]:
        new = targets[0] >= 0
        wanted.extend(np.asarray(losses(moving, inputs, targets))[new].tolist())
        gradient = mean(moving, inputs, targets, new.astype(np.float32))
        moving = jax.tree.map(lambda p, g, p0: p - 0.5 * g + 0.1 * (p0 - p), moving, gradient, params)
    found = dynamic(scored, TOKENS, Dynamic("sgd", 0.5, 0.1))
    np.testing.assert_allclose(found[: len(wanted)], wanted, rtol=1e-4)


def test_a_text_that_repeats_is_learnt_while_it_is_read(scored):
    text = np.tile(np.array([3, 1, 4, 1, 5, 9, 2, 6], np.uint8), 30)
    plain, _ = in_order(*scored, text, LEAD, STRIDE)
    for losses in (cached(scored, text, Cache(64, 1.0, 0.5)), dynamic(scored, text, Dynamic("sgd", 0.5, 0.0))):
        assert losses[-80:].mean() < 0.8 * plain[-80:].mean()


def test_sizes_are_relative_root_mean_squares(scored):
    model, params = scored
    relative, mean = adapting.sizes(model, params, TRAINING, LEAD)
    leaves = np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(relative)])
    assert leaves.mean() == pytest.approx(1, rel=1e-4) and mean > 0 and leaves.min() >= 0
