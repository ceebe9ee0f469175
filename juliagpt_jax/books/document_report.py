"""A prepared collection of documents on the disk: its rows, its manifest, and a page that says of everything that went
why, and shows some of it."""

import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import numpy as np

from juliagpt_jax.books import scorer, writer
from juliagpt_jax.books.datasets import DataSet
from juliagpt_jax.books.documents import FATES, KEPT, RULES, Collection, Document, Options
from juliagpt_jax.books.ledger import SHOWN
from juliagpt_jax.ground.sealed import write_json

_EXCERPT = 400  # characters of a document in the compressor's dictionary


def write(
    out: Path, source: str, made: Collection, options: Options, known: DataSet | None, notes: list[str]
) -> dict[str, Any]:
    """Write a collection whole or not at all; returns the manifest.

    For each side a file SIDE_enriched.jsonl, a row a document: its text with all its lines, and its fields. Of a test
    side that is given, test.txt is the text as published, too; no run reads either by itself.
    """
    with writer.placing(out) as new:
        for sides in (("train", "val"), ("test",)):
            rows = _scored([d for side in sides for d in made.of(side)], options.seed)
            for side in sides:
                if made.of(side):
                    lines = (json.dumps(rows[id(d)], ensure_ascii=False) + "\n" for d in made.of(side))
                    (new / f"{side}_enriched.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")
        if made.of("test"):
            text = "".join(d.text for d in made.of("test"))
            (new / "test.txt").write_text(text, encoding="utf-8", newline="\n")
        manifest = _manifest(new, source, made, options, known, notes)
        (new / "report.md").write_text(describe(manifest, made), encoding="utf-8")
        write_json(new / writer.MANIFEST, manifest, ascii_only=False)
    return manifest


def _scored(documents: list[Document], seed: int) -> dict[int, dict[str, Any]]:
    """The row of each document, by its identity. The compressor that measures one quotes from the other half."""
    halves = [documents[0::2], documents[1::2]]
    scores: dict[int, scorer.Scores] = {}
    for own, other in (halves, halves[::-1]):
        judge = scorer.Judge(scorer.dictionary([d.text[:_EXCERPT] for d in other], seed), {}, 0)
        scores |= {id(d): judge.score(d.text) for d in own}
    difficulty = scorer.difficulty([scores[id(d)] for d in documents])
    return {
        id(d): {
            "text": d.text,
            **d.fields,
            "work": d.work,
            "index": d.index,
            "words": len(d.text.split()),
            "difficulty": round(float(hard), 4),
            "compression": round(scores[id(d)].compression, 4),
            "mtld": round(scores[id(d)].mtld, 2),
            "flesch": round(scores[id(d)].flesch, 2),
        }
        for d, hard in zip(documents, difficulty, strict=True)
    }


def _manifest(
    folder: Path, source: str, made: Collection, options: Options, known: DataSet | None, notes: list[str]
) -> dict[str, Any]:
    """Return what the collection is made of: no time and no path, so that the same input gives the same bytes."""
    works = list(known.works.values()) if known else []
    origin = [
        {"repo": w.repo, "commit": w.commit, "path": w.source_path, "sha256": w.source_sha256, "bytes": w.source_bytes}
        for w in works
    ]
    sizes = {side: made.of(side) for side in KEPT if made.of(side)}
    return {
        "format": writer.FORMAT,
        "unit": options.unit,
        "source": source,
        "licence": known.licence if known else "not stated",
        "origin": origin,
        "verified": "every file has the SHA-256 that is pinned for it" if origin else "nothing: no file is pinned",
        "options": writer.options_of(options),
        "documents": {fate: len(made.of(fate)) for fate in FATES},
        "characters": {side: sum(len(d.text) for d in documents) for side, documents in sizes.items()},
        "words": {side: sum(len(d.text.split()) for d in documents) for side, documents in sizes.items()},
        "taken out": {rule: made.ledger.counts[rule] for rule in RULES},
        "files": {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(folder.iterdir())},
        "versions": {"numpy": importlib.metadata.version("numpy")},
        "notes": [*notes, *made.notes],
        "works": made.files,
    }


