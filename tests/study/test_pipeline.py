"""The table of a pipeline from answers that are known; what was measured is kept; a file that is none is refused; and,
at length, a real one: killed on the way, it ends with the table that it would have."""

import json
import signal
import types

import numpy as np
import pytest

from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.evaluation.tasks import searching
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.study import pipeline, pipeline_page
from juliagpt_jax.study.pipeline import Measures, Pipeline, Row
from juliagpt_jax.study.suite import Arm, Suite

SUITE = Suite("configs/micro.py", {name: Arm() for name in ("base", "sft", "verifier")}, (0, 1, 2), "base")
MADE = Pipeline(SUITE, "addition", ("base", "sft"), "verifier", examples=40, samples=4)


class Known(Measures):
    """A seed whose answers are made up: a question is answered rightly with a chance that its arm has."""

    def __init__(self, seed: int, folder):
        cells = {name: types.SimpleNamespace(seed=seed, recipe={"arm": name, "seed": seed}) for name in SUITE.arms}
        self.counted = []
        super().__init__(MADE, cells, folder, lambda line: self.counted.append(line))

    def _write(self, arm, calculator):
        rng = np.random.default_rng([self.seed, len(arm)])
        right = rng.random((40, 4)) < {"base": 0.1, "sft": 0.5}[arm]
        said = [
            [example.answer if good else "0001" for good in row]
            for example, row in zip(self.examples, right, strict=True)
        ]
        right = np.array([[text == e.answer for text in row] for e, row in zip(self.examples, said, strict=True)])
        fill = lambda value: np.full(right.shape, value).tolist()
        return {
            "texts": said,
            "right": right.astype(int).tolist(),
            "likelihood": fill(-1.0),
            "tokens": fill(10),
            "flops": 7.0,
        }

    def _judge(self, arm, calculator):
        written = self.written(arm)
        right = np.array(written["right"])
        scores = 0.2 + 0.6 * right
        best = [row[i] for row, i in zip(written["texts"], scores.argmax(axis=1), strict=True)]
        rounds = [{"right": right.max(axis=1).astype(bool).tolist(), "flops": 500.0, "answers": best}] * 2
        return {"scores": scores.tolist(), "rounds": rounds, "price": 1.0}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    return [Known(seed, folder) for seed in SUITE.seeds]


@pytest.fixture(scope="module")
def rows(measured):
    return pipeline.rows(MADE, measured)


def test_the_table_has_each_stage_against_the_one_before(rows, measured):
    table = pipeline_page.table(rows, measured, MADE)
    names = [line[0] for line in table[1:]]
    assert names == ["base", "sft", "+ vote of 4", "+ verifier's best of 4", "+ revised", "one of 4 is right (pass@4)"]
    by_name = {line[0]: line for line in table}
    shares = [own.searched(own.written("sft")).right.mean() for own in measured]
    assert by_name["sft"][1] == f"{100 * np.mean(shares):.1f}%"
    assert by_name["sft"][3] == "base" and by_name["sft"][6] == "helps"
    # This verifier is never wrong, so its best is right wherever one of four is; then there is nothing to revise.
    assert by_name["+ verifier's best of 4"][1] == by_name["one of 4 is right (pass@4)"][1]
    assert [line[3] for line in table[2:-1]] == ["base", "sft", "sft", "+ verifier's best of 4"]
    assert by_name["+ revised"][4].startswith("+0.0") and by_name["+ revised"][6] == "none shown"
    assert float(by_name["+ verifier's best of 4"][7]) == 4 * (10 * 7 + 12), "12 characters of prompt and answer"
    assert float(by_name["sft"][7]) == 70


def test_a_stage_is_said_to_help_only_where_seeds_agree():
    right = lambda *shares: {seed: np.full(40, share) for seed, share in enumerate(shares)}
    row = lambda name, *shares: Row(name, right(*shares), {}, {}, "")
    told = lambda a, b: pipeline_page.verdict(*pipeline_page.gains(b, a))
    assert told(row("a", 0.2, 0.3, 0.25), row("b", 0.4, 0.51, 0.44)) == "helps"
    assert told(row("a", 0.2, 0.3, 0.25), row("b", 0.5, 0.3, 0.2)) == "none shown"
    assert told(row("b", 0.4, 0.51, 0.44), row("a", 0.2, 0.3, 0.25)) == "harms"
    one = (
        Row("c", {0: np.array([1.0] * 5 + [0.0] * 35)}, {}, {}, ""),
        Row("d", {0: np.array([1.0] * 30 + [0.0] * 10)}, {}, {}, ""),
    )
    assert told(*one) == "helps", "one seed: by the questions"


