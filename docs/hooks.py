"""What the site shows that is not written in docs/: the README, the results with what they link to, a page for every
module, and the flags of every command. Everything is read from where it lies, so nothing is copied by hand."""

import argparse
import functools
import importlib
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "juliagpt_jax"
LINK = re.compile(r"\]\(([^)#\s]+)")


def on_config(config: MkDocsConfig) -> None:
    """The navigation's generated parts, behind those of mkdocs.yml."""
    pages = [str(path.relative_to(ROOT)) for path in results()]
    config.nav = [*(config.nav or []), {"Results": pages}, {"Reference": reference()}]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The generated files: the repository's own at their paths in it, so that links between them stay as they are."""
    for path in linked([ROOT / "README.md", *results(), *beside(Path(config.docs_dir))]):
        name = "index.md" if path == ROOT / "README.md" else str(path.relative_to(ROOT))
        files.append(File.generated(config, name, abs_src_path=str(path)))
    for module in modules():
        files.append(File.generated(config, page_of(module), content=f"::: {name_of(module)}\n"))
    files.append(File.generated(config, "commands.md", content=commands()))
    return files


def results() -> list[Path]:
    """The log, then the page of each question."""
    return [ROOT / "experiments" / "LOG.md", *sorted((ROOT / "experiments").glob("*/README.md"))]


def beside(docs: Path) -> list[Path]:
    """Files of the repository that the pages in docs/ link to, as if they lay beside these: ../tests/conftest.py."""
    found = []
    for page in docs.rglob("*.md"):
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            path = (page.parent / link).resolve()
            if "://" not in link and not path.exists() and path.is_relative_to(docs):
                found.append(ROOT / path.relative_to(docs))
    return found


def linked(start: Iterable[Path]) -> list[Path]:
    """These files and all that they link to, directly or through other Markdown, inside the repository."""
    found: dict[Path, None] = {}
    waiting = list(start)
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file() or not path.is_relative_to(ROOT):
            continue
        found[path] = None
        if path.suffix == ".md":
            text = path.read_text(encoding="utf-8")
            waiting += [(path.parent / link).resolve() for link in LINK.findall(text) if "://" not in link]
    return list(found)


def modules() -> list[Path]:
    """Every public module of the package but the commands."""
    apart = command_files()
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if not path.name.startswith("_")]
    return [path for path in paths if path not in apart]


def command_files() -> list[Path]:
    """The files with a `parser`: what stands behind python -m juliagpt_jax.NAME."""
    return [p for p in sorted(PACKAGE.glob("*.py")) if "\ndef parser() -> command.Parser:" in p.read_text("utf-8")]


def name_of(module: Path) -> str:
    return ".".join(module.relative_to(ROOT).with_suffix("").parts)


def page_of(module: Path) -> str:
    return f"reference/{module.relative_to(PACKAGE).with_suffix('.md')}"


def reference() -> list[dict]:
    """The navigation of the modules: a section a folder."""
    sections: dict[str, list[dict]] = {}
    for module in modules():
        folder = module.parent.relative_to(ROOT).as_posix()
        sections.setdefault(folder, []).append({module.stem: page_of(module)})
    return [{folder: pages} for folder, pages in sections.items()]


def commands() -> str:
    """The help text of every command."""
    sys.path.insert(0, str(ROOT))
    parts = ["# Commands\n\nWhat `--help` prints. Every knob of `configs/base.py` is a flag too: [Knobs](knobs.md)."]
    for path in command_files():
        parser = importlib.import_module(f"juliagpt_jax.{path.stem}").parser()
        parser.formatter_class = functools.partial(argparse.HelpFormatter, width=100)
        parts.append(f"## {path.stem}\n\n```text\n{parser.format_help()}```")
    return "\n\n".join(parts) + "\n"
