"""One of several answers to a prompt: the one that most agree on, the likeliest, or a verifier's best; and how often
that is right, by the number of answers.

Numbers for fewer answers than there are are means over the ways to choose them, exact where that can be counted.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

DRAWS = 100  # of answers, where a mean cannot be counted
_NUMBER = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?|-?\d+(?:\.\d+)?", re.ASCII)


def parsed(text: str, metric: str) -> str:
    """Return an answer without what does not matter, so that equal ones are equal: of a task that asks for a number
    the last one that is written, behind `####` if that is there; else the words."""
    if metric == "number":
        numbers = _NUMBER.findall(text.rpartition("####")[2])
        return str(Fraction(numbers[-1].replace(",", ""))) if numbers else ""
    return " ".join(text.split()).rstrip(".!,;")


def vote(answers: Sequence[str]) -> int:
    """Return which answer stands for those that most agree on, the first of them (self-consistency: Wang et al. 2022,
    arXiv 2203.11171). "" is no answer, and has no vote; of equals the one that came first wins."""
    counted = Counter(answer for answer in answers if answer)
    return answers.index(counted.most_common(1)[0][0]) if counted else 0


def pass_at(n: int, right: np.ndarray, k: int) -> np.ndarray:
    """Return for each problem the chance that one of k samples is right, of which `right` (problems,) of n were:
    1 - C(n - c, k) / C(n, k), without bias (Chen et al. 2021, arXiv 2107.03374, equation 1)."""
    return np.array([1 - math.comb(n - int(c), k) / math.comb(n, k) for c in right])


def best_of(right: np.ndarray, scores: np.ndarray, k: int) -> np.ndarray:
    """Return the chance that the best-scored of k answers is right, the mean over all ways to choose k of the n, for
    right and scores (P, n) -> (P,): the one at place r from the top is the best of C(n - 1 - r, k - 1) of them."""
    n = right.shape[1]
    order = np.argsort(-scores, axis=1, kind="stable")
    share = np.array([math.comb(n - 1 - r, k - 1) / math.comb(n, k) for r in range(n)])
    return np.take_along_axis(right, order, axis=1) @ share


def voted(right: np.ndarray, answers: Sequence[Sequence[str]], k: int, seed: int = 0) -> np.ndarray:
    """Return the chance that what most of k answers agree on is right, (P,): a mean over DRAWS choices of the k; where
    several have as many votes, each is as likely."""
    n = right.shape[1]
    if k == 1:
        return right.mean(axis=1)
    rng = np.random.default_rng([seed, k])
    chosen = [np.arange(n)] if k == n else [rng.choice(n, k, replace=False) for _ in range(DRAWS)]
    found = np.zeros(len(right))
    for row, own in enumerate(map(list, answers)):
        good = {answer: float(right[row, own.index(answer)]) for answer in set(own)}
        for some in chosen:
            counted = Counter(own[i] for i in some if own[i])
            most = max(counted.values(), default=0)
            winners = [answer for answer, votes in counted.items() if votes == most] or [own[some[0]]]
            found[row] += sum(good[answer] for answer in winners) / len(winners) / len(chosen)
    return found


def counts(samples: int) -> list[int]:
    """Return the numbers of answers at which a curve is measured: powers of two, and all of them."""
    return sorted({*(2**i for i in range(samples.bit_length()) if 2**i <= samples), samples})


# `CHOICES[word](right (P, n), parsed answers, scores (P, n), k)` is the chance of being right with k answers.
CHOICES: dict[str, Callable[[np.ndarray, Sequence[Sequence[str]], np.ndarray, int], np.ndarray]] = {
    "vote": lambda right, answers, scores, k: voted(right, answers, k),
    "likelihood": lambda right, answers, scores, k: best_of(right, scores, k),
    "verifier": lambda right, answers, scores, k: best_of(right, scores, k),
}
