"""The members of .zip and .tar archives, read within a budget and never unpacked to the disk.

Whatever an archive claims, no more than the budget allows is read from it: one that would grow past it (a zip or gzip
bomb) is refused while it is being read, so that memory stays flat.
"""

import bz2
import dataclasses
import gzip
import io
import lzma
import posixpath
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from juliagpt_jax.ground import texts
from juliagpt_jax.ground.errors import UserError

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
PACKED: dict[str, Callable[[Any], Any]] = {
    ".gz": lambda stream: gzip.GzipFile(fileobj=stream),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
# What the standard library raises for a damaged archive; OSError without a number too, which `parsers` tells apart.
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    LookupError,
    ValueError,  # UnicodeDecodeError is one
    ArithmeticError,
    RuntimeError,  # encrypted; NotImplementedError is one
)
Member = tuple[str, Callable[[], bytes]]  # a path in the archive, and what reads it


@dataclasses.dataclass
class Budget:
    """Bytes and files that may still be read.

    Attributes:
        total_bytes: over all files, after decompression.
        file_bytes: of one file, after decompression.
        files: over all archives and folders.
    """

    total_bytes: int = 1 << 30
    file_bytes: int = 64 << 20
    files: int = 10_000

    def read(self, stream: Any, name: str) -> bytes:
        """Return the whole of a stream.

        Raises:
            UserError: it is longer than what is left, or there is one file too many.
        """
        limit = min(self.file_bytes, self.total_bytes)
        content = stream.read(limit + 1)
        if len(content) > limit:
            raise UserError(
                f"{name}: more than {limit:,} bytes once unpacked; --max_bytes, --max_file_bytes say how much is read"
            )
        self.files -= 1
        if self.files < 0:
            raise UserError(f"{name}: one file too many; --max_files says how many are read")
        self.total_bytes -= len(content)
        return content


def damaged(name: str, error: Exception) -> str:
    """Return the line that says why an archive cannot be read."""
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return f"{name}: damaged, encrypted or not what its name says: {said}"


def zipped(name: str, stream: Any, budget: Budget) -> Iterator[Member]:
    """Yield the files of a .zip, in the order of their names."""
    with zipfile.ZipFile(stream) as archive:
        for member in checked(name, archive, budget):
            yield member.filename, lambda member=member: content_of(name, archive, member, budget)


def content_of(name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo, budget: Budget) -> bytes:
    """Return the bytes of a member of a .zip."""
    full = f"{name}!{member.filename}"
    try:
        with archive.open(member) as file:
            return budget.read(file, full)
    except DAMAGE as error:
        raise UserError(damaged(full, error)) from error


def checked(name: str, archive: zipfile.ZipFile, budget: Budget) -> list[zipfile.ZipInfo]:
    """Return the files of an archive, in the order of their names; paths that lead out of it and links are refused."""
    members = sorted((m for m in archive.infolist() if not m.is_dir()), key=lambda m: m.filename)
    if len(members) > budget.files:
        raise UserError(f"{name}: {len(members):,} files in it; --max_files says how many are read")
    for member in members:
        _check_name(name, member.filename, stat.S_ISLNK(member.external_attr >> 16))
    return members


def _check_name(name: str, member: str, link: bool) -> None:
    path = member.replace("\\", "/")
    if path.startswith("/") or re.match(r"[A-Za-z]:", path) or ".." in path.split("/"):
        raise UserError(f"{name}: {member!r} leads out of the archive")
    if link:
        raise UserError(f"{name}: {member!r} is a link")


class _Counted:
    """A stream that ends the work once more was read from it than the budget allows: what is skipped counts too."""

    def __init__(self, stream: Any, name: str, limit: int):
        self._stream, self._name, self._limit, self._read = stream, name, limit, 0

    def read(self, size: int = -1) -> bytes:
        content = self._stream.read(size)
        self._read += len(content)
        if self._read > self._limit:
            raise UserError(f"{self._name}: more than {self._limit:,} bytes once unpacked; --max_bytes says how much")
        return content


def tarred(name: str, stream: Any, budget: Budget, wanted: Sequence[str]) -> Iterator[Member]:
    """Yield the files of a .tar, packed or not, in the order of their names. Of those whose names do not end as wanted
    the content is not read."""
    lower = name.lower()
    packed = PACKED[".gz"] if lower.endswith(".tgz") else None
    packed = packed or next((unpack for suffix, unpack in PACKED.items() if lower.endswith(suffix)), None)
    if packed and not isinstance(stream, io.BytesIO | io.BufferedReader):
        stream = io.BytesIO(budget.read(stream, name))
    if packed and texts.kind(_peek(stream)) != "a tar archive":
        stream = packed(stream)
    counted: Any = _Counted(stream, name, budget.total_bytes)
    found: list[tuple[str, bytes]] = []
    with tarfile.open(fileobj=counted, mode="r|") as archive:
        for count, member in enumerate(archive):
            if count >= budget.files:
                raise UserError(f"{name}: more than {budget.files:,} files in it; --max_files says how many are read")
            if member.isdir():
                continue
            _check_name(name, member.name, not member.isfile())
            take = member.name.lower().endswith(tuple(wanted)) and not texts.hidden(member.name)
            content = budget.read(archive.extractfile(member), f"{name}!{member.name}") if take else b""
            found.append((posixpath.normpath(member.name), content))
    while counted.read(1 << 20):  # to the end, where a packed stream has the check of its contents
        pass
    for member, content in sorted(found):
        yield member, lambda content=content: content


def _peek(stream: Any) -> bytes:
    at = stream.tell()
    start = stream.read(512)
    stream.seek(at)
    return start
