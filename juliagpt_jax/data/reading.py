"""From a path to two texts, training and validation, and what is known of their lines.

Kinds of source, told apart by what lies at the path:
    "schoolroom"                 the embedded corpus
    a folder with train.txt      and val.txt, a passage a line; train_enriched.jsonl and val_enriched.jsonl beside them
                                 describe the passages, line by line, and may stand alone: then they hold the text too;
                                 a manifest.json, as `prepare` writes it, has the hashes of all of them
    a .txt file, or a folder of  the last tenth of each file, by position, is validation
    a .jsonl file, or a folder of  the last tenth of each file's lines is validation
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from juliagpt_jax.data import metadata
from juliagpt_jax.data.metadata import Chunks, Column
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground import config, sealed, texts
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.schoolroom import passages as schoolroom

VALIDATION_SHARE = 0.1
MANIFEST = "manifest.json"  # of a folder that `prepare` wrote


class Reading(NamedTuple):
    """A source as read: texts, the fields of their lines, and what a reader of the numbers must know."""

    train: str
    val: str
    train_columns: dict[str, Column]
    val_columns: dict[str, Column]
    notes: list[str]
    entropy: float


def check(path: str) -> None:
    """Raise a UserError where nothing is at a `data.path`; nothing is read."""
    if path != "schoolroom" and not texts.path(path).exists():
        raise UserError(
            f"config.data.path: {path} does not exist; it is 'schoolroom', a folder, or a .txt or .jsonl file"
        )


def read_text(path: Path, data: config.Data) -> str:
    """A held-out text: a folder's val.txt (or val_enriched.jsonl), or the whole of a file.

    Raises:
        UserError: there is none, or it is not UTF-8.
    """
    file = path
    if path.is_dir():
        text, rows = _sides(path, "val")
        file = rows if rows.exists() and not text.exists() else text
    if file.suffix.lower() == ".jsonl":
        return "".join(text + "\n" for text in metadata.read(file, texts.read_bytes(file), data).texts)
    return _decode(file, texts.read_bytes(file), data.errors, [])


def _sides(folder: Path, name: str) -> tuple[Path, Path]:
    """Find the two files of a side of a split, training or validation: its text, and its metadata."""
    return folder / f"{name}.txt", folder / f"{name}_enriched.jsonl"


def source(data: config.Data) -> tuple[str, Callable[[], Reading], list[str]]:
    """Return the fingerprint of a source, a function that reads it, and notes on files beside it."""
    if data.path == "schoolroom":
        sides = schoolroom.corpus()
        digest = schoolroom.digest(sides)
        return schoolroom.KNOWN_AS.get(digest, digest), lambda: _schoolroom(sides), []
    check(data.path)
    path = texts.path(data.path)
    split, files, said = find(path)
    contents = {file: texts.read_bytes(file) for file in files}
    if not split:
        hold_to_manifest(path, {file: hashlib.sha256(content).hexdigest() for file, content in contents.items()})
    digest = hashlib.sha256(repr((data.errors, data.unknown, split)).encode())
    if split and len(files) > 1:
        digest.update(b"each file ends its line")
    for file, content in contents.items():
        digest.update(hashlib.sha256(content).digest())
        if file.suffix.lower() == ".jsonl":
            cap = data.max_bad if data.on_bad == "skip" else None
            digest.update(repr((file.name if not split else "", data.on_bad, cap)).encode())
    return digest.hexdigest(), lambda: _files(data, contents, split), said


def find(path: Path, flag: str = "config.data.path") -> tuple[bool, list[Path], list[str]]:
    """Find the files of a source: whether they are to be split, the files in their order, notes on what is beside them.

    Args:
        flag: the name of the path on the command line, for messages.

    Raises:
        UserError: a folder has none, or one side of a split alone.
    """
    if not path.is_dir():
        return True, [path], []
    sides = [_sides(path, name) for name in ("train", "val")]
    if files := [file for side in sides for file in side if file.exists()]:
        for text, rows in sides:
            if not (text.is_file() or rows.is_file()):
                raise UserError(f"{flag}: {path} has no {text.name} (or {rows.name}) beside its twin")
        return False, files, []
    files, others = texts.listed(path, [".txt"], deep=False)
    if not files:
        files, others = texts.listed(path, [".jsonl"], deep=False)
    if not files:
        raise UserError(f"{flag}: {path} has neither train.txt and val.txt nor any other .txt file (or .jsonl)")
    return True, files, texts.not_read(path, others)


def hold_to_manifest(folder: Path, hashes: Mapping[Path, str], flag: str = "config.data.path") -> None:
    """Hold the files of a folder that `prepare` wrote to the hashes in its manifest.json, where there is one.

    Args:
        hashes: SHA-256 of the files, in hex.
        flag: the name of the path on the command line, for messages.

    Raises:
        UserError: the manifest is damaged, or a file has other bytes; the text names it.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return
    out = f"prepare it again, or remove {MANIFEST}, if what stands there is what you want"
    try:
        held = sealed.read_json(path)["files"]
        changed = [file.name for file, own in hashes.items() if held[file.name] != own]
    except sealed.Changed as error:
        raise UserError(f"{flag}: {error}") from error
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"{flag}: {path}: not what prepare wrote ({type(error).__name__}); {out}") from error
    if changed:
        raise UserError(f"{flag}: {folder}: {', '.join(changed)}: changed since it was prepared; {out}")


