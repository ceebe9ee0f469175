"""Make a training corpus out of books, or out of a collection of documents; or fetch a task's questions.

python -m juliagpt_jax.prepare --source=classics|wikitext2|tinystories|DIR|FILE --out=data/classics [--unit=file]
python -m juliagpt_jax.prepare --source=sst2|gsm8k|mawps|svamp|dialogsum|mts_dialog --out=data/sst2
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from juliagpt_jax.ground import command, texts
from juliagpt_jax.ground.devices import cache_folder, cores
from juliagpt_jax.ground.errors import UserError

_NUMBERS = [  # flag, default, least, most, what it is
    ("shortest", 40, 1, 10_000, "characters of a passage"),
    ("longest", 256, 3, 1_000_000, "characters of a passage"),
    ("min_quality", 0.5, 0, 1, "passages below it are left out; 0 keeps all"),
    ("similarity", 0.6, 0.1, 1, "Jaccard index from which two passages count as the same"),
    ("val_share", 0.1, 0.001, 0.5, "of each work's passages, or of the documents, for validation"),
    ("passage", 32, 1, 10_000, "passages in a row that go to validation together"),
    ("guard", 1, 0, 1_000, "passages left out on each side of these"),
    ("leak_limit", 0.05, 0, 1, "share of leaked validation passages that is refused"),
    ("seed", 0, 0, 2**32 - 1, "of the split"),
    ("max_bytes", 1 << 30, 1, 1 << 40, "read from all files, after decompression"),
    ("max_file_bytes", 64 << 20, 1, 1 << 40, "read from one file, after decompression"),
    ("max_files", 10_000, 1, 10**9, "read, those in archives included"),
    ("timeout", 20.0, 0.1, 3_600, "seconds without a byte before a download is tried again"),
    ("jobs", 0, 0, 1_024, "processes; 0: one a core. The result is the same"),
]
_OF_BOOKS = ("tier", "alphabet", "shortest", "longest", "min_quality", "similarity", "passage", "guard", "leak_limit")
_OF_QUESTIONS = ("source", "out", "mirror", "timeout", "json", "debug")
_OF_DOCUMENTS = ("min_tokens", "max_tokens", "tokenizer", "blocklist", "kind")


def parser() -> command.Parser:
    flags = command.Parser("prepare", "Texts in; training and validation files, a manifest and a report out.")
    add = flags.add_argument
    source = (
        "classics, wikitext2, tinystories, or questions of a task, sst2, gsm8k, mawps, svamp, dialogsum, mts_dialog: "
        "downloaded; or a folder (or file) of .txt, .html, .md, .epub, .zip, .gz"
    )
    add("--source", required=True, metavar="WHAT", help=source)
    add("--out", required=True, metavar="DIR", help="the corpus; config.data.path of a run")
    add("--force", action="store_true", help="replace a corpus made from another source or with other options")
    cut = "chunk: short passages of books; else what a document is: a file, what blank lines end, a row of a .jsonl"
    units = ["chunk", "file", "blank", "row", "story", "article"]
    add("--unit", choices=units, help=cut + ", ...; default: chunk, or what a known collection has")
    tier = "core: the main reading list of the classics"
    add("--tier", choices=["all", "core"], default="all", help=tier)
    add("--alphabet", choices=["plain", "full"], default="plain", help="of passages; full keeps capitals and figures")
    for name, default, _, _, what in _NUMBERS:
        add(f"--{name}", type=type(default), default=default, metavar="NX"[isinstance(default, float)], help=what)
    drop = "documents with {} are dropped; 0: none is; default {}, for wikitext2 0"
    add("--min_tokens", type=int, metavar="N", help=drop.format("fewer", 10))
    add("--max_tokens", type=int, metavar="N", help=drop.format("more", "2,048"))
    add("--tokenizer", metavar="FILE", help="a tokenizer.json whose tokens are counted; default: words")
    add("--blocklist", metavar="FILE", help="words, one a line: a document that holds one is dropped")
    kind = "documents that don't look like it are dropped; default any"
    add("--kind", choices=["any", "prose", "code", "mathematics"], default="any", help=kind)
    errors = "files that are not text in UTF-8: refuse; replace such bytes and count; skip such files and name them"
    add("--errors", choices=["strict", "replace", "skip"], default="strict", help=errors)
    mirror = "where downloads come from"
    add("--mirror", default="https://raw.githubusercontent.com", metavar="URL", help=mirror)
    add("--json", action="store_true", help="print the manifest as one JSON object on the last line")
    return flags


def main(options: argparse.Namespace) -> None:
    begun = time.perf_counter()
    _check(options)

    from juliagpt_jax.books import archives, datasets, download, orders, questions

    asked = options.source in questions.SETS
    otherwise = f"{'evaluate --task_data' if asked else '--source'}=DIR, a folder with the files"
    order = orders.Order(
        out=texts.path(options.out),
        force=options.force,
        budget=archives.Budget(options.max_bytes, options.max_file_bytes, options.max_files),
        fetch=lambda work: download.fetch(
            work, cache_folder() / "sources", options.mirror, options.timeout, otherwise=otherwise
        ),
        shown=_progress,
    )
    if asked:
        _refuse(options, [flag for flag in vars(options) if flag not in _OF_QUESTIONS], f"--source={options.source}")
        manifest = questions.fetch(options.source, order)
        return _say(options, manifest, questions.told(manifest, order.out))
    known, files, unit = datasets.chosen(options.source, options.unit, order.budget)
    if unit != "chunk":
        _refuse(options, _OF_BOOKS, f"--unit={unit}")
        manifest, told = orders.documents(order, options, known, files, *_count(options.tokenizer))
    else:
        _refuse(options, _OF_DOCUMENTS, f"--unit={unit}")
        manifest, told = orders.books(order, options, options.jobs or cores())
    _say(options, manifest, told(manifest, order.out, time.perf_counter() - begun))


def _say(options: argparse.Namespace, manifest: dict[str, Any], told: Iterable[str]) -> None:
    print("\n".join(told))
    if options.json:
        command.print_json(manifest)


def _count(file: str | None) -> tuple[Callable[[str], int], str]:
    """Return what counts the tokens of a text, and its name in the manifest."""
    if not file:
        return lambda text: len(text.split()), "words"
    from juliagpt_jax.data import tokenizer
    from juliagpt_jax.ground.files import sha256

    given = tokenizer.load(texts.path(file))
    return lambda text: len(given.encode(text, "skip")), sha256(texts.path(file))


def _refuse(options: argparse.Namespace, names: Iterable[str], of: str) -> None:
    """Refuse flags that say nothing of what is made here."""
    plain = parser().parse(["--source=", "--out="])
    for name in names:
        if getattr(options, name) != getattr(plain, name):
            raise UserError(f"--{name} says nothing of {of}; leave it out")


def _check(options: argparse.Namespace) -> None:
    """Every number within its limits, before anything is read."""
    limits = [(name, low, high) for name, _, low, high, _ in _NUMBERS]
    limits += [(name, 0, 10**9) for name in ("min_tokens", "max_tokens") if getattr(options, name) is not None]
    for name, low, high in limits:
        value, low = getattr(options, name), 3 * options.shortest if name == "longest" else low
        if not (math.isfinite(value) and low <= value <= high):
            raise UserError(f"--{name}={value} must be from {low:,} to {high:,}")
    if options.min_tokens and options.max_tokens and options.min_tokens > options.max_tokens:
        raise UserError(f"--min_tokens={options.min_tokens} is above --max_tokens={options.max_tokens}")


def _progress(stage: str, steps: int, items: Iterable[Any]) -> Iterable[Any]:
    """A bar on stderr, on a terminal only."""
    if not sys.stderr.isatty():
        return items
    from tqdm import tqdm

    return tqdm(items, desc=stage, total=steps, leave=False)


if __name__ == "__main__":
    command.run(parser(), main)
