"""Losses by position are those of a model that reads what is in sight, token by token."""

import jax
import numpy as np
import pytest

from juliagpt_jax.evaluation import attention, streams
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models.build import build_model

VOCAB, SLOTS, LENGTH = 13, 16, 75


@pytest.fixture(scope="module", params=["logit", "token"])
def model(request, tiny):
    config = tiny("model.width=16", "model.layers=1", "model.tie=false", f"model.sink={request.param}")
    made = build_model(config, VOCAB)
    params = jax.jit(made.init)(jax.random.key(0), np.zeros((1, 2), np.int32))["params"]
    params = jax.tree.map(lambda p: p * 3 if p.ndim == 2 else p, params)
    if request.param == "logit":
        params["block_0"]["mixer"]["sink_logit"] += 9
    return made, params


@pytest.fixture(scope="module")
def text():
    return np.random.default_rng(0).integers(VOCAB, size=(2, LENGTH)).astype(np.int32)


def test_the_ways_by_reading_token_by_token(model, text):
    made, params = model
    apply = jax.jit(made.apply)
    loss = lambda logits, target: -np.asarray(jax.nn.log_softmax(logits))[np.arange(2), target]
    ways = {way.name: way for way in streams.ways(made)}
    assert list(ways) == ["window, filled again", "evicts, 0 + 16", "evicts, 4 + 12", "everything"]

    rolling = streams.losses(made, params, text, ways["window, filled again"])
    assert rolling.shape == (2, LENGTH - 1)
    for target in range(1, LENGTH):
        begin = 0 if target < SLOTS else (target - SLOTS) // 8 * 8 + SLOTS - 8
        seen = np.zeros((2, SLOTS), np.int32)
        seen[:, : target - begin] = text[:, begin:target]
        logits = apply({"params": params}, seen)[0][:, target - begin - 1]
        np.testing.assert_allclose(rolling[:, target - 1], loss(logits, text[:, target]), atol=1e-4)

    evicting = streams.losses(made, params, text, ways["evicts, 4 + 12"])
    cache = made.init_cache(2, SLOTS, 4)
    for at in range(LENGTH - 1):
        logits, cache, _ = apply({"params": params}, text[:, at : at + 1], np.full((2, 1), at), cache)
        np.testing.assert_allclose(evicting[:, at], loss(logits[:, 0], text[:, at + 1]), atol=1e-4)
    assert np.abs(evicting - rolling)[:, SLOTS:].max() > 1e-3

    everything = streams.losses(made, params, text, ways["everything"])
    np.testing.assert_allclose(everything[:, : SLOTS - 1], rolling[:, : SLOTS - 1], atol=1e-5)


def test_a_curve_is_paired_with_the_first_way(tiny):
    made = build_model(tiny("model.width=16", "model.layers=1"), VOCAB)
    params = jax.jit(made.init)(jax.random.key(0), np.zeros((1, 2), np.int32))["params"]
    tokens = np.random.default_rng(1).integers(VOCAB, size=900)
    found = streams.curves(made, params, tokens, newline=5, contexts=4, count=3)
    assert (found["streams"], found["length"]) == (3, 64)
    cut = streams.cut(tokens, 5, 64, 3)
    plain, evicts = (streams.losses(made, params, cut, way).astype(np.float64) for way in streams.ways(made)[:2])
    rows = {(row["way"], row["from"], row["to"]): row for row in found["rows"]}
    row = rows["evicts, 0 + 16", 32, 63]
    assert row["loss"] == pytest.approx(evicts[:, 31:63].mean())
    more = (evicts - plain)[:, 31:63].mean(axis=1)
    assert row["difference"] == pytest.approx(more.mean())
    assert row["standard_error"] == pytest.approx(more.std(ddof=1) / 3**0.5)
    assert abs(rows["evicts, 0 + 16", 8, 15]["difference"]) < 1e-5, "nothing is evicted yet"
    page = "\n".join(streams.page(found))
    assert "| in sight | 1 to 7 | 8 to 15 | 16 to 31 | 32 to 63 |" in page and f"{more.mean():+.4f} ±" in page


def test_streams_begin_at_lines():
    tokens = np.arange(400) % 7
    found = streams.cut(tokens, 6, 20, 4)
    assert found.shape == (4, 20) and (found[:, 0] == 0).all()
    assert (streams.cut(tokens, -1, 20, 4)[0] == tokens[:20]).all()
    with pytest.raises(UserError, match=r"two streams of 128 tokens, .* need 512 tokens of text, and there are 400"):
        streams.cut(tokens, 6, 128, 4)


def test_layers_that_cannot_evict_have_the_window_alone(tiny):
    made = build_model(tiny("model.mixer=attention monarch"), VOCAB)
    assert [way.name for way in streams.ways(made)] == ["window, filled again"]


def test_shares_of_the_first_token_and_of_a_sink(model):
    """By hand from the maps; together with what lies on the rest of the text they are all of the attention."""
    made, params = model
    windows = np.random.default_rng(0).integers(VOCAB, size=(3, SLOTS)).astype(np.int32)
    maps = np.asarray(attention.maps(made, params, windows), np.float64)
    token, logit = (made.config.sink == word for word in ("token", "logit"))
    assert maps.shape == (1, 3, 2, SLOTS + token, SLOTS + token)
    found = attention.shares(made, params, windows, batch=2)
    asked = maps[..., -SLOTS // 2 :, :]
    np.testing.assert_allclose(found[..., 0], asked[..., int(token)].mean(axis=(1, 3)), atol=1e-6)
    sink = asked[..., 0].mean(axis=(1, 3)) if token else 1 - asked.sum(-1).mean(axis=(1, 3))
    np.testing.assert_allclose(found[..., 1], sink, atol=1e-6)
    assert (found[..., 1] > 0.01).all() and token != logit
    mass = attention.mass(made, params, windows, batch=3)
    np.testing.assert_allclose(mass.sum(-1) + found[..., 1], 1, atol=1e-6)
