"""Write the token files that `shards.py` reads, in a memory that does not grow with them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from juliagpt_jax.data import counts
from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.data.counts import TextCounts
from juliagpt_jax.data.shards import BLOCK, FORMAT, INDEX, SIDES, Shard, check
from juliagpt_jax.data.tokenizer import CharTokenizer, Tokenizer
from juliagpt_jax.ground import sealed
from juliagpt_jax.ground.errors import UserError

SHARD_TOKENS = 100_000_000  # of a file
_BATCH = 2**20  # characters that are encoded together


class Writer:
    """Write the token files of one side; memory holds a batch of texts and where documents end, never the ids.

    Args:
        name: of the files, behind their side; a number follows.
        documents: passages are documents: each is ended by the tokenizer's eos, where it has one.
        most: tokens after which the next file begins, at the end of a document.
    """

    def __init__(
        self, folder: Path, side: str, name: str, tokenizer: Tokenizer, documents: bool, unknown: str = "error",
        most: int = SHARD_TOKENS,
    ):  # fmt: skip
        if not isinstance(tokenizer, CharTokenizer) and tokenizer.marks_start and not documents:
            raise UserError("--tokenizer: it marks the start of a text, so lines cannot be encoded by themselves")
        self.folder, self.side, self.name, self.most = folder, side, name, most
        self.tokenizer, self.unknown = tokenizer, unknown
        self.eos = tokenizer.eos if documents else None
        self.dtype = dtype_of(tokenizer)
        self.shards: list[Shard] = []
        self._file: Any = None
        self._batch: list[str] = []
        self._size = 0

    def write(self, texts: Iterable[str]) -> None:
        """Encode texts and write them."""
        for text in texts:
            self.write_one(text)

    def write_one(self, text: str) -> None:
        """Take a text; it is encoded with others, a batch at a time."""
        self._batch.append(text)
        self._size += len(text)
        if self._size >= _BATCH:
            self._encode()

    def _encode(self) -> None:
        own, texts = self.tokenizer, self._batch
        self._batch, self._size = [], 0
        if isinstance(own, CharTokenizer):
            each = [own.encode(text, self.unknown) for text in texts]
            ids, lengths = np.concatenate(each), np.array([*map(len, each)], np.int64)
        else:
            ids, lengths = own.encode_each(texts, self.unknown)
        begin = 0
        for text, length in zip(texts, lengths.tolist(), strict=True):
            if self._file is None:
                self._begin()
            part = ids[begin : begin + length].astype(self.dtype)
            begin += length
            self._put(part if self.eos is None else np.append(part, self.dtype.type(self.eos)), text)
            if self._at >= self.most:
                self._close()

    def _begin(self) -> None:
        stem = f"{self.side}_{self.name}{'_' if self.name else ''}{len(self.shards):05d}"
        self._stem, self._file = stem, open(self.folder / f"{stem}.bin", "wb")
        self._whole, self._rest, self._checks = hashlib.sha256(), b"", []
        self._ends, self._at, self._counts = [], 0, np.zeros(3, np.int64)

    def _put(self, ids: np.ndarray, text: str) -> None:
        content = ids.tobytes()
        self._file.write(content)
        self._whole.update(content)
        self._rest += content
        while len(self._rest) >= BLOCK:
            self._checks.append(check(self._rest[:BLOCK]))
            self._rest = self._rest[BLOCK:]
        self._at += len(ids)
        self._ends.append(self._at)
        self._counts += counts.of(text)

    def end(self) -> None:
        """Write what is left of the texts, and finish."""
        if self._batch:
            self._encode()
        if self._file is not None:
            self._close()

    def _close(self) -> None:
        self._file.close()
        checks = [*self._checks, *([check(self._rest)] if self._rest else [])]
        arrays = {"ends": np.array(self._ends, np.uint64), "checks": np.array(checks, np.uint64)}
        for kind, array in arrays.items():
            np.save(self.folder / f"{self._stem}.{kind}.npy", array)
        hashes = {kind: hashlib.sha256(array.tobytes()).hexdigest() for kind, array in arrays.items()}
        size = TextCounts(*self._counts.tolist())
        self.shards.append(Shard(self._stem, self._at, len(self._ends), size, self._whole.hexdigest(), **hashes))
        self._file = None


def dtype_of(tokenizer: Tokenizer) -> np.dtype:
    """Return the type of ids in token files."""
    return np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")


def write_index(
    folder: Path,
    tokenizer: Tokenizer,
    documents: bool,
    sides: dict[str, list[Shard]],
    leaked: int,
    source: dict[str, Any],
) -> dict[str, Any]:
    """Write the index and the tokenizer beside the token files; return the index.

    Raises:
        UserError: a side has no text.
    """  # fmt: skip
    for side in SIDES:
        if not sum(shard.tokens for shard in sides[side]):
            raise UserError(f"no {'training' if side == 'train' else 'validation'} text is left; look at --val_share")
    tokenizers.save(tokenizer, folder / "tokenizer.json")
    values = {
        "format": FORMAT,
        "dtype": dtype_of(tokenizer).str,
        "documents": documents,
        "leaked": leaked,
        "tokenizer_sha256": tokenizers.digest(tokenizer),
        "source": source,
        "sides": {side: [shard._asdict() for shard in sides[side]] for side in SIDES},
    }
    sealed.write_json(folder / INDEX, values)
    return values
