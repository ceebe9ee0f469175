"""From a path to two token arrays, train and validation, cached on disk and memory-mapped.

Three kinds of source, told apart by what lies at the path:
    "schoolroom"                 the embedded corpus
    a folder with train.txt      and val.txt, one chunk a line
    a .txt file, or a folder of  the last tenth of each file, by position, is validation

Token arrays are .npy files in the user's cache folder, under the fingerprint of the source's bytes, and are opened as
memory maps. They are derived data: a damaged one is never used, it is reported and made again.
"""

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from juliagpt_jax import config
from juliagpt_jax.data import schoolroom
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.devices import cache_folder
from juliagpt_jax.errors import StorageError, UserError

VALIDATION_SHARE = 0.1
Reading = tuple[str, str, list[str], float]  # train text, validation text, notes, entropy


@dataclasses.dataclass(frozen=True)
class Corpus:
    """What a run trains on.

    Attributes:
        train, val: token ids, one-dimensional, possibly memory-mapped.
        tokenizer: built from the training text.
        fingerprint: SHA-256 of the source's bytes and of how they were read; a run resumes on the same one only.
        notes: what a reader of the numbers must know: how the split was made, what was replaced or left out.
        entropy: bits per character of the validation text under its own generator, where there is one; else nan.
    """

    train: np.ndarray
    val: np.ndarray
    tokenizer: CharTokenizer
    fingerprint: str
    notes: tuple[str, ...]
    entropy: float


def load(data: config.Data, context: int) -> Corpus:
    """The corpus at `data.path`, long enough for windows of `context` tokens.

    Raises:
        UserError: nothing readable at the path, bytes that are not UTF-8, validation characters that the training text
            lacks, or too few tokens.
    """
    fingerprint, read = _source(data)
    folder = cache_folder() / "corpora" / fingerprint[:32]
    corpus = _read_cache(folder, fingerprint) or _write_cache(folder, fingerprint, *read())
    for name, tokens in [("training", corpus.train), ("validation", corpus.val)]:
        if len(tokens) < context + 1:
            raise UserError(
                f"{data.path}: {len(tokens)} {name} tokens, {context + 1} needed for model.context={context}"
            )
    return corpus


def read_text(path: Path, data: config.Data) -> str:
    """A held-out text: a folder's val.txt, or the whole of a file.

    Raises:
        UserError: there is none, or it is not UTF-8.
    """
    file = path / "val.txt" if path.is_dir() else path
    return _decode(file, _bytes(file), data.errors, [])


def _source(data: config.Data) -> tuple[str, Callable[[], Reading]]:
    """The fingerprint of a source, and a function that reads (train text, validation text, notes, entropy)."""
    if data.path == "schoolroom":
        folder = Path(schoolroom.__file__).parent
        sources = [*sorted(folder.glob("lessons*.py")), folder / "grammar.py", folder / "schoolroom.py"]
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in sources))
        return digest.hexdigest(), _schoolroom
    path = Path(data.path)
    if not path.exists():
        raise UserError(f"config.data.path: {data.path} does not exist; it is 'schoolroom', a folder or a .txt file")
    if path.is_dir() and ((path / "train.txt").exists() or (path / "val.txt").exists()):
        files = [path / "train.txt", path / "val.txt"]
        for file in files:
            if not file.is_file():
                raise UserError(f"config.data.path: {path} has no {file.name} beside its twin")
        split = False
    else:
        files, split = (sorted(path.glob("*.txt")) if path.is_dir() else [path]), True
        if not files:
            raise UserError(f"config.data.path: {path} has neither train.txt and val.txt nor any other .txt file")
    contents = [_bytes(file) for file in files]
    digest = hashlib.sha256(repr((data.errors, data.unknown, split)).encode())
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest(), lambda: _files(data, files, contents, split)


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error


def _schoolroom() -> Reading:
    train, val = schoolroom.corpus()
    entropy = schoolroom.entropy_bits_per_character(val)
    texts = ["".join(p.text + "\n" for p in passages) for passages in (train, val)]
    return texts[0], texts[1], ["embedded corpus: train and validation are disjoint in passages"], entropy


def _files(data: config.Data, files: list[Path], contents: list[bytes], split: bool) -> Reading:
    notes: list[str] = []
    texts = [_decode(file, content, data.errors, notes) for file, content in zip(files, contents, strict=True)]
    if split:
        cuts = [len(text) - int(len(text) * VALIDATION_SHARE) for text in texts]
        train = "".join(text[:cut] for text, cut in zip(texts, cuts, strict=True))
        val = "".join(text[cut:] for text, cut in zip(texts, cuts, strict=True))
        notes.append(
            f"validation is the last {VALIDATION_SHARE:.0%} of {'the' if len(files) == 1 else 'each'} file, by position"
        )
    else:
        train, val = (text if text.endswith("\n") or not text else text + "\n" for text in texts)
        notes.append("train.txt and val.txt, one chunk a line")
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
    return train, val, notes, float("nan")


def _decode(file: Path, content: bytes, errors: str, notes: list[str]) -> str:
    content = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        if errors == "replace":
            text = content.decode("utf-8", "replace")
            made = text.count("\ufffd") - content.count("\ufffd".encode())  # the file may have some of its own
            notes.append(f"{file.name}: bytes that are not UTF-8 became {made} replacement characters")
            return text
        # The offset is looked up in the file as it is: a byte-order mark and CRLF have moved it.
        offset = _bad_offset(file.read_bytes())
        raise UserError(
            f"{file}: byte {offset} is not UTF-8 ({error.reason}); --config.data.errors=replace replaces such bytes"
        ) from error


def _bad_offset(content: bytes) -> int:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return 0


def _write_cache(folder: Path, fingerprint: str, train: str, val: str, notes: list[str], entropy: float) -> Corpus:
    tokenizer = CharTokenizer.train(train)
    corpus = Corpus(tokenizer.encode(train), tokenizer.encode(val), tokenizer, fingerprint, tuple(notes), entropy)
    facts = {
        "fingerprint": fingerprint,
        "tokenizer": tokenizer.to_dict(),
        "notes": notes,
        "entropy": entropy if entropy == entropy else None,
        "tokens": [_digest(corpus.train), _digest(corpus.val)],
    }
    try:  # a full or read-only cache folder costs time on the next start, nothing else
        folder.mkdir(parents=True, exist_ok=True)
        for name, tokens in [("train.npy", corpus.train), ("val.npy", corpus.val)]:
            with open(folder / f"{name}.{os.getpid()}", "wb") as file:
                np.save(file, tokens)
            os.replace(folder / f"{name}.{os.getpid()}", folder / name)
        (folder / f"corpus.json.{os.getpid()}").write_text(json.dumps(facts), encoding="utf-8")
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
        facts = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        tokenizer = CharTokenizer.from_dict(facts["tokenizer"])
        train, val = (read_tokens(folder / name, tokenizer.vocab_size) for name in ("train.npy", "val.npy"))
        if facts["fingerprint"] != fingerprint or facts["tokens"] != [_digest(train), _digest(val)]:
            raise StorageError(f"{folder}: damaged, or of another source")
        entropy = float("nan") if facts["entropy"] is None else facts["entropy"]
        return Corpus(train, val, tokenizer, fingerprint, tuple(facts["notes"]), entropy)
    except (OSError, ValueError, KeyError, TypeError, StorageError, UserError) as error:
        print(f"warning: cached corpus refused and made again: {error}", file=sys.stderr)
        return None


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
