"""Every token is a target once an epoch, and a batch is a function of the plan and the step."""

import dataclasses
import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from juliagpt_jax.data import orders, sampler
from juliagpt_jax.data.batch import IGNORED, gather, gather_on_device, gather_places, gather_places_on_device
from juliagpt_jax.data.sampler import Curriculum, Documents, Plan, Windows, places, windows

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
    inputs, targets, *_ = gather(tokens, *drawn_now, plan.context)
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
        np.testing.assert_array_equal(got[:2], wanted[:2])
        assert all(a.dtype == jnp.int32 for a in got[:2]) and {*got[2:]} == {*wanted[2:]} == {()}


# Rings and weights.


MIXED = Plan(tokens=1000, context=10, batch=16, seed=3, rings=(203, 700, 97), weights=(0.5, 0.2, 0.3))


def all_windows(plan: Plan, count: int) -> Windows:
    """The first `count` windows that are drawn."""
    steps = [windows(plan, step) for step in range(-(-count // plan.batch))]
    return Windows(*(np.concatenate(column)[:count] for column in zip(*steps, strict=True)))


def ring_of(plan: Plan, drawn: Windows) -> np.ndarray:
    begins = np.cumsum([0, *plan.rings[:-1]])
    np.testing.assert_array_equal(np.asarray(plan.rings)[np.searchsorted(begins, drawn.begins)], drawn.sizes)
    return np.searchsorted(begins, drawn.begins)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weights", [(0.5, 0.2, 0.3), (0.9, 0.05, 0.05)], ids=str)
def test_weights_are_met_within_three_sigma(weights, seed):
    """Over a run, and over any tenth of it; of windows, and of targets up to the short last window of a ring."""
    plan = dataclasses.replace(MIXED, weights=weights, seed=seed)
    count = 20_000
    drawn = all_windows(plan, count)
    rings = ring_of(plan, drawn)
    for part in (slice(None), slice(2000, 4000)):
        n = len(rings[part])
        for ring, share in enumerate(weights):
            sigma = np.sqrt(share * (1 - share) / n)
            assert abs((rings[part] == ring).mean() - share) < 3.3 * sigma  # 3 sigma, for some dozen looks
    targets = np.bincount(rings, drawn.lengths) / drawn.lengths.sum()
    np.testing.assert_allclose(targets, weights, atol=0.02)


def test_within_a_ring_every_token_is_a_target_once_an_epoch_of_the_ring():
    drawn = all_windows(MIXED, 3000)
    rings, begin = ring_of(MIXED, drawn), 0
    for ring, size in enumerate(MIXED.rings):
        own = Windows(*(column[rings == ring] for column in drawn))
        per_epoch = -(-size // MIXED.context)
        for epoch in range(len(own.starts) // per_epoch):
            part = Windows(*(column[epoch * per_epoch : (epoch + 1) * per_epoch] for column in own))
            places = [
                begin + (s - begin + 1 + np.arange(n)) % size for s, n in zip(part.starts, part.lengths, strict=True)
            ]
            np.testing.assert_array_equal(np.sort(np.concatenate(places)), begin + np.arange(size))
        begin += size


def test_no_window_leaves_its_ring():
    tokens = np.repeat(np.arange(3), MIXED.rings).astype(np.uint8)  # every token is the number of its ring
    drawn = all_windows(MIXED, 2000)
    rings = ring_of(MIXED, drawn)
    inputs, targets, *_ = gather(tokens, *drawn, MIXED.context)
    assert (inputs == rings[:, None]).all() and ((targets == rings[:, None]) | (targets == IGNORED)).all()
    assert (drawn.starts + MIXED.context >= drawn.begins + drawn.sizes).any(), "some reach over the end of a ring"


def test_one_ring_of_weight_one_is_the_plain_text():
    plain, ring = Plan(97, 10, 7, 5), Plan(97, 10, 7, 5, (97,), (1.0,))
    for step in range(10):
        np.testing.assert_array_equal(windows(plain, step), windows(ring, step))


# Curricula.


def curriculum(tokens: int, **changes) -> Curriculum:
    """Chunks of 1 to 30 tokens with values of their own, over a text of `tokens`."""
    rng = np.random.default_rng(7)
    lengths = rng.integers(1, 31, size=tokens)
    lengths = lengths[: np.searchsorted(np.cumsum(lengths), tokens, side="left")]
    lengths = np.append(lengths, tokens - lengths.sum())
    usual = {"order": "easy_first", "pacing": "linear", "start": 0.0, "parts": 4, "after": 0.0, "epochs": 0.0}
    return Curriculum(**(usual | changes), values=rng.random(len(lengths)), lengths=lengths)


def values_by_hand(plan: Plan, drawn: Windows) -> np.ndarray:
    """The mean over the targets of each window of the value of the chunk of each."""
    each = np.repeat(plan.curriculum.values, plan.curriculum.lengths)
    return np.array(
        [
            np.mean([each[b + (s - b + 1 + i) % z] for i in range(n)])
            for s, n, b, z in zip(*drawn, strict=True)
        ]
    )  # fmt: skip


RINGS = [((), ()), ((300, 731), (0.5, 0.5))]


@pytest.mark.parametrize("rings, weights", RINGS, ids=["plain", "weights"])
def test_how_hard_a_window_is(rings, weights):
    plan = Plan(1031, 16, 8, 2, rings, weights, 0, curriculum(1031, order="random"))
    drawn = all_windows(plan, 200)
    np.testing.assert_allclose(plan.curriculum.of(drawn), values_by_hand(plan, drawn), atol=1e-12)


@pytest.mark.parametrize("rings, weights", RINGS, ids=["plain", "weights"])
@pytest.mark.parametrize("pacing", orders.PACINGS)
@pytest.mark.parametrize("order", orders.ORDERS)
def test_a_curriculum_draws_the_same_windows_in_another_order(order, pacing, rings, weights):
    """In each epoch, and in the part of the last one that the run reaches."""
    plain = Plan(1031, 16, 8, 2, rings, weights, 3 * 65 + 20)
    plan = dataclasses.replace(plain, curriculum=curriculum(1031, order=order, pacing=pacing, start=0.2))
    size = plan.epoch_windows
    key = lambda drawn: sorted(zip(*map(np.ndarray.tolist, drawn), strict=True))
    one, other = all_windows(plan, plan.draws), all_windows(plain, plan.draws)
    for begin in range(0, plan.draws, size):
        part = slice(begin, begin + size)
        assert key([c[part] for c in one]) == key([c[part] for c in other])
    if order == "random":
        np.testing.assert_array_equal(one, other)
    else:
        assert (one.starts != other.starts).any()
    assert windows(plan, plan.draws // plan.batch + 1).starts.shape == (8,), "past the end too"


def test_order_obeys_difficulty():
    """Sorted within each epoch; the run's unfinished epoch is sorted too, not cut off after its easy part."""
    draws = 2 * 65 + 30
    for order, sign in [("easy_first", 1), ("hard_first", -1)]:
        plan = Plan(1031, 16, 8, 2, draws=draws, curriculum=curriculum(1031, order=order))
        values = plan.curriculum.of(all_windows(plan, draws))
        for begin in (0, 65, 130):
            assert (np.diff(sign * values[begin : min(begin + 65, draws)]) >= 0).all()
        last = values[130:]
        assert abs(last.mean() - 0.5) < 0.1 and last.min() < 0.4 < 0.6 < last.max()


def test_interleaved_goes_round_several_times():
    plan = Plan(1040, 16, 8, 2, curriculum=curriculum(1040, order="interleaved", parts=5))
    values = plan.curriculum.of(all_windows(plan, 65)).reshape(5, 13)
    assert (np.diff(values, axis=1) >= 0).all()
    assert np.ptp(values.mean(axis=1)) < 0.1, "each round has the whole range"


def test_the_span_of_a_curriculum():
    """Half an epoch of random order, one and a half of the curriculum, random order again."""
    plain = Plan(1040, 16, 8, 2)
    plan = dataclasses.replace(plain, curriculum=curriculum(1040, after=0.5, epochs=1.5))
    one, other = all_windows(plan, 3 * 65), all_windows(plain, 3 * 65)
    values = plan.curriculum.of(one)
    half = round(0.5 * 65)
    np.testing.assert_array_equal(one.starts[:half], other.starts[:half])
    np.testing.assert_array_equal(one.starts[130:], other.starts[130:])
    assert (np.diff(values[half:65]) >= 0).all() and (np.diff(values[65:130]) >= 0).all()


@pytest.mark.parametrize(
    "pacing, start, share",
    [
        ("linear", 0.3, lambda u: 0.3 + 0.7 * u),
        ("root", 0.2, lambda u: np.sqrt(0.04 + 0.96 * u)),
        ("step", 0.0, lambda u: (np.floor(4 * u) + 1) / 4),
        ("step", 0.5, lambda u: np.maximum(0.5, (np.floor(4 * u) + 1) / 4)),
    ],
    ids=lambda value: None if callable(value) else str(value),
)
def test_pacing(pacing, start, share):
    """Draw k of n takes one of the easiest share(k / n), and not always the easiest of them."""
    plan = Plan(16_000, 16, 8, 2, curriculum=curriculum(16_000, pacing=pacing, start=start))
    values = plan.curriculum.of(all_windows(plan, 1000))
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    limits = np.maximum(np.ceil(1000 * share(np.arange(1000) / 1000) - 1e-9), np.arange(1, 1001))
    assert (ranks < limits).all()
    assert ranks[0] > 0 and (ranks[:300] > 0.6 * limits[:300]).mean() > 0.3


def test_a_curriculum_is_a_function_of_plan_and_step():
    for rings, weights in RINGS:
        plan = Plan(1031, 16, 7, 4, rings, weights, 500, curriculum(1031, order="interleaved", pacing="root"))
        first = [windows(plan, step) for step in range(0, 40, 3)]
        for cached in (sampler._epoch, sampler._ring, sampler._picks, sampler._drawn_before):
            cached.cache_clear()
        for step, before in reversed(list(zip(range(0, 40, 3), first, strict=True))):
            np.testing.assert_array_equal(windows(plan, step), before)


# Documents that are shuffled, and windows that stay.

LENGTHS = st.lists(st.integers(0, 30), min_size=1, max_size=40).filter(lambda sizes: sum(sizes) >= 2)
SHUFFLED = st.builds(
    lambda sizes, context, batch, seed: Plan(
        sum(sizes), context, batch, seed, documents=Documents(np.array(sizes, np.int64))
    ),
    LENGTHS,
    st.integers(1, 40),
    st.integers(1, 30),
    st.integers(0, 2**32 - 1),
)
BOOK = Documents(np.random.default_rng(3).integers(1, 25, size=120))
BEGINS = BOOK.ends - BOOK.lengths


def book(**changes) -> Plan:
    return dataclasses.replace(Plan(int(BOOK.ends[-1]), 16, 8, 2, documents=BOOK), **changes)


def all_places(plan: Plan, count: int) -> np.ndarray:
    return np.concatenate([places(plan, step) for step in range(-(-count // plan.batch))])[:count]


def scored(at: np.ndarray, drawn: Windows) -> list[np.ndarray]:
    """The places of the targets of each window."""
    return [row[1 : n + 1] for row, n in zip(at, drawn.lengths, strict=True)]


def chain(plan: Plan, epoch: int) -> dict[int, int]:
    """Which document follows which in an epoch, as its windows show it, each document in one piece."""
    drawn, at = all_windows(plan, (epoch + 1) * plan.epoch_windows), all_places(plan, (epoch + 1) * plan.epoch_windows)
    follows = {}
    for row, n in zip(at[epoch * plan.epoch_windows :], drawn.lengths[epoch * plan.epoch_windows :], strict=True):
        of = np.searchsorted(plan.documents.ends, row[: n + 1], side="right")
        for i in range(n):
            if row[i] + 1 == row[i + 1] and of[i] == of[i + 1]:
                continue
            assert row[i] + 1 == plan.documents.ends[of[i]], "a document goes on to its end"
            assert row[i + 1] == plan.documents.ends[of[i + 1]] - plan.documents.lengths[of[i + 1]]
            assert follows.setdefault(int(of[i]), int(of[i + 1])) == of[i + 1]
    return follows


@given(SHUFFLED)
def test_every_token_of_shuffled_documents_is_a_target_once_an_epoch(plan):
    count = 3 * plan.epoch_windows
    targets = scored(all_places(plan, count), all_windows(plan, count))
    for epoch in range(3):
        part = targets[epoch * plan.epoch_windows : (epoch + 1) * plan.epoch_windows]
        np.testing.assert_array_equal(np.sort(np.concatenate(part)), np.arange(plan.tokens))


def test_documents_stay_whole_and_follow_each_other_anew():
    """The windows of an epoch, put together, are one round of all documents; the next epoch's is another."""
    rounds = [chain(book(), epoch) for epoch in range(3)]
    for follows in rounds:
        at, seen = 0, []
        for _ in range(len(follows)):
            seen.append(at)
            at = follows[at]
        assert at == 0 and sorted(seen) == list(range(120))
    assert len({tuple(sorted(follows.items())) for follows in rounds}) == 3
    assert sum(rounds[0][k] == rounds[1][k] for k in range(120)) < 10, "no two epochs have the same neighbours"


def test_the_end_of_another_document_stands_before_each():
    """The id that ends a document is what its successor's first token is predicted from."""
    tokens = np.full(book().tokens, 7, np.uint16)
    tokens[BOOK.ends - 1] = 1  # <eos>
    tokens[BEGINS[BOOK.lengths > 1]] = 2  # the first of each that has more than its end
    for step in range(20):
        inputs, targets, *_ = sampler.batch(tokens, book(), step)
        assert (inputs[targets == 2] == 1).all() and (targets == 2).any()


@given(SHUFFLED, st.lists(st.integers(0, 20), min_size=2, max_size=4))
def test_shuffled_documents_are_a_function_of_plan_and_step(plan, steps):
    first = [places(plan, step) for step in steps]
    for cached in (sampler._epoch, sampler._ring, sampler._order):
        cached.cache_clear()
    for step, before in reversed(list(zip(steps, first, strict=True))):
        np.testing.assert_array_equal(places(plan, step), before)


@pytest.mark.parametrize(
    "plan", [book(), book(fixed=True, documents=None), book(documents=None)], ids=["documents", "fixed", "ring"]
)
def test_a_batch_is_the_same_from_the_host_and_from_the_device(plan):
    tokens = np.random.default_rng(1).integers(200, size=plan.tokens).astype(np.uint8)
    for step in (0, 3, 11):
        drawn, at = windows(plan, step), places(plan, step)
        wanted = sampler.batch(tokens, plan, step)
        got = gather_places_on_device(jnp.asarray(tokens), at.astype(np.int32), drawn.lengths.astype(np.int32))
        np.testing.assert_array_equal(got[:2], wanted[:2])
        np.testing.assert_array_equal(gather_places(tokens, at, drawn.lengths)[:2], wanted[:2])
        if plan.documents is None:
            np.testing.assert_array_equal(gather(tokens, *drawn, plan.context)[:2], wanted[:2])


def test_fixed_windows_are_cut_at_the_same_places_in_another_order():
    plan = Plan(1000, 16, 8, 2, fixed=True)
    starts, _ = drawn(plan, 3 * 63)
    epochs = starts.reshape(3, 63)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), [np.arange(0, 1000, 16)] * 3)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_shuffled_documents_stay_in_their_rings():
    """With weights: each document within its ring, and each token once in each of the ring's own epochs."""
    sizes = tuple(int(BOOK.lengths[part].sum()) for part in (slice(0, 50), slice(50, 120)))
    plan = book(rings=sizes, weights=(0.7, 0.3))
    drawn, at = all_windows(plan, 600), all_places(plan, 600)
    ring = ring_of(plan, drawn)
    assert ((at >= sizes[0]) == (ring == 1)[:, None]).all()
    for k, (begin, size) in enumerate([(0, sizes[0]), (sizes[0], sizes[1])]):
        targets = [t for t, r in zip(scored(at, drawn), ring, strict=True) if r == k]
        per_epoch = -(-size // plan.context)
        assert len(targets) > 2 * per_epoch
        for epoch in range(len(targets) // per_epoch):
            own = np.sort(np.concatenate(targets[epoch * per_epoch : (epoch + 1) * per_epoch]))
            np.testing.assert_array_equal(own, begin + np.arange(size))


@pytest.mark.parametrize("weights", [(), (0.5, 0.5)], ids=["plain", "weights"])
def test_a_curriculum_over_shuffled_documents(weights):
    """Windows come by the mean of the documents that they really hold; they are those of random order."""
    values = np.random.default_rng(5).random(120)
    half = int(BOOK.lengths[:60].sum())
    rings = (half, int(BOOK.ends[-1]) - half) if weights else ()
    plain = book(rings=rings, weights=weights)
    easy = Curriculum("easy_first", "linear", 0.0, 4, 0.0, 0.0, values, BOOK.lengths)
    plan = dataclasses.replace(plain, curriculum=easy)
    size, each = plan.epoch_windows, np.repeat(values, BOOK.lengths)
    hard = lambda p: np.array([each[t].mean() for t in scored(all_places(p, 2 * size), all_windows(p, 2 * size))])
    one, other = hard(plan), hard(plain)
    for part in (slice(0, size), slice(size, 2 * size)):
        assert (np.diff(one[part]) > -1e-9).all() and not (np.diff(other[part]) > -1e-9).all()
        np.testing.assert_allclose(one[part], np.sort(other[part]), atol=1e-9)


def test_an_order_takes_no_memory_of_the_text_s_size():
    """A billion tokens in a thousand documents: an order has a thousand numbers, whatever they hold."""
    plan = Plan(10**9, 2**16, 2, 0, documents=Documents(np.full(1000, 10**6)))
    tracemalloc.start()
    at = places(plan, 5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * at.nbytes and at.shape == (2, 2**16 + 1) and 0 <= at.min() <= at.max() < 10**9
