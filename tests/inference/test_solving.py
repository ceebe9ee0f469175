"""The vote of a puzzle's forms."""

import numpy as np

from juliagpt_jax.evaluation import puzzles as measured
from juliagpt_jax.inference import solving
from juliagpt_jax.inference.solving import Solved


def solved(answers, halts):
    """Of one step and puzzles of one symbol."""
    return Solved(np.array(answers)[None, :, None], np.array([halts], np.float32), np.zeros(len(answers), np.float32))


def test_most_forms_win_then_the_more_trusted():
    each = [solved([1, 1, 1], [9, 1, -3]), solved([2, 2, 1], [0, 2, -1]), solved([2, 3, 3], [1, 0, 5])]
    voted = solving.vote(each)
    assert voted.answers[0, :, 0].tolist() == [2, 2, 1]
    np.testing.assert_allclose(voted.halts[0], [0.5, 2, -2])
    right = lambda answers: answers[:, 0] == [2, 1, 1]
    values = measured.of_forms(voted, each[0], right)
    assert values["voted"] == values["voted_first_step"] == values["single_pass"] == 2 / 3
    assert solving.vote(each[:1]) is each[0]


def test_the_first_step_and_the_last():
    two = Solved(np.array([[[1]], [[2]]]), np.zeros((2, 1), np.float32), np.zeros(1, np.float32))
    values = measured.of_forms(solving.vote([two, two]), two, lambda answers: answers[:, 0] == 2)
    assert values == {"voted": 1, "single_pass": 1, "voted_first_step": 0, "single_pass_first_step": 0}
