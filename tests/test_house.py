"""The house: a folder imports only from folders above it, files of a folder never in a circle, and the page on the
architecture shows it as it is."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "juliagpt_jax"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
COMMANDS = "commands"  # the files beside the rooms: below them all
ROOMS = "ground schoolroom books data models store inference search serving evaluation objectives training study"
ORDER = [*ROOMS.split(), COMMANDS]


def modules(package: Path) -> dict[str, Path]:
    """{"models.gpt": path, ...}; a folder's __init__ is "models"."""
    files = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return files


def room(module: str, files: dict[str, Path]) -> str:
    top = module.split(".")[0]
    if "." in module or (files[module].name == "__init__.py" and module != "__init__"):
        return top
    return COMMANDS


def imports(module: str, files: dict[str, Path]) -> set[str]:
    """The package's own modules that a module imports anywhere in it, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(files[module].read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            inside = ["juliagpt_jax", *module.split(".")]
            if files[module].name != "__init__.py":
                inside.pop()
            above = inside[: len(inside) - node.level + 1] if node.level else []
            names = [".".join([*above, *([node.module] if node.module else []), alias.name]) for alias in node.names]
        for name in names:
            if name.split(".")[0] != "juliagpt_jax":
                continue
            inner = name.split(".")[1:]
            while inner and ".".join(inner) not in files:
                inner.pop()  # a name inside a module
            found.add(".".join(inner) or "__init__")
    return found - {"__init__"}


def violations(package: Path) -> list[str]:
    files = modules(package)
    graph = {module: imports(module, files) for module in files}
    wrong = []
    for module, used in graph.items():
        here = room(module, files)
        for other in used:
            there = room(other, files)
            if there == COMMANDS:
                wrong.append(f"{module} imports the command {other}")
            elif here not in ORDER or there not in ORDER:
                wrong.append(f"{module} imports {other}: a folder that has no place in the order")
            elif ORDER.index(there) > ORDER.index(here):
                wrong.append(f"{module} imports {other}, which is below it")
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        wrong.append(f"a circle: {' -> '.join(error.args[1])}")
    return wrong


def test_imports_run_one_way():
    assert violations(PACKAGE) == []


@pytest.mark.parametrize(
    "files, says",
    [
        ({"data/a.py": "from juliagpt_jax.models import gpt", "models/gpt.py": ""}, "data.a imports models.gpt"),
        (
            {"data/a.py": "def f():\n    import juliagpt_jax.training.step", "training/step.py": ""},
            "data.a imports training.step",
        ),
        (
            {"data/a.py": "from juliagpt_jax.models.gpt import GPT", "models/gpt.py": "GPT = 1"},
            "data.a imports models.gpt",
        ),
        ({"data/a.py": "from ..models.gpt import GPT", "models/gpt.py": "GPT = 1"}, "data.a imports models.gpt"),
        ({"ground/a.py": "from juliagpt_jax.data import a", "data/a.py": ""}, "ground.a imports data.a"),
        ({"models/a.py": "from juliagpt_jax import main", "main.py": ""}, "models.a imports the command main"),
        ({"evaluate.py": "import juliagpt_jax.main", "main.py": ""}, "evaluate imports the command main"),
        ({"extra/a.py": "from juliagpt_jax.data import a", "data/a.py": ""}, "no place in the order"),
        (
            {"data/a.py": "from . import b", "data/b.py": "def f():\n    from juliagpt_jax.data.a import x"},
            "a circle: data.",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_violation_is_seen(tmp_path, files, says):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (wrong,) = violations(tmp_path)
    assert says in wrong


def test_an_import_starts_no_device():
    """What starts one before a command has set its environment gets other devices, and other bits."""
    code = """
import importlib, pkgutil, juliagpt_jax
for module in pkgutil.walk_packages(juliagpt_jax.__path__, "juliagpt_jax."):
    try:
        importlib.import_module(module.name)
    except ImportError:  # an extra that is not there
        pass
from jax._src import xla_bridge
assert not xla_bridge._backends, "a module starts a device"
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]


def test_no_lumber_room():
    names = {path.stem for path in PACKAGE.rglob("*.py")}
    assert not names & {"utils", "util", "common", "helpers", "misc"}


