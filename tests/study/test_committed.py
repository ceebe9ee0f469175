"""The committed results of the suites, written under the names that knobs had then, are still those of their cells."""

import ast
import importlib.metadata
import json
import re
from pathlib import Path

import pytest

from juliagpt_jax.data import corpus as corpora
from juliagpt_jax.ground import config_file
from juliagpt_jax.ground.knobs.names import MOVED
from juliagpt_jax.study import parity
from juliagpt_jax.study import suite as suites
from juliagpt_jax.study.pace import Pace
from juliagpt_jax.study.runner import Runner, read

ROOT = Path(__file__).parents[2]
# Cells that were added to a suite and never run.
NEVER_RUN = {"bend_search": {"4 steps, energy 0.03", "tolerance 0.1, bosh3"}}
DROPOUTS = {f"muon, tau 0.5, dropout {share}{where}" for share in (0.1, 0.2, 0.3) for where in ("", " on branches")}
NEVER_RUN |= {"recipes": DROPOUTS | {"muon, tau 5"}}
ONE_SEED = {"schoolroom"}  # of three: each arm has cells to run


def committed() -> dict[str, tuple[Path, Path]]:
    """{name: (suite file, folder of its results)}, as the command in each file's docstring says."""
    found = {}
    for file in sorted((ROOT / "experiments").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if not any(isinstance(node, ast.FunctionDef) and node.name == "get_suite" for node in tree.body):
            continue
        command = re.search(r"--suite=(\S+)\s+--out=(\S+)", ast.get_docstring(tree) or "")
        name = "/".join(file.relative_to(ROOT / "experiments").with_suffix("").parts)
        assert command and ROOT / command[1] == file, f"{file}: its docstring has no command that runs it"
        if (ROOT / command[2] / "results.jsonl").is_file():
            found[name] = file, ROOT / command[2]
    return found


COMMITTED = committed()


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    """From the project's folder, with the vocabularies of the texts, one of which is not in the repository; and no
    speed may be measured anew."""
    monkeypatch.chdir(ROOT)
    size = lambda data, context: int(re.sub(r"\D", "", Path(data.tokenizer).stem) or 39)
    monkeypatch.setattr(suites, "_vocabulary", size)
    monkeypatch.setattr(Pace, "_measure", lambda self, arm, *more: pytest.fail(f"the pace of {arm} is not known"))


def test_there_are_as_many_as_ever():
    assert len(COMMITTED) >= 18


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_rows_are_current(name, tmp_path):
    file, folder = COMMITTED[name]
    rows = read(folder / "results.jsonl")
    for kept in ("results.jsonl", "pace.json"):
        if (folder / kept).exists():
            (tmp_path / kept).write_bytes((folder / kept).read_bytes())
    suite = suites.load(str(file), "micro")
    cells = suites.cells(suite, tmp_path / "cells", Pace(tmp_path / "pace.json", 1, []))
    runner = Runner(suite, cells, tmp_path, 1)
    assert len(rows) > 1 and runner.rows == rows
    missing = set(suite.arms) if file.stem in ONE_SEED else NEVER_RUN.get(file.stem, set())
    assert {cell.arm for cell in runner.missing()} == missing


def test_another_value_under_an_old_name_is_seen(tmp_path):
    """So that the test above can fail: a row's value of a knob that has moved is compared under its new name."""
    name = next(name for name in COMMITTED if name.startswith("neural_ode") and "bend" not in name)
    file, folder = COMMITTED[name]
    rows = read(folder / "results.jsonl")
    changed = [key for key in rows[0]["config"] if key in MOVED]
    assert "model.ode_steps" in changed
    rows[0]["config"]["model.ode_steps"] += 1
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    suite = suites.load(str(file), "micro")
    runner = Runner(suite, suites.cells(suite, tmp_path / "cells"), tmp_path, 1)
    assert runner.rows == rows[1:]


def test_the_committed_parity_is_current(monkeypatch):
    """As far as it can be told here: the same config and text, and the libraries that it was measured with."""
    found = json.loads((ROOT / "experiments" / "parity" / "results" / "micro" / "parity.json").read_text())
    monkeypatch.setattr(importlib.metadata, "version", lambda name: found["versions"][name])
    settings = config_file.load(found["config"])
    assert parity.recipe(settings, corpora.load(settings.data, settings.model.context)) == found["recipe"]
    rows = [
        json.loads(line)
        for line in (ROOT / "experiments" / "parity" / "results" / "micro" / "runs.jsonl").read_text().splitlines()
    ]
    assert {row["recipe"] for row in rows} == {found["recipe"]}
