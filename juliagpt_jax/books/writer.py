"""A prepared corpus written to the disk, whole or not at all.

Everything is written into a folder beside the wanted one, which takes its place by a rename: a command that is killed
leaves either the old corpus or the new one.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from juliagpt_jax.books import deduplication, pipeline, summary
from juliagpt_jax.ground import texts
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.sealed import Changed, read_json, write_json

FORMAT = 1  # of the folder; raised when its files change their meaning
MANIFEST = "manifest.json"
SETS = ("train", "val")
_FILES = {f"{name}{end}" for name in (*SETS, "test") for end in (".txt", "_enriched.jsonl")}
_OWN = {MANIFEST, "report.md", "plots", *_FILES}
LICENCES = {"classics": "public domain in the USA; books/classics.json has a line on each work"}
_LIBRARIES = ("ftfy", "lxml", "num2words", "rensa", "numpy", "matplotlib")


def check(out: Path, source: str, options: Any, force: bool) -> None:
    """Refuse early what `write` would have to refuse. `options` is the dataclass of what the result depends on.

    Raises:
        UserError: the folder is not one that `write` made, or was made from another source or with other options and
            `force` is not given; or it cannot be written to.
    """
    recover(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out={out} is not a folder")
    if out.exists() and any(out.iterdir()):
        foreign = sorted(f.name for f in out.iterdir() if f.name not in _OWN)
        if foreign or not (out / MANIFEST).is_file():
            raise UserError(
                f"--out={out} holds other things ({', '.join(foreign[:3]) or 'no manifest.json'}); "
                "take an empty or a new folder"
            )
        try:
            old = read_json(out / MANIFEST)
            same = (old["format"], old["source"], old["options"]) == (FORMAT, source, options_of(options))
        except (OSError, ValueError, KeyError, TypeError, Changed):
            same = False
        if not same and not force:
            raise UserError(
                f"--out={out} holds a corpus of another source or with other options (see its {MANIFEST}); "
                "--force replaces it"
            )
    parent = out.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out={out}: {parent}: {error.strerror}") from error
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"--out={out}: no right to write to {parent}")


def recover(out: Path) -> None:
    """Clear away what a killed command left: an unfinished folder, or the old one on its way out."""
    old = _beside(out, "old")
    if old.exists():
        if out.exists():
            shutil.rmtree(old)
        else:
            os.replace(old, out)
    if _beside(out, "new").exists():
        shutil.rmtree(_beside(out, "new"))


def write(
    out: Path, source: str, corpus: pipeline.Corpus, options: pipeline.Options, notes: list[str]
) -> dict[str, Any]:
    """Write the corpus and its report; returns the manifest."""
    with placing(out) as new:
        (new / "plots").mkdir()
        for name in SETS:
            _write_set(new, name, corpus)
        manifest = _manifest(new, source, corpus, options, [texts.shown(note) for note in notes])
        summary.write(new, manifest, corpus)
        write_json(new / MANIFEST, manifest, ascii_only=False)
    return manifest


@contextlib.contextmanager
def placing(out: Path) -> Iterator[Path]:
    """Return a new folder to write a corpus into, which takes the place of `out` when the `with` ends well."""
    new, old = _beside(out, "new"), _beside(out, "old")
    new.mkdir(parents=True)
    yield new
    for file in [*new.rglob("*"), new]:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    if out.exists():
        os.replace(out, old)
    os.replace(new, out)
    shutil.rmtree(old, ignore_errors=True)


def _beside(out: Path, what: str) -> Path:
    out = out.absolute()
    return out.with_name(f".{out.name}.{what}")


def _write_set(folder: Path, name: str, corpus: pipeline.Corpus) -> None:
    """Write NAME.txt, one chunk a line, and NAME_enriched.jsonl, whose line i describes the same chunk."""
    with (
        open(folder / f"{name}.txt", "w", encoding="utf-8", newline="\n") as plain,
        open(folder / f"{name}_enriched.jsonl", "w", encoding="utf-8", newline="\n") as enriched,
    ):
        for book, difficulty in zip(corpus.books, corpus.difficulty, strict=True):
            work = book.work
            for i in book.indices(name):
                scores = book.scores[i]
                line = {
                    "text": book.chunks[i],
                    "author": work.author,
                    "title": work.title,
                    "translator": work.translator,
                    "art": work.art,
                    "phase": work.phase,
                    "tier": work.tier,
                    "work": work.id,
                    "index": i,
                    "difficulty": round(difficulty[i], 4),
                    "quality": round(scores.quality, 4),
                    "compression": round(scores.compression, 4),
                    "mtld": round(scores.mtld, 2),
                    "flesch": round(scores.flesch, 2),
                }
                plain.write(book.chunks[i] + "\n")
                enriched.write(json.dumps(line, ensure_ascii=False) + "\n")


def options_of(options: Any) -> dict[str, Any]:
    """Return options as the manifest has them. `kind` is named where it chooses: older corpora have no such option."""
    values = {name: getattr(options, name) for name in options.__dataclass_fields__}
    return {name: value for name, value in values.items() if (name, value) != ("kind", "any")}


def _manifest(
    folder: Path, source: str, corpus: pipeline.Corpus, options: pipeline.Options, notes: list[str]
) -> dict[str, Any]:
    """Return what the corpus is made of: no time and no path, so that the same input gives the same bytes."""
    works = []
    for book in corpus.books:
        work = book.work
        works.append(
            {
                **{
                    name: getattr(work, name)
                    for name in (
                        "id",
                        "title",
                        "author",
                        "translator",
                        "phase",
                        "art",
                        "tier",
                        "repo",
                        "commit",
                        "source_path",
                    )
                },
                "sha256": book.sha256,
                "characters": book.characters,
                "apparatus": {k: v for k, v in sorted(book.ledger.counts.items()) if v},
                "spared": {k: v for k, v in sorted((book.ledger.spared + book.cleaned.spared).items()) if v},
                "kept": book.kept,
                "replaced": book.replaced,
                "cleaner": {"seen": book.changes.seen, "lost": book.changes.lost, "added": book.changes.added}
                | {"left out": {k: v for k, v in sorted(book.cleaned.counts.items()) if v}},
                "short": book.short,
                "chunks": {fate: len(book.indices(fate)) for fate in pipeline.FATES},
            }
        )
    files = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(folder.iterdir()) if f.is_file()}
    return {
        "format": FORMAT,
        "unit": "chunk",
        "source": source,
        "licence": LICENCES.get(source, "not stated"),
        "options": options_of(options),
        "chunks": {fate: sum(len(b.indices(fate)) for b in corpus.books) for fate in pipeline.FATES},
        "characters": {name: sum(len(b.chunks[i]) + 1 for b in corpus.books for i in b.indices(name)) for name in SETS},
        "leaked": {"found": corpus.leaked, "left": corpus.leaked_after},
        "files": files,
        "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        "minhash": {"permutations": deduplication.PERMUTATIONS, "bands": deduplication.BANDS},
        "notes": notes,
        "works": works,
    }
