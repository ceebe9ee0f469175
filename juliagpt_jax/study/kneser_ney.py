"""Interpolated modified Kneser-Ney n-grams on token ids: the floor that a neural language model must beat.

Chen and Goodman 1998 (TR-10-98), section 3 and equations 26 to 28. The longest n-grams have their counts; the shorter
ones count different tokens in front of them. From a count of 1, 2, and 3 or more its own discount is taken, and what
is taken in a context goes to the n-grams one shorter; from single tokens it goes to equal shares of the vocabulary.

An n-gram's number is its rank among the different ones: from the number of its first n - 1 tokens, and the last, the
next longer ones get theirs by one sort. So no order is too long for 64 bits, and all probabilities of a text come out
of one pass over it.
"""

import dataclasses

import numpy as np

FALLBACK = (0.5, 1.0, 1.5)  # discounts where the text has too few n-grams to estimate them, as KenLM's


@dataclasses.dataclass(frozen=True)
class Order:
    """The n-grams of one length.

    Attributes:
        keys: (G,) int64, sorted: number of the context times V, plus the last token. The place of a key is the n-gram's
            number.
        counts: (G,) of the n-grams: of different tokens in front of them, but for the longest.
        totals: of the counts by context, (contexts,).
        left: the share by context that discounts leave to the n-grams one shorter, (contexts,).
        discounts: of the counts 0, 1, 2, and 3 or more, (4,).
    """

    keys: np.ndarray
    counts: np.ndarray
    totals: np.ndarray
    left: np.ndarray
    discounts: np.ndarray


@dataclasses.dataclass(frozen=True)
class KneserNey:
    """A counted model; `orders` begin with single tokens."""

    vocab: int
    orders: tuple[Order, ...]

    def probabilities(self, tokens: np.ndarray) -> np.ndarray:
        """Return the probability (n,) float64 of each token of a text, given those before it: as many of them as the
        longest n-grams have, at its beginning as many as there are."""
        tokens = np.asarray(tokens, np.int64)
        shares = np.full(len(tokens), 1.0 / self.vocab)
        contexts = np.zeros(len(tokens), np.int64)  # the number of what stands before each token; -1: never seen
        for order in self.orders:
            found = _found(order.keys, np.where(contexts < 0, -1, contexts * self.vocab + tokens))
            count = np.where(found < 0, 0, order.counts[found])
            totals = np.where(contexts < 0, 0, order.totals[contexts])
            own = (count - order.discounts[np.minimum(count, 3)]) / np.maximum(totals, 1)
            shares = np.where(totals > 0, own + order.left[contexts] * shares, shares)
            contexts = np.concatenate([[-1], found[:-1]])
        return shares


def count(tokens: np.ndarray, vocab: int, order: int = 5) -> KneserNey:
    """Count the n-grams of a training text, one-dimensional ids below `vocab`, up to `order` tokens long.

    Raises:
        ValueError: the order is not positive, or the text has fewer tokens.
    """
    tokens = np.asarray(tokens, np.int64)
    if not 1 <= order <= len(tokens):
        raise ValueError(f"order {order} is outside 1 .. {len(tokens)} tokens of text")
    numbers = np.zeros(len(tokens), np.int64)  # of the n-grams that end in front of each token
    levels, contexts = [], 1
    for n in range(1, order + 1):
        coded = numbers[: len(tokens) - n + 1] * vocab + tokens[n - 1 :]
        keys, first, ranks, counts = np.unique(coded, return_index=True, return_inverse=True, return_counts=True)
        if levels:  # each different n-gram is one different token in front of the one shorter
            shorter, _, above = levels[-1]
            levels[-1] = (shorter, np.bincount(numbers[first + 1], minlength=len(shorter)), above)
        levels.append((keys, counts, contexts))
        numbers, contexts = ranks, len(keys)
    return KneserNey(vocab, tuple(_order(keys, counts, above, vocab) for keys, counts, above in levels))


def _order(keys: np.ndarray, counts: np.ndarray, contexts: int, vocab: int) -> Order:
    """Make an order of its n-grams, of which `contexts` are the different contexts."""
    discounts, owner = _discounts(counts), keys // vocab
    totals = np.bincount(owner, weights=counts, minlength=contexts)
    taken = np.bincount(owner, weights=discounts[np.minimum(counts, 3)], minlength=contexts)
    left = np.divide(taken, totals, out=np.ones(contexts), where=totals > 0)
    return Order(keys, counts.astype(np.int32), totals, left, discounts)


def _discounts(counts: np.ndarray) -> np.ndarray:
    """Estimate the discounts (4,) of the counts 0, 1, 2, and 3 or more from how many n-grams have 1 to 4."""
    n1, n2, n3, n4 = (int((counts == number).sum()) for number in (1, 2, 3, 4))
    if not (n1 and n2 and n3):
        return np.array([0.0, *FALLBACK])
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    sound = all(0 <= own <= number for number, own in enumerate(found, 1))
    return np.array([0.0, *(found if sound else FALLBACK)])


def _found(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The places of wanted keys among sorted ones, -1 for one that is not there."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, at, -1)
