"""Windows that step n trains on: a pure function of (plan, step), so there is no iterator to save.

The text is a ring. In epoch e it is cut, from an offset that depends on e, into windows of `context` tokens, and the
epoch is a permutation of these windows; the last one may be short. A window reads the tokens from its start and
predicts each token's successor. So each token is predicted exactly once an epoch, and from another position in its
window in each epoch.

With weights the text is several rings, one after the other in the token array, and no window leaves its ring. Each
draw picks a ring by the weights, independently, and takes that ring's next window: within a ring each token is still
predicted once in each of the ring's own epochs. An epoch of the whole is then as many draws as all rings have windows.

A curriculum changes the order of draws alone: within each epoch, or what of it lies in the run and in the curriculum's
span, the windows that random order would draw there come from easy to hard. Pairs of runs that differ in their order
see the same windows.

Every data technique is another distribution over window starts: this file is the only place that knows one.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.data.batch import IGNORED, Batch

MIXING, PACING = 2**31 - 1, 2**31 - 2  # streams of random numbers beside those of the rings, 0, 1, ...


class Windows(NamedTuple):
    """Windows to draw: each (n,) int64. A window reads on from `starts` in the ring of `sizes` tokens at `begins`;
    its first `lengths` targets are scored."""

    starts: np.ndarray
    lengths: np.ndarray
    begins: np.ndarray
    sizes: np.ndarray


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
        ends = np.concatenate([[0], np.cumsum(self.lengths)])
        sums = np.concatenate([[0.0], np.cumsum(self.values * self.lengths)])
        upto = lambda token: np.interp(token, ends, sums)
        first = windows.begins + (windows.starts + 1 - windows.begins) % windows.sizes
        last, stop = first + windows.lengths, windows.begins + windows.sizes
        over = np.maximum(last - stop, 0)  # targets past the ring's end, which are its first
        total = upto(last - over) - upto(first) + upto(windows.begins + over) - upto(windows.begins)
        return total / windows.lengths


@dataclasses.dataclass(frozen=True)
class Plan:
    """The way in which a text of `tokens` tokens is cut into windows and drawn from.

    Attributes:
        rings, weights: tokens of each ring, and its share of the draws; () for one ring.
        draws: windows of the whole run, which a curriculum must know; 0: without end.
        curriculum: None for random order.
    """

    tokens: int
    context: int
    batch: int
    seed: int
    rings: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    draws: int = 0
    curriculum: Curriculum | None = None

    @property
    def epoch_windows(self) -> int:
        """Windows in an epoch."""
        return sum(-(-size // self.context) for size in self.rings or (self.tokens,))


def _rng(seed: int, stream: int, epoch: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed + (stream << 32), epoch]))


@functools.lru_cache(maxsize=64)
def _ring(tokens: int, context: int, seed: int, ring: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """(starts, lengths) of all windows of one epoch of a ring, in random order; starts count from the ring's begin."""
    rng = _rng(seed, ring, epoch)
    offset = rng.integers(tokens)
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