def describe(manifest: dict[str, Any], made: Collection) -> str:
    """Return the page, in Markdown."""
    documents, options = manifest["documents"], manifest["options"]
    total = sum(documents.values())
    tokens = "words between white space" if options["tokens"] == "words" else "tokens of the tokenizer that was given"
    lines = [
        "# What this collection is made of",
        "",
        f"{total:,} documents were found, each {_UNITS[manifest['unit']]}. Licence: {manifest['licence']}. "
        f"Verified: {manifest['verified']}.",
        "",
        "HTML, unprintable signs and copies were taken out."
        if options["clean"]
        else "Models are compared on this text: it is kept to the byte, copies and all; a limit or a list that is "
        "given acts on the training documents alone.",
        f"Least size: {options['min_tokens'] or 'none'}; largest size: {options['max_tokens'] or 'none'}; in {tokens}. "
        f"List of words that no document may hold: {options['blocklist'][:12] or 'none'}.",
        "",
        *[f"- {note}" for note in manifest["notes"]],
        *([""] if manifest["notes"] else []),
        "## Documents: what became of each",
        "",
        "| fate | documents | share | characters |",
        "| --- | ---: | ---: | ---: |",
    ]
    for fate, name in FATES.items():
        size = sum(len(d.text) for d in made.of(fate))
        lines.append(f"| {name} | {documents[fate]:,} | {documents[fate] / max(total, 1):.2%} | {size:,} |")
    lines += ["", "## Sizes", "", "| side | words | least | 25% | median | 75% | most |", "| --- | " + "---: | " * 6]
    for side in manifest["words"]:
        sizes = np.array([len(d.text.split()) for d in made.of(side)])
        cells = [f"{q:,.0f}" for q in np.quantile(sizes, [0, 0.25, 0.5, 0.75, 1])]
        lines.append(f"| {side} | {sizes.sum():,} | {' | '.join(cells)} |")
    lines += ["", "## What went, by rule", ""]
    for fate, name in FATES.items():
        gone = made.of(fate)
        if fate in KEPT or not gone:
            continue
        step = max(1, len(gone) // SHOWN)
        lines += [f"{name}, {len(gone):,} documents:", ""]
        lines += [f"- {d.work}, {d.index}: `` {' '.join(d.text[:400].split())[:100]} ``" for d in gone[::step][:SHOWN]]
        lines.append("")
    for rule, name in RULES.items():
        if made.ledger.counts[rule]:
            lines += [f"{name}, {made.ledger.counts[rule]:,} characters in documents:", ""]
            lines += [f"- `` {sample} ``" for sample in made.ledger.samples(rule)]
            lines.append("")
    return "\n".join(lines) + "\n"


_UNITS = {
    "file": "a file",
    "row": "a row of a .jsonl file",
    "blank": "what two or more blank lines end",
    "story": "what the sign <|endoftext|> ends",
    "article": "an article, which a line ` = Title = ` between blank lines begins",
}


def told(manifest: dict[str, Any], out: Path, seconds: float) -> list[str]:
    """Return what `prepare` says when it is done."""
    found, sizes = manifest["documents"], manifest["words"]
    rules = [f"{n:,} characters: {RULES[rule]}" for rule, n in manifest["taken out"].items() if n]
    sides = ", ".join(f"{side}_enriched.jsonl ({words:,} words)" for side, words in sizes.items())
    return [
        f"{sum(found.values()):,} documents of {len(manifest['works'])} files, prepared in {seconds:.1f} s",
        f"licence: {manifest['licence']}; verified: {manifest['verified']}",
        *(f"note: {note}" for note in manifest["notes"]),
        *(f"{n:>9,} documents: {FATES[fate]}" for fate, n in found.items() if n or fate in ("train", "val")),
        *(f"taken out of them: {rule}" for rule in rules),
        f"{out}: {sides}, manifest.json, report.md",
    ]
