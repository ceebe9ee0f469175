"""The works that there are: the project's own list of classics, or a folder.

`classics.json` names public-domain works with their pinned place on GitHub and two hashes: `source_sha256` of the
file as published there, and `sha256` of the same text as UTF-8 with \\n line ends (and, for one work, without the
HTML page around it), which is what lies in a local folder. The first is checked after a download, the second when a
folder with a `source_manifest.json` is read; the parser makes the same text of both.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from juliagpt_jax.books.parsers import SUFFIXES
from juliagpt_jax.ground import texts
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.files import sha256

MANIFEST = "source_manifest.json"
CLASSICS = Path(__file__).parent / "classics.json"
_LARGEST_MANIFEST = 16 << 20
_TEXT_FIELDS = (
    "file",
    "title",
    "author",
    "translator",
    "phase",
    "art",
    "tier",
    "source_repo",
    "source_path",
    "commit",
    "sha256",
    "source_sha256",
)


@dataclasses.dataclass(frozen=True)
class Work:
    """One work, as a manifest or a folder gives it. Fields that nobody states are empty, numbers 0.

    Attributes:
        id: stable name, from the file's.
        path: where the file lies, or will lie once downloaded.
        sha256: of that file; empty if unknown.
        repo, commit, source_path: where it was published: "github.com/OWNER/NAME", 40 hex digits, path in it.
        source_sha256, source_bytes: of the file there.
    """

    id: str
    path: Path
    title: str = ""
    author: str = ""
    translator: str = ""
    phase: str = ""
    art: str = ""
    tier: str = ""
    sha256: str = ""
    repo: str = ""
    commit: str = ""
    source_path: str = ""
    source_sha256: str = ""
    source_bytes: int = 0


def classics(tier: str = "all") -> tuple[list[Work], list[str]]:
    """Return the project's own list, to be downloaded, and notes on what was left out.

    Args:
        tier: "core", the main reading list, or "all" of it.
    """
    works = [w for w in read_manifest(CLASSICS, Path()) if tier in ("all", w.tier)]
    latex = [w.id for w in works if w.source_path.endswith(".tex")]
    note = f"{', '.join(latex)}: published as LaTeX alone, which is not read; a local folder may hold them as text"
    return [w for w in works if w.id not in latex], [note] if latex else []


def local(path: Path, tier: str = "all", suffixes: Sequence[str] = SUFFIXES) -> tuple[list[Work], list[str]]:
    """Return the works in a folder (or the one in a file), and notes on what was left out.

    With a `source_manifest.json` in the folder the works are those that it names; without one, every file in it that
    `parsers` reads (.txt, .html, .epub, .zip, .tar, .gz, ...), at any depth, in the order of their paths. Hidden files
    are no works.

    Raises:
        UserError: no such folder, nothing in it that can be read, a bad manifest (fault 13), a path or link that leads
            out of the folder (fault 22), or a file that has not the hash that the manifest gives.
    """
    if path.is_file():
        return [Work(_identifier(path.name), path)], []
    if not path.is_dir():
        raise UserError(f"--source: {path} does not exist; it is 'classics', a folder or a file")
    if (path / MANIFEST).exists():
        works = [w for w in read_manifest(path / MANIFEST, path) if tier in ("all", w.tier)]
        if not works:
            raise UserError(f"{path / MANIFEST}: no work of tier {tier!r} in it")
        for work in works:
            _check_inside(work.path, path)
            if work.sha256 and (found := digest(work.path)) != work.sha256:
                raise UserError(
                    f"{work.path}: SHA-256 is {found[:12]}..., {MANIFEST} says {work.sha256[:12]}...: not the file it "
                    "names; get it again, or take the hash out of the manifest"
                )
        named = {work.path.resolve() for work in works}
        others = [f for f in texts.listed(path, suffixes, deep=True)[0] if f.resolve() not in named]
        left = (
            [f"{len(others)} files of the folder are not in its manifest (or of another tier) and were not read"]
            if others
            else []
        )
        return works, left
    if tier != "all":
        raise UserError(f"--tier={tier}: {path} has no {MANIFEST} that says which tier a work is of")
    files, others = texts.listed(path, suffixes, deep=True)
    if not files:
        raise UserError(f"--source: {path} holds no {', '.join(suffixes)}")
    names = [_identifier(f.relative_to(path).with_suffix("").as_posix()) for f in files]
    works = []
    for file, name in zip(files, names, strict=True):
        _check_inside(file, path)
        unique = name if names.count(name) == 1 else _identifier(file.relative_to(path).as_posix())
        works.append(Work(unique, file))
    if len({w.id for w in works}) < len(works):
        twice = next(w.id for i, w in enumerate(works) if w.id in {v.id for v in works[:i]})
        raise UserError(f"--source: {path}: two files would both be called {twice!r}; rename one")
    return works, texts.not_read(path, others)


def read_manifest(file: Path, folder: Path) -> list[Work]:
    """Return the works that a manifest names: a JSON list of objects with "file" and what is known of the work.

    Raises:
        UserError: not such a list; the message says which entry and field.
    """
    try:
        if file.stat().st_size > _LARGEST_MANIFEST:
            raise UserError(f"{file}: {file.stat().st_size:,} bytes; a manifest has at most {_LARGEST_MANIFEST:,}")
        entries = json.loads(file.read_bytes().decode("utf-8-sig"), object_pairs_hook=_no_duplicates)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: byte {error.start} is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not JSON: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{file}: must be a JSON list of works, and not empty")
    works = [_work(entry, f"{file}: entry {i + 1}", folder) for i, entry in enumerate(entries)]
    for i, work in enumerate(works):
        if any(work.id == other.id for other in works[:i]):
            raise UserError(f"{file}: entry {i + 1}: {work.id!r} comes twice")
    return works


def fingerprint(works: list[Work]) -> str:
    """Return the SHA-256 over the ids and files of the works."""
    lines = "".join(f"{work.id} {digest(work.path)}\n" for work in works)
    return hashlib.sha256(lines.encode()).hexdigest()


def digest(file: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    try:
        return sha256(file)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [k for k, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError(f"key {next(k for k in keys if keys.count(k) > 1)!r} comes twice")
    return dict(pairs)


def _work(entry: Any, where: str, folder: Path) -> Work:
    if not isinstance(entry, dict):
        raise UserError(f"{where}: must be an object, not {type(entry).__name__}")
    fields: dict[str, str] = {}
    for name in _TEXT_FIELDS:
        value = entry.get(name)
        if value is not None and not isinstance(value, str):
            raise UserError(f"{where}: {name} must be a string, not {type(value).__name__}")
        fields[name] = value or ""
        if any(ord(c) < 32 for c in fields[name]):
            raise UserError(f"{where}: {name} has a control character")
    if not fields["file"]:
        raise UserError(f'{where}: has no "file"')
    relative = PurePosixPath(fields["file"])
    if (
        not relative.name
        or relative.is_absolute()
        or ".." in relative.parts
        or "\\" in fields["file"]
        or ":" in fields["file"]
    ):
        raise UserError(f"{where}: file {fields['file']!r} must be a plain relative path inside the folder")
    for name, digits in [("sha256", 64), ("source_sha256", 64), ("commit", 40)]:
        if fields[name] and not re.fullmatch(rf"[0-9a-f]{{{digits}}}", fields[name]):
            raise UserError(f"{where}: {name} must be {digits} hex digits")
    size = entry.get("source_bytes", 0)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise UserError(f"{where}: source_bytes must be a whole number")
    return Work(
        id=_identifier(relative.with_suffix("").as_posix()),
        path=folder / relative,
        source_bytes=size,
        repo=fields.pop("source_repo"),
        **{k: v for k, v in fields.items() if k != "file"},
    )


def _identifier(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "work"


def _check_inside(file: Path, folder: Path) -> None:
    """Refuse a link that leads out of the folder (fault 22), and what is no file."""
    if not file.is_file():
        raise UserError(
            f"{file}: missing, though {folder / MANIFEST} names it" if not file.exists() else f"{file}: not a file"
        )
    if not file.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{file}: a link that leads out of {folder}")
