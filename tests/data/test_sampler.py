"""Every token is a target once an epoch, and a batch is a function of the plan and the step."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from juliagpt_jax.data import sampler
from juliagpt_jax.data.sampler import IGNORED, Plan, gather, gather_on_device, windows

PLANS = st.builds(Plan, st.integers(2, 200), st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**32 - 1))


def drawn(plan: Plan, count: int):
    """The first `count` windows that are drawn, as (starts, lengths), whatever the batch."""
    steps = -(-count // plan.batch)
    columns = zip(*(windows(plan, step) for step in range(steps)), strict=True)
    return tuple(np.concatenate(column)[:count] for column in columns)[:2]


def targets_of(plan: Plan, starts, lengths):
    """The places on the ring that these windows predict."""
    return np.concatenate([(s + 1 + np.arange(n)) % plan.tokens for s, n in zip(starts, lengths, strict=True)])


@given(PLANS)
def test_every_token_is_a_target_once_an_epoch(plan):
    """For texts that the context does not divide, batches that straddle epochs, and batches larger than an epoch."""
    epochs = 3
    starts, lengths = drawn(plan, epochs * plan.epoch_windows)
    assert ((lengths >= 1) & (lengths <= plan.context)).all() and ((starts >= 0) & (starts < plan.tokens)).all()
    for epoch in range(epochs):
        part = slice(epoch * plan.epoch_windows, (epoch + 1) * plan.epoch_windows)
        np.testing.assert_array_equal(np.sort(targets_of(plan, starts[part], lengths[part])), np.arange(plan.tokens))


@given(PLANS, st.integers(0, 30))
def test_a_batch_has_its_size(plan, step):
    assert all(column.shape == (plan.batch,) for column in windows(plan, step))


def test_epochs_differ_in_order_and_offset():
    plan = Plan(tokens=1000, context=10, batch=100, seed=1)
    epochs = [windows(plan, epoch)[0] for epoch in range(20)]
    orders = {tuple((starts - starts[0]) % 1000) for starts in epochs}
    offsets = {starts[0] % 10 for starts in epochs}
    assert len(orders) == 20
    assert len(offsets) > 5, "a token stands at another place of its window in each epoch"


@given(PLANS, st.lists(st.integers(0, 30), min_size=2, max_size=4))
def test_a_pure_function_of_plan_and_step(plan, steps):
    """No order of asking, and nothing remembered, makes a difference."""
    first = [windows(plan, step) for step in steps]
    sampler._epoch.cache_clear()
    for step, before in reversed(list(zip(steps, first, strict=True))):
        np.testing.assert_array_equal(windows(plan, step), before)


def test_the_batch_size_does_not_change_the_order():
    plan = Plan(tokens=997, context=10, batch=1, seed=5)
    wanted = drawn(plan, 300)
    for batch in (7, 64, 250):
        np.testing.assert_array_equal(drawn(dataclasses.replace(plan, batch=batch), 300), wanted)


def test_the_seed_changes_the_order():
    plans = [Plan(1000, 10, 50, seed) for seed in (0, 1, 2**32 - 1)]
    assert len({windows(plan, 0)[0].tobytes() for plan in plans}) == 3


@given(PLANS, st.integers(0, 10))
def test_targets_are_the_inputs_successors(plan, step):
    tokens = np.random.default_rng(0).integers(256, size=plan.tokens).astype(np.uint8)
    drawn_now = windows(plan, step)
    starts, lengths, *_ = drawn_now
    inputs, targets = gather(tokens, *drawn_now, plan.context)
    assert inputs.shape == targets.shape == (plan.batch, plan.context)
    assert inputs.dtype == targets.dtype == np.int32
    for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        ring = [int(tokens[(start + i) % plan.tokens]) for i in range(plan.context + 1)]
        assert inputs[row].tolist() == ring[:-1]
        assert targets[row].tolist() == ring[1 : length + 1] + [IGNORED] * (plan.context - length)


@pytest.mark.parametrize(
    "plan", [Plan(100, 10, 8, 0), Plan(103, 10, 30, 1), Plan(5, 16, 3, 2), Plan(64, 64, 4, 3)], ids=str
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gather_on_device(plan, dtype):
    tokens = np.random.default_rng(1).integers(200, size=plan.tokens).astype(dtype)
    for step in range(4):
        drawn_now = windows(plan, step)
        wanted = gather(tokens, *drawn_now, plan.context)
        place = [column.astype(np.int32) for column in drawn_now]
        got = gather_on_device(jnp.asarray(tokens), *place, plan.context)
        np.testing.assert_array_equal(got, wanted)
        assert all(a.dtype == jnp.int32 for a in got)
