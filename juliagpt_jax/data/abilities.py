"""Made-up texts that ask for one ability each: recall of pairs, copying backwards, counting modulo 2.

An ability gives the rows of a training step, or of a test, as a pure function of a seed and a step: no row is met
twice, so there is nothing to learn by heart. Only what the ability decides is scored; every other target is IGNORED.
"""

from collections.abc import Callable

import numpy as np

from juliagpt_jax.data.batch import IGNORED, Batch


def recall(seed: int, step: int, rows: int, length: int, pairs: int, vocab: int) -> Batch:
    """Return rows of `pairs` keys, each followed by its value, and behind them every key once more, to be answered by
    its value (multi-query associative recall: Arora et al. 2023, arXiv 2312.04927, section 4).

    Keys are 1 .. vocab / 2 - 1, no key twice in a row of the batch; values are vocab / 2 .. vocab - 1; everything else
    is 0. Short distances to the pairs are the more frequent, by a power law of exponent -0.99, as there.

    Raises:
        ValueError: the pairs and their queries do not fit, or there are too few keys.
    """
    room, half = (length - 2 * pairs) // 2, vocab // 2
    if room < pairs or half - 1 < pairs:
        raise ValueError(f"{pairs} pairs do not fit into {length} tokens of {vocab}")
    rng = np.random.default_rng([seed, step])
    inputs, targets = _empty(rows, length)
    share = np.arange(1, room + 1) ** -0.99
    for row in range(rows):
        keys = 1 + rng.choice(half - 1, pairs, replace=False)
        values = half + rng.integers(half, size=pairs)
        at = 2 * pairs + 2 * rng.choice(room, pairs, replace=False, p=share / share.sum())
        inputs[row, 0 : 2 * pairs : 2], inputs[row, 1 : 2 * pairs : 2] = keys, values
        inputs[row, at], targets[row, at] = keys, values
    return Batch(inputs, targets)


def palindrome(seed: int, step: int, rows: int, length: int, vocab: int) -> Batch:
    """Return rows of length / 2 random tokens 1 .. vocab - 1, a 0, and the tokens backwards, which are to be told."""
    half = length // 2
    text = np.random.default_rng([seed, step]).integers(1, vocab, size=(rows, half), dtype=np.int32)
    inputs, targets = _empty(rows, 2 * half)
    inputs[:, :half], targets[:, half:] = text, text[:, ::-1]
    inputs[:, half + 1 :] = text[:, :0:-1]
    return Batch(inputs, targets)


def parity(seed: int, step: int, rows: int, length: int) -> Batch:
    """Return rows of random bits; at each is to be told whether the ones so far are odd in number."""
    bits = np.random.default_rng([seed, step]).integers(2, size=(rows, length), dtype=np.int32)
    return Batch(bits, np.cumsum(bits, axis=1, dtype=np.int32) % 2)


def _empty(rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((rows, length), np.int32), np.full((rows, length), IGNORED, np.int32)


# `ABILITIES[word](seed, step, rows, length, ...)` makes a batch.
ABILITIES: dict[str, Callable[..., Batch]] = {"recall": recall, "palindrome": palindrome, "parity": parity}