def test_the_page_has_everything(rows, measured, tmp_path):
    page = pipeline_page.page(rows, measured, MADE, "A title")
    for part in ["# A title", "| + revised |", "curve.png", "wrong ones accepted: 0.0%", "right ones rejected: 0.0%",
                 "## Kinds of answers", "carries", "## Examples", "- sft: `"]:  # fmt: skip
        assert part in page, part
    assert page.count("(right: `") == MADE.shown
    pipeline_page.draw(pipeline_page.curves(measured, MADE), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 5_000
    points = pipeline_page.curves(measured, MADE)
    assert [p["answers"] for p in points] == [1, 2, 4]
    assert all(p["verifier"] == pytest.approx(p["any"]) and p["vote"] <= p["any"] + 1e-9 for p in points)


def test_what_was_measured_is_kept_until_something_changes(rows, measured, tmp_path):
    own, again = measured[0], Known(0, measured[0].folder)
    assert again.written("sft") == own.written("sft") and again.counted == []
    (own.folder / "sft-0.json").write_text("{")
    assert again.written("sft") == own.written("sft") and again.counted == ["measuring sft, seed 0"]
    other = Known(0, measured[0].folder)
    other.cells["sft"].recipe["arm"] = "sft, trained otherwise"
    other.written("sft")
    assert other.counted == ["measuring sft, seed 0"]


def test_flops_of_each_way():
    found = searching.found(
        types.SimpleNamespace(metric="number"), [Example("12+3=", "15")],
        [[types.SimpleNamespace(text="15"), types.SimpleNamespace(text="16")]],
        np.array([[True, False]]), np.array([[-1.0, -2.0]]), np.array([[9, 11]]),
    )  # fmt: skip
    price = searching.Price(token=100.0, character=3.0)
    assert price.of(found, "vote", 2) == price.of(found, "any", 2) == 2 * 10 * 100
    assert price.of(found, "likelihood", 1) == 2 * 10 * 100
    assert price.of(found, "verifier", 2) == 2 * (10 * 100 + 7 * 3)


GIVES = "from tests.study.test_pipeline import *\ndef get_pipeline(scale): return "


@pytest.mark.parametrize(
    "text, says",
    [
        ("x = 1", "no 'get_pipeline' in it"),
        ("def get_pipeline(scale): return 3", "gives int, not a Pipeline"),
        ("def get_pipeline(scale): 1 / 0", "ZeroDivisionError"),
        (GIVES + "Pipeline(SUITE, 'addition', ('bas',))", "'bas'"),
        (GIVES + "Pipeline(SUITE, 'adition', ('base',))", "addition"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_pipeline_is_refused(tmp_path, text, says):
    (tmp_path / "p.py").write_text(text)
    with pytest.raises(UserError, match=says):
        pipeline.load(str(tmp_path / "p.py"), "base")


REAL = """
import sys; sys.path.insert(0, "{root}/configs")
from micro import get_config
from juliagpt_jax.study.pipeline import Pipeline
from juliagpt_jax.study.suite import Arm, Suite
def get_pipeline(scale):
    common = {{"model.width": 16, "model.layers": 1, "model.heads": 1, "model.context": 32, "train.batch_size": 4,
              "data.task": "addition", "train.steps": 12, "train.warmup": 2, "train.eval_every": 6,
              "train.eval_windows": 4, "train.sample_every": 0,
              "train.checkpoint_every": 4, "data.examples.written": 4}}
    value = {{"train.init": "{{run[base]}}", "train.objective": "value", "train.value.samples": 1}}
    arms = {{"base": Arm(), "verifier": Arm(value)}}
    suite = Suite("{root}/configs/micro.py", arms, (0,), "base", common=common)
    return Pipeline(suite, "addition", ("base",), "verifier", examples=6, samples=2)
"""


@pytest.mark.long
def test_a_real_pipeline_goes_on_where_it_was_stopped(micro, tmp_path):
    from tests.conftest import ROOT

    (tmp_path / "p.py").write_text(REAL.format(root=ROOT))
    flags = ["--config=" + str(tmp_path / "p.py"), "--out=" + str(tmp_path / "out")]
    process = micro.start("pipeline", *flags)
    done = tmp_path / "out" / "cells" / "base" / "0" / "run" / "checkpoints"
    while process.poll() is None and not list(done.glob("[0-9]*")):
        pass
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=90)
    assert process.returncode == 128 + signal.SIGTERM
    first = micro.run("pipeline", *flags, timeout=180)
    assert first.returncode == 0, first.err
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| base |" in table and "+ revised" in table
    again = micro.run("pipeline", *flags, "--json")
    assert "0 to run" in again.out and "measuring" not in again.out
    assert (tmp_path / "out" / "table.md").read_text() == table
    assert [row["stage"] for row in json.loads(again.out.splitlines()[-1])["rows"]] == [
        *("base", "+ vote of 2", "+ verifier's best of 2", "+ revised"),
    ]
    whole = micro.run("pipeline", flags[0], "--out=" + str(tmp_path / "whole"), timeout=180)
    assert whole.returncode == 0 and (tmp_path / "whole" / "table.md").read_text() == table
