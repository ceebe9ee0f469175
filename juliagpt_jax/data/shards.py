"""Ids of a text that is larger than memory: token files, memory-mapped, with an index that has a hash of everything.

A folder of shards:
    shards.json             the index: tokenizer, counts, and for each side its files with their SHA-256; sealed
    tokenizer.json          that of the ids
    SIDE_NAME.bin           ids, uint16 or uint32, little-endian, one document behind the other; SIDE is train or val
    SIDE_NAME.ends.npy      where each document ends, in tokens
    SIDE_NAME.checks.npy    a checksum of each BLOCK bytes of the .bin

Nothing is read to open a folder but the index and the checksums. A block is held to its checksum when a window first
touches it, so damage is found before it is trained on, and nobody waits for all of 30 GB to be hashed.
"""

import dataclasses
import hashlib
import mmap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.data.counts import TextCounts
from juliagpt_jax.data.library import LibraryTokenizer
from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.ground import sealed
from juliagpt_jax.ground.errors import StorageError, UserError
from juliagpt_jax.ground.files import read_array

FORMAT = 1
INDEX = "shards.json"
SIDES = ("train", "val")
BLOCK = 2**16  # bytes that are checked together: 40 microseconds


class Shard(NamedTuple):
    """A token file, as the index has it: its name without the ending, its size, what it stands for, its hashes."""

    name: str
    tokens: int
    documents: int
    counts: TextCounts
    sha256: str
    ends: str
    checks: str


@dataclasses.dataclass(frozen=True)
class Index:
    """The content of shards.json.

    Attributes:
        documents: passages are documents, each ended by the tokenizer's eos; else they are lines.
        leaked: validation passages that stand word for word in the training text.
        source: what the ids were made of: names and hashes of files, filters, licence.
        fingerprint: SHA-256 of all of it.
    """

    folder: Path
    dtype: np.dtype
    documents: bool
    leaked: int
    tokenizer_sha256: str
    source: dict[str, Any]
    sides: dict[str, tuple[Shard, ...]]
    fingerprint: str

    def total(self, side: str) -> TextCounts:
        """Return the counts of a side."""
        return TextCounts(*(sum(column) for column in zip(*(s.counts for s in self.sides[side]), strict=True)))

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer of the ids.

        Raises:
            StorageError: it is not the one that they were made with.
        """
        found = tokenizers.load(self.folder / "tokenizer.json")
        if tokenizers.digest(found) != self.tokenizer_sha256:
            raise StorageError(f"{self.folder / 'tokenizer.json'}: not the tokenizer of the shards beside it")
        if self.documents and isinstance(found, LibraryTokenizer) and found.eos is not None and found.first is None:
            return found.begun_by(found.eos)  # what stands before every other document, too
        return found


def is_shards(path: Path) -> bool:
    """Tell whether a folder of shards lies at a path."""
    return (path / INDEX).is_file()


def open_index(folder: Path, flag: str = "config.data.path") -> Index:
    """Read the index of a folder of shards; of its files only their sizes are looked at.

    Raises:
        UserError: there is none, it was changed, or it is of another version.
        StorageError: a token file is missing or torn; the text names it.
    """
    try:
        values = sealed.read_json(folder / INDEX)
        if values["format"] != FORMAT:
            raise UserError(f"{flag}: {folder / INDEX}: format {values['format']}, this version reads {FORMAT}")
        sides = {side: tuple(read_shard(row) for row in values["sides"][side]) for side in SIDES}
        index = Index(
            folder, np.dtype(values["dtype"]), bool(values["documents"]), int(values["leaked"]),
            values["tokenizer_sha256"], values["source"], sides, sealed.digest(values),
        )  # fmt: skip
    except sealed.Changed as error:
        raise UserError(f"{flag}: {error}") from error
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"{flag}: {folder / INDEX}: not an index of shards ({type(error).__name__})") from error
    for shard in (shard for side in SIDES for shard in sides[side]):
        file = folder / f"{shard.name}.bin"
        size = file.stat().st_size if file.is_file() else -1
        if size != shard.tokens * index.dtype.itemsize:
            has = "is missing" if size < 0 else f"has {size:,} bytes"
            raise StorageError(f"{file}: {has}, {shard.tokens * index.dtype.itemsize:,} were written; put it back")
    return index


def read_shard(row: dict[str, Any]) -> Shard:
    """Return a token file from its row in the index.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    name = str(row["name"])
    if Path(name).name != name:
        raise ValueError(name)
    counted: dict[str, Any] = {"counts": TextCounts(*map(int, row["counts"]))}
    return Shard(**row | counted)


