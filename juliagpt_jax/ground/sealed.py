"""JSON files, and files of one object a line, that carry the hash of their contents: a changed one is refused.

The key "sha256" is that of everything else in the file, in one canonical form: blanks and the order of keys don't
count, every value does. A file without the key is one of version 0.1, or written by hand: it opens unchecked.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from juliagpt_jax.ground.command import finite
from juliagpt_jax.ground.errors import StorageError, UserError
from juliagpt_jax.ground.files import write_text

KEY = "sha256"


class Changed(UserError):
    """A file does not hold what was written into it."""


def fault(error: Exception, otherwise: str = "") -> str:
    """Say in a few words why contents are refused: they changed, or what their reader says, behind `otherwise`."""
    return "changed since it was written" if isinstance(error, Changed) else f"{otherwise}{error}"


def digest(values: Any) -> str:
    """Return the SHA-256, in hex, of a nested value that came from JSON."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def seal(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as JSON gives them back, with their hash behind them; a number that is not finite becomes null."""
    plain = json.loads(json.dumps(finite(dict(values))))
    return plain | {KEY: digest(plain)}


def key_of(values: Mapping[str, Any], what: Any) -> str | None:
    """Return the hash that values carry, None where they have none.

    Raises:
        Changed: there is a key one letter beside the right one: that is damage, not an older file.
    """
    for key in values:
        if len(key) == len(KEY) and sum(a != b for a, b in zip(key, KEY, strict=True)) == 1:
            raise Changed(f"{what}: damaged: its key {KEY!r} reads {key!r}; put a sound copy back")
    return values.get(KEY)


def unseal(values: Any, what: Any) -> Any:
    """Return values without their hash, which is checked where there is one; what is no object, as it is.

    Raises:
        Changed: they are not what was written into the file; `what` names it.
    """
    if not isinstance(values, dict):
        return values
    held = key_of(values, what)
    rest = {key: value for key, value in values.items() if key != KEY}
    if held is not None and held != digest(rest):
        raise Changed(
            f"{what}: changed since it was written: its {KEY} is of other contents; put a sound copy back, "
            f"or, if you changed it yourself, take the key {KEY!r} out of it"
        )
    return rest


def write_json(path: Path, values: Mapping[str, Any], ascii_only: bool = True) -> None:
    """Replace a file by values with their hash, as JSON, in one step."""
    write_text(path, json.dumps(seal(values), indent=1, ensure_ascii=ascii_only) + "\n")


def read_json(path: Path, checked: bool = True) -> Any:
    """Return what `write_json` wrote.

    Args:
        checked: false to look at a file that `Changed` was raised of, to say more about it.

    Raises:
        OSError, ValueError: it is not there, or not JSON.
        Changed: it holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("its values are nested too deeply") from error
    if checked or not isinstance(values, dict):
        return unseal(values, path)
    return {key: value for key, value in values.items() if key != KEY}


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace a file by rows, one a line, each with its hash, in one step."""
    write_text(path, "".join(json.dumps(seal(row)) + "\n" for row in rows))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file that `write_rows` wrote; none if there is no such file. A row without a hash is one of
    an older version, or of another program, and is taken unchecked.

    Raises:
        StorageError: a line is no row, or not as it was written; the text names it.
    """
    rows = []
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    for number, line in enumerate(lines, 1):
        if not line and number == len(lines):
            break
        try:
            row = unseal(json.loads(line.decode("utf-8")), "row")
            if not isinstance(row, dict):
                raise ValueError("not a JSON object")
        except (Changed, ValueError, RecursionError) as error:
            why = fault(error, "not a row of results: ")
            raise StorageError(
                f"{path}:{number}: {why}; put a sound copy back, or take the line out, and what it tells of runs again"
            ) from error
        rows.append(row)
    return rows
