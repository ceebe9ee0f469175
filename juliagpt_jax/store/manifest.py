"""The folder of a checkpoint as it says itself: its step, its meta.json, and a manifest with a hash of every file.

Imports nothing heavy, so that a command refuses a bad workdir before JAX is imported.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.files import sha256

FORMAT = 1
MANIFEST = "manifest.json"


class Damaged(Exception):
    """A checkpoint that must not be used; the text says why."""


def without_average(where: Path) -> UserError:
    """Return the refusal of averaged weights where there are none."""
    return UserError(
        f"{where} has no averaged weights: it was trained without train.ema, .ema_half_life, .tail or cycles"
    )


def steps(folder: Path) -> list[int]:
    """Return the steps in a `checkpoints` folder, sound or not, oldest first."""
    named = [p for p in folder.glob("*") if re.fullmatch("0|[1-9][0-9]*", p.name)]
    return sorted(int(p.name) for p in named if p.is_dir() and not p.is_symlink())


def read_meta(folder: Path) -> dict[str, Any]:
    """Return the meta.json of a step, which is held to the hash that its manifest has of it.

    Raises:
        Damaged: missing, torn, changed, of another format, or of another step than the folder's name says.
    """
    held = _named(folder).get("meta.json")
    try:
        raw = (folder / "meta.json").read_bytes()
        if held != (len(raw), hashlib.sha256(raw).hexdigest()):
            raise Damaged("meta.json has other bytes")
        meta = json.loads(raw.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Damaged(f"meta.json: {type(error).__name__}") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise Damaged(f"meta.json is not of format {FORMAT}")
    if str(meta.get("step")) != folder.name:
        raise Damaged(f"it is a copy of step {meta.get('step')}")
    return meta


def verify(folder: Path) -> None:
    """Hold every file of a step to its manifest: names, sizes, SHA-256.

    Raises:
        Damaged: a file is missing, added, cut or changed, or the manifest names something outside the folder.
    """
    named = _named(folder)
    for name in named:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or not pure.parts:
            raise Damaged(f"{MANIFEST} names {name!r}, outside the folder")
    there = {p.relative_to(folder).as_posix() for p in _files(folder)}
    if there != set(named):
        raise Damaged(f"files missing or added: {', '.join(sorted(there ^ set(named))[:3])}")
    for name, (size, digest) in named.items():
        path = folder / name
        if path.is_symlink():
            raise Damaged(f"{name} is a link")
        try:
            if path.stat().st_size != size:
                raise Damaged(f"{name} has another size")
            if sha256(path) != digest:
                raise Damaged(f"{name} has other bytes")
        except OSError as error:
            raise Damaged(f"{name}: {error.strerror}") from error


def _named(folder: Path) -> dict[str, tuple[int, str]]:
    """Return size and SHA-256 of every file by its name in the manifest."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return {name: (int(size), str(digest)) for name, (size, digest) in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise Damaged(f"{MANIFEST} missing or torn") from error


def _files(folder: Path) -> Iterable[Path]:
    return (p for p in sorted(folder.rglob("*")) if not p.is_dir() and p != folder / MANIFEST)


def hashes(folder: Path) -> dict[str, list]:
    """Return size and SHA-256 of every file of a step but its manifest, by path in it: what the manifest holds."""
    return {p.relative_to(folder).as_posix(): [p.stat().st_size, sha256(p)] for p in _files(folder)}
