"""From a path to two texts, training and validation, and what is known of their lines.

Kinds of source, told apart by what lies at the path:
    "schoolroom"                 the embedded corpus
    a folder with train.txt      and val.txt, a passage a line; train_enriched.jsonl and val_enriched.jsonl beside them
                                 describe the passages, line by line, and may stand alone: then they hold the text too;
                                 a manifest.json, as `prepare` writes it, has the hashes of all of them
    a .txt file, or a folder of  the last tenth of each file, by position, is validation
    a .jsonl file, or a folder of  the last tenth of each file's lines is validation

Passages are lines. They are documents, each the whole text of a row, where a manifest says so, and where a text in a
row has several lines.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from juliagpt_jax.data import embedded, metadata
from juliagpt_jax.data.metadata import Chunks, Column
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground import config, sealed, texts
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.schoolroom import passages as schoolroom

VALIDATION_SHARE = 0.1
MANIFEST = "manifest.json"  # of a folder that `prepare` wrote
LINE = "chunk"  # the manifest's "unit" where a passage is a line
_AGAIN = f"prepare it again, or remove {MANIFEST}, if what stands there is what you want"


class Reading(NamedTuple):
    """A source as read: texts, the fields of their passages, what a reader of the numbers must know, and for each text
    the characters of its documents, None where its passages are lines."""

    train: str
    val: str
    train_columns: dict[str, Column]
    val_columns: dict[str, Column]
    notes: list[str]
    entropy: float
    documents: tuple[np.ndarray | None, np.ndarray | None] = (None, None)


class _Side(NamedTuple):
    """A text as the passages that it was read as, and their fields; `lines`: they are lines, not documents."""

    passages: list[str]
    columns: dict[str, Column]
    lines: bool = True


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
    return "".join(read_passages(path, data)[0])


def read_passages(path: Path, data: config.Data) -> tuple[list[str], bool]:
    """A held-out text (see `read_text`) in pieces, and whether these are its documents: a .txt file is one piece, whose
    passages are lines."""
    file = path
    if path.is_dir():
        text, rows = _sides(path, "val")
        file = rows if rows.exists() and not text.exists() else text
    content = texts.read_bytes(file)
    if not is_rows(file):
        return [_decode(file, content, data.errors, [])], False
    found = metadata.read(file, content, data).texts
    try:
        manifest = read_manifest(file.parent)
    except UserError:  # another program's
        manifest = {}
    marked = file.name in manifest.get("files", {}) and _marked(manifest)
    return [*map(ended, found)], marked or any("\n" in text for text in found)


def read_manifest(folder: Path, flag: str = "config.data.path") -> Mapping[str, Any]:
    """Read the manifest.json of a folder that `prepare` wrote; {} where there is none.

    Raises:
        UserError: it is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    try:
        manifest = sealed.read_json(path)
        if isinstance(manifest, dict) and isinstance(manifest["files"], dict):
            return manifest
        why = "TypeError"
    except sealed.Changed as error:
        raise UserError(f"{flag}: {error}") from error
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        why = type(error).__name__
    raise UserError(f"{flag}: {path}: not what prepare wrote ({why}); {_AGAIN}")


def _marked(manifest: Mapping[str, Any]) -> bool:
    """Tell whether a manifest says that passages are documents."""
    return manifest.get("unit", LINE) != LINE


def is_rows(file: Path) -> bool:
    """Tell whether a file holds JSON lines, each with its text, or a text itself."""
    return file.suffix.lower() == ".jsonl"


def ended(text: str) -> str:
    """Return a passage with the end of its last line."""
    return text if text.endswith("\n") else text + "\n"


def _sides(folder: Path, name: str) -> tuple[Path, Path]:
    """Find the two files of a side of a split, training or validation: its text, and its metadata."""
    return folder / f"{name}.txt", folder / f"{name}_enriched.jsonl"