def _schoolroom(sides: tuple[list[schoolroom.Passage], list[schoolroom.Passage]]) -> Reading:
    entropy = schoolroom.entropy_bits_per_character(sides[1])
    both = ["".join(p.text + "\n" for p in passages) for passages in sides]
    names = ("author", "art", "phase", "form", "difficulty", "quality")
    fields = [{name: metadata.column([getattr(p, name) for p in passages]) for name in names} for passages in sides]
    notes = ["embedded corpus: train and validation are disjoint in passages"]
    return Reading(both[0], both[1], fields[0], fields[1], notes, entropy)


def _files(data: config.Data, contents: dict[Path, bytes], split: bool) -> Reading:
    notes: list[str] = []
    if split:
        train, val, (train_columns, val_columns) = _split(data, contents, notes)
    else:
        folder = next(iter(contents)).parent
        train, train_columns = _side(data, contents, *_sides(folder, "train"), notes)
        val, val_columns = _side(data, contents, *_sides(folder, "val"), notes)
        notes.append("train and validation text as given, one passage a line")
    if not train:
        raise UserError(f"{data.path}: 0 training tokens, model.context + 1 needed")
    tokenizer = CharTokenizer.train(train)
    lacking = tokenizer.unknown(val)
    if lacking and data.unknown == "error":
        raise UserError(
            f"{data.path}: the validation text has characters that the training text lacks: "
            f"{tokenizer.describe(lacking)}; --config.data.unknown=skip leaves them out"
        )
    if lacking:
        kept = tokenizer.decode(tokenizer.encode(val, "skip"))
        notes.append(f"{len(val) - len(kept)} validation characters left out: {tokenizer.describe(lacking)}")
        val = kept
    return Reading(train, val, train_columns, val_columns, notes, float("nan"))


def _side(
    data: config.Data, contents: dict[Path, bytes], file: Path, rows: Path, notes: list[str]
) -> tuple[str, dict[str, Column]]:
    """The text of one side of a split that is given, and the fields of its lines."""
    if file not in contents:
        table = metadata.read(rows, contents[rows], data)
        notes += table.notes
        return "".join(text + "\n" for text in table.texts), table.columns
    text = _decode(file, contents[file], data.errors, notes)
    text = text if text.endswith("\n") or not text else text + "\n"
    if rows not in contents:
        return text, {}
    lines = text.split("\n")[:-1]
    table = metadata.read(rows, contents[rows], data, lines)
    notes += table.notes
    return text if len(table.lines) == len(lines) else "".join(t + "\n" for t in table.texts), table.columns


def _split(
    data: config.Data, contents: dict[Path, bytes], notes: list[str]
) -> tuple[str, str, tuple[dict[str, Column], dict[str, Column]]]:
    """Both texts of files that are split by position, and the fields of their lines."""
    each = "the file" if len(contents) == 1 else "each file"
    if next(iter(contents)).suffix.lower() != ".jsonl":
        read = _decode_all(contents, data.errors, notes)
        cuts = [len(text) - int(len(text) * VALIDATION_SHARE) for text in read]
        parts = [(text[:cut], text[cut:]) for text, cut in zip(read, cuts, strict=True)]
        notes.append(f"validation is the last {VALIDATION_SHARE:.0%} of {each}, by position")
        train, val = (_joined(side) for side in zip(*parts, strict=True))
        return train, val, ({}, {})
    sides: tuple[list[str], list[str]] = ([], [])
    chunks: list[Chunks] = [Chunks(np.zeros(0, np.int64), {})] * 2
    for file, content in contents.items():
        table = metadata.read(file, content, data)
        notes += table.notes
        cut = len(table.texts) - int(len(table.texts) * VALIDATION_SHARE)
        whole = Chunks(np.ones(len(table.texts), np.int64), table.columns)
        for i, part in enumerate([slice(0, cut), slice(cut, None)]):
            own = whole.take(np.arange(len(whole))[part])
            chunks[i] = chunks[i] + own if sides[i] else own
            sides[i].extend(text + "\n" for text in table.texts[part])
    notes.append(f"validation is the last {VALIDATION_SHARE:.0%} of the lines of {each}")
    return "".join(sides[0]), "".join(sides[1]), (chunks[0].columns, chunks[1].columns)


def _joined(parts: tuple[str, ...]) -> str:
    """Return parts of several files as one text in which no line holds the end of one and the beginning of the next."""
    return "".join(p if p.endswith("\n") or not p else p + "\n" for p in parts[:-1]) + parts[-1]


def _decode(file: Path, content: bytes, errors: str, notes: list[str]) -> str:
    decoded = texts.decode(str(file), content, errors, "--config.data.errors")
    if decoded.replaced:
        notes.append(f"{file.name}: bytes that are not UTF-8 became {decoded.replaced} replacement characters")
    return decoded.text


def _decode_all(contents: dict[Path, bytes], errors: str, notes: list[str]) -> list[str]:
    """Return the texts of all files; those that are no text are named all at once."""
    read, faults = [], []
    for file, content in contents.items():
        try:
            read.append(_decode(file, content, errors, notes))
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise texts.refused(faults, len(contents))
    return read
