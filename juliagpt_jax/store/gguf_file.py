"""The container of a GGUF file (versions 2 and 3): its key-value pairs and tensors, read as if a stranger had made it.

The layout is https://github.com/ggml-org/ggml/blob/master/docs/gguf.md: a header, pairs of a key and a typed value,
the names, shapes, types and offsets of tensors, their bytes. The library `gguf` dequantises them. Its own reader is not
used: it believes the lengths that a file says, loops over them past the file's end, and takes seconds for a vocabulary.
"""

import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from juliagpt_jax.ground.errors import UserError

MAGIC = b"GGUF"
STRING, ARRAY = 8, 9
NUMBERS = dict(enumerate("u1 i1 <u2 <i2 <u4 <i4 <f4 ?".split())) | {10: "<u8", 11: "<i8", 12: "<f8"}
MOST_AXES = 4
NESTED = 2  # arrays within arrays that are read


class Stored(NamedTuple):
    """A tensor as it lies in a file.

    Attributes:
        shape: the longest stride first, as numpy has it; the file has it the other way round.
        kind: a number of ggml's types.
        offset: from the start of the tensors' bytes.
    """

    shape: tuple[int, ...]
    kind: int
    offset: int


class File:
    """The contents of a GGUF file, mapped into memory.

    Attributes:
        values: by key; numbers are Python's, arrays of numbers numpy's, arrays of texts lists.
        tensors: by name.
    """

    def __init__(self, path: Path, library: Any):
        """Read the header. `library`: the module `gguf`.

        Raises:
            UserError: it is no such file, torn, or contradicts itself.
        """
        self.path, self._library = path, library
        self._raw = np.memmap(path, np.uint8, "r")
        self._at = 4
        version = self._whole("<u4")
        if version not in (2, 3):
            turned = version.to_bytes(4, "little") in (b"\0\0\0\2", b"\0\0\0\3")
            raise self._wrong("its numbers are big-endian" if turned else f"version {version}, and 2 and 3 are known")
        tensors, pairs = self._whole("<u8"), self._whole("<u8")
        self.values: dict[str, Any] = {}
        for _ in range(self._few(pairs, 13)):
            key = self._text()
            if key in self.values:
                raise self._wrong(f"{key[:80]!r} stands there twice")
            self.values[key] = self._value(self._whole("<u4"))
        self.tensors: dict[str, Stored] = {}
        for _ in range(self._few(tensors, 24)):
            self._tensor()
        unit = self.values.get("general.alignment", 32)
        if type(unit) is not int or not 0 < unit <= 2**20 or unit % 8:
            raise self._wrong(f"general.alignment={unit!r}")
        self._begins = -(-self._at // unit) * unit

    def array(self, name: str) -> np.ndarray:
        """Return a tensor as float32.

        Raises:
            UserError: it is of a type that cannot be read, lies past the file's end, or holds what is no finite number.
        """
        shape, kind, offset = self.tensors[name]
        try:
            kind = self._library.GGMLQuantizationType(kind)
            rows = self._library.quants.quant_shape_to_byte_shape(shape, kind)
        except (ValueError, KeyError) as error:
            raise self._wrong(f"tensor {name[:80]!r}: {error}") from error
        size, begin = int(np.prod(rows, dtype=object)), self._begins + offset
        if begin + size > len(self._raw):
            raise self._wrong(f"tensor {name[:80]!r} ends {begin + size - len(self._raw):,} bytes past the file's end")
        raw = np.asarray(self._raw[begin : begin + size]).reshape(rows)
        try:
            with np.errstate(invalid="ignore", over="ignore"):
                array = np.asarray(self._library.dequantize(raw, kind), np.float32).reshape(shape)
        except NotImplementedError as error:
            known = "F32, F16, BF16, Q8_0, Q4_0, Q4_1 and others that the library gguf dequantises"
            raise self._wrong(f"tensor {name[:80]!r} is of type {kind.name}; weights are {known}") from error
        if not np.isfinite(array).all():
            raise self._wrong(f"tensor {name[:80]!r} holds numbers that are not finite")
        return array

    def _tensor(self) -> None:
        name, axes = self._text(), self._whole("<u4")
        if not 1 <= axes <= MOST_AXES or name in self.tensors:
            raise self._wrong(f"tensor {name[:80]!r} " + ("stands there twice" if axes == 1 else f"has {axes} axes"))
        shape = tuple(self._whole("<u8") for _ in range(axes))[::-1]
        if not all(shape):
            raise self._wrong(f"tensor {name[:80]!r} has the shape {shape}")
        self.tensors[name] = Stored(shape, self._whole("<u4"), self._whole("<u8"))

    def _take(self, size: int) -> np.ndarray:
        if self._at + size > len(self._raw):
            raise self._wrong(f"it ends within its header, at byte {len(self._raw):,}: a torn file")
        self._at += size
        return self._raw[self._at - size : self._at]

    def _whole(self, kind: str) -> int:
        return int(self._take(np.dtype(kind).itemsize).view(kind)[0])

    def _few(self, count: int, least: int) -> int:
        """Return a count of things that take at least so many bytes each; more than fit is refused."""
        if count * least > len(self._raw) - self._at:
            raise self._wrong(f"it says that {count:,} entries follow, which do not fit into it: a torn file")
        return count

    def _text(self) -> str:
        try:
            return self._take(self._whole("<u8")).tobytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._wrong(f"a text before byte {self._at:,} is not UTF-8") from error

    def _value(self, kind: int, nested: int = 0) -> Any:
        if kind == STRING:
            return self._text()
        if kind in NUMBERS:
            return self._take(np.dtype(NUMBERS[kind]).itemsize).view(NUMBERS[kind])[0].item()
        if kind != ARRAY or nested == NESTED:
            raise self._wrong(f"a value at byte {self._at:,} is of type {kind}, which no GGUF file has there")
        kind, count = self._whole("<u4"), self._whole("<u8")
        if kind in NUMBERS:
            return self._take(count * np.dtype(NUMBERS[kind]).itemsize).view(NUMBERS[kind])
        if kind != STRING:
            return [self._value(kind, nested + 1) for _ in range(self._few(count, 12))]
        return self._texts(self._few(count, 8))

    def _texts(self, count: int) -> list[str]:
        """Read an array of texts; a vocabulary has hundreds of thousands, so it is done on the bytes at once."""
        rest, at, found = self._raw[self._at :].data, 0, []
        try:
            for _ in range(count):
                (size,) = struct.unpack_from("<Q", rest, at)
                if at + 8 + size > len(rest):
                    raise struct.error
                found.append(str(rest[at + 8 : at + 8 + size], "utf-8"))
                at += 8 + size
        except struct.error as error:
            raise self._wrong("it ends within its header: a torn file") from error
        except UnicodeDecodeError as error:
            raise self._wrong(f"a text before byte {self._at + at:,} is not UTF-8") from error
        self._at += at
        return found

    def _wrong(self, says: str) -> UserError:
        return UserError(f"{self.path}: not a GGUF file that can be read: {says}"[:500])
