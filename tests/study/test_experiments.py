"""The experiments: one layout for all, and results that still belong to their suites."""

import ast
import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from juliagpt_jax.models.channels import CHANNELS
from juliagpt_jax.models.mixers import MIXERS
from juliagpt_jax.study import pace, runner, suite

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"
FOLDERS = sorted(path.parent for path in EXPERIMENTS.glob("*/README.md") if path.parent.name != "paper")
SUITES = sorted(EXPERIMENTS.glob("*/suites/*.py"))
TO_RUN = {
    "sinks/sinks": 9,
    "kda/language": 15,
    "neural_ode/bend_search": 2,
    "coreset/whole_corpus": 36,
}  # their pages say so
TO_RUN |= {"grouped_query/language": 12}
TO_RUN |= {f"ablation/{text}": 3 * (len(MIXERS) + len(CHANNELS) + 17) for text in ("schoolroom", "words")}
TO_RUN["ablation/schoolroom"] -= 30  # one seed of three
TO_RUN |= {"words/tuning": 8, "words/recipes": 21, "words/switches": 57}


def name(path: Path) -> str:
    """ "monarch/mixers" for experiments/monarch/suites/mixers.py."""
    return f"{path.parents[1].name}/{path.stem}"


def misplaced(folder: Path) -> list[str]:
    """The entries of a folder, and of its results, that the layout has no place for."""
    page = (folder / "README.md").read_text(encoding="utf-8")
    wrong = []
    for path in sorted(folder.iterdir()):
        plain = path.name in ("README.md", "suites", "results", "__pycache__") or path.suffix == ".py"
        if not plain or (path.suffix == ".py" and "def get_suite(" in path.read_text(encoding="utf-8")):
            wrong.append(path.name)
    for path in sorted((folder / "results").glob("*")):
        sources = [folder / "suites" / f"{path.name}.py", folder / f"{path.name}.py"]
        if not path.is_dir() or not (any(map(Path.exists, sources)) or f"results/{path.name}" in page):
            wrong.append(f"results/{path.name}")
    return wrong


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_every_folder_has_the_same_layout(folder):
    """A page, suites in suites/, other scripts beside it, and results/NAME for the suite, the script or the command on
    the page that made them."""
    assert misplaced(folder) == []


def test_what_lies_elsewhere_is_seen(tmp_path):
    folder = tmp_path / "question"
    (folder / "results" / "nobody").mkdir(parents=True)
    (folder / "README.md").write_text("# A question\n")
    (folder / "suite.py").write_text("def get_suite(scale):\n    return None\n")
    (folder / "table.md").write_text("")
    assert misplaced(folder) == ["suite.py", "table.md", "results/nobody"]


def test_no_result_names_a_folder_of_the_machine():
    """What a test or a command printed may hold one."""
    named = re.compile(r"(?<![\w.~-])/(?:tmp|home|root|work|Users)/\S*")
    kept = [path for path in EXPERIMENTS.glob("*/results/**/*") if path.suffix in (".json", ".jsonl", ".md", ".txt")]
    assert kept and not {path: said for path in kept if (said := named.findall(path.read_text(encoding="utf-8")))}


def test_the_index_has_every_folder_once():
    """And no other: a row of experiments/README.md links the page of each folder."""
    index = (EXPERIMENTS / "README.md").read_text(encoding="utf-8")
    rows = [re.findall(r"\]\((\w+)/README\.md\)", line) for line in index.splitlines() if line.startswith("| ")]
    linked = [folder for row in rows for folder in row[-1:]]
    assert sorted(set(linked)) == [path.name for path in FOLDERS]
    folders = {path.name for path in EXPERIMENTS.iterdir() if path.is_dir() and not path.name.startswith("_")}
    assert folders == {path.name for path in FOLDERS} | {"paper"}


def test_a_page_begins_with_its_verdict():
    """The index and the folder's page say the same, and every number with decimals of it stands elsewhere in the page
    or in a table of its results."""
    index = (EXPERIMENTS / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| \[\w+\]\((\w+)/README\.md\) \|$", index, re.M)
    for question, verdict, folder in rows:
        page = (EXPERIMENTS / folder / "README.md").read_text(encoding="utf-8")
        said = f"> {question} {verdict}.\n"
        assert said in page
        pages = [page.replace(said, ""), *(p.read_text("utf-8") for p in (EXPERIMENTS / folder).glob("results/*/*.md"))]
        for number in re.findall(r"\d+\.\d\d+", verdict):
            assert any(number in text for text in pages), f"{folder}: {number}"
    assert len(rows) == len(FOLDERS)


@pytest.mark.parametrize("path", SUITES, ids=name)
def test_a_suite_says_its_command(path):
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert f"--suite={path.relative_to(ROOT)}" in text
    assert f"--out={(path.parents[1] / 'results' / path.stem).relative_to(ROOT)}" in text


MANY = {"ablation/schoolroom"}  # arms whose FLOPs are counted


@pytest.mark.parametrize(
    "path", [pytest.param(p, marks=[pytest.mark.long] * (name(p) in MANY)) for p in SUITES], ids=name
)
def test_committed_results_are_those_of_the_suite(path, tmp_path, monkeypatch):
    """`ablate` with the documented command runs nothing again: each row is of a cell that there is, under the names
    that knobs have now."""
    monkeypatch.chdir(ROOT)
    before = set(sys.modules)
    try:
        question = suite.load(str(path), "micro")
    finally:
        for module in set(sys.modules) - before:
            if (path.parent / f"{module}.py").exists():  # two folders have a tuning.py
                del sys.modules[module]
    read = (dict(question.common) | dict(arm.changes) for arm in question.arms.values())
    texts = {changes.get(key, ".") for changes in read for key in ("data.path", "data.tokenizer")}
    absent = sorted(text for text in texts if not Path(text).exists())
    if question.budget and question.budget[0] == "flops" and absent:
        pytest.skip(f"needs {absent[0]}, which the suite's own commands write")
    out = path.parents[1] / "results" / path.stem
    (tmp_path / "pace.json").write_bytes((out / "pace.json").read_bytes() if (out / "pace.json").exists() else b"{}")
    known = pace.Pace(tmp_path / "pace.json", 1, ["false"])
    made = runner.Runner(question, suite.cells(question, out / "cells", known), out, 1)
    assert len(made.rows) == len(runner.read(out / "results.jsonl"))
    assert len(made.missing()) == TO_RUN.get(name(path), 0)


def test_recipes_are_chosen_on_training_text_alone(tmp_path, monkeypatch):
    """The first tenth of the documents to train on, the next fiftieth to measure on; nothing else is read."""
    rows = [{"text": f"{i}\nof many\n", "title": i} for i in range(100)]
    (tmp_path / "train_enriched.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    script, out = EXPERIMENTS / "words" / "prepare.py", tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["prepare.py", f"--source={tmp_path}", f"--out={out}"])
    runpy.run_path(str(script), run_name="__main__")
    read = lambda name: [json.loads(line) for line in (out / f"{name}_enriched.jsonl").read_text().splitlines()]
    assert read("train") == [{"text": row["text"]} for row in rows[:10]]
    assert read("val") == [{"text": row["text"]} for row in rows[10:12]]
    monkeypatch.setattr(sys, "argv", ["prepare.py", f"--source={out}/nowhere", f"--out={tmp_path / 'other'}"])
    with pytest.raises(SystemExit, match=r"nowhere/train_enriched\.jsonl does not exist"):
        runpy.run_path(str(script), run_name="__main__")
