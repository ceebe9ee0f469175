"""Windows of a text that is too long to list: the draws of one step, without those before them.

A permutation of all windows of 30 GB of text is a gigabyte of numbers. Here it is a function instead: a Feistel network
under the keys of an epoch turns the number of a draw into the number of a window (Luby and Rackoff 1988; four rounds),
and numbers outside the ring are sent through it again until they are inside (Black and Rogaway 2002, "cycle walking").

A mixture's draw picks its ring by the weights of its stage. Which window of the ring that is depends on how many draws
before it picked the same ring: they are counted by blocks, and a ring goes on in the next stage where it stopped.
"""

import functools
import threading
from typing import NamedTuple

import numpy as np

PICKED = 2**14  # draws whose rings are drawn, and counted, together
ROUNDS = 4
_MIXING, _SHUFFLING = 2**31 - 3, 2**29  # streams of random numbers, beside those of `sampler.py`
_ODD = np.uint64(0x9E3779B97F4A7C15)
_LOCK = threading.Lock()  # batches are made in several threads


class Stage(NamedTuple):
    """A part of a run: the first draw behind it, and the share of the draws that each ring has in it."""

    end: int
    weights: tuple[float, ...]


class Mix(NamedTuple):
    """A text of several rings: tokens of each, and the stages in their order."""

    rings: tuple[int, ...]
    stages: tuple[Stage, ...]


def permuted(index: np.ndarray, size: int, seed: int, stream: int, epoch: int) -> np.ndarray:
    """Return where a permutation of 0 .. size - 1 sends each index; another one for each seed, stream and epoch."""
    half = np.uint64(max(1, -(-max(size - 1, 1).bit_length() // 2)))
    mask = np.uint64((1 << int(half)) - 1)
    rng = np.random.Generator(np.random.Philox(key=[seed + ((_SHUFFLING + stream) << 32), epoch]))
    keys = rng.integers(2**63, size=ROUNDS, dtype=np.uint64)
    found, left = np.array(index, np.uint64), np.arange(len(index))
    while len(left):
        high, low = found[left] >> half, found[left] & mask
        for key in keys:
            high, low = low, high ^ (_mixed(low + key) & mask)
        found[left] = (high << half) | low
        left = left[found[left] >= size]
    return found.astype(np.int64)


def _mixed(values: np.ndarray) -> np.ndarray:
    """Return 64 bits that depend on all bits of each value (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def window(tokens: int, context: int, seed: int, ring: int, draws: np.ndarray, fixed: bool) -> np.ndarray:
    """Return (4, n) int64 of a ring's draws: where each window starts in the ring, how many of its targets are scored,
    its epoch, its number in the epoch. The ring is cut from another offset in each epoch, unless `fixed`."""
    count = -(-tokens // context)
    epochs, places = np.divmod(draws, count)
    starts = np.zeros_like(draws)
    for epoch in np.unique(epochs).tolist():
        own = epochs == epoch
        places[own] = permuted(places[own], count, seed, ring, epoch)
        rng = np.random.Generator(np.random.Philox(key=[seed + (ring << 32), epoch]))
        starts[own] = (0 if fixed else rng.integers(tokens)) + places[own] * context
    return np.stack([starts % tokens, np.minimum(context, tokens - places * context), epochs, places])


def picks(mix: Mix, seed: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ring of each of the draws first .. last - 1, and how many draws before it picked the same ring."""
    if len(mix.rings) == 1:
        return np.zeros(last - first, np.int64), np.arange(first, last, dtype=np.int64)
    blocks = range(first // PICKED, (last - 1) // PICKED + 1)
    rings = np.concatenate([_block(mix, seed, block) for block in blocks])
    before = _before(mix, seed, blocks[0])
    order = np.zeros(len(rings), np.int64)
    for ring in range(len(mix.rings)):
        own = rings == ring
        order[own] = before[ring] + np.arange(own.sum())
    own = slice(first - blocks[0] * PICKED, last - blocks[0] * PICKED)
    return rings[own], order[own]


@functools.lru_cache(maxsize=64)
def _block(mix: Mix, seed: int, block: int) -> np.ndarray:
    """The ring of each draw of a block; behind the last stage its weights go on."""
    draws = block * PICKED + np.arange(PICKED)
    chance = np.random.Generator(np.random.Philox(key=[seed + (_MIXING << 32), block])).random(PICKED)
    ends = np.array([stage.end for stage in mix.stages[:-1]], np.int64)
    stages = np.searchsorted(ends, draws, side="right")
    rings = np.zeros(PICKED, np.int64)
    for stage in np.unique(stages).tolist():
        own = stages == stage
        bars = np.cumsum(mix.stages[stage].weights)
        rings[own] = np.searchsorted(bars[:-1] / bars[-1], chance[own], side="right")
    return rings


@functools.lru_cache(maxsize=4)
def _totals(mix: Mix, seed: int) -> list[np.ndarray]:
    return [np.zeros(len(mix.rings), np.int64)]


def _before(mix: Mix, seed: int, block: int) -> np.ndarray:
    """Draws of each ring before a block: counted once, from the start, 2 ms for a million draws."""
    with _LOCK:
        totals = _totals(mix, seed)
        while len(totals) <= block:
            fresh = np.bincount(_block(mix, seed, len(totals) - 1), minlength=len(mix.rings))
            totals.append(totals[-1] + fresh)
        return totals[block]
