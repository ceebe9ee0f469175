"""What is known of each chunk beside its text: author, phase, difficulty, ... (`train_enriched.jsonl`).

Line i of the file describes line i of `train.txt`. The embedded corpus knows the same of its passages.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from juliagpt_jax import config
from juliagpt_jax.data import schoolroom
from juliagpt_jax.errors import UserError


def fields(path: str, part: str, lines: list[str]) -> list[dict[str, Any]] | None:
    """Of each of the `lines` of a corpus's part ("train" or "val") what is known, or None where nothing is.

    Raises:
        UserError: a line of the file is no JSON object, or does not have the text of its chunk.
    """
    if path == "schoolroom":
        passages = schoolroom.corpus()[0 if part == "train" else 1]
        return [dataclasses.asdict(passage) for passage in passages]
    file = Path(path) / f"{part}_enriched.jsonl"
    if not file.is_file():
        return None
    rows = []
    try:
        with open(file, encoding="utf-8") as source:
            for number, line in enumerate(source):
                row = json.loads(line)
                if number >= len(lines) or not isinstance(row, dict) or row.get("text") != lines[number]:
                    raise UserError(f"{file}:{number + 1}: not the text of line {number + 1} of {part}.txt")
                rows.append(row)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{file}:{len(rows) + 1}: not JSON: {error}") from error
    if len(rows) != len(lines):
        raise UserError(f"{file}: {len(rows)} lines, {part}.txt has {len(lines)}")
    return rows


def where(condition: str, rows: list[dict[str, Any]]) -> list[int]:
    """The chunks that meet a condition "FIELD in VALUE,VALUE".

    Raises:
        UserError: it has another form, the field or a value is in no chunk.
    """
    field, word, values = (part.strip() for part in condition.partition(" in "))
    wanted = {value.strip() for value in values.split(",")}
    if not word or "" in wanted:
        raise UserError(f"{condition!r} is not of the form: FIELD in VALUE,VALUE")
    names = {name for row in rows for name in row}
    if field not in names:
        raise UserError(f"no chunk has a field {field!r}{config.near(field, names)}")
    there = {str(row.get(field)) for row in rows}
    for value in sorted(wanted - there):
        near = config.near(value, there) if len(there) < 1000 else ""
        raise UserError(f"{field} is {value!r} in no chunk{near}")
    return [i for i, row in enumerate(rows) if str(row.get(field)) in wanted]
