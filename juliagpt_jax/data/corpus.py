"""From a path to two token arrays, train and validation, and what is known of their passages; cached on disk.

Kinds of source, told apart by what lies at the path:
    "schoolroom"                 the embedded corpus
    a folder with train.txt      and val.txt, a passage a line; train_enriched.jsonl and val_enriched.jsonl beside them
                                 describe the passages, line by line, and may stand alone: then they hold the text too;
                                 a manifest.json, as `prepare` writes it, has the hashes of all of them
    a .txt file, or a folder of  the last tenth of each file, by position, is validation
    a .jsonl file, or a folder of  the last tenth of each file's lines is validation

Token arrays are .npy files in the user's cache folder, under the fingerprint of the source's bytes, and are opened as
memory maps. They are derived data: a damaged one is never used, it is reported and made again.
"""

import dataclasses
import hashlib
import json
import os
import re
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from juliagpt_jax.data import leaks, metadata
from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.data.metadata import Chunks, Column, Words
from juliagpt_jax.data.tokenizer import CharTokenizer, Tokenizer
from juliagpt_jax.ground import config, sealed, texts
from juliagpt_jax.ground.devices import cache_folder
from juliagpt_jax.ground.errors import StorageError, UserError
from juliagpt_jax.schoolroom import passages as schoolroom

FORMAT = 4  # of the cache
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


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The text a run trains on, or selects from, as tokens.

    Attributes:
        train, val: token ids, one-dimensional, possibly memory-mapped.
        train_chunks, val_chunks: their lines, in order, with the fields that are known of them.
        tokenizer: built from the training text, or `data.tokenizer`.
        fingerprint: SHA-256 of the source's bytes and of how they were read; a run resumes on the same one only.
        notes: what a reader of the numbers must know: how the split was made, what was replaced or left out.
        entropy: bits per character of the validation text under its own generator, where there is one; else nan.
        leaks: validation passages that the training text has too.
        characters_per_token: of the training and of the validation text.
    """

    train: np.ndarray
    val: np.ndarray
    train_chunks: Chunks
    val_chunks: Chunks
    tokenizer: Tokenizer
    fingerprint: str
    notes: tuple[str, ...]
    entropy: float
    leaks: leaks.Leaks
    characters_per_token: tuple[float, float]

    @property
    def unit(self) -> str:
        """One token in words: "character" where it is one, else "token"."""
        return "character" if self.characters_per_token[0] == 1 else "token"


def load(data: config.Data, context: int) -> Corpus:
    """The whole corpus at `data.path`, long enough for windows of `context` tokens; what of it a run trains on is for
    `selection.select` to say.

    Raises:
        UserError: nothing readable at the path, bytes that are not UTF-8, metadata that are odd, validation characters
            that the training text lacks, too few tokens, or too many passages on both sides of the split.
    """
    fingerprint, read, said = _source(data)
    given = None if data.tokenizer == "char" else tokenizers.load(Path(data.tokenizer))
    if given is not None:
        fingerprint = hashlib.sha256(f"{fingerprint} {data.unknown} {json.dumps(given.to_dict())}".encode()).hexdigest()
    folder = cache_folder() / "corpora" / f"{fingerprint[:32]}-{FORMAT}"
    corpus = _read_cache(folder, fingerprint) or _write_cache(folder, fingerprint, read(), data, given)
    corpus = dataclasses.replace(corpus, notes=(*said, *corpus.notes))
    for name, tokens in [("training", corpus.train), ("validation", corpus.val)]:
        if len(tokens) < context + 1:
            raise UserError(
                f"{data.path}: {len(tokens)} {name} tokens, {context + 1} needed for model.context={context}"
            )
    if corpus.leaks.share > data.max_leak:
        raise UserError(
            f"{data.path}: {_leaked(corpus.leaks)}, {corpus.leaks.share:.1%} of them; "
            f"--config.data.max_leak={data.max_leak:g} allows less: split it anew, or raise the limit"
        )
    return corpus


def check(data: config.Data) -> None:
    """Refuse at once a text or a tokenizer that is not there; nothing of the text is read.

    Raises:
        UserError: naming the path.
    """
    if data.path != "schoolroom" and not texts.path(data.path).exists():
        raise UserError(
            f"config.data.path: {data.path} does not exist; it is 'schoolroom', a folder, or a .txt or .jsonl file"
        )
    if data.tokenizer != "char":
        tokenizers.load(Path(data.tokenizer))


def _leaked(found: leaks.Leaks) -> str:
    return (
        f"of {found.passages:,} validation passages {found.exact:,} stand word for word in the training text too and "
        f"{found.near:,} nearly"
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


def _source(data: config.Data) -> tuple[str, Callable[[], Reading], list[str]]:
    """Return the fingerprint of a source, a function that reads it, and notes on files beside it."""
    if data.path == "schoolroom":
        sides = schoolroom.corpus()
        digest = schoolroom.digest(sides)
        return schoolroom.KNOWN_AS.get(digest, digest), lambda: _schoolroom(sides), []
    check(data)
    path = texts.path(data.path)
    said: list[str] = []
    split, files = True, [path]
    if path.is_dir():
        sides = [_sides(path, name) for name in ("train", "val")]
        split = not any(file.exists() for side in sides for file in side)
        files = [file for side in sides for file in side if file.exists()]
        for text, rows in sides:
            if not split and not (text.is_file() or rows.is_file()):
                raise UserError(f"config.data.path: {path} has no {text.name} (or {rows.name}) beside its twin")
        if split:
            files, others = texts.listed(path, [".txt"], deep=False)
            if not files:
                files, others = texts.listed(path, [".jsonl"], deep=False)
            said = texts.not_read(path, others)
        if not files:
            raise UserError(
                f"config.data.path: {path} has neither train.txt and val.txt nor any other .txt file (or .jsonl)"
            )
    contents = {file: texts.read_bytes(file) for file in files}
    if not split:
        _hold_to_manifest(path, contents)
    digest = hashlib.sha256(repr((data.errors, data.unknown, split)).encode())
    if split and len(files) > 1:
        digest.update(b"each file ends its line")
    for file, content in contents.items():
        digest.update(hashlib.sha256(content).digest())
        if file.suffix.lower() == ".jsonl":
            cap = data.max_bad if data.on_bad == "skip" else None
            digest.update(repr((file.name if not split else "", data.on_bad, cap)).encode())
    return digest.hexdigest(), lambda: _files(data, contents, split), said


def _hold_to_manifest(folder: Path, contents: Mapping[Path, bytes]) -> None:
    """Hold the files of a folder that `prepare` wrote to the hashes in its manifest.json, where there is one.

    Raises:
        UserError: the manifest is damaged, or a file has other bytes; the text names it.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return
    out = f"prepare it again, or remove {MANIFEST}, if what stands there is what you want"
    try:
        held = sealed.read_json(path)["files"]
        changed = [file.name for file, raw in contents.items() if held[file.name] != hashlib.sha256(raw).hexdigest()]
    except sealed.Changed as error:
        raise UserError(f"config.data.path: {error}") from error
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"config.data.path: {path}: not what prepare wrote ({type(error).__name__}); {out}") from error
    if changed:
        raise UserError(f"config.data.path: {folder}: {', '.join(changed)}: changed since it was prepared; {out}")


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