def source(data: config.Data) -> tuple[str, Callable[[], Reading], list[str]]:
    """Return the fingerprint of a source, a function that reads it, and notes on files beside it."""
    if data.path == "schoolroom":
        fingerprint, sides = embedded.fingerprint()
        return fingerprint, lambda: _schoolroom(sides or schoolroom.corpus()), []
    check(data.path)
    path = texts.path(data.path)
    split, files, said = find(path)
    contents = {file: texts.read_bytes(file) for file in files}
    hashes = {file: hashlib.sha256(content).hexdigest() for file, content in contents.items()}
    manifest = {} if split else hold_to_manifest(path, hashes)
    digest = hashlib.sha256(repr((data.errors, data.unknown, split)).encode())
    if _marked(manifest):
        digest.update(b"a row is a document")
    if split and len(files) > 1:
        digest.update(b"each file ends its line")
    for file, content in contents.items():
        digest.update(bytes.fromhex(hashes[file]))
        if is_rows(file):
            cap = data.max_bad if data.on_bad == "skip" else None
            digest.update(repr((file.name if not split else "", data.on_bad, cap)).encode())
            if cap is not None and b"\\n" in content:  # rows that were once left out are documents
                digest.update(b"documents")
    return digest.hexdigest(), lambda: _files(data, contents, split, manifest), said


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
    said = texts.not_read(path, others)
    if not files:
        more = f"; {said[0]}; python -m juliagpt_jax.prepare takes .html, .md, .epub and archives" if said else ""
        raise UserError(f"{flag}: {path} has neither train.txt and val.txt nor any other .txt file (or .jsonl){more}")
    return True, files, said


def hold_to_manifest(folder: Path, hashes: Mapping[Path, str], flag: str = "config.data.path") -> Mapping[str, Any]:
    """Hold the files of a folder that `prepare` wrote to the hashes in its manifest.json, where there is one. Return
    the manifest, {} where there is none.

    Args:
        hashes: SHA-256 of the files, in hex.
        flag: the name of the path on the command line, for messages.

    Raises:
        UserError: the manifest is damaged, or a file has other bytes; the text names it.
    """
    manifest = read_manifest(folder, flag)
    held = manifest.get("files", {})
    if manifest and (lacking := [file.name for file in hashes if file.name not in held]):
        raise UserError(f"{flag}: {folder / MANIFEST}: does not name {', '.join(lacking)}; {_AGAIN}")
    changed = [file.name for file, own in hashes.items() if manifest and held[file.name] != own]
    if changed:
        raise UserError(f"{flag}: {folder}: {', '.join(changed)}: changed since it was prepared; {_AGAIN}")
    return manifest


def _schoolroom(sides: tuple[list[schoolroom.Passage], list[schoolroom.Passage]]) -> Reading:
    entropy = schoolroom.entropy_bits_per_character(sides[1])
    both = ["".join(p.text + "\n" for p in passages) for passages in sides]
    names = ("author", "art", "phase", "form", "difficulty", "quality")
    fields = [{name: metadata.column([getattr(p, name) for p in passages]) for name in names} for passages in sides]
    notes = ["embedded corpus: train and validation are disjoint in passages"]
    return Reading(both[0], both[1], fields[0], fields[1], notes, entropy)


def _files(data: config.Data, contents: dict[Path, bytes], split: bool, manifest: Mapping[str, Any]) -> Reading:
    notes: list[str] = []
    if split:
        sides = _split(data, contents, notes)
    else:
        folder, prepared = next(iter(contents)).parent, bool(manifest)
        sides = [_side(data, contents, *_sides(folder, name), notes, prepared) for name in ("train", "val")]
        notes.append("train and validation text as given, one passage a line")
    documents = _marked(manifest) or not all(side.lines for side in sides)
    if documents:
        notes[-1] = notes[-1].replace("one passage a line", "a passage is a document")
    train, val = sides[0].passages, sides[1].passages
    if not any(train):
        raise UserError(f"{data.path}: 0 training tokens, model.context + 1 needed")
    if data.tokenizer == "char" or data.unknown == "skip":  # another tokenizer says itself what it lacks
        val = _known("".join(train), val, data, notes)
    lengths = [np.array([*map(len, side)], np.int64) if documents else None for side in (train, val)]
    both, fields = ("".join(train), "".join(val)), (sides[0].columns, sides[1].columns)
    return Reading(*both, *fields, notes, float("nan"), (lengths[0], lengths[1]))