class Tokens:
    """The ids of many token files as if they were one array, of which only what is asked for is read.

    It gives single ids, slices and (n-dimensional) arrays of places; `np.asarray` reads all of it. Threads may share
    it.

    Args:
        parts: each the index, and the files of a side, in their order.
    """

    ndim = 1

    def __init__(self, parts: Sequence[tuple[Index, Sequence[Shard]]]):
        self._files = [_File(index, shard) for index, shards in parts for shard in shards]
        self.dtype = np.result_type(np.uint16, *(index.dtype for index, _ in parts))
        self._ends = np.cumsum([file.tokens for file in self._files], dtype=np.int64)
        self.shape = (int(self._ends[-1]) if self._files else 0,)
        self.nbytes = self.shape[0] * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """Return ids at an int, a slice, an array of ints, or where a bool array says so.

        Raises:
            IndexError: a place outside.
            StorageError: a block that is read is damaged; the text names its file.
        """
        if isinstance(key, slice):
            key = np.arange(*key.indices(len(self)), dtype=np.int64)
        places = np.asarray(key)
        places = np.flatnonzero(places) if places.dtype == bool else places.astype(np.int64)
        places = np.where(places < 0, places + len(self), places)
        if places.size and not (0 <= places.min() and places.max() < len(self)):
            raise IndexError(f"a place outside 0 .. {len(self) - 1}")
        which = np.searchsorted(self._ends, places, side="right")
        found = np.empty(places.shape, self.dtype)
        for number in np.unique(which).tolist():
            file, own = self._files[number], which == number
            found[own] = file.read(places[own] - (self._ends[number] - file.tokens))
        return found if found.ndim else found[()]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = np.concatenate([np.zeros(0, self.dtype), *(file.whole() for file in self._files)])
        return whole if dtype is None else whole.astype(dtype)

    def astype(self, dtype: Any) -> np.ndarray:
        """Return all of it as an array."""
        return self.__array__(dtype)


class _File:
    """One token file: it is mapped, and its checksums read, when it is first asked."""

    def __init__(self, index: Index, shard: Shard):
        self.path, self.shard, self.dtype = index.folder / f"{shard.name}.bin", shard, index.dtype
        self.tokens = shard.tokens
        self._ids: np.ndarray | None = None

    def _open(self) -> np.ndarray:
        if self._ids is None:
            try:
                with open(self.path, "rb") as file:
                    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise StorageError(f"{self.path}: cannot be read: {error}") from error
            if hasattr(mmap, "MADV_RANDOM"):
                mapped.madvise(mmap.MADV_RANDOM)
            self._bytes = mapped
            self._checks = _held(self.path.with_suffix(".checks.npy"), self.shard.checks)
            self._seen = np.zeros(len(self._checks), bool)
            self._ids = np.frombuffer(mapped, self.dtype)
        return self._ids

    def read(self, places: np.ndarray) -> np.ndarray:
        ids = self._open()
        blocks = np.unique(places // (BLOCK // self.dtype.itemsize))
        for block in blocks[~self._seen[blocks]].tolist():
            self._check(block)
        return ids[places]

    def _check(self, block: int) -> None:
        if check(self._bytes[block * BLOCK : (block + 1) * BLOCK]) != self._checks[block]:
            says = f"bytes {block * BLOCK:,} to {(block + 1) * BLOCK:,} are not what was written"
            raise StorageError(f"{self.path}: damaged: {says}; put a sound copy back, or write the shards again")
        self._seen[block] = True

    def whole(self) -> np.ndarray:
        ids = self._open()
        for block in np.flatnonzero(~self._seen).tolist():
            self._check(block)
        return ids


def check(content: bytes) -> int:
    """Return the checksum of a block: the first 8 bytes of its SHA-256."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "little")


def _held(path: Path, sha256: str) -> np.ndarray:
    """Read a small array beside a token file, and hold it to its hash.

    Raises:
        StorageError: it is missing or damaged.
    """
    try:
        array = read_array(path)
        if hashlib.sha256(array.tobytes()).hexdigest() == sha256:
            return array
        why = "damaged"
    except ValueError as error:
        why = f"cannot be read: {error}"
    raise StorageError(f"{path}: {why}; put a sound copy back, or write the shards again")


def passages(index: Index, shard: Shard) -> Iterable[np.ndarray]:
    """Yield the ids of each passage of a token file, a document's end included."""
    tokens = Tokens([(index, [shard])])
    begin = 0
    for end in _held(index.folder / f"{shard.name}.ends.npy", shard.ends).tolist():
        yield tokens[begin:end]
        begin = end