def _encode(tokenizer: Tokenizer, text: str, data: config.Data) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of a text, and how many of them each line has. Lines are encoded one by one where a token may
    hold more than one character, so that none reaches over the end of a passage.

    Raises:
        UserError: a tokenizer that marks the start of a text (so only a whole one can be encoded) has tokens that do.
    """
    if isinstance(tokenizer, CharTokenizer) or tokenizer.marks_start:
        tokens = tokenizer.encode(text, data.unknown)
        lengths = metadata.line_lengths(tokens, tokenizer.newline)
        lines = text.count("\n") + (not text.endswith("\n"))
        if not isinstance(tokenizer, CharTokenizer) and text and len(lengths) != lines:
            says = f"of {lines:,} lines {len(lengths):,} end in a token of their own"
            raise UserError(f"{data.path}: the tokenizer joins the ends of lines with what is beside them: {says}")
        return tokens, lengths
    lines = [tokenizer.encode(line, data.unknown) for line in re.findall(r"[^\n]*\n|[^\n]+", text)]
    lengths = np.array([len(line) for line in lines], np.int64)
    return np.concatenate([np.zeros(0, tokenizer.dtype), *lines]), lengths


def _write_cache(
    folder: Path, fingerprint: str, reading: Reading, data: config.Data, given: Tokenizer | None
) -> Corpus:
    tokenizer = given or CharTokenizer.train(reading.train)
    (train, train_lengths), (val, val_lengths) = (_encode(tokenizer, t, data) for t in (reading.train, reading.val))
    train_chunks = Chunks(train_lengths, reading.train_columns)
    val_chunks = Chunks(val_lengths, reading.val_columns)
    sides = [(train, train_lengths), (val, val_lengths)]
    if not isinstance(tokenizer, CharTokenizer):  # its measures are in characters
        letters = CharTokenizer.train(reading.train + reading.val)
        sides = [_encode(letters, text, data) for text in (reading.train, reading.val)]
    found = leaks.find(*sides[0], *sides[1], data.path != "schoolroom")
    notes, density = [*reading.notes, *([_leaked(found)] if found.share else [])], []
    for name, text, tokens in [("training", reading.train, train), ("validation", reading.val, val)]:
        lacking = tokenizer.unknown(text)
        dropped = sum(map(text.count, lacking))
        density.append((len(text) - dropped) / max(1, len(tokens)))
        if dropped:
            notes.append(f"{dropped} {name} characters left out: {tokenizer.describe(lacking)}")
    corpus = Corpus(
        *(train, val, train_chunks, val_chunks, tokenizer, fingerprint, tuple(notes), reading.entropy, found),
        characters_per_token=(density[0], density[1]),
    )
    sides = {"train": train_chunks, "val": val_chunks}
    arrays: dict[str, Any] = {
        f"{side}/{name}": column.codes if isinstance(column, Words) else column
        for side, part in sides.items()
        for name, column in [("", part.lengths), *part.columns.items()]
    }
    facts = {
        "fingerprint": fingerprint,
        "tokenizer": tokenizer.to_dict(),
        "notes": notes,
        "entropy": reading.entropy if reading.entropy == reading.entropy else None,
        "leaks": found,
        "characters_per_token": density,
        "tokens": [_digest(corpus.train), _digest(corpus.val)],
        "words": {
            f"{side}/{name}": column.names
            for side, part in sides.items()
            for name, column in part.columns.items()
            if isinstance(column, Words)
        },
        "chunks": {key: _digest(array) for key, array in arrays.items()},
    }
    try:  # a full or read-only cache folder costs time on the next start, nothing else
        folder.mkdir(parents=True, exist_ok=True)
        for name, write in [
            ("train.npy", lambda file: np.save(file, corpus.train)),
            ("val.npy", lambda file: np.save(file, corpus.val)),
            ("chunks.npz", lambda file: np.savez(file, **arrays)),
        ]:
            with open(folder / f"{name}.{os.getpid()}", "wb") as file:
                write(file)
            os.replace(folder / f"{name}.{os.getpid()}", folder / name)
        (folder / f"corpus.json.{os.getpid()}").write_text(json.dumps(sealed.seal(facts)), encoding="utf-8")
        os.replace(folder / f"corpus.json.{os.getpid()}", folder / "corpus.json")
    except OSError as error:
        print(f"note: the corpus is not cached: {error}", file=sys.stderr)
    return corpus


def _digest(tokens: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(tokens).data).hexdigest()


def _read_cache(folder: Path, fingerprint: str) -> Corpus | None:
    if not (folder / "corpus.json").exists():
        return None
    try:
        facts = sealed.read_json(folder / "corpus.json")
        tokenizer = tokenizers.from_dict(facts["tokenizer"])
        train, val = (read_tokens(folder / name, tokenizer.vocab_size) for name in ("train.npy", "val.npy"))
        if facts["fingerprint"] != fingerprint or facts["tokens"] != [_digest(train), _digest(val)]:
            raise StorageError(f"{folder}: damaged, or of another source")
        train_chunks, val_chunks = _read_chunks(folder / "chunks.npz", facts["chunks"], facts["words"])
        entropy = float("nan") if facts["entropy"] is None else facts["entropy"]
        found = leaks.Leaks(*map(int, facts["leaks"]))
        notes = tuple(facts["notes"])
        of_train, of_val = map(float, facts["characters_per_token"])
        density = (of_train, of_val)
        return Corpus(train, val, train_chunks, val_chunks, tokenizer, fingerprint, notes, entropy, found, density)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StorageError, UserError) as error:
        print(f"warning: cached corpus refused and made again: {error}", file=sys.stderr)
        return None


def _read_chunks(path: Path, digests: dict[str, str], words: dict[str, list[str]]) -> tuple[Chunks, Chunks]:
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {key: file[key] for key in digests}
    except (zipfile.BadZipFile, EOFError) as error:
        raise StorageError(f"{path}: torn: {error}") from error
    if any(_digest(array) != digests[key] for key, array in arrays.items()):
        raise StorageError(f"{path}: damaged")
    parts = []
    for side in ("train", "val"):
        own = {key.removeprefix(f"{side}/"): key for key in arrays if key.startswith(f"{side}/")}
        lengths = arrays[own.pop("")]
        columns = {
            name: Words(arrays[key], tuple(words[key])) if key in words else arrays[key] for name, key in own.items()
        }
        parts.append(Chunks(lengths, columns))
    return parts[0], parts[1]


def read_tokens(path: Path, vocab: int) -> np.ndarray:
    """A token file as a memory map.

    Raises:
        StorageError: the file is torn or not a token array, or an id is outside the vocabulary. Such an id must never
            reach an embedding: it would read a row that does not exist and turn the loss into NaN.
    """
    try:
        tokens = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise StorageError(f"{path}: torn or not a token file: {error}") from error
    if tokens.ndim != 1 or tokens.dtype.kind != "u":
        raise StorageError(f"{path}: not a token file: {tokens.dtype} of shape {tokens.shape}")
    if len(tokens) and int(tokens.max()) >= vocab:
        raise StorageError(f"{path}: token id {int(tokens.max())} in a vocabulary of {vocab}")
    return tokens
