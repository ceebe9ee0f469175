"""Make a training corpus out of books.

python -m juliagpt_jax.prepare --source=classics|DIR --out=data/classics
"""

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Iterable
from typing import Any

from juliagpt_jax.ground import command, texts
from juliagpt_jax.ground.devices import cache_folder, cores
from juliagpt_jax.ground.errors import UserError


def parser() -> command.Parser:
    flags = command.Parser(
        "prepare", "Books in; train.txt, val.txt, their enriched .jsonl files, a manifest and a report out."
    )
    flags.add_argument(
        "--source",
        required=True,
        metavar="WHAT",
        help="classics: the project's list, downloaded; or a folder or file of .txt, .html, .md, .epub, .zip, .gz",
    )
    flags.add_argument("--out", required=True, metavar="DIR", help="the corpus; config.data.path of a run")
    flags.add_argument(
        "--force", action="store_true", help="replace a corpus made from another source or with other options"
    )
    flags.add_argument(
        "--tier", choices=["all", "core"], default="all", help="core: the main reading list of the classics"
    )
    flags.add_argument("--alphabet", choices=["plain", "full"], default="plain", help="full keeps capitals and figures")
    flags.add_argument("--shortest", type=int, default=40, metavar="N", help="characters of a passage")
    flags.add_argument("--longest", type=int, default=256, metavar="N", help="characters of a passage")
    flags.add_argument(
        "--min_quality", type=float, default=0.5, metavar="X", help="passages below it are left out; 0 keeps all"
    )
    flags.add_argument(
        "--similarity",
        type=float,
        default=0.6,
        metavar="X",
        help="Jaccard index from which two passages count as the same",
    )
    flags.add_argument("--val_share", type=float, default=0.1, metavar="X", help="of each work's passages")
    flags.add_argument("--passage", type=int, default=32, metavar="N", help="passages in a row for validation")
    flags.add_argument("--guard", type=int, default=1, metavar="N", help="passages left out on each side of them")
    flags.add_argument(
        "--leak_limit",
        type=float,
        default=0.05,
        metavar="X",
        help="share of leaked validation passages to refuse",
    )
    flags.add_argument("--seed", type=int, default=0, help="of the split")
    flags.add_argument(
        "--errors",
        choices=["strict", "replace", "skip"],
        default="strict",
        help="files that are not text in UTF-8: refuse; replace such bytes and count; skip such files and name them",
    )
    flags.add_argument(
        "--max_bytes", type=int, default=1 << 30, metavar="N", help="read from all files, after decompression"
    )
    flags.add_argument(
        "--max_file_bytes", type=int, default=64 << 20, metavar="N", help="read from one file, after decompression"
    )
    flags.add_argument("--max_files", type=int, default=10_000, metavar="N", help="read, those in archives included")
    flags.add_argument(
        "--mirror",
        default="https://raw.githubusercontent.com",
        metavar="URL",
        help="where the classics are downloaded from",
    )
    flags.add_argument(
        "--timeout",
        type=float,
        default=20.0,
        metavar="S",
        help="seconds without a byte before a download is tried again",
    )
    flags.add_argument(
        "--jobs", type=int, default=0, metavar="N", help="processes; 0: one a core. The result is the same"
    )
    flags.add_argument("--json", action="store_true", help="print the manifest as one JSON object on the last line")
    return flags


def main(options: argparse.Namespace) -> None:
    begun = time.perf_counter()
    _check(options)
    out = texts.path(options.out)

    from juliagpt_jax.books import archives, download, pipeline, sources, summary, writer

    settings = pipeline.Options(**{name: getattr(options, name) for name in pipeline.Options.__dataclass_fields__})
    budget = archives.Budget(options.max_bytes, options.max_file_bytes, options.max_files)
    if options.source == "classics":
        works, notes = sources.classics(options.tier)
        source = "classics"
        writer.check(out, source, settings, options.force)
        folder = cache_folder() / "sources"
        fetch = lambda work: download.fetch(work, folder, options.mirror, options.timeout)
        works = [dataclasses.replace(work, path=fetch(work)) for work in _progress("download", len(works), works)]
    else:
        works, notes = sources.local(texts.path(options.source), options.tier)
        source = sources.fingerprint(works)
        writer.check(out, source, settings, options.force)
    corpus = pipeline.run(works, settings, budget, min(options.jobs or cores(), len(works)), _progress)
    manifest = writer.write(out, source, corpus, settings, [*notes, *corpus.notes])
    seconds = time.perf_counter() - begun
    print("\n".join(summary.told(manifest, out, seconds)))
    if options.json:
        command.print_json(manifest)


def _check(options: argparse.Namespace) -> None:
    """Every number within its limits, before anything is read."""
    limits = [
        ("shortest", 1, 10_000), ("longest", 3 * options.shortest, 1_000_000), ("min_quality", 0, 1),
        ("similarity", 0.1, 1), ("val_share", 0.001, 0.5), ("passage", 1, 10_000), ("guard", 0, 1_000),
        ("leak_limit", 0, 1), ("seed", 0, 2**32 - 1), ("max_bytes", 1, 1 << 40), ("max_file_bytes", 1, 1 << 40),
        ("max_files", 1, 10**9), ("timeout", 0.1, 3_600), ("jobs", 0, 1_024),
    ]  # fmt: skip
    for name, low, high in limits:
        value = getattr(options, name)
        if not (math.isfinite(value) and low <= value <= high):
            raise UserError(f"--{name}={value} must be from {low:,} to {high:,}")


def _progress(stage: str, steps: int, items: Iterable[Any]) -> Iterable[Any]:
    """A bar on stderr, on a terminal only."""
    if not sys.stderr.isatty():
        return items
    from tqdm import tqdm

    return tqdm(items, desc=stage, total=steps, leave=False)


if __name__ == "__main__":
    command.run(parser(), main)
