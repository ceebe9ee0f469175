"""Words about numbers: each line where its condition is met, and nowhere else, on made-up numbers."""

import dataclasses
import json
import math
import runpy
from pathlib import Path

import pytest

from juliagpt_jax.evaluation import reading
from juliagpt_jax.evaluation.reading import Course

TECHNIQUES = Path(__file__).parents[2] / "experiments" / "techniques"
SUITE = next(path for path in TECHNIQUES.rglob("*.py") if "get_suite" in path.read_text(encoding="utf-8"))
RESULTS = next(path for path in TECHNIQUES.rglob("results.jsonl"))
COUNTED = {2: 3.0, 6: 2.0}
STEPS = 1000


def course(train: list[float], val: list[float], **more) -> Course:
    """A run of STEPS steps; its curves in bits, at equal distances up to the last step."""
    points = lambda values: [(STEPS * (i + 1) // len(values), v) for i, v in enumerate(values)]
    plain = {"steps": STEPS, "read": 2 * 10**6, "text": 10**6, "skipped": 0}
    return Course(**plain | more, train=points(train), val=points(val))


FINE = course([2.5, 2.0, 1.8, 1.79], [2.5, 2.0, 1.8, 1.79])


@pytest.fixture
def lines(tiny):
    """What is said of a run beside its number and its floor, as one text."""

    def said(how: Course, bits: float = 1.8, *overrides: str, **more) -> str:
        settings = tiny("train.optimizer=muon", *overrides)  # of which nothing is said
        return "\n".join(reading.read(bits, math.nan, COUNTED, course=how, settings=settings, **more)[2:])

    return said


def test_of_a_good_run_two_lines():
    number, floor = reading.read(1.0, 0.5, COUNTED)
    assert number.startswith("1.00 bits per character") and "between 2.0 equally likely" in number
    assert floor.startswith("The floor is 0.50:")
    assert "the last character give 3.00, of the last 5 characters 2.00: this model is better than both" in floor


@pytest.mark.parametrize(
    ("bits", "counted", "verdict"),
    [
        (1.9, COUNTED, "better than both"),
        (2.5, COUNTED, "between both"),
        (3.5, COUNTED, "worse than both"),
        (1.9, {2: 3.0}, "better than that"),
        (3.0, {2: 3.0}, "worse than that"),
    ],
)
def test_beside_counting(bits, counted, verdict):
    assert reading.floor(bits, math.nan, counted, "character").endswith(f"this model is {verdict}.")


def test_where_nothing_is_known_nothing_is_said():
    floor = reading.floor(1.9, math.nan, {}, "character")
    assert "nobody knows" in floor and "count" not in floor
    assert "5 tokens" in reading.floor(1.9, math.nan, COUNTED, "token")


def test_of_a_run_without_faults_no_word(lines):
    assert lines(FINE) == ""


def test_skipped_steps(lines):
    said = lines(dataclasses.replace(FINE, skipped=3), 1.8, "train.lr=0.5")
    assert said.startswith("3 of 1,000 steps were refused") and "--config.train.lr below 0.5" in said
    assert "f32" not in said
    assert "--config.train.precision=f32" in lines(
        dataclasses.replace(FINE, skipped=3), 1.8, "train.precision=f16", "train.lr=0.5"
    )


def test_diverged_is_told_from_learnt_by_heart(lines):
    diverged = lines(course([2.5, 1.8, 2.6, 2.7], [2.5, 1.9, 2.6, 2.7]))
    assert "best after step 500: 1.90 bits" in diverged and "2.70 at the end" in diverged
    assert "training went wrong" in diverged and "overfits" not in diverged
    by_heart = lines(course([2.5, 1.8, 1.2, 0.8], [2.5, 1.9, 2.0, 2.2]))
    assert "best after step 500" in by_heart and "overfits" in by_heart and "--checkpoint=best" in by_heart
    lost = lines(course([2.5, 1.8, 1.8, math.nan], [2.5, 1.9, 1.8, math.nan]))
    assert "best after step 750" in lost and "training went wrong" in lost


def test_overfit_by_its_gap(lines):
    said = lines(course([2.0, 1.6, 1.5, 1.5], [2.2, 1.9, 1.8, 1.8]))
    assert "1.50 bits on its training text, 1.80 on validation windows" in said and "--config.model.dropout=0.1" in said
    assert "dropout" not in lines(course([2.0, 1.6, 1.5, 1.5], [2.2, 1.9, 1.8, 1.8]), 1.8, "model.dropout=0.1")
    assert lines(course([2.0, 1.7, 1.7, 1.7], [2.2, 1.9, 1.8, 1.8])) == "", "a small gap is as it should be"


def test_still_learning(lines):
    said = lines(course([2.5, 2.2, 2.0, 1.8], [2.5, 2.2, 2.0, 1.8]))
    assert said.startswith("It was still learning: the loss fell by 10%") and "--config.train.steps=2000 in" in said
    assert lines(course([2.0], [2.0])) == "", "one measurement shows no fall"


def test_far_too_short(lines):
    short = course([4.0], [3.9], read=20_000, text=2_000_000)
    said = lines(short, 3.9)
    assert said.startswith("Far too short a run: it read 20,000 tokens, as many as 1.0% of the text has")
    assert "--config.train.steps=50000 in" in said, "a million tokens, at 20 a step"
    assert "--config.train.steps=2500 in" in lines(dataclasses.replace(short, text=50_000), 3.9), "the text, once"
    assert "too short" not in lines(short, 2.9), "it is ahead of counted pairs"


def test_too_little_text(lines):
    said = lines(dataclasses.replace(FINE, text=100_000))
    assert said.startswith("Too little text: it was read 20 times")
    assert lines(dataclasses.replace(FINE, text=500_000)) == "", "four readings are as good as new text"


def test_a_loss_that_is_not_finite():
    assert reading.read(math.nan, 0.5, COUNTED) == ["The loss is not a finite number: this model predicts nothing."]


def test_never_more_than_six_lines(tiny):
    worst = course([2.0, 1.5, 1.0, 0.5], [2.2, 1.9, 2.5, 2.8], text=1000, skipped=9)
    assert len(reading.read(2.8, 0.5, COUNTED, course=worst, settings=tiny())) == 6


@pytest.mark.parametrize(
    ("overrides", "arm", "less", "ratio"),
    [
        ([], "monarch_heads", "0.18", "1.0"),
        (["model.mixer=monarch_heads"], "stack with monarch_heads", "0.01", "1.5"),
        (["train.optimizer=soap"], "stack", "0.04", "1.0"),
        (["train.optimizer=soap", "model.qk_norm=true", "model.zero_init=true"], None, "", ""),
        (["model.linear=ternary"], None, "", ""),
        (["train.optimizer=kfac"], None, "", ""),
    ],
)
def test_advice_is_what_is_not_in_use(tiny, overrides, arm, less, ratio):
    said = reading.advice(tiny(*overrides))
    if arm is None:
        assert said == []
        return
    (technique,) = [t for t in reading.TRIED if t.arm == arm]
    assert technique.flags in said[0] and f"{less} bits less" in said[0] and f"{ratio} times the time" in said[0]


@pytest.mark.parametrize("technique", reading.TRIED, ids=lambda technique: technique.arm)
def test_advice_is_what_was_measured(technique):
    """The knobs are those of the suite's arm, and the numbers those of its table."""
    arms = runpy.run_path(str(SUITE))["get_suite"]("micro").arms
    changes = dict(arms[technique.arm].changes)
    for key, value in technique.knobs.items():
        assert str(changes.pop(key)).lower() == value, key
    assert set(changes) <= {"model.mixer"}, "what the model must have already"
    rows = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    of = lambda arm: {row["seed"]: row for row in rows if row["arm"] == arm}
    mine, base = of(technique.arm), of("baseline")
    nats = sum(mine[seed]["loss"] - base[seed]["loss"] for seed in base) / len(base)
    time = sum(mine[seed]["step_s"] / base[seed]["step_s"] for seed in base) / len(base)
    assert nats == pytest.approx(technique.nats, abs=6e-4)
    assert time == pytest.approx(technique.time, abs=0.03)
