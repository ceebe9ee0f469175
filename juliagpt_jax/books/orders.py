"""Carry out what the command `prepare` is asked for: a corpus of books, or of documents."""

import argparse
import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from juliagpt_jax.books import document_report, pipeline, sources, summary, writer
from juliagpt_jax.books import documents as collections
from juliagpt_jax.books.archives import Budget
from juliagpt_jax.books.datasets import DataSet
from juliagpt_jax.books.sources import Work
from juliagpt_jax.ground import texts

Told = Callable[[dict[str, Any], Path, float], list[str]]  # (manifest, folder, seconds) -> what the terminal says


@dataclasses.dataclass
class Order:
    """Where a corpus goes, and by what means its sources come.

    Attributes:
        out: the folder; `force` replaces another corpus there.
        budget: what may be read.
        fetch: returns the file of a pinned work.
        shown: passes items through a bar of progress.
    """

    out: Path
    force: bool
    budget: Budget
    fetch: Callable[[Work], Path]
    shown: Callable[[str, int, Iterable[Any]], Iterable[Any]]


def books(order: Order, flags: argparse.Namespace, jobs: int) -> tuple[dict[str, Any], Told]:
    """Make a corpus of short passages out of books; return its manifest and what tells of it."""
    options = pipeline.Options(**{name: getattr(flags, name) for name in pipeline.Options.__dataclass_fields__})
    if flags.source == "classics":
        works, notes = sources.classics(flags.tier)
        source = "classics"
        writer.check(order.out, source, options, order.force)
        shown = order.shown("download", len(works), works)
        works = [dataclasses.replace(work, path=order.fetch(work)) for work in shown]
    else:
        works, notes = sources.local(texts.path(flags.source), flags.tier)
        source = sources.fingerprint(works)
        writer.check(order.out, source, options, order.force)
    corpus = pipeline.run(works, options, order.budget, min(jobs, len(works)), order.shown)
    return writer.write(order.out, source, corpus, options, [*notes, *corpus.notes]), summary.told


def documents(
    order: Order,
    flags: argparse.Namespace,
    known: DataSet | None,
    files: dict[str, Path],
    count: Callable[[str], int],
    tokens: str,
) -> tuple[dict[str, Any], Told]:
    """Make a corpus of documents; return its manifest and what tells of it.

    Args:
        known: the collection that was asked for or recognised, None for any other.
        files: its files by their side, as they lie; those of a known one that are not there are fetched.
        count: tokens of a text, which the manifest calls `tokens`.
    """
    blocked, listed = frozenset(), ""
    if flags.blocklist:
        blocked, listed = collections.blocklist(texts.path(flags.blocklist))
    options = collections.options(flags, known, tokens, listed)
    notes: list[str] = []
    if known and known.works:
        source, works = known.name, list(known.works.items())
    elif known:
        works = [(side, Work(side, file)) for side, file in files.items()]
        source = sources.fingerprint([work for _, work in works])
    else:
        found, notes = collections.works(texts.path(flags.source), options.unit)
        works, source = [("", work) for work in found], sources.fingerprint(found)
    writer.check(order.out, source, options, order.force)
    if known and known.works:
        place = lambda side, work: dataclasses.replace(work, path=files.get(side) or order.fetch(work))
        works = [(side, place(side, work)) for side, work in order.shown("download", len(works), works)]
    made = collections.run(works, options, order.budget, count, blocked, order.shown)
    return document_report.write(order.out, source, made, options, known, notes), document_report.told
