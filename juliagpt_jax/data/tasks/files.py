"""Rows of a user's files: .jsonl, .json, .csv and .tsv, as they are or in gzip, each with its number for messages."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from juliagpt_jax.data.tasks.task import check_split, side
from juliagpt_jax.ground import rows as lines
from juliagpt_jax.ground import texts
from juliagpt_jax.ground.errors import UserError

Row = Mapping[str, Any]
Made = TypeVar("Made")
PREPARE = "`python -m juliagpt_jax.prepare --source={0} --out=data/{0}` fetches it"  # a name of books/questions.py
LARGEST = 2**30  # bytes of a file, unpacked
ENDINGS = (".jsonl", ".json", ".csv", ".tsv")


def find(split: str, path: str | None, names: Mapping[str, Sequence[str]], source: str) -> Path:
    """Return the file of a part of a task.

    Args:
        path: of the user's folder, or of a file, which is then every part.
        names: the files' names in a folder, by part, the preferred first; each may be packed (.gz).
        source: where to get them.

    Raises:
        UserError: nothing was given, or is there; with where to get it.
    """
    check_split(split)
    if not path:
        wanted = next(iter(names[split]), "")
        raise UserError(f"this task reads a file, {wanted}: give its path or its folder's; get it from {source}")
    given = texts.path(path)
    if not given.is_dir():
        if not given.exists():
            raise UserError(f"{path} does not exist; get it from {source}")
        return given
    for name in names[split]:
        for file in (given / name, given / f"{name}.gz"):
            if file.is_file():
                return file
    raise UserError(f"{path} has no {' or '.join(names[split])} (or .gz), the {split} part; get it from {source}")


def examples(file: Path, make: Callable[[Row], Made | None], header: Sequence[str] = ()) -> list[Made]:
    """Return what `make` makes of each row, but for None.

    Args:
        make: raises a `rows.Bad`, or a LookupError of a field that is not there.
        header: the columns of a .tsv or .csv whose first line is already a row.

    Raises:
        UserError: a file is of another kind, or a row is not sound; with file and number.
    """
    made = []
    for number, row in _rows(file, header):
        try:
            own = make(row)
        except lines.Bad as error:
            raise UserError(f"{file}: row {number}: {error}") from error
        except KeyError as error:
            name = lines.shown(str(error.args[0]))
            raise UserError(
                f"{file}: row {number}: has no {name}; it has {', '.join(map(lines.shown, row))}"
            ) from error
        if own is not None:
            made.append(own)
    if not made:
        raise UserError(f"{file}: no example in it")
    return made


def text(row: Row, name: str, empty: bool = False) -> str:
    """Return a field that is a text, with line feeds alone, without blanks around it.

    Raises:
        Bad: it is none, or is empty where it must not be.
    """
    value = row[name]
    if not isinstance(value, str):
        raise lines.Bad(f"{lines.shown(name)} is not a text but {type(value).__name__}")
    lines.check_text(name, value)
    value = value.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not value and not empty:
        raise lines.Bad(f"{lines.shown(name)} is empty")
    return value


def number(row: Row, name: str) -> float:
    """Return a field that is a number, or a text that says one.

    Raises:
        Bad: it is none, or not finite.
    """
    try:
        value = float(str(row[name]).replace(",", ""))
    except ValueError as error:
        raise lines.Bad(f"{lines.shown(name)} is no number: {str(row[name])[:40]!r}") from error
    if not abs(value) < 1e18:
        raise lines.Bad(f"{lines.shown(name)} is no number to reckon with: {value}")
    return value


def held_out(split: str, key: str) -> bool:
    """Tell whether something of a training file that has no dev part beside it belongs to a part: its dev part is one
    in 20, chosen by the text alone."""
    return (side(key) == "dev") == (split == "dev")


def _rows(file: Path, header: Sequence[str]) -> Iterator[tuple[int, Row]]:
    kind = next((end for end in ENDINGS if file.name.lower().removesuffix(".gz").endswith(end)), "")
    if not kind:
        raise UserError(f"{file}: not a file of rows; {', '.join(ENDINGS)} are (or .gz of them)")
    content = texts.read_unpacked(file, LARGEST)
    if kind == ".jsonl":
        return _of_lines(file, content)
    decoded = texts.decode(str(file), content, flag="the encoding").text
    return _of_json(file, decoded) if kind == ".json" else _of_table(file, decoded, kind, header)


def _of_lines(file: Path, content: bytes) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), 1):
        try:
            yield number, lines.parse(lines.bare(line, number == 1))
        except lines.Bad as error:
            raise UserError(f"{file}: row {number}: {error}") from error


def _of_json(file: Path, content: str) -> Iterator[tuple[int, Row]]:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not JSON: {str(error)[:80]}") from error
    if not isinstance(values, list):
        raise UserError(f"{file}: not a JSON list of objects")
    for number, row in enumerate(values, 1):
        if not isinstance(row, dict):
            raise UserError(f"{file}: row {number}: not a JSON object")
        yield number, row


def _of_table(file: Path, content: str, kind: str, header: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """A .csv quotes its texts; a .tsv has none of that, a tab and a line's end are never inside one."""
    plain: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if kind == ".tsv" else {"strict": True}
    reader: Iterator[list[str]] = csv.reader(io.StringIO(content, newline=""), **plain)
    names, number = list(header), 0
    while True:
        number += 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UserError(f"{file}: row {number}: not CSV: {error}") from error
        if cells is None:
            return
        if not names or (number == 1 and cells == names):
            names = cells
        elif len(cells) != len(names):
            raise UserError(f"{file}: row {number}: {len(cells)} fields, not {len(names)}: {', '.join(names)}")
        else:
            yield number, dict(zip(names, cells, strict=True))
