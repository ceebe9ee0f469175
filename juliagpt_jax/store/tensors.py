"""Named arrays in a safetensors file, which is read as if a stranger had written it.

What is written carries in its metadata a SHA-256 of everything else in the file: names, dtypes, shapes, bytes, other
metadata. It is checked when the file is opened; a file without one is another program's, or of version 0.1.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save_file

from juliagpt_jax.ground import sealed
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.files import replacing

STORED = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}  # by --precision
METADATA = "__metadata__"  # the key of a header that is no tensor
READ = ("F64", "F32", "F16", "BF16")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A safetensors file to read from, as the library opens it.

    Raises:
        UserError: it is missing, a pickle, torn or no safetensors file, as opening it or what is done with it says; or
            it was changed since it was written.
    """
    refuse_pickle(path)
    try:
        with safetensors.safe_open(path, "numpy") as file:  # which holds the header to the file's size
            _check(path, file.metadata() or {})
            yield file
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    except (safetensors.SafetensorError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a safetensors file, or a torn one: {error}") from error


def read(path: Path, but: tuple[str, ...] = ()) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All arrays of a file whose names don't end in one of `but`, as float32, and the file's metadata but for its hash.

    The library holds the header to the file's size before anything is allocated; nothing is ever unpickled.

    Raises:
        UserError: as `opened`, or it holds what are no finite numbers.
    """
    arrays = {}
    with opened(path) as file:
        for name in (name for name in file.keys() if not (but and name.endswith(but))):
            kind = file.get_slice(name).get_dtype()
            if kind not in READ:
                raise UserError(f"{path}: {_short(name)} is of type {kind}; weights are {', '.join(READ)}")
            arrays[name] = file.get_tensor(name).astype(np.float32)
        metadata = {key: value for key, value in (file.metadata() or {}).items() if key != sealed.KEY}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise UserError(f"{path}: {_short(name)} holds numbers that are not finite")
    return arrays, metadata


def metadata(path: Path) -> dict[str, str]:
    """The metadata of a file, {} where it has none or is no such file: `read` says that."""
    try:
        with safetensors.safe_open(path, "numpy") as file:
            return file.metadata() or {}
    except (OSError, safetensors.SafetensorError, ValueError, TypeError):
        return {}


def refuse_pickle(path: Path) -> None:
    """Raise a UserError where a file is a pickle, by its name or by its first bytes: reading one can run any code."""
    try:
        with open(path, "rb") as file:
            begins = file.read(4)
    except OSError:  # for the reader to report
        return
    if (
        path.suffix in PICKLES
        or begins[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
        or begins == b"PK\3\4"
    ):
        raise UserError(f"{path}: a pickle, which can run any code when it is read; convert it to safetensors first")


def write(path: Path, arrays: Mapping[str, np.ndarray], precision: str, metadata: dict[str, str]) -> None:
    """Write a file in one step.

    Raises:
        UserError: a number has no place in the precision.
    """
    save(path, {name: cast(name, array, precision) for name, array in arrays.items()}, metadata)


def save(path: Path, arrays: Mapping[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Write a file in one step, each array in its own dtype, with its hash. The same values give the same bytes."""
    with replacing(path) as temporary:
        ordered = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        save_file(ordered, temporary, metadata | {sealed.KEY: "0" * 64})
        _seal(temporary)
        temporary.chmod(0o644)  # the library leaves it to its owner alone


def _seal(path: Path) -> None:
    """Put the hash into a file's metadata, and its header into one order: the library's is another each time."""
    with open(path, "r+b") as file:
        header, begins = _header(file)
        header[METADATA][sealed.KEY] = _digest(file, header, begins)
        metadata = {METADATA: dict(sorted(header.pop(METADATA).items()))}
        tensors = dict(sorted(header.items(), key=lambda entry: (entry[1]["data_offsets"], entry[0])))
        text = json.dumps(metadata | tensors, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > begins - 8:
            raise AssertionError(f"{path}: its header does not fit where the library wrote it")
        file.seek(8)
        file.write(text.ljust(begins - 8))


def _check(path: Path, metadata: Mapping[str, str]) -> None:
    """Hold a file that the library could open to the hash in its metadata, where there is one.

    Raises:
        Changed: it has other contents.
    """
    held = sealed.key_of(metadata, path)
    if held is None:
        return
    with open(path, "rb") as file:
        header, begins = _header(file)
        if held != _digest(file, header, begins):
            raise sealed.Changed(
                f"{path}: changed since it was written: the {sealed.KEY} in its metadata is of other contents; put a "
                "sound copy back, or export it again"
            )


def _header(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """The header of a file, and where the bytes of its tensors begin."""
    size = int.from_bytes(file.read(8), "little")
    return json.loads(file.read(size)), 8 + size


def _digest(file: BinaryIO, header: Mapping[str, Any], begins: int) -> str:
    """Return the SHA-256 of a file's header, the hash in it aside, and of the bytes of its tensors."""
    metadata = {key: value for key, value in header[METADATA].items() if key != sealed.KEY}
    found = hashlib.sha256(sealed.digest({**header, METADATA: metadata}).encode())
    file.seek(begins)
    while block := file.read(2**20):
        found.update(block)
    return found.hexdigest()


def cast(name: str, array: np.ndarray, precision: str, flag: str = "--precision") -> np.ndarray:
    """An array as --precision stores it, its numbers in the order that a file holds them in.

    Raises:
        UserError: a number is too large for it.
    """
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(array, STORED[precision])
    if not np.isfinite(stored.astype(np.float32)).all():
        raise UserError(f"{flag}={precision}: {name} has numbers too large for it; f32 and bf16 hold them")
    return stored


def _short(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:77] + "...")
