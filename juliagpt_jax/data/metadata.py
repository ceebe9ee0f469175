"""Fields of each passage of a text, read from JSON lines: difficulty, author, phase, ...

A passage is one line of the text, with the end of the line; its id is the number of the line, from 0. Where the rows
hold the text, a passage may be a document of many lines. Names in code and files call a passage a chunk. A field is a
number or a word for every passage. Metadata are written by programs, so what is odd in them is refused, with file and
line, unless `data.on_bad=skip` leaves such lines out, counts them, and stops over a cap.
"""

import collections
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.rows import Bad, bare, check_text, parse, shown

LINE_BYTES = 2**20  # a longer line that describes another is a mistake
DOCUMENT_BYTES = 2**26  # and so is a longer one that holds a text itself
RANGES = {  # of the fields that `prepare` writes; in a folder of its own they are held to them
    "compression": (0, math.inf),
    "difficulty": (0, 1),
    "index": (0, math.inf),
    "mtld": (0, math.inf),
    "quality": (0, 1),
    "words": (0, math.inf),
}


class Words(NamedTuple):
    """A field of words: names[codes[i]] is that of passage i; the names are sorted."""

    codes: np.ndarray
    names: tuple[str, ...]


Column = np.ndarray | Words  # numbers are float64


@dataclasses.dataclass(frozen=True)
class Chunks:
    """The passages of a text, in its order.

    Attributes:
        lengths: tokens of each, the end of the line included.
        columns: the fields, one value a passage.
    """

    lengths: np.ndarray
    columns: dict[str, Column]

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, ids: np.ndarray) -> "Chunks":
        """Some of the passages, in the order of `ids`."""
        part = lambda c: Words(c.codes[ids], c.names) if isinstance(c, Words) else c[ids]
        return Chunks(self.lengths[ids], {name: part(column) for name, column in self.columns.items()})

    def __add__(self, other: "Chunks") -> "Chunks":
        """These passages and then the others; the fields that both have."""
        both = {
            n: c for n, c in self.columns.items() if isinstance(c, Words) is isinstance(other.columns.get(n), Words)
        }
        joined = {n: _joined(c, other.columns[n]) for n, c in both.items() if n in other.columns}
        return Chunks(np.concatenate([self.lengths, other.lengths]), joined)


def _joined(one: Column, other: Column) -> Column:
    if isinstance(one, Words) and isinstance(other, Words):
        return column([one.names[c] for c in one.codes] + [other.names[c] for c in other.codes])
    return np.concatenate([one, other])  # pyright: ignore[reportArgumentType, reportCallIssue]


def column(values: Sequence[Any]) -> Column:
    """A field from its values, all numbers or all words."""
    if values and isinstance(values[0], str):
        names, codes = np.unique(np.array(values, object), return_inverse=True)
        return Words(codes.astype(np.int32), tuple(names))
    return np.array(values, np.float64)


def line_lengths(tokens: np.ndarray, newline: int) -> np.ndarray:
    """Tokens of each line, its end included; the last line may lack its own."""
    ends = np.flatnonzero(np.asarray(tokens) == newline) + 1
    if len(tokens) and (len(ends) == 0 or ends[-1] < len(tokens)):
        ends = np.append(ends, len(tokens))
    return np.diff(ends, prepend=0)


class Table(NamedTuple):
    """A JSON lines file: `lines` are the numbers, from 0, of the rows that are used; texts and fields of these."""

    lines: np.ndarray
    texts: list[str]
    columns: dict[str, Column]
    notes: list[str]