def test_no_file_is_two_things():
    """A command is a front door; a room's file past 350 lines is asked which two things it is. Lessons are text."""
    for path in PACKAGE.rglob("*.py"):
        most = 150 if path.parent == PACKAGE else 350
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= most or path.name.startswith("lessons"), f"{path}: {lines} lines"


def test_every_folder_says_what_it_is():
    for path in PACKAGE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


# The page on the architecture.


def rooms_used(package: Path) -> dict[tuple[str, str], str]:
    """{(room, other room): an import that joins them}."""
    files = modules(package)
    found = {}
    for module in files:
        for other in sorted(imports(module, files)):
            pair = room(module, files), room(other, files)
            if pair[0] != pair[1]:
                found.setdefault(pair, f"{module} imports {other}")
    return found


def mistakes(page: str, used: dict[tuple[str, str], str]) -> list[str]:
    """What a page's picture and table say otherwise than the imports."""
    (picture,) = re.findall(r"^```mermaid\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    drawn = re.findall(r"^ +(\w+) --> (\w+)$", picture, re.MULTILINE)
    wrong = [f"{a} --> {b} is drawn, and {a} imports nothing of {b}" for a, b in drawn if (a, b) not in used]
    reach = {start: {start} for start in ORDER}
    for start in ORDER:  # what is left of a room is complete when its turn comes
        reach[start].update(*(reach[b] for a, b in drawn if a == start))
    wrong += [f"{a} --> {b} is missing: {why}" for (a, b), why in used.items() if b not in reach[a]]
    without = lambda edge: {b for a, b in drawn if a == edge[0] and b != edge[1]}
    wrong += [f"{a} --> {b} is drawn twice over" for a, b in drawn if any(b in reach[c] for c in without((a, b)))]
    rows = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    return wrong + ([] if rows == ORDER else [f"the table's rooms are {rows}, not {ORDER}"])


def test_the_picture_is_the_imports():
    assert mistakes(PAGE, rooms_used(PACKAGE)) == []


@pytest.mark.parametrize(
    "old, new, says",
    [
        ("    study --> training\n", "", "study --> training is missing: study."),
        ("    study --> training\n", "    study --> training\n    study --> books\n", "study imports nothing of books"),
        (
            "    study --> training\n",
            "    study --> training\n    study --> data\n",
            "study --> data is drawn twice over",
        ),
        ("| `models` |", "| models |", "the table's rooms"),
    ],
)
def test_another_picture_is_seen(old, new, says):
    assert old in PAGE
    assert any(says in line for line in mistakes(PAGE.replace(old, new), rooms_used(PACKAGE)))


def test_the_page_sends_nobody_to_a_place_that_is_not_there():
    """Every path in it exists, and every table is at the end of the file that it names."""
    for path in re.findall(r"`((?:juliagpt_jax|configs|experiments|tests)/[^` ]*)`", PAGE):
        assert (ROOT / path).exists() or "NAME" in path, path
    named = re.findall(r"\| ((?:`[A-Z]+`(?:, )?)+) in `([^`]+)` \|", PAGE)
    assert len(named) >= 8
    for tables, path in named:
        text = (ROOT / path).read_text(encoding="utf-8")
        for table in re.findall("[A-Z]+", tables):
            assert re.search(rf"^{table}\b.* = \{{", text, re.MULTILINE), (table, path)


# Docstrings.

OPENINGS = ("What", "Whether", "How", "The same")


def riddles(text: str) -> list[str]:
    """The docstrings of a module that open with a question's word instead of a verb or a noun."""
    nodes = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    found = [ast.get_docstring(node) or "" for node in nodes]
    return [text.split("\n")[0] for text in found if re.match(rf"(?:{'|'.join(OPENINGS)})\b", text)]


@pytest.mark.parametrize("opening", OPENINGS)
def test_a_riddle_is_seen(opening):
    assert riddles(f'class A:\n    def f(self):\n        """{opening} of it."""') == [f"{opening} of it."]


def test_docstrings_open_with_a_verb_or_a_noun():
    files = modules(PACKAGE)
    wrong = {module: riddles(path.read_text(encoding="utf-8")) for module, path in files.items()}
    assert {module: found for module, found in wrong.items() if found} == {}
