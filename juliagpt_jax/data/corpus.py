"""From a text to two token arrays, train and validation, and what is known of their passages; cached on disk.

Token arrays are .npy files in the user's cache folder, under the fingerprint of the source's bytes, and are opened as
memory maps. They are derived data: a damaged one is never used, it is reported and made again. Shards are read where
they lie.
"""

import dataclasses
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from juliagpt_jax.data import bpe, counts, leaks, metadata, reading, snapshots, streamed
from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.data.counts import TextCounts
from juliagpt_jax.data.metadata import Chunks, Words
from juliagpt_jax.data.tokenizer import CharTokenizer, Tokenizer
from juliagpt_jax.ground import config, sealed
from juliagpt_jax.ground.devices import cache_folder
from juliagpt_jax.ground.errors import StorageError, UserError
from juliagpt_jax.ground.files import read_array, read_arrays
from juliagpt_jax.ground.texts import path as source_path

FORMAT = 7  # of the cache


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The text a run trains on, or selects from, as tokens.

    Attributes:
        train, val: token ids, one-dimensional, possibly memory-mapped.
        train_chunks, val_chunks: their passages (lines or documents), in order, with the fields that are known of them.
        tokenizer: built from the training text, or `data.tokenizer`.
        fingerprint: SHA-256 of the source's bytes and of how they were read; a run resumes on the same one only.
        notes: what a reader of the numbers must know: how the split was made, what was replaced or left out.
        entropy: bits per character of the validation text under its own generator, where there is one; else nan.
        leaks: validation passages that the training text has too.
        counts: of the training and of the validation text, without what was left out.
        documents: the passages are documents, not lines.
        on_disk: the text is one of shards: the train tokens are `shards.Tokens`, and passages are token files.
    """

    train: Any
    val: np.ndarray
    train_chunks: Chunks
    val_chunks: Chunks
    tokenizer: Tokenizer
    fingerprint: str
    notes: tuple[str, ...]
    entropy: float
    leaks: leaks.Leaks
    counts: tuple[TextCounts, TextCounts]
    documents: bool = False
    on_disk: streamed.Streamed | None = None

    @property
    def characters_per_token(self) -> tuple[float, float]:
        """Characters for each token, of the training and of the validation text."""
        train, val = self.counts
        return train.characters / max(1, len(self.train)), val.characters / max(1, len(self.val))

    @property
    def unit(self) -> str:
        """One token in words: "character" where it is one, else "token"."""
        return self.tokenizer.unit


def load(data: config.Data, context: int) -> Corpus:
    """The whole corpus at `data.path`, long enough for windows of `context` tokens; what of it a run trains on is for
    `selection.select` to say.

    Raises:
        UserError: nothing readable at the path, bytes that are not UTF-8, metadata that are odd, validation characters
            that the training text lacks, too few tokens, or too many passages on both sides of the split.
    """
    _hold_text(data)
    if data.snapshot:
        snapshots.hold(source_path(data.path), data.snapshot)
    corpus = _streamed(data) if streamed.is_streamed(data.path) else _read(data)
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


def _streamed(data: config.Data) -> Corpus:
    """The corpus at a path of shards."""
    own = streamed.read(data)
    return Corpus(
        own.train, own.val, own.train_chunks, own.val_chunks, own.tokenizer, own.fingerprint, own.notes, float("nan"),
        own.leaks, own.counts, True, own,
    )  # fmt: skip


def _read(data: config.Data) -> Corpus:
    """The corpus at any other path, from the cache or read anew."""
    fingerprint, read, said = reading.source(data)
    given = None if data.tokenizer in config.LEARNED else tokenizers.load(Path(data.tokenizer))
    if data.tokenizer == "bpe":
        fingerprint = hashlib.sha256(f"{fingerprint} bpe {data.vocab}".encode()).hexdigest()
    if given is not None:
        fingerprint = hashlib.sha256(f"{fingerprint} {data.unknown} {json.dumps(given.to_dict())}".encode()).hexdigest()
    folder = cache_folder() / "corpora" / f"{fingerprint[:32]}-{FORMAT}"
    corpus = _read_cache(folder, fingerprint) or _write_cache(folder, fingerprint, read(), data, given)
    return dataclasses.replace(corpus, notes=(*said, *corpus.notes))


def check(data: config.Data) -> None:
    """Refuse at once a text or a tokenizer that is not there; nothing of the text is read.

    Raises:
        UserError: naming the path.
    """
    _hold_text(data)
    reading.check(data.path)
    if streamed.is_streamed(data.path):
        streamed.check(data)
    elif data.tokenizer not in config.LEARNED:
        tokenizers.load(Path(data.tokenizer))


def _hold_text(data: config.Data) -> None:
    """Raise a UserError where a config is of a run that learns from examples."""
    if data.task != "none":
        raise UserError(f"config.data.task={data.task}: this run learned from examples, and what is asked is of a text")


def recoded(corpus: Corpus, tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Return the training text in the ids of another tokenizer, and how many of them each passage has.

    Raises:
        UserError: it lacks characters of the text.
    """
    passages = texts(corpus.tokenizer, corpus.train, corpus.train_chunks.lengths)
    return joined(tokenizer, passages, corpus.documents, tokenizer.encode)