def _known(train: str, val: list[str], data: config.Data, notes: list[str]) -> list[str]:
    """Return the validation passages, of characters that the training text has.

    Raises:
        UserError: it lacks some, and `data.unknown` is "error".
    """
    lacking = CharTokenizer.train(train).unknown("".join(val))
    if not lacking:
        return val
    if data.unknown == "error":
        said = CharTokenizer.describe(lacking)
        raise UserError(
            f"{data.path}: the validation text has characters that the training text lacks: {said}; "
            "--config.data.unknown=skip leaves them out"
        )
    kept = [passage.translate(dict.fromkeys(map(ord, lacking))) for passage in val]
    left_out = sum(map(len, val)) - sum(map(len, kept))
    notes.append(f"{left_out} validation characters left out: {CharTokenizer.describe(lacking)}")
    return kept


def _side(
    data: config.Data, contents: dict[Path, bytes], file: Path, rows: Path, notes: list[str], prepared: bool
) -> _Side:
    """One side of a split that is given. A text file is one piece here: its passages are its lines."""
    if file not in contents:
        table = metadata.read(rows, contents[rows], data, prepared=prepared)
        notes += table.notes
        return _Side([*map(ended, table.texts)], table.columns, not any("\n" in text for text in table.texts))
    text = _decode(file, contents[file], data.errors, notes)
    text = text and ended(text)
    if rows not in contents:
        return _Side([text], {})
    lines = text.split("\n")[:-1]
    table = metadata.read(rows, contents[rows], data, lines, prepared)
    notes += table.notes
    return _Side([text] if len(table.lines) == len(lines) else [*map(ended, table.texts)], table.columns)


def _split(data: config.Data, contents: dict[Path, bytes], notes: list[str]) -> list[_Side]:
    """Both sides of files that are split by position."""
    each = "the file" if len(contents) == 1 else "each file"
    if not is_rows(next(iter(contents))):
        read = _decode_all(contents, data.errors, notes)
        cuts = [len(text) - int(len(text) * VALIDATION_SHARE) for text in read]
        parts = [(text[:cut], text[cut:]) for text, cut in zip(read, cuts, strict=True)]
        notes.append(f"validation is the last {VALIDATION_SHARE:.0%} of {each}, by position")
        return [_Side([_joined(side)], {}) for side in zip(*parts, strict=True)]
    sides: tuple[list[str], list[str]] = ([], [])
    chunks: list[Chunks] = [Chunks(np.zeros(0, np.int64), {})] * 2
    lines = True
    for file, content in contents.items():
        table = metadata.read(file, content, data)
        notes += table.notes
        lines &= not any("\n" in text for text in table.texts)
        cut = len(table.texts) - int(len(table.texts) * VALIDATION_SHARE)
        whole = Chunks(np.ones(len(table.texts), np.int64), table.columns)
        for i, part in enumerate([slice(0, cut), slice(cut, None)]):
            own = whole.take(np.arange(len(whole))[part])
            chunks[i] = chunks[i] + own if sides[i] else own
            sides[i].extend(map(ended, table.texts[part]))
    of = "lines" if lines else "documents"
    notes.append(f"validation is the last {VALIDATION_SHARE:.0%} of the {of} of {each}")
    return [_Side(own, part.columns, lines) for own, part in zip(sides, chunks, strict=True)]


def _joined(parts: tuple[str, ...]) -> str:
    """Return parts of several files as one text in which no line holds the end of one and the beginning of the next."""
    return "".join(part and ended(part) for part in parts[:-1]) + parts[-1]


def _decode(file: Path, content: bytes, errors: str, notes: list[str]) -> str:
    decoded = texts.decode(str(file), content, errors, "--config.data.errors")
    if not decoded.text.strip():
        notes.append(f"{file.name}: no text in it")
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
