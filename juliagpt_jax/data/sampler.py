"""Windows that step n trains on: a pure function of (plan, step), so there is no iterator to save.

The text is a ring. In epoch e it is cut, from an offset that depends on e, into windows of `context` tokens, and the
epoch is a permutation of these windows; the last one may be short. A window reads the tokens from its start and
predicts each token's successor. So each token is predicted exactly once an epoch, and from another position in its
window in each epoch.

With weights the text is several rings, one after the other in the token array, and no window leaves its ring. Each
draw picks a ring by the weights, independently, and takes that ring's next window: within a ring each token is still
predicted once in each of the ring's own epochs. An epoch of the whole is then as many draws as all rings have windows.

So it is with `data.windows` "ring". With "documents" the documents of a ring, its passages, are put into a new order
before each epoch: a window then has other neighbours in it each time. What is kept of an order are the documents'
numbers and ends, never a copy of the text. With "fixed" a ring is cut at the same places in each epoch.

A curriculum changes the order of draws alone: within each epoch, or what of it lies in the run and in the curriculum's
span, the windows that random order would draw there come from easy to hard. Pairs of runs that differ in their order
see the same windows.

Every data technique is another distribution over window starts: this file is the only place that knows one.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from juliagpt_jax.data import addressed
from juliagpt_jax.data.batch import Batch, gather, gather_places, read_on
from juliagpt_jax.data.orders import ORDERS

MIXING, PACING = 2**31 - 1, 2**31 - 2  # streams of random numbers beside those of the rings, 0, 1, ...
SHUFFLING = 2**30  # and of the orders of the rings' documents, from here


class Windows(NamedTuple):
    """Windows to draw: each (n,) int64. A window reads on from `starts` in the ring of `sizes` tokens at `begins`;
    its first `lengths` targets are scored."""

    starts: np.ndarray
    lengths: np.ndarray
    begins: np.ndarray
    sizes: np.ndarray


class Drawn(NamedTuple):
    """The windows of an epoch, and for each its ring and the epoch of that ring: (n,) int64."""

    windows: Windows
    rings: np.ndarray
    epochs: np.ndarray


class Order(NamedTuple):
    """A ring's documents in the order of one of its epochs: their numbers in the ring, and where each then ends."""

    documents: np.ndarray
    ends: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Documents:
    """The documents of a text: tokens of each, in the order of the token array. A plan compares them by identity."""

    lengths: np.ndarray

    @functools.cached_property
    def ends(self) -> np.ndarray:
        """Where in the token array each ends; (n,) int64."""
        return np.cumsum(self.lengths, dtype=np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class Curriculum:
    """An order of draws by how hard a window is: the mean, over its targets, of the value of the passage of each.

    Attributes:
        order, pacing: names of ORDERS and PACINGS.
        start: share of an epoch's windows that may be drawn from its beginning.
        parts: rounds of interleaved order, stages of step pacing.
        after, epochs: the span, in epochs: from where, and how long; 0 epochs: to the end.
        values, lengths: of each passage of the text, in the order of the token array.
    """

    order: str
    pacing: str
    start: float
    parts: int
    after: float
    epochs: float
    values: np.ndarray
    lengths: np.ndarray

    def of(self, windows: Windows) -> np.ndarray:
        """Difficulty of windows: the mean of their passages' field."""
        return _means(self.values, self.lengths, windows)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The way in which a text of `tokens` tokens is cut into windows and drawn from.

    Attributes:
        rings, weights: tokens of each ring, and its share of the draws; () for one ring.
        draws: windows of the whole run, which a curriculum must know; 0: without end.
        curriculum: None for random order.
        fixed: cut each epoch at the same places.
        documents: put these into another order in each epoch, each within its ring; None: they stay as they lie.
        stages: the text is too long to list its windows: they are computed as they are drawn (`addressed.py`), from
            the rings by the weights of each stage, in place of `weights`; (): they are listed.
    """

    tokens: int
    context: int
    batch: int
    seed: int
    rings: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    draws: int = 0
    curriculum: Curriculum | None = None
    fixed: bool = False
    documents: Documents | None = None
    stages: tuple[addressed.Stage, ...] = ()

    @property
    def epoch_windows(self) -> int:
        """Windows in an epoch."""
        return sum(-(-size // self.context) for size in self.rings or (self.tokens,))


def cut(windows: str, lengths: np.ndarray) -> dict[str, Any]:
    """Return the fields of a `Plan` for a `data.windows`, given the tokens of each document."""
    return {"fixed": windows == "fixed", "documents": Documents(lengths) if windows == "documents" else None}


def _rng(seed: int, stream: int, epoch: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed + (stream << 32), epoch]))


@functools.lru_cache(maxsize=64)
def _ring(
    tokens: int, context: int, seed: int, ring: int, epoch: int, fixed: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """(starts, lengths) of all windows of one epoch of a ring, in random order; starts count from the ring's begin."""
    rng = _rng(seed, ring, epoch)
    offset = 0 if fixed else rng.integers(tokens)
    order = rng.permutation(-(-tokens // context))
    return (offset + order * context) % tokens, np.minimum(context, tokens - order * context)


@functools.lru_cache(maxsize=8)
def _picks(plan: Plan, epoch: int) -> np.ndarray:
    """The ring of each draw of an epoch."""
    bars = np.cumsum(plan.weights)[:-1]
    return np.searchsorted(bars, _rng(plan.seed, MIXING, epoch).random(plan.epoch_windows), side="right")


@functools.lru_cache(maxsize=8)
def _drawn_before(plan: Plan, epoch: int) -> np.ndarray:
    """Windows drawn from each ring before an epoch."""
    total = np.zeros(len(plan.rings), np.int64)
    for before in range(epoch):
        total += np.bincount(_picks(plan, before), minlength=len(plan.rings))
    return total


def _random(plan: Plan, epoch: int) -> Drawn:
    """All windows of an epoch in random order."""
    if not plan.rings:
        starts, lengths = _ring(plan.tokens, plan.context, plan.seed, 0, epoch, plan.fixed)
        zeros = np.zeros_like(starts)
        whole = Windows(starts, lengths, zeros, np.full_like(starts, plan.tokens))
        return Drawn(whole, zeros, np.full_like(starts, epoch))
    picks, before = _picks(plan, epoch), _drawn_before(plan, epoch)
    drawn, epochs = Windows(*np.zeros((4, len(picks)), np.int64)), np.zeros(len(picks), np.int64)
    begin = 0
    for ring, size in enumerate(plan.rings):
        rows = np.flatnonzero(picks == ring)
        ring_epochs, which = np.divmod(before[ring] + np.arange(len(rows)), -(-size // plan.context))
        for e in np.unique(ring_epochs):
            part = ring_epochs == e
            starts, lengths = _ring(size, plan.context, plan.seed, ring, int(e), plan.fixed)
            drawn.starts[rows[part]] = begin + starts[which[part]]
            drawn.lengths[rows[part]] = lengths[which[part]]
        drawn.begins[rows], drawn.sizes[rows], epochs[rows] = begin, size, ring_epochs
        begin += size
    return Drawn(drawn, picks, epochs)


@functools.lru_cache(maxsize=4)
def _epoch(plan: Plan, epoch: int) -> Drawn:
    """All windows of an epoch, in the order they are drawn."""
    drawn, curriculum = _random(plan, epoch), plan.curriculum
    if curriculum is None:
        return drawn
    size = plan.epoch_windows
    until = curriculum.after + curriculum.epochs if curriculum.epochs else math.inf
    first = round(min(max(curriculum.after - epoch, 0), 1) * size)
    last = round(min(max(until - epoch, 0), 1) * size)
    last = min(last, plan.draws - epoch * size) if plan.draws else last
    if last - first < 2:
        return drawn
    values = _difficulty(plan, curriculum, _rows(drawn, slice(first, last)))
    order = ORDERS[curriculum.order](curriculum, values, _rng(plan.seed, PACING, epoch))
    return _rows(drawn, np.concatenate([np.arange(first), first + order, np.arange(last, size)]))


def _rows(drawn: Drawn, which: Any) -> Drawn:
    return Drawn(Windows(*(column[which] for column in drawn.windows)), drawn.rings[which], drawn.epochs[which])


def _difficulty(plan: Plan, curriculum: Curriculum, drawn: Drawn) -> np.ndarray:
    """The mean over each window's targets of what the curriculum goes by."""
    if plan.documents is None:
        return curriculum.of(drawn.windows)
    values = np.zeros(len(drawn.rings))
    for rows, order, first in _orders(plan, drawn):
        own = first + order.documents
        local = Windows(*(column[rows] for column in drawn.windows))
        local = local._replace(starts=local.starts - local.begins, begins=np.zeros_like(local.begins))
        values[rows] = _means(curriculum.values[own], curriculum.lengths[own], local)
    return values


def _means(values: np.ndarray, lengths: np.ndarray, windows: Windows) -> np.ndarray:
    """The mean over each window's targets of the values of passages that lie one behind the other."""
    ends = np.concatenate([[0], np.cumsum(lengths)])
    sums = np.concatenate([[0.0], np.cumsum(values * lengths)])
    upto = lambda token: np.interp(token, ends, sums)
    first = windows.begins + (windows.starts + 1 - windows.begins) % windows.sizes
    last, stop = first + windows.lengths, windows.begins + windows.sizes
    over = np.maximum(last - stop, 0)  # targets past the ring's end, which are its first
    total = upto(last - over) - upto(first) + upto(windows.begins + over) - upto(windows.begins)
    return total / windows.lengths


@functools.lru_cache(maxsize=16)
def _order(documents: Documents, first: int, last: int, seed: int, ring: int, epoch: int) -> Order:
    """The documents first .. last - 1, which are a ring's, in the order of one of its epochs."""
    order = _rng(seed, SHUFFLING + ring, epoch).permutation(last - first)
    return Order(order, np.cumsum(documents.lengths[first:last][order], dtype=np.int64))


def _orders(plan: Plan, drawn: Drawn) -> Iterator[tuple[np.ndarray, Order, int]]:
    """For each epoch of each ring: which windows are of it, the order of its documents, the number of the first."""
    assert plan.documents is not None
    for ring in np.unique(drawn.rings):
        begin, size = sum(plan.rings[:ring]), (plan.rings or (plan.tokens,))[ring]
        first, last = np.searchsorted(plan.documents.ends, [begin, begin + size], side="right")
        for epoch in np.unique(drawn.epochs[drawn.rings == ring]):
            rows = np.flatnonzero((drawn.rings == ring) & (drawn.epochs == epoch))
            yield rows, _order(plan.documents, int(first), int(last), plan.seed, int(ring), int(epoch)), int(first)


@functools.lru_cache(maxsize=2)  # a step asks for its windows, and for where they lie
def _drawn(plan: Plan, step: int) -> Drawn:
    """The draws of a step, `batch` of them. A batch may straddle two epochs."""
    if plan.stages:
        return _computed(plan, step * plan.batch, (step + 1) * plan.batch)
    size = plan.epoch_windows
    first, last = step * plan.batch, (step + 1) * plan.batch - 1
    parts = []
    for epoch in range(first // size, last // size + 1):
        begin, end = max(first - epoch * size, 0), min(last + 1 - epoch * size, size)
        parts.append(_rows(_epoch(plan, epoch), slice(begin, end)))
    whole = Windows(*(np.concatenate(columns) for columns in zip(*(part.windows for part in parts), strict=True)))
    return Drawn(whole, *(np.concatenate([part[i] for part in parts]) for i in (1, 2)))


def _computed(plan: Plan, first: int, last: int) -> Drawn:
    """The draws first .. last - 1 of a text whose windows are not listed."""
    rings = plan.rings or (plan.tokens,)
    picks, order = addressed.picks(addressed.Mix(rings, plan.stages), plan.seed, first, last)
    drawn, epochs = Windows(*np.zeros((4, len(picks)), np.int64)), np.zeros(len(picks), np.int64)
    for ring in np.unique(picks).tolist():
        own, begin = picks == ring, sum(rings[:ring])
        starts, drawn.lengths[own], epochs[own], _ = addressed.window(
            rings[ring], plan.context, plan.seed, ring, order[own], plan.fixed
        )
        drawn.starts[own], drawn.begins[own], drawn.sizes[own] = begin + starts, begin, rings[ring]
    return Drawn(drawn, picks, epochs)


def windows(plan: Plan, step: int) -> Windows:
    """The windows of a step. Where documents are shuffled, starts count in their order; `places` finds the tokens."""
    return _drawn(plan, step).windows


def places(plan: Plan, step: int) -> np.ndarray:
    """(batch, context + 1) int64: where in the token array a step's windows lie, the last one's successor included."""
    drawn = _drawn(plan, step)
    at = read_on(*drawn.windows, np.arange(plan.context + 1)[None, :])
    if plan.documents is None:
        return at
    for rows, order, first in _orders(plan, drawn):
        begin = drawn.windows.begins[rows[0]]
        local = at[rows] - begin
        which = np.searchsorted(order.ends, local, side="right")
        at[rows] = local - order.ends[which] + plan.documents.ends[first + order.documents[which]]
    return at


def batch(tokens: np.ndarray, plan: Plan, step: int) -> Batch:
    """The batch of a step, gathered on the host."""
    drawn = windows(plan, step)
    if plan.documents is None:
        return gather(tokens, *drawn, plan.context)
    return gather_places(tokens, places(plan, step), drawn.lengths)
