"""A line of JSON in a file of texts (.jsonl): one object, or the reason why it is none.

Training, `tokenize` and `prepare` refuse the same lines in the same words. They differ in what an object must hold:
that is theirs to say.
"""

import collections
import json
from typing import Any

BOM = b"\xef\xbb\xbf"


class Bad(Exception):
    """The reason why a line is not used."""


def parse(line: bytes, errors: str = "strict") -> dict[str, Any]:
    """Return the object of a line, which comes without its end; its values are looked at by nobody yet.

    Args:
        errors: "replace" puts U+FFFD where a byte is not UTF-8.

    Raises:
        Bad: it is none, or there is something around it or in it twice.
    """
    if line.startswith(BOM):
        raise Bad("begins with a byte-order mark; save it as UTF-8 without one")
    if line.endswith(b"\r"):
        raise Bad("ends with a carriage return; save it with line feeds alone")
    if b"\0" in line:
        raise Bad(f"byte {line.index(0)} is NUL")
    if not line.strip():
        raise Bad("is empty")
    try:
        row = json.loads(line.decode("utf-8", errors), object_pairs_hook=_once)
    except UnicodeDecodeError as error:
        raise Bad(f"byte {error.start} is not UTF-8 ({error.reason})") from error
    except RecursionError as error:
        raise Bad("not JSON that a program can read: nested too deeply") from error
    except ValueError as error:
        what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise Bad(f"not JSON: {what[:80]}") from error
    if not isinstance(row, dict):
        raise Bad("not a JSON object")
    return row


def bare(line: bytes, first: bool) -> bytes:
    """Return a line without what another program has put around it: no reason to lose a sound one."""
    return (line.removeprefix(BOM) if first else line).removesuffix(b"\r")


def check_text(name: str, value: str) -> None:
    """Raise a `Bad` where a text holds half of a surrogate pair, which JSON can write and UTF-8 cannot."""
    if not value.isascii() and any(0xD800 <= ord(c) <= 0xDFFF for c in value):
        raise Bad(f"{shown(name)} holds half of a surrogate pair, which is no character")


def shown(name: str) -> str:
    """Return the name of a field for a message: at most 40 characters, none of which a terminal obeys."""
    return f'"{name[:40]}"' if name.isprintable() else ascii(name[:40])


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        name = next(n for n, count in collections.Counter(n for n, _ in pairs).items() if count > 1)
        raise Bad(f"{shown(name)} stands in it twice")
    return row
