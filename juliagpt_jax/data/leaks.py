"""Passages of the validation text that the training text has too: there a model is asked what it has read.

Exact: the same line. Near: four fifths of its sequences of 40 tokens stand in the training text (a sample of them by
their hash, so that little is kept in memory). Hashes are polynomials modulo 2^64 over random numbers for the tokens.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

SHORTEST = 40  # tokens of a passage; shorter lines ("romeo:") may well stand on both sides
SEQUENCE = 40
SAMPLED = 8  # one sequence in so many is looked at, the same ones on both sides
NEAR = 0.8
BLOCK = 2**22  # tokens hashed at a time
LONGEST = 2**20  # tokens of a passage: a text without lines is looked at in such pieces
BASE = np.uint64(0x9E3779B97F4A7C15)


class Leaks(NamedTuple):
    """Validation passages: how many there are, stand word for word in the training text, or nearly."""

    passages: int
    exact: int
    near: int

    @property
    def share(self) -> float:
        """Of the passages, those that leak."""
        return (self.exact + self.near) / self.passages if self.passages else 0.0


def find(train: np.ndarray, train_lengths: np.ndarray, val: np.ndarray, val_lengths: np.ndarray, near: bool) -> Leaks:
    """Compare two token arrays of lines with these lengths. Without `near`, a passage counts only when it is the same,
    as is right where few forms of sentences recur by design."""
    train_lengths, val_lengths = _pieces(train_lengths), _pieces(val_lengths)
    lines, sequences = zip(*_hashes(train, train_lengths), strict=True)
    seen_lines, seen = np.sort(np.concatenate(lines)), np.sort(np.concatenate(sequences))
    passages = exact = close = 0
    for begin, end in _blocks(val_lengths):
        lengths = val_lengths[begin:end]
        at = int(val_lengths[:begin].sum())
        own, hashes, of = _block(np.asarray(val[at : at + int(lengths.sum())]), lengths)
        long = lengths > SHORTEST  # with the end of the line
        same = long & _among(own, seen_lines)
        total = np.bincount(of, minlength=len(lengths))
        found = np.bincount(of[_among(hashes, seen)], minlength=len(lengths))
        alike = long & ~same & (total >= 4) & (found >= NEAR * total) & near
        passages, exact, close = passages + int(long.sum()), exact + int(same.sum()), close + int(alike.sum())
    return Leaks(passages, exact, close)


def _pieces(lengths: np.ndarray) -> np.ndarray:
    """Cut lines into pieces of at most LONGEST tokens: lengths of lines in, lengths of pieces out."""
    counts = np.maximum(-(-lengths // LONGEST), 1)
    pieces = np.full(int(counts.sum()), LONGEST, np.int64)
    pieces[np.cumsum(counts) - 1] = lengths - (counts - 1) * LONGEST
    return pieces


def _among(values: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Mark the values that stand in a sorted array."""
    if not len(ordered):
        return np.zeros(len(values), bool)
    return ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values


def _blocks(lengths: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of lines of about BLOCK tokens."""
    ends, begin = np.cumsum(lengths), 0
    while begin < len(lengths):
        done = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + BLOCK, side="right")))
        yield begin, end
        begin = end


def _hashes(tokens: np.ndarray, lengths: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    yield np.zeros(0, np.uint64), np.zeros(0, np.uint64)
    at = 0
    for begin, end in _blocks(lengths):
        size = int(lengths[begin:end].sum())
        own, sequences, _ = _block(np.asarray(tokens[at : at + size]), lengths[begin:end])
        yield own, sequences
        at += size


def _block(tokens: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The hash of each line; of the sampled sequences that lie in one line, the hash and the number of the line."""
    n = len(tokens)
    signs = np.random.Generator(np.random.Philox(0)).integers(2**63, size=int(tokens.max(initial=0)) + 1)
    power = np.cumprod(np.concatenate([[np.uint64(1)], np.full(n, BASE)]))
    inverse = np.cumprod(np.concatenate([[np.uint64(1)], np.full(n, pow(int(BASE), -1, 2**64), np.uint64)]))
    sums = np.concatenate([[np.uint64(0)], np.cumsum(signs.astype(np.uint64)[tokens] * power[:-1])])
    ends = np.cumsum(lengths)
    starts = ends - lengths
    # The end of the line is the same for all but a last line without one.
    own = (sums[ends] - sums[starts]) * inverse[starts]
    if n < SEQUENCE:
        return own, np.zeros(0, np.uint64), np.zeros(0, np.int64)
    hashes = (sums[SEQUENCE:] - sums[:-SEQUENCE]) * inverse[: n - SEQUENCE + 1]
    sampled = np.flatnonzero((hashes >> np.uint64(40)) % np.uint64(SAMPLED) == 0)
    of = np.searchsorted(ends, sampled, side="right")
    inside = sampled + SEQUENCE <= ends[of]
    return own, hashes[sampled[inside]], of[inside]