def read(
    file: Path, content: bytes, data: config.Data, beside: Sequence[str] | None = None, prepared: bool = False
) -> Table:
    """The rows of a JSON lines file.

    Args:
        content: the file's bytes.
        beside: the lines of the text file that these rows describe, one for one; None when the rows are the text.
        prepared: the file is one of `prepare`, whose fields are within RANGES.

    Raises:
        UserError: file, line and reason of the first bad line (data.on_bad=error), more of them than data.max_bad, or
            another number of lines than the text has.
    """
    raw = content.split(b"\n")
    if raw[-1] == b"":
        raw.pop()
    elif beside is not None and len(raw) < len(beside):
        raise UserError(f"{file}:{len(raw)}: the file ends in the middle of a line: it is torn; write it anew")
    if beside is not None and len(raw) != len(beside):
        raise UserError(f"{file}: {len(raw):,} lines describe a text of {len(beside):,}; line i is to describe line i")
    bad: dict[int, str] = {}
    rows: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(raw):
        try:
            own = bare(line, number == 0) if data.on_bad == "skip" else line
            rows[number] = row(own, data.errors, beside is None, prepared)
            if beside is not None and rows[number].get("text", beside[number]) != beside[number]:
                raise Bad('"text" is not the same line of the text file')
        except Bad as reason:
            rows.pop(number, None)
            bad[number] = str(reason)
            if data.on_bad == "error":
                break
    if not bad or data.on_bad == "skip":
        bad |= _misfits(rows)
    if bad and data.on_bad == "error":
        number = min(bad)
        raise UserError(f"{file}:{number + 1}: {bad[number]}; --config.data.on_bad=skip leaves such lines out")
    notes = _report(file, bad, len(raw), data)
    lines = [number for number in rows if number not in bad]
    kept = [rows[number] for number in lines]
    if beside is None and kept and "text" not in kept[0]:
        raise UserError(f'{file}: no "text" in its lines, and no text file beside it')
    texts = [values.pop("text", "") for values in kept] if beside is None else [beside[number] for number in lines]
    fields = {name: column([values[name] for values in kept]) for name in (kept[0] if kept else ()) if name != "text"}
    return Table(np.array(lines, np.int64), texts, fields, notes)


def row(line: bytes, errors: str, whole: bool = True, prepared: bool = False) -> dict[str, Any]:
    """Return one line as a dict of plain values. Its "text" may have lines of its own where it is the `whole` of a
    passage.

    Raises:
        Bad: it is none of texts and numbers.
    """
    most = DOCUMENT_BYTES if whole else LINE_BYTES
    if len(line) > most:
        raise Bad(f"a line of {len(line):,} bytes; {most:,} are the most")
    found = parse(line, errors)
    for name, value in found.items():
        found[name] = _plain(name, value, whole and name == "text")
        low, high = RANGES.get(name, (-math.inf, math.inf)) if prepared else (-math.inf, math.inf)
        if isinstance(found[name], float) and not low <= found[name] <= high:
            raise Bad(f"{shown(name)} is {found[name]:g}; prepare writes numbers from {low:g} to {high:g} there")
    return found


def _plain(name: str, value: Any, lines: bool) -> str | float:
    if isinstance(value, str):
        check_text(name, value)
        for sign, what in [("\0", "NUL"), ("\n", "the end of a line"), ("\r", "a carriage return")]:
            if sign in value and not (lines and sign == "\n"):
                raise Bad(f"{shown(name)} holds {what}; a passage is one line")
        if name == "text" and not value:
            raise Bad('"text" is empty')
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        kind = {"NoneType": "null", "bool": "true or false", "list": "a list", "dict": "an object"}[
            type(value).__name__
        ]
        raise Bad(f"{shown(name)} is {kind}; a field is a number or a text")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if name == "text" or not math.isfinite(number):
        raise Bad(f"{shown(name)} is {'a number' if name == 'text' else 'not a finite number'}")
    return number


def _misfits(rows: dict[int, dict[str, Any]]) -> dict[int, str]:
    """Rows that lack a field that most have, have one that most lack, or hold a number where most hold a text."""
    shapes: dict[int, tuple] = {}
    counts: collections.Counter = collections.Counter()
    for number, own in rows.items():
        shapes[number] = tuple((name, type(value)) for name, value in own.items())
        counts[shapes[number]] += 1
    fields: collections.Counter = collections.Counter()
    for shape, count in counts.items():
        fields.update({field: count for field in shape})
    usual = {name: kind for (name, kind), count in fields.items() if 2 * count > len(rows)}
    reasons: dict[tuple, str] = {}
    for shape in counts:
        own = dict(shape)
        for name, kind in usual.items():
            if name not in own:
                reasons[shape] = f"has no {shown(name)}, which most lines have"
            elif own[name] is not kind:
                words = {str: "a text", float: "a number"}
                reasons[shape] = f"{shown(name)} is {words[own[name]]}, in most lines {words[kind]}"
        for name in own.keys() - usual.keys():
            reasons.setdefault(shape, f"has {shown(name)}, which most lines lack")
    return {number: reasons[shape] for number, shape in shapes.items() if shape in reasons}


def _report(file: Path, bad: dict[int, str], count: int, data: config.Data) -> list[str]:
    if not bad:
        return []
    first = min(bad)
    note = f"{file.name}: {len(bad):,} of {count:,} lines left out; the first is line {first + 1}: {bad[first]}"
    if len(bad) > data.max_bad * count:
        raise UserError(f"{note}; more than --config.data.max_bad={data.max_bad:g} of the lines")
    return [note]
