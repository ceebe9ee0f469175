"""Chances of choosing right, against counting every way to choose."""

import itertools

import numpy as np
import pytest

from juliagpt_jax.search import choosing

RNG = np.random.default_rng(0)
RIGHT = RNG.random((5, 6)) < 0.4
SCORES = RNG.random((5, 6))
ANSWERS = [[("right" if right else f"wrong{n % 2}") for n, right in enumerate(row)] for row in RIGHT]


def every(k, chance):
    """The mean over all choices of k of six answers."""
    return [np.mean([chance(row, list(some)) for some in itertools.combinations(range(6), k)]) for row in range(5)]


@pytest.mark.parametrize("k", range(1, 7))
def test_pass_at_counts_every_choice(k):
    wanted = every(k, lambda row, some: RIGHT[row, some].any())
    np.testing.assert_allclose(choosing.pass_at(6, RIGHT.sum(axis=1), k), wanted, atol=1e-12)


@pytest.mark.parametrize("k", range(1, 7))
def test_best_of_counts_every_choice(k):
    wanted = every(k, lambda row, some: RIGHT[row, some[int(SCORES[row, some].argmax())]])
    np.testing.assert_allclose(choosing.best_of(RIGHT, SCORES, k), wanted, atol=1e-12)
    assert (choosing.best_of(RIGHT, SCORES, k) <= choosing.pass_at(6, RIGHT.sum(axis=1), k) + 1e-12).all()
    perfect = choosing.best_of(RIGHT, RIGHT.astype(float), k)
    np.testing.assert_allclose(perfect, choosing.pass_at(6, RIGHT.sum(axis=1), k), atol=1e-12)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_votes_are_near_what_every_choice_gives(k):
    def chance(row, some):
        votes = {answer: [ANSWERS[row][i] for i in some].count(answer) for answer in set(ANSWERS[row])}
        winners = [answer for answer, count in votes.items() if count == max(votes.values())]
        return ("right" in winners) / len(winners)

    found = choosing.voted(RIGHT, ANSWERS, k)
    np.testing.assert_allclose(found, every(k, chance), atol=0.15 if k == 3 else 1e-12)


def test_a_vote_is_for_answers_not_for_texts():
    assert choosing.vote(["5", "7", "7", "5", "5"]) == 0
    assert choosing.vote(["3", "", "", "", "7", "7"]) == 4, "nothing is no answer"
    assert choosing.vote(["", ""]) == 0
    same = [choosing.parsed(text, "number") for text in ("so 5", "it is 5.0", "3 and 7 #### 5", "1,200/240 = 5")]
    assert set(same) == {"5"}
    assert choosing.parsed("12 then 1,234.50", "number") == choosing.parsed("1234.5", "number")
    assert choosing.parsed(" forty-one. ", "exact") == "forty-one" != choosing.parsed("41", "exact")
    assert choosing.parsed("none", "number") == ""


def test_counts():
    assert choosing.counts(16) == [1, 2, 4, 8, 16] and choosing.counts(6) == [1, 2, 4, 6] and choosing.counts(1) == [1]
