"""What the code never does with what a user gives it, by reading the code."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "juliagpt_jax"
# Each has a reason; nothing here is made of a user's file.
ALLOWED = {
    ("schoolroom/grammar.py", "eval"),  # expressions in the lessons, which are part of the source
    ("schoolroom/variables.py", "eval"),
}
PROCESSES = {
    "store/machine.py",  # git, about its own source
    "store/health.py",  # Python, to look for devices
    "study/runner.py",  # Python, for the cells of a suite
    "study/pace.py",
    "study/speed_table.py",
}
SAFE_LOADERS = {"safe_load", "safe_dump", "SafeLoader", "YAMLError"}


def calls(tree: ast.AST):
    """(name of what is called, the call), "os.system" with its module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def found(package: Path) -> list[str]:
    """Lines of code that could run what is in a file."""
    wrong = []
    for path in sorted(package.rglob("*.py")):
        name, tree = path.relative_to(package).as_posix(), ast.parse(path.read_text(encoding="utf-8"))
        imported = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        imported |= {(n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        for module in imported & {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}:
            wrong.append(f"{name}: imports {module}")
        if "subprocess" in imported and name not in PROCESSES:
            wrong.append(f"{name}: starts processes")
        for called, node in calls(tree):
            if called in ("eval", "exec", "__import__") and (name, called) not in ALLOWED:
                wrong.append(f"{name}:{node.lineno}: {called}")
            if called == "compile" or called in ("os.system", "os.popen") or called.startswith(("os.exec", "os.spawn")):
                wrong.append(f"{name}:{node.lineno}: {called}")
            if called.startswith("yaml.") and called.split(".")[1] not in SAFE_LOADERS:
                wrong.append(f"{name}:{node.lineno}: {called} makes objects")
            words = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if words.get("shell") == "True":
                wrong.append(f"{name}:{node.lineno}: a shell")
            if words.get("allow_pickle") == "True":
                wrong.append(f"{name}:{node.lineno}: allow_pickle")
    return wrong


def deep(package: Path) -> list[str]:
    """Calls of json.loads outside a `try` that expects values nested too deeply, which are no ValueError."""
    wrong = []
    for path in sorted(package.rglob("*.py")):
        name, tree = path.relative_to(package).as_posix(), ast.parse(path.read_text(encoding="utf-8"))
        guarded = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Try):
                caught = {ast.unparse(handler.type) for handler in node.handlers if handler.type}
                if any("RecursionError" in text or text == "Exception" for text in caught):
                    guarded |= {id(call) for part in node.body for _, call in calls(part)}
        for called, node in calls(tree):
            if called in ("json.loads", "json.load") and id(node) not in guarded and name not in OWN_JSON:
                wrong.append(f"{name}:{node.lineno}")
    return wrong


# JSON that this process, or a library on its behalf, wrote or checked just before.
OWN_JSON = {"ground/sealed.py", "data/bpe.py", "store/tensors.py", "study/speed_table.py", "ground/hosts.py"}
OWN_JSON |= {"books/trove.py", "books/workers.py", "data/ranked.py"}  # of an earlier step of the same work
OWN_JSON |= {"search/guides.py"}  # of a request, which was parsed as JSON before


def test_no_code_is_made_of_what_a_user_gives():
    """Config and suite files are the exception, which the pages say: they are Python, read by runpy."""
    assert found(PACKAGE) == []
    runs = {p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*.py") if "runpy." in p.read_text()}
    loads = {p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*.py") if "spec_from_file" in p.read_text()}
    assert runs | loads <= {"ground/config_file.py", "study/suite.py", "study/pipeline.py"}
    readme = (PACKAGE.parent / "README.md").read_text(encoding="utf-8")
    assert "Config and suite files are Python that is run" in readme


@pytest.mark.parametrize(
    "code, says",
    [
        ("import pickle", "imports pickle"),
        ("from pickle import loads", "imports pickle"),
        ("eval('1')", "eval"),
        ("exec('1')", "exec"),
        ("import os\nos.system('ls')", "os.system"),
        ("import subprocess", "starts processes"),
        ("f(shell=True)", "a shell"),
        ("import numpy as np\nnp.load('x', allow_pickle=True)", "allow_pickle"),
        ("import yaml\nyaml.load(x)", "makes objects"),
    ],
)
def test_what_could_run_is_seen(tmp_path, code, says):
    (tmp_path / "a.py").write_text(code)
    assert [says in line for line in found(tmp_path)] == [True]


def test_json_of_others_may_be_nested_too_deeply():
    assert deep(PACKAGE) == []


def test_an_unguarded_reader_is_seen(tmp_path):
    (tmp_path / "a.py").write_text("import json\ntry:\n    json.loads(x)\nexcept ValueError:\n    pass\n")
    assert deep(tmp_path) == ["a.py:3"]
    (tmp_path / "a.py").write_text(
        "import json\ntry:\n    json.loads(x)\nexcept (ValueError, RecursionError):\n    pass\n"
    )
    assert deep(tmp_path) == []
