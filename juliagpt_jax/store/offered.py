"""Hashes that come with files from outside, and what the files are held to.

Four places offer one: `SHA256SUMS` beside the files, in the form of `sha256sum`; what huggingface_hub notes of a
download, in `.cache/huggingface/download/NAME.metadata`, or as the name of the blob in its cache that a file links to;
and the user. A file that is a pointer of git-LFS is not there at all.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.files import sha256, write_text

SUMS = "SHA256SUMS"
POINTER = b"version https://git-lfs.github.com/spec/"


def write_sums(folder: Path) -> None:
    """Write the SHA256SUMS of a folder's files."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    write_text(folder / SUMS, "".join(f"{sha256(path)}  {path.name}\n" for path in files))


def check(files: Iterable[Path]) -> dict[str, str]:
    """Hold files of one folder to the hashes that are offered; return the SHA-256 of each by its name.

    Raises:
        UserError: a file is another than its hash says, or a pointer of git-LFS; or SHA256SUMS is torn.
    """
    found = {}
    for path in files:
        refuse_pointer(path)
        try:
            found[path.name] = sha256(path)
        except FileNotFoundError as error:
            raise UserError(f"{path} does not exist") from error
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from error
        for where, offered in _offered(path):
            own = found[path.name] if len(offered) == 64 else _blob(path)
            if offered != own:
                raise UserError(
                    f"{path}: changed: its hash is {own[:16]}..., and {where} has {offered[:16]}...; get it again, or "
                    "remove what offers the hash if you changed the file yourself"
                )
    return found


def refuse_pointer(path: Path) -> None:
    """Raise a UserError where a file is a pointer of git-LFS, not the file itself."""
    try:
        with open(path, "rb") as file:
            begins = file.read(1024)
    except OSError:  # for the reader to report
        return
    if begins.startswith(POINTER):
        oid = re.search(rb"oid sha256:([0-9a-f]{64})", begins)
        named = f" of SHA-256 {oid[1].decode()[:16]}..." if oid else ""
        raise UserError(f"{path}: a pointer of git-LFS; `git lfs pull` gets the file{named} that it stands for")


def _offered(path: Path) -> Iterable[tuple[str, str]]:
    """Where a hash of a file is offered, and the hash: 64 digits of SHA-256, or 40 of git's name for a blob."""
    sums = path.parent / SUMS
    if sums.is_file():
        for number, line in enumerate(sums.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            match = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+)", line)
            if not match:
                raise UserError(f"{sums}:{number}: not a line of sha256sum: a hash, two blanks, a name")
            if match[2] == path.name:
                yield SUMS, match[1].lower()
    note = path.parent / ".cache" / "huggingface" / "download" / f"{path.name}.metadata"
    if note.is_file():
        etag = [*note.read_text(encoding="utf-8", errors="replace").splitlines(), "", ""][1]
        if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", etag):
            yield f".cache/huggingface/download/{note.name}", etag
    blob = path.resolve()
    if path.is_symlink() and blob.parent.name == "blobs" and re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", blob.name):
        yield "the name of its blob", blob.name


def _blob(path: Path) -> str:
    """Return git's name of a file's contents."""
    raw = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(raw) + raw, usedforsecurity=False).hexdigest()
