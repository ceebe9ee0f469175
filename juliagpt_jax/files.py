"""Files that are whole or as they were: what a killed process, a full disk or a lost current must not leave half."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from juliagpt_jax.command import finite


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step: a reader sees the old text or the new one, and so does the next start after a
    crash. The temporary file beside it, `NAME.new`, is overwritten by the next attempt."""
    temporary = path.with_name(f"{path.name}.new")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def write_json(path: Path, values: Any) -> None:
    """`write_text` of a nested value; a number that is not finite becomes null."""
    write_text(path, json.dumps(finite(values), indent=1) + "\n")


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder (a rename) outlive a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
