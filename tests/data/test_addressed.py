"""Windows that are computed as they are drawn: each token once an epoch, weights of stages met, no memory of before."""

import dataclasses

import numpy as np
import pytest

from juliagpt_jax.data import addressed, sampler
from juliagpt_jax.data.addressed import Stage
from juliagpt_jax.data.sampler import Plan, places, windows

ALWAYS = (Stage(2**60, (1.0,)),)


@pytest.mark.parametrize("size", [1, 2, 3, 17, 64, 1000, 2**16 + 1])
def test_a_permutation_of_each_epoch(size):
    index = np.arange(size)
    one, other = (addressed.permuted(index, size, 3, 0, epoch) for epoch in (0, 1))
    np.testing.assert_array_equal(np.sort(one), index)
    some = index[size // 3 :: 7]
    np.testing.assert_array_equal(addressed.permuted(some, size, 3, 0, 0), one[some])  # each by itself
    if size >= 64:
        assert (one != other).mean() > 0.9
        assert (one != addressed.permuted(index, size, 4, 0, 0)).mean() > 0.9
        near = np.abs(np.diff(one)) / size  # of a random order a third on the mean
        assert abs(near.mean() - 1 / 3) < 6 * np.sqrt(1 / 18 / size) + 1 / size


@pytest.mark.parametrize("fixed", [False, True])
def test_every_token_is_a_target_once_an_epoch_and_cuts_are_made_anew(fixed):
    plan = Plan(1003, 16, 4, 7, stages=ALWAYS, fixed=fixed)
    rows = [np.concatenate(c) for c in zip(*(windows(plan, step) for step in range(32)), strict=True)]
    starts, lengths = rows[:2]
    begun = []
    for epoch in range(2):
        own = slice(epoch * plan.epoch_windows, (epoch + 1) * plan.epoch_windows)
        each = [(s + 1 + np.arange(n)) % 1003 for s, n in zip(starts[own], lengths[own], strict=True)]
        np.testing.assert_array_equal(np.sort(np.concatenate(each)), np.arange(1003))
        begun.append(set(starts[own].tolist()))
    assert (begun[0] == begun[1]) is fixed


MIX = Plan(
    6_000, 16, 32, 5, (2_000, 1_600, 1_400, 1_000),
    stages=(Stage(150 * 32, (0.5, 0.2, 0.2, 0.1)), Stage(400 * 32, (0.3, 0.2, 0.0, 0.5))),
)  # fmt: skip


@pytest.fixture
def small_blocks(monkeypatch):
    """Rings are counted over several blocks of draws."""
    forget = lambda: [cache.cache_clear() for cache in (addressed._block, addressed._totals, sampler._drawn)]
    forget()
    monkeypatch.setattr(addressed, "PICKED", 1_000)
    yield forget
    forget()


def test_weights_of_each_stage_are_met_and_rings_go_on_over_its_edge(small_blocks):
    begins = np.array([0, 2_000, 3_600, 5_000])
    drawn = [windows(MIX, step) for step in range(400)]
    rings = np.array([np.searchsorted(begins, w.begins, side="right") - 1 for w in drawn])
    for stage, part in zip(MIX.stages, (rings[:150], rings[150:]), strict=True):
        count = part.size
        for ring, share in enumerate(stage.weights):
            sigma = np.sqrt(count * share * (1 - share))
            assert abs((part == ring).sum() - count * share) <= 3 * sigma
    starts, lengths = (np.concatenate([w[i] for w in drawn]) for i in (0, 1))
    for ring, (begin, size) in enumerate(zip(begins, MIX.rings, strict=True)):
        own = np.flatnonzero(rings.ravel() == ring)
        per = -(-size // 16)
        for epoch in range(len(own) // per):  # whole epochs of the ring, whatever the stage
            rows = own[epoch * per : (epoch + 1) * per]
            each = [(starts[i] - begin + 1 + np.arange(lengths[i])) % size for i in rows]
            np.testing.assert_array_equal(np.sort(np.concatenate(each)), np.arange(size))


def test_a_step_needs_no_step_before_it(small_blocks):
    for step in range(300):
        wanted = places(MIX, step)
    small_blocks()
    np.testing.assert_array_equal(places(dataclasses.replace(MIX), 299), wanted)
    assert (places(dataclasses.replace(MIX, seed=6), 299) != wanted).mean() > 0.9
