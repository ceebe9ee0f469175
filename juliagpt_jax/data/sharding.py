"""Make a folder of shards of what lies at a path, in a memory that does not grow with it.

What is training and what is validation text:
    a folder with train.txt and val.txt, or rows of both    as given
    text files                                              the last share of each, by position, as `reading.py` has it
    files of rows                                           each document by its hash, whatever file it stands in: so
                                                            the same text never stands on both sides
"""

import hashlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from juliagpt_jax.data import generated, reading, shard_writer, shards, stream
from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.ground import formats, texts
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.files import new_folder, sha256


class Parts(NamedTuple):
    """A source: passages with their side, where these lie in different places validation first. `documents`: passages
    are documents, not lines."""

    texts: Iterator[tuple[str, str]]
    documents: bool
    files: dict[str, str]
    notes: list[str]
    licence: str
    options: Any = "not stated"  # of the filters before


def make(
    source: str,
    tokenizer: Tokenizer,
    out: Path,
    share: float,
    errors: str = "strict",
    unknown: str = "error",
    most: int = shard_writer.SHARD_TOKENS,
) -> dict[str, Any]:
    """Write a folder of shards; return its index.

    Args:
        source: a folder, a file, or `generated:KIND:COUNT` (`generated.py`).
        share: of the text, for validation, where the source does not say.
        errors, unknown: as the knobs of `config.data`.
        most: tokens of a file.

    Raises:
        UserError: nothing to read, a bad file, characters that the tokenizer lacks, or something is at `out`.
    """  # fmt: skip
    parts = _open(source, share, errors)
    with new_folder(out, "--out") as folder:
        writers = {
            side: shard_writer.Writer(folder, side, "", tokenizer, parts.documents, unknown, most)
            for side in shards.SIDES
        }
        seen: set[bytes] = set()
        leaked = 0
        for side, text in parts.texts:
            key = _key(text)[:8]
            if side == "val" and text.strip():
                seen.add(key)
            leaked += side == "train" and key in seen
            writers[side].write_one(text)
        for writer in writers.values():
            writer.end()
        made = {side: writer.shards for side, writer in writers.items()}
        found = {"files": parts.files, "notes": parts.notes, "licence": parts.licence}
        found |= {"options": parts.options, "val_share": share}
        return shard_writer.write_index(folder, tokenizer, parts.documents, made, leaked, found)


def _key(text: str) -> bytes:
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).digest()


def _open(source: str, share: float, errors: str) -> Parts:
    if source.startswith("generated:"):
        return _generated(source, share)
    path = texts.path(source)
    if not path.exists():
        raise UserError(f"--source={source} does not exist")
    ends = (*formats.FORMATS,)
    many = [path] if path.is_file() else texts.listed(path, ends, deep=True)[0]
    if path.is_dir() and _has_sides(path):
        return _given(path, errors)
    plain = texts.listed(path, [".txt"], deep=False)[0] if path.is_dir() else [path]
    if plain and plain[0].name.lower().endswith(".txt"):
        return _split(plain, share, errors)
    if not many or not many[0].name.lower().endswith(ends):
        raise UserError(f"--source={source}: no .txt, {', '.join(ends)} in it")
    each = lambda: itertools.chain.from_iterable(map(formats.documents, many))
    passages = ((side_of(text, share), reading.ended(text)) for text in each())
    named = {str(file.relative_to(path) if path.is_dir() else file.name): sha256(file) for file in many}
    return Parts(passages, True, named, [f"validation is {share:g} of the documents, by their hash"], "not stated")


def side_of(text: str, share: float) -> str:
    """Return the side of a document, by its hash."""
    return "val" if int.from_bytes(_key(text)[8:16], "little") < share * 2**64 else "train"


def _has_sides(path: Path) -> bool:
    return any((path / f"train{end}").is_file() for end in (".txt", "_enriched.jsonl"))


def _given(path: Path, errors: str) -> Parts:
    """A folder with both sides, as `prepare` writes it."""
    _, found, _ = reading.find(path, "--source")
    hashes = {file: sha256(file) for file in found}
    manifest = reading.hold_to_manifest(path, hashes, "--source")
    file = {}
    for side in shards.SIDES:
        plain = path / f"{side}.txt"
        file[side] = plain if plain.is_file() else path / f"{side}_enriched.jsonl"
    rows = {side: reading.is_rows(file[side]) for side in shards.SIDES}
    marked = manifest.get("unit", reading.LINE) != reading.LINE
    many = lambda side: rows[side] and any("\n" in text for text in formats.documents(file[side]))
    documents = marked or any(map(many, shards.SIDES))
    if documents and not all(rows.values()):
        raise UserError(f"--source={path}: one side is of documents, the other of lines")

    def passages(side: str) -> Iterator[str]:
        if rows[side]:
            return map(reading.ended, formats.documents(file[side]))
        return _ended(stream.lines(texts.blocks(file[side], errors)))

    licence = str(manifest.get("licence", "not stated"))
    named = {own.name: hashes[own] for own in file.values()}
    return Parts(
        _sides(passages),
        documents,
        named,
        ["training and validation text as given"],
        licence,
        manifest.get("options", "not stated"),
    )


def _sides(passages: Callable[[str], Iterator[str]]) -> Iterator[tuple[str, str]]:
    """Yield the passages of both sides, validation first: what of it the training text has is counted then."""
    for side in ("val", "train"):
        for text in passages(side):
            yield side, text


def _ended(lines: Iterator[str]) -> Iterator[str]:
    """Yield lines, the last one with its end."""
    for last in lines:
        yield reading.ended(last)


def _split(found: list[Path], share: float, errors: str) -> Parts:
    """Text files that are split by position."""
    sizes = {file: sum(map(len, texts.blocks(file, errors))) for file in found}

    def passages(side: str) -> Iterator[str]:
        for file in found:
            cut = sizes[file] - int(sizes[file] * share)
            blocks = stream.first(texts.blocks(file, errors), cut) if side == "train" else _behind(file, cut, errors)
            lines = stream.lines(blocks)
            yield from _ended(lines) if file != found[-1] else lines

    note = f"validation is the last {share:g} of each file, by position"
    return Parts(_sides(passages), False, {file.name: sha256(file) for file in found}, [note], "not stated")


def _behind(file: Path, skip: int, errors: str) -> Iterator[str]:
    """Yield the characters of a file behind the first `skip`."""
    for block in texts.blocks(file, errors):
        if len(block) > skip:
            yield block[skip:]
        skip = max(0, skip - len(block))


def _generated(source: str, share: float) -> Parts:
    kind, count, seed = generated.parse(source)
    make = generated.GENERATED[kind]
    each = lambda: (make(np.random.default_rng([seed, i])) for i in range(count))
    passages = ((side_of(text, share), reading.ended(text)) for text in each())
    note = f"{count:,} texts of the kind {kind}, seed {seed}; validation is {share:g} of them, by their hash"
    return Parts(passages, True, {}, [note], "MIT: generated by this program")
