"""A note of what the schoolroom's code was seen to write: so its text is known by its hash without being written each
time.

The schoolroom knows no files, so this lies here. The note holds the hash of the text alone; the text itself is in the
cache under that hash, with hashes of its own.
"""

import hashlib
import platform
from pathlib import Path

from juliagpt_jax.ground import sealed
from juliagpt_jax.ground.devices import cache_folder
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.schoolroom import passages

Sides = tuple[list[passages.Passage], list[passages.Passage]]


def fingerprint() -> tuple[str, Sides | None]:
    """Return the hash that a run on the embedded corpus is held to, and its text where that had to be written."""
    code, sides = _code(), None
    digest = _noted(code)
    if not digest:
        sides = passages.corpus()
        digest = passages.digest(sides)
        _note(code, digest)
    return passages.KNOWN_AS.get(digest, digest), sides


def _code() -> str:
    """Return the SHA-256 of all that decides the text: the room's files, and the Python that draws the numbers."""
    found = hashlib.sha256(f"{platform.python_implementation()} {platform.python_version()}".encode())
    for file in sorted(Path(passages.__file__).parent.glob("*.py")):
        found.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


def _noted(code: str) -> str:
    """Return what this code was seen to write; "" where it was never seen, or the note is damaged."""
    try:
        return str(sealed.read_json(_file())[code])
    except (OSError, ValueError, LookupError, TypeError, RecursionError, UserError):
        return ""


def _note(code: str, digest: str) -> None:
    """Write down what this code wrote, where the cache can be written."""
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        sealed.write_json(_file(), {code: digest})
    except (OSError, UserError):
        pass  # the text is written once more the next time, which costs half a second


def _file() -> Path:
    return cache_folder() / "schoolroom.json"
