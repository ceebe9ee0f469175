"""The house: a folder imports only from folders above it, and files of a folder never in a circle."""

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "juliagpt_jax"
COMMANDS = "commands"  # the files beside the rooms: below them all
ROOMS = "ground schoolroom books data models store inference serving evaluation objectives training study"
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


def test_no_lumber_room():
    names = {path.stem for path in PACKAGE.rglob("*.py")}
    assert not names & {"utils", "util", "common", "helpers", "misc"}


def test_every_folder_says_what_it_is():
    for path in PACKAGE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
