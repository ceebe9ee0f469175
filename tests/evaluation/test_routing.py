"""Shares of experts over a text: those that the model's routers say, in words that say which is the largest."""

import jax
import numpy as np
import pytest

from juliagpt_jax.evaluation import report, routing
from juliagpt_jax.models.build import build_model

VOCAB = 13


def test_shares_are_those_of_the_routers(tiny):
    config = tiny("model.channel=swiglu moe", "model.moe.experts=3", "model.moe.top=1", "model.moe.gate=all")
    model = build_model(config, VOCAB)
    tokens = np.random.default_rng(0).integers(VOCAB, size=17 * 16)
    params = jax.jit(model.init)(jax.random.key(0), tokens[None, :2])["params"]
    found = routing.measure(model, params, tokens, 0)["experts"]
    assert found.keys() == {"1"} and sum(found["1"]) == pytest.approx(1) and len(found["1"]) == 3
    channel = dict(params["block_1"]["channel"])
    channel["router"] = np.zeros_like(channel["router"])  # of equals the first is taken
    all_first = params | {"block_1": params["block_1"] | {"channel": channel}}
    assert routing.measure(model, all_first, tokens, 0)["experts"]["1"] == [1, 0, 0]
    plain = build_model(tiny(), VOCAB)
    assert routing.measure(plain, {}, tokens, 0) == {}


def test_words():
    assert routing.describe({"1": [0.5, 0.3, 0.2]}) == [
        "layer 1: 50.0% 30.0% 20.0%   (the largest 1.50 times an equal share)"
    ]
    assert (
        report.parameters({"params": 1_000}) == report.parameters({"params": 1_000, "active_params": 1_000}) == "1,000"
    )
    assert report.parameters({"params": 4_000, "active_params": 1_000}) == "4,000, a token goes through 1,000"