def joined(
    tokenizer: Tokenizer, passages: Sequence[str], documents: bool, encode: Callable[[str], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of passages, one behind the other, and how many each has; documents are ended."""
    parts = [encode(passage) for passage in passages]
    ids, lengths = np.concatenate([np.zeros(0, tokenizer.dtype), *parts]), np.array([*map(len, parts)], np.int64)
    return _ended(tokenizer, ids, lengths) if documents else (ids, lengths)


def _ended(tokenizer: Tokenizer, ids: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return documents with the id that ends one behind each of them, where the tokenizer has such an id."""
    if tokenizer.eos is None:
        return ids, lengths
    return np.insert(ids, np.cumsum(lengths), tokenizer.eos), lengths + 1


def texts(tokenizer: Tokenizer, tokens: np.ndarray, lengths: np.ndarray) -> list[str]:
    """Return the text of each passage; the id that ends a document is no text."""
    passages = np.split(tokens, np.cumsum(lengths)[:-1])
    ended = lambda p: len(p) and tokenizer.eos is not None and p[-1] == tokenizer.eos
    return [tokenizer.decode(p[:-1] if ended(p) else p) for p in passages]


def _leaked(found: leaks.Leaks) -> str:
    return (
        f"of {found.passages:,} validation passages {found.exact:,} stand word for word in the training text too and "
        f"{found.near:,} nearly"
    )


def _encode(
    tokenizer: Tokenizer, text: str, data: config.Data, documents: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of a text, and how many of them each passage has. Lines are encoded one by one where a token may
    hold more than one character, so that none reaches over the end of a passage.

    Args:
        documents: characters of each, where the passages are documents: they are encoded whole, each with the id that
            ends a document behind it, if the tokenizer has one. None where they are lines.

    Raises:
        UserError: a tokenizer that marks the start of a text (so only a whole one can be encoded) has tokens that do.
    """
    if documents is not None:
        each = [text[stop - size : stop] for stop, size in zip(np.cumsum(documents), documents, strict=True)]
        if isinstance(tokenizer, CharTokenizer):
            return joined(tokenizer, each, True, lambda one: tokenizer.encode(one, data.unknown))
        return _ended(tokenizer, *tokenizer.encode_each(each, data.unknown))
    if isinstance(tokenizer, CharTokenizer) or tokenizer.marks_start:
        tokens = tokenizer.encode(text, data.unknown)
        lengths = metadata.line_lengths(tokens, tokenizer.newline)
        lines = text.count("\n") + (not text.endswith("\n"))
        if not isinstance(tokenizer, CharTokenizer) and text and len(lengths) != lines:
            says = f"of {lines:,} lines {len(lengths):,} end in a token of their own"
            raise UserError(f"{data.path}: the tokenizer joins the ends of lines with what is beside them: {says}")
        return tokens, lengths
    return tokenizer.encode_each(_lines(text), data.unknown)


def _lines(text: str) -> Iterator[str]:
    """Yield the lines of a text with their ends."""
    yield from (line[0] for line in re.finditer(r"[^\n]*\n|[^\n]+", text))


def _learned(text: str, data: config.Data) -> Tokenizer:
    """Return the tokenizer that is made of the training text."""
    if data.tokenizer == "bpe":
        return bpe.train(bpe.Bound().of(_lines(text)), data.vocab)
    return CharTokenizer.train(text)


def _write_cache(
    folder: Path, fingerprint: str, source: reading.Reading, data: config.Data, given: Tokenizer | None
) -> Corpus:
    tokenizer = given or _learned(source.train, data)
    documents = source.documents[0] is not None
    if documents and not isinstance(tokenizer, CharTokenizer) and tokenizer.eos is not None and tokenizer.first is None:
        tokenizer = tokenizer.begun_by(tokenizer.eos)  # what stands before every other document, too
    both = list(zip((source.train, source.val), source.documents, strict=True))
    (train, train_lengths), (val, val_lengths) = (_encode(tokenizer, text, data, own) for text, own in both)
    train_chunks = Chunks(train_lengths, source.train_columns)
    val_chunks = Chunks(val_lengths, source.val_columns)
    sides = [(train, train_lengths), (val, val_lengths)]
    if not isinstance(tokenizer, CharTokenizer):  # its measures are in characters
        letters = CharTokenizer.train(source.train + source.val)
        sides = [_encode(letters, text, data, own) for text, own in both]
    found = leaks.find(*sides[0], *sides[1], data.path != "schoolroom")
    notes = [*source.notes, *([_leaked(found)] if found.share else [])]
    for name, text in [("training", source.train), ("validation", source.val)]:
        lacking = tokenizer.unknown(text)
        dropped = sum(map(text.count, lacking))
        if dropped:
            notes.append(f"{dropped} {name} characters left out: {tokenizer.describe(lacking)}")
    corpus = Corpus(
        *(train, val, train_chunks, val_chunks, tokenizer, fingerprint, tuple(notes), source.entropy, found),
        counts=(counts.of_tokens(tokenizer, train), counts.of_tokens(tokenizer, val)),
        documents=documents,
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
        "entropy": source.entropy if source.entropy == source.entropy else None,
        "leaks": found,
        "documents": corpus.documents,
        "counts": corpus.counts,
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
        of_train, of_val = (TextCounts(*map(int, side)) for side in facts["counts"])
        counted = (of_train, of_val)
        chunks, documents = (train_chunks, val_chunks), bool(facts["documents"])
        return Corpus(train, val, *chunks, tokenizer, fingerprint, notes, entropy, found, counted, documents)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StorageError, UserError) as error:
        print(f"warning: cached corpus refused and made again: {error}", file=sys.stderr)
        return None


def _read_chunks(path: Path, digests: dict[str, str], words: dict[str, list[str]]) -> tuple[Chunks, Chunks]:
    arrays = {key: array for key, array in read_arrays(path).items() if key in digests}
    if arrays.keys() != digests.keys():
        raise StorageError(f"{path}: damaged: arrays are missing")
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
        tokens = read_array(path, mapped=True)
    except ValueError as error:
        raise StorageError(f"{path}: torn or not a token file: {error}") from error
    if tokens.ndim != 1 or tokens.dtype.kind != "u":
        raise StorageError(f"{path}: not a token file: {tokens.dtype} of shape {tokens.shape}")
    if len(tokens) and int(tokens.max()) >= vocab:
        raise StorageError(f"{path}: token id {int(tokens.max())} in a vocabulary of {vocab}")
    return tokens
