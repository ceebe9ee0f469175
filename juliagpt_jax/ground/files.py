"""Files that are whole or as they were: what a killed process, a full disk or a lost current must not leave half."""

import contextlib
import hashlib
import json
import os
import shutil
import struct
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from juliagpt_jax.ground.command import finite
from juliagpt_jax.ground.errors import UserError

if TYPE_CHECKING:
    import numpy as np


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step: a reader sees the old text or the new one, and so does the next start after a
    crash. The temporary file beside it, `NAME.new`, is overwritten by the next attempt."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The name of a temporary file to write, which takes the place of `path` when the `with` ends well. After an
    error there is none."""
    temporary = path.with_name(f"{path.name}.new")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder for results before they are computed.

    Raises:
        UserError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}") from error


@contextlib.contextmanager
def new_folder(path: Path, flag: str) -> Iterator[Path]:
    """A temporary folder to fill, `NAME.partial`, which gets the name `path` when the `with` ends well. After an error
    there is none; what a killed process left, the next attempt removes.

    Raises:
        UserError: something is at `path` already, or no folder can be made there; `flag` is the command line's name.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{flag}={path} is there already; remove it, or choose another name")
    partial = path.with_name(f"{path.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{flag}={path}: cannot write there: {error.strerror}") from error
    try:
        yield partial
        for file in [file for file in partial.rglob("*") if file.is_file() and not file.is_symlink()]:
            _sync(file)
        os.replace(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync_folder(path.parent)


def check_name(path: Path, flag: str) -> None:
    """Refuse a path that other libraries would write under another name than Python: they take UTF-8 for it, and the
    locale has something else.

    Raises:
        UserError: `flag` is the command line's name for it.
    """
    try:
        same = str(path.absolute()).encode() == os.fsencode(path.absolute())
    except UnicodeEncodeError:
        same = False
    if not same:
        raise UserError(
            f"{flag}={os.fsencode(path).decode('utf-8', 'replace')}: with this locale ({sys.getfilesystemencoding()}) "
            "its name is not UTF-8, as Orbax takes it; set LC_ALL=C.UTF-8 or PYTHONUTF8=1, or choose a name in ASCII"
        )


def _sync(file: Path) -> None:
    with open(file, "rb+") as handle:
        os.fsync(handle.fileno())


def write_json(path: Path, values: Any) -> None:
    """Replace a file by a nested value as JSON, in one step; a number that is not finite becomes null."""
    write_text(path, json.dumps(finite(values), indent=1) + "\n")


def read_arrays(path: Path) -> "dict[str, np.ndarray]":
    """Return the arrays of an .npz file by name. The format has a checksum of each, but none of which there are: they
    are held to the hash of `write_arrays`, where there is one. Nothing is ever unpickled.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is damaged, or no such file.
    """
    import numpy as np

    with open(path, "rb") as raw:
        try:
            with np.load(raw, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except _DAMAGE as error:  # a flipped bit in a zip archive asks for a password, or for a petabyte
            raise ValueError(f"{type(error).__name__}: {str(error)[:200]}") from error
    held = arrays.pop("sha256", None)
    if held is not None and str(held) != _digest(arrays):
        raise ValueError("changed since it was written")
    return arrays


def read_array(path: Path, mapped: bool = False) -> "np.ndarray":
    """Return the array of an .npy file, which has no checksum, or a memory map of it. Nothing is ever unpickled.

    Raises:
        ValueError: it cannot be opened, is damaged, or no such file.
    """
    import numpy as np

    try:
        return np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except _DAMAGE as error:  # its header is a line of Python, and a flipped bit makes any other line of it
        raise ValueError(f"{type(error).__name__}: {str(error)[:200]}") from error


def write_arrays(path: Path, arrays: "Mapping[str, np.ndarray]") -> None:
    """Replace a file by arrays with their hash, as .npz, in one step."""
    import numpy as np

    named: dict[str, Any] = {"sha256": np.array(_digest(arrays)), **arrays}  # a flipped bit may hide what comes later
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **named)


def _digest(arrays: "Mapping[str, np.ndarray]") -> str:
    found = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        found.update(repr((name, array.dtype.str, array.shape)).encode() + array.tobytes())
    return found.hexdigest()


_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, LookupError, ValueError, ArithmeticError, RuntimeError,
    AttributeError, TypeError, SyntaxError, MemoryError, OSError, tokenize.TokenError,
)  # fmt: skip


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder (a rename) outlive a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