def _random(plan: Plan, epoch: int) -> Windows:
    """All windows of an epoch in random order."""
    if not plan.rings:
        starts, lengths = _ring(plan.tokens, plan.context, plan.seed, 0, epoch)
        return Windows(starts, lengths, np.zeros_like(starts), np.full_like(starts, plan.tokens))
    picks, before = _picks(plan, epoch), _drawn_before(plan, epoch)
    drawn = Windows(*np.zeros((4, len(picks)), np.int64))
    begin = 0
    for ring, size in enumerate(plan.rings):
        rows = np.flatnonzero(picks == ring)
        ring_epochs, which = np.divmod(before[ring] + np.arange(len(rows)), -(-size // plan.context))
        for e in np.unique(ring_epochs):
            part = ring_epochs == e
            starts, lengths = _ring(size, plan.context, plan.seed, ring, int(e))
            drawn.starts[rows[part]] = begin + starts[which[part]]
            drawn.lengths[rows[part]] = lengths[which[part]]
        drawn.begins[rows], drawn.sizes[rows] = begin, size
        begin += size
    return drawn


@functools.lru_cache(maxsize=4)
def _epoch(plan: Plan, epoch: int) -> Windows:
    """All windows of an epoch, in the order they are drawn."""
    windows, curriculum = _random(plan, epoch), plan.curriculum
    if curriculum is None:
        return windows
    size = plan.epoch_windows
    until = curriculum.after + curriculum.epochs if curriculum.epochs else math.inf
    first = round(min(max(curriculum.after - epoch, 0), 1) * size)
    last = round(min(max(until - epoch, 0), 1) * size)
    last = min(last, plan.draws - epoch * size) if plan.draws else last
    if last - first < 2:
        return windows
    span = Windows(*(column[first:last] for column in windows))
    order = ORDERS[curriculum.order](curriculum, curriculum.of(span), _rng(plan.seed, PACING, epoch))
    return Windows(*(np.concatenate([c[:first], c[first:last][order], c[last:]]) for c in windows))


def windows(plan: Plan, step: int) -> Windows:
    """The windows of a step, `batch` of them. A batch may straddle two epochs."""
    size = plan.epoch_windows
    first, last = step * plan.batch, (step + 1) * plan.batch - 1
    parts = []
    for epoch in range(first // size, last // size + 1):
        begin, end = max(first - epoch * size, 0), min(last + 1 - epoch * size, size)
        parts.append([column[begin:end] for column in _epoch(plan, epoch)])
    return Windows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def gather(
    tokens: np.ndarray, starts: np.ndarray, lengths: np.ndarray, begins: np.ndarray, sizes: np.ndarray, context: int
) -> Batch:
    """The batch of `Windows`: inputs and targets, each (batch, context) int32; targets past a window's length are
    IGNORED."""
    offsets = np.arange(context + 1)
    places = begins[:, None] + ((starts - begins)[:, None] + offsets) % sizes[:, None]
    window = tokens[places].astype(np.int32)
    return Batch(window[:, :-1], np.where(offsets[:-1] < lengths[:, None], window[:, 1:], IGNORED))


@functools.partial(jax.jit, static_argnums=5)
def gather_on_device(
    tokens: jax.Array, starts: jax.Array, lengths: jax.Array, begins: jax.Array, sizes: jax.Array, context: int
) -> Batch:
    """`gather` for a token array that lives on the device; places are int32, so the text is below 2^31 tokens."""
    offsets = jnp.arange(context + 1)[None, :]
    places = begins[:, None] + ((starts - begins)[:, None] + offsets) % sizes[:, None]
    window = tokens[places].astype(jnp.int32)
    return Batch(window[:, :-1], jnp.where(offsets[:, :-1] < lengths[:, None], window[:, 1:], IGNORED))


def _paced(curriculum: Curriculum, order: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mix an order as the pacing says. Draw k is one, at random, of the items not yet taken among the first
    share(k / n) of `order`, or among the first k + 1 where the share is less."""
    n = len(order)
    progress = np.arange(n) / n
    open_ = np.ceil(n * np.clip(PACINGS[curriculum.pacing](curriculum, progress), 0, 1) - 1e-9)
    open_ = np.maximum(open_.astype(np.int64), np.arange(1, n + 1))
    if (open_ == np.arange(1, n + 1)).all():
        return order
    pool: list[int] = []
    taken, into, chances = [], 0, rng.random(n)
    for limit, chance in zip(open_.tolist(), chances.tolist(), strict=True):
        if into < limit:
            pool.extend(order[into:limit].tolist())
            into = limit
        index = int(chance * len(pool))
        pool[index], pool[-1] = pool[-1], pool[index]
        taken.append(pool.pop())
    return np.array(taken)


def _linear(curriculum: Curriculum, progress: np.ndarray) -> np.ndarray:
    return curriculum.start + (1 - curriculum.start) * progress


def _root(curriculum: Curriculum, progress: np.ndarray) -> np.ndarray:
    """The square-root competence of Platanios et al. 2019 (arXiv 1903.09848, equation 8)."""
    return np.sqrt(curriculum.start**2 + (1 - curriculum.start**2) * progress)


def _step(curriculum: Curriculum, progress: np.ndarray) -> np.ndarray:
    stage = np.floor(progress * curriculum.parts) + 1
    return np.maximum(curriculum.start, stage / curriculum.parts)


def _easy_first(curriculum: Curriculum, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _paced(curriculum, np.argsort(values, kind="stable"), rng)


def _hard_first(curriculum: Curriculum, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _paced(curriculum, np.argsort(-values, kind="stable"), rng)


def _interleaved(curriculum: Curriculum, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Several rounds, each over the whole range from easy to hard (the interleaved form of arXiv 2506.11300)."""
    order = np.argsort(values, kind="stable")
    rounds = [order[i :: curriculum.parts] for i in range(curriculum.parts)]
    return np.concatenate([_paced(curriculum, part, rng) for part in rounds if len(part)])


def _as_drawn(curriculum: Curriculum, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.arange(len(values))


PACINGS = {"linear": _linear, "root": _root, "step": _step}
ORDERS = {"random": _as_drawn, "easy_first": _easy_first, "hard_first": _hard_first, "interleaved": _interleaved}
