"""Rows beside a model's own: the mixture and its share, and flags out of their ranges."""

import numpy as np
import pytest

from juliagpt_jax.ground.command import Parser
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.study import beside


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
