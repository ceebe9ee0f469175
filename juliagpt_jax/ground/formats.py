"""Texts out of files of many formats, one at a time, so that memory does not grow with a file.

A text file gives lines; every other format gives rows, each a document with a "text".
"""

import gzip
import importlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from juliagpt_jax.ground import rows
from juliagpt_jax.ground.errors import UserError

ROWS = 1_024  # of a parquet file, read together


def documents(file: Path) -> Iterator[str]:
    """Yield the texts of a file of rows.

    Raises:
        UserError: a row without a text, a damaged file, or a library that is not installed; the text names the file.
    """
    name = file.name.lower()
    read = next((read for end, read in FORMATS.items() if name.endswith(end)), None)
    if read is None:
        raise UserError(f"{file}: not a file of rows; {', '.join(FORMATS)} are read")
    try:
        yield from read(file)
    except (OSError, EOFError, ValueError) as error:
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"{file}: {error.strerror}") from error
        raise UserError(f"{file}: damaged: {str(error)[:200]}") from error


def _lines(stream: BinaryIO, file: Path) -> Iterator[str]:
    for number, line in enumerate(stream, 1):
        try:
            row = rows.parse(rows.bare(line.removesuffix(b"\n"), number == 1))
            if not isinstance(row.get("text"), str):
                raise rows.Bad('has no "text" that is one')
            rows.check_text("text", row["text"])
        except rows.Bad as reason:
            raise UserError(f"{file}:{number}: {reason}") from reason
        yield row["text"]


def _plain(file: Path) -> Iterator[str]:
    with open(file, "rb") as stream:
        yield from _lines(stream, file)


def _gzip(file: Path) -> Iterator[str]:
    with gzip.open(file, "rb") as stream:
        yield from _lines(io.BufferedReader(stream), file)  # pyright: ignore[reportArgumentType]


def _zstd(file: Path) -> Iterator[str]:
    zstandard = _library("zstandard", file)
    try:
        with open(file, "rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as stream:
            yield from _lines(io.BufferedReader(stream), file)
    except zstandard.ZstdError as error:
        raise UserError(f"{file}: damaged: {error}") from error


def _parquet(file: Path) -> Iterator[str]:
    parquet: Any = _library("pyarrow.parquet", file)
    whole = parquet.ParquetFile(file)
    if "text" not in whole.schema_arrow.names:
        raise UserError(f"{file}: no column 'text'; it has {', '.join(whole.schema_arrow.names)}")
    for batch in whole.iter_batches(ROWS, columns=["text"]):
        for number, text in enumerate(batch.column(0).to_pylist()):
            if not isinstance(text, str):
                raise UserError(f"{file}: a row near {number} has no text")
            yield text


def _library(name: str, file: Path) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        need = f"{name.partition('.')[0]} is needed to read it: pip install -e '.[scale]'"
        raise UserError(f"{file}: {need}") from error


FORMATS: dict[str, Callable[[Path], Iterator[str]]] = {
    ".jsonl": _plain,
    ".jsonl.gz": _gzip,
    ".jsonl.zst": _zstd,
    ".parquet": _parquet,
}
