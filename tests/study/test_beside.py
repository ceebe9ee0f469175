"""Rows beside a model's own: the mixture and its share, and flags out of their ranges."""

from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground.command import Parser
from juliagpt_jax.ground.errors import NumericalError, UserError
from juliagpt_jax.inference import scoring
from juliagpt_jax.models.build import build_model
from juliagpt_jax.study import beside, kneser_ney
from juliagpt_jax.training.state import initial_state


def options(*flags):
    parser = Parser("evaluate", "")
    beside.add_flags(parser)
    return parser.parse(list(flags))


def test_a_mixture_is_one_of_probabilities():
    model, other = np.array([0.5, 3.0, 800.0]), np.array([2.0, 0.1, 900.0])
    wanted = -np.log(0.3 * np.exp(-model[:2]) + 0.7 * np.exp(-other[:2]))
    np.testing.assert_allclose(beside.mixed(model, other, 0.3)[:2], wanted)
    assert beside.mixed(model, other, 0.3)[2] == pytest.approx(800 - np.log(0.3))
    np.testing.assert_array_equal(beside.mixed(model, other, 1.0), model)
    np.testing.assert_array_equal(beside.mixed(model, other, 0.0), other)


def test_the_fitted_share_is_the_best():
    rng = np.random.default_rng(0)
    model, other = rng.exponential(2.0, (2, 500))
    share = beside.fitted(model, other)
    loss = lambda own: beside.mixed(model, other, own).mean()
    assert loss(share) < min(loss(share - 0.01), loss(share + 0.01)) and 0.3 < share < 0.7
    assert beside.fitted(model, model + 5) > 0.999 and beside.fitted(model + 5, model) < 0.001


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--order=0"], "--order=0 is outside 1 .. 20"),
        (["--baseline=kneser_ney", "--mix=1.5"], "--mix=1.5 is outside 0 .. 1"),
        (["--mix=0.5"], "--baseline=kneser_ney"),
        (["--cache=-1"], "--cache=-1 is outside"),
        (["--cache_share=2"], "--cache_share=2 is outside 0 .. 1"),
        (["--dynamic_rate=-1"], "--dynamic_rate=-1 is outside"),
        (["--dynamic_rate=nan"], "--dynamic_rate=nan is outside"),
    ],
)
def test_flags_out_of_range(flags, says):
    with pytest.raises(UserError, match=says):
        beside.check(options(*flags))
    beside.check(options())


def test_each_flag_adds_its_row(tiny):
    """On another text the mixture's share is fitted on the validation text; on that it must be given."""
    config, letters = tiny("model.width=16", "model.layers=1"), CharTokenizer("\n abc")
    model = build_model(config, 5)
    params = jax.jit(lambda: initial_state(config, model).params)()
    corpus: Any = SimpleNamespace(train=letters.encode("abc ab\n" * 60), val=letters.encode("abc cb\n" * 9))
    run = SimpleNamespace(params=params, refuse_packed=lambda: None)
    opened: Any = SimpleNamespace(run=run, params=params, tokenizer=letters)
    tokens = letters.encode("ab abc\n" * 8)
    losses, places = scoring.in_order(model, params, tokens, letters.lead, 8)
    summed = lambda losses: scoring.summed(losses, places, tokens, 16, 8, letters)

    def rows(*flags: str) -> list[dict[str, Any]]:
        asked = options(*flags)
        asked.stride, asked.data = 0, None if "--mix=0.25" in flags or "--order=3" not in flags else "other.txt"
        return beside.rows(asked, opened, model, corpus, tokens, losses, summed)

    assert rows() == []
    counted, mixture = rows("--baseline=kneser_ney", "--order=3")
    bits = -np.log(kneser_ney.count(corpus.train, 5, 3).probabilities(tokens))
    assert counted["loss"] == pytest.approx(bits.mean()) and "fitted on the run's validation text" in mixture["name"]
    own, _ = scoring.in_order(model, params, corpus.val, letters.lead, 8)
    share = beside.fitted(own, -np.log(kneser_ney.count(corpus.train, 5, 3).probabilities(corpus.val)))
    assert mixture["name"].startswith(f"{share:.3f} of the model") and share != beside.fitted(losses, bits)
    (only,) = rows("--baseline=kneser_ney", "--order=2")
    assert "Kneser-Ney, 2 tokens" in only["name"]
    _, given = rows("--baseline=kneser_ney", "--order=3", "--mix=0.25")
    assert given["loss"] == pytest.approx(beside.mixed(losses, bits, 0.25).mean())
    cache, dynamic = rows("--cache=32", "--dynamic=sgd", "--dynamic_rate=0.1")
    assert cache["adapts"] and dynamic["adapts"] and not counted["adapts"]
    with pytest.raises(NumericalError, match=r"dynamic evaluation, sgd.*a lower rate"):
        rows("--dynamic=sgd", "--dynamic_rate=1e30")
    for row in (counted, mixture, cache, dynamic):
        assert row["scored_words"] == 8 * 3 and row["bpb"] == row["bpc"] and np.isfinite(row["word_perplexity"])
