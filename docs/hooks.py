"""What the site shows that is not written in docs/: the README, the results with what they link to, a page for every
module, and the flags of every command. Everything is read from where it lies, so nothing is copied by hand."""

import argparse
import functools
import importlib
import itertools
import posixpath
import re
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "juliagpt_jax"
LINK = re.compile(r"\]\(([^)#\s]+)")
DIAGRAM = re.compile(
    r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE
)  # the web host of the code draws these itself


def on_config(config: MkDocsConfig) -> None:
    """The navigation's generated parts, behind those of mkdocs.yml."""
    pages = [str(path.relative_to(ROOT)) for path in results()]
    config.nav = [*(config.nav or []), {"Results": pages}, {"Reference": reference()}]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The generated files, and the repository's own that a page links to, at their paths in it."""
    for path in linked([ROOT / "README.md", *results(), *DOCS.rglob("*.md")]):
        if not path.is_relative_to(DOCS):
            files.append(File.generated(config, place(path), abs_src_path=str(path)))
    for module in modules():
        files.append(File.generated(config, page_of(module), content=f"::: {name_of(module)}\n"))
    files.append(File.generated(config, "commands.md", content=commands()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """The page as the site needs it: its links lead to where files are on the site, its diagrams are drawn here."""
    markdown = DIAGRAM.sub(lambda block: drawing(arrows(block[1])), markdown)
    origin = page.file.abs_src_path

    def moved(link: re.Match) -> str:
        path = (Path(origin).parent / link[1]).resolve()
        if "://" in link[1] or not path.is_file() or not path.is_relative_to(ROOT):
            return link[0]
        return f"]({posixpath.relpath(place(path), posixpath.dirname(page.file.src_uri) or '.')}"

    return LINK.sub(moved, markdown) if origin else markdown


def place(path: Path) -> str:
    """Where a file of the repository is on the site."""
    if path == ROOT / "README.md":
        return "index.md"
    return path.relative_to(DOCS if path.is_relative_to(DOCS) else ROOT).as_posix()


def arrows(diagram: str) -> list[tuple[str, str]]:
    """The arrows of a Mermaid flowchart of plain lines `from --> to`."""
    return re.findall(r"^ *(\w+) --> (\w+)$", diagram, re.MULTILINE)


def drawing(edges: list[tuple[str, str]]) -> str:
    """An SVG of arrows between boxes, since the site's theme would fetch Mermaid from elsewhere. A box stands in the
    column of its longest way down, so every arrow points to the left; one that passes a column has a free row in it."""
    column = functools.cache(lambda box: 1 + max((column(to) for start, to in edges if start == box), default=-1))
    ways = [[start, *((start, to, n) for n in range(column(start) - 1, column(to), -1)), to] for start, to in edges]
    steps = [pair for way in ways for pair in itertools.pairwise(way)]
    columns: list[list] = [[] for _ in range(1 + max(column(start) for start, _ in edges))]
    for spot in dict.fromkeys(spot for way in ways for spot in reversed(way)):
        columns[spot[2] if isinstance(spot, tuple) else column(spot)].append(spot)
    row: dict[Any, float] = {}
    tall, wide, high, gap = max(map(len, columns)), 96, 36, 40
    beside = lambda spot: statistics.fmean([row[to] for start, to in steps if start == spot] or [0])
    for spots in columns:  # in the order of what they lead to, so that few arrows cross
        row.update({spot: n + (tall - len(spots)) / 2 for n, spot in enumerate(sorted(spots, key=beside))})
    at = {spot: (n * (wide + gap), 56 * row[spot] + high / 2) for n, spots in enumerate(columns) for spot in spots}
    parts = []
    for way in ways:
        (x, y), *rest = (at[spot] for spot in way)
        line = f"M{x} {y:g}"
        for n, (left, y1) in enumerate(rest, 1):
            end = left + wide + (6 if n == len(rest) else 0)
            line += f" C{x - gap / 2:g} {y:g} {end + gap / 2:g} {y1:g} {end} {y1:g}" + (
                "" if n == len(rest) else f" H{left}"
            )
            x, y = left, y1
        parts.append(f'<path d="{line}" marker-end="url(#tip)"/>')
    for box, (x, y) in at.items():
        if isinstance(box, str):
            parts.append(f'<rect x="{x}" y="{y - high / 2:g}" width="{wide}" height="{high}" rx="4"/>')
            parts.append(f'<text x="{x + wide / 2:g}" y="{y + 5:g}" stroke="none" fill="currentColor">{box}</text>')
    head = '<path d="M0 0 L6 3 L0 6 z" fill="currentColor" stroke="none"/>'
    tip = f'<marker id="tip" markerWidth="7" markerHeight="7" refX="1" refY="3" orient="auto">{head}</marker>'
    style = 'fill="none" stroke="currentColor" font-family="inherit" font-size="14" text-anchor="middle"'
    size = f"-2 -2 {len(columns) * (wide + gap) - gap + 4} {56 * tall}"
    words = "; ".join(f"{start} imports {to}" for start, to in edges)
    return f'<svg viewBox="{size}" {style} role="img" aria-label="{words}"><defs>{tip}</defs>{"".join(parts)}</svg>'


def results() -> list[Path]:
    """The index of questions, the log, then the page of each question."""
    return [
        *(ROOT / "experiments" / name for name in ("README.md", "LOG.md")),
        *sorted((ROOT / "experiments").glob("*/README.md")),
    ]


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
