"""Metrics, each held to values worked by hand or to brute force."""

import itertools
import math

import numpy as np
import pytest

from juliagpt_jax.data.tasks.build import TASKS
from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.evaluation.tasks import metrics
from juliagpt_jax.evaluation.tasks.metrics import Chosen, Written

CHOICES = (" no", " yes", " perhaps")


def test_pass_at_k_is_the_share_of_subsets_with_a_right_one():
    for n, k in [(5, 1), (5, 2), (6, 3), (4, 4)]:
        for c in range(n + 1):
            subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
            assert metrics.pass_at(n, np.array([c]), k)[0] == pytest.approx(sum(map(any, subsets)) / len(subsets))


def chosen(logs, by="sum"):
    logs = np.log(np.array(logs, float))
    lengths = np.broadcast_to([len(c) for c in CHOICES], logs.shape)
    alone = np.broadcast_to(np.log([0.1, 0.6, 0.3]), logs.shape)
    return Chosen(logs, lengths, alone, np.zeros(logs.shape, bool), by)


def test_accuracy_f1_and_calibration_by_hand():
    """Four questions: right, wrong, right, wrong. Said: no, yes, yes, yes; right: no, no, yes, perhaps."""
    examples = [Example("?", CHOICES[i], CHOICES) for i in (0, 0, 1, 2)]
    answers = chosen([[0.6, 0.3, 0.1], [0.3, 0.5, 0.2], [0.05, 0.9, 0.05], [0.2, 0.5, 0.3]])
    values = metrics.accuracy(TASKS["sst2"], examples, answers)
    assert values["accuracy"].value == 0.5 and values["accuracy"].low < 0.5 < values["accuracy"].high
    # no: precision 1, recall 1/2, F1 2/3; yes: precision 1/3, recall 1, F1 1/2; perhaps: 0.
    assert values["f1"].value == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    # Confidences 0.6, 0.5, 0.9, 0.5, each bin alone but the two of 0.5, both of which are wrong.
    assert values["calibration_error"].value == pytest.approx((0.4 + 0.1 + 2 * 0.5) / 4)
    # Less log [.1 .6 .3]: the odds are .6/.1 = 6 .5 .33; 3 .83 .67; .5 1.5 .17; 2 .83 1.
    assert values["accuracy_by_unconditional"].value == pytest.approx(3 / 4)
    assert answers.scores("unconditional").argmax(axis=1).tolist() == [0, 0, 1, 0]
    # A byte of " perhaps" is cheap: the last has log .2 / 3 = -.54, log .5 / 4 = -.17 and log .3 / 8 = -.15.
    assert answers.scores("length").argmax(axis=1).tolist() == [0, 1, 1, 2]
    assert values["accuracy_by_length"].value == pytest.approx(3 / 4)
    assert metrics.accuracy(TASKS["sst2"], examples, answers._replace(by="unconditional"))["accuracy"].value == 0.75


def test_intervals():
    """They cover the truth about as often as they say, shrink with the root of n, and are Wilson's at 0 and 1."""
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(100):
        found = metrics.interval((rng.random(200) < 0.3).astype(float), seed=trial)
        inside += found.low <= 0.3 <= found.high
    assert 88 <= inside <= 99
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * math.sqrt(0.3 * 0.7 / 200), rel=0.2)
    z, n = 1.959964, 20
    assert metrics.interval(np.ones(n)) == pytest.approx((1, 1 / (1 + z * z / n), 1))
    assert math.isnan(metrics.interval(np.array([0.5])).low)


def test_last_words():
    logs = np.log([[0.5], [0.125]])
    answers = Chosen(logs, np.ones((2, 1)), logs, np.array([[True], [False]]))
    values = metrics.last_word(TASKS["last_words"], [], answers)
    assert values["accuracy"].value == 0.5 and values["perplexity"].value == pytest.approx(4)


def test_right_answers_and_pass_at_k():
    examples = [Example("1+1=", "2", facts={"number": 2}), Example("2+2=", "4", facts={"number": 4})]
    written = Written([["2", "0002", "3", "two"], ["5", "4 5", "", "45"]], [[True] * 4, [True, True, False, False]])
    values = metrics.right(TASKS["addition"], examples, written)
    assert values["number"].value == pytest.approx(0.25)
    assert values["pass@2"].value == pytest.approx((1 - 1 / 6) / 2) and values["pass@4"].value == 0.5
    assert values["ended"].value == 0.75


def test_rouge_by_hand():
    """ "the cat sat on the mat" against "the cat on the mat": 5 of 5 and 6 words, 3 of 4 and 5 pairs, a common
    subsequence of 5; stems count as one word."""
    pytest.importorskip("rouge_score")
    examples = [Example("", "", facts={"references": ("The cats sat on the mat.", "nothing alike")})]
    written = Written([["the cat on the mat"]], [[True]])
    values = metrics.rouge(TASKS["samsum"], examples * 2, Written(written.texts * 2, written.ended * 2))
    assert values["rouge1_nearest"].value == pytest.approx(10 / 11) == values["rougeL_nearest"].value
    assert values["rouge2_nearest"].value == pytest.approx(2 * 3 / (4 + 5))
    assert values["rouge1"].value == pytest.approx(5 / 11)
