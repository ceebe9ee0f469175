"""A pinned file from the network to the disk: complete and unchanged, or not at all.

The bytes go to NAME.part beside their place and are renamed when their number and SHA-256 are right. A connection
that breaks or stalls is tried again and goes on where it stopped, if the server can do that; so does the next command.
"""

import http.client
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

from juliagpt_jax.books.sources import Work
from juliagpt_jax.ground.errors import StorageError, UserError
from juliagpt_jax.ground.files import sha256

MIRROR = "https://raw.githubusercontent.com"
SLOWEST = 1_000  # bytes a second, on average; below it a connection counts as stalled
_BLOCK = 1 << 16


def url(work: Work, mirror: str = MIRROR) -> str:
    """Return the address of a work's file, at its pinned commit.

    Raises:
        UserError: the manifest does not say, or not GitHub.
    """
    host, _, repo = work.repo.partition("/")
    if (
        host != "github.com"
        or repo.count("/") != 1
        or not work.commit
        or not work.source_path
        or not (work.source_sha256 and work.source_bytes)
    ):
        raise UserError(
            f"{work.id}: the manifest lacks a github.com repository, commit, path, source_sha256 or source_bytes, by "
            "which to download it"
        )
    return f"{mirror.rstrip('/')}/{quote(repo)}/{work.commit}/{quote(work.source_path)}"


def fetch(
    work: Work,
    folder: Path,
    mirror: str = MIRROR,
    timeout: float = 20.0,
    tries: int = 4,
    pause: float = 1.0,
    sleep: Callable[[float], None] = time.sleep,
    otherwise: str = "--source=DIR, a folder with the files",
) -> Path:
    """Return the work's file as published, in `folder`; downloaded unless it is there and has the right hash.

    Args:
        timeout: seconds without a byte after which a connection counts as stalled.
        tries: connections before giving up, with a pause between two that doubles from `pause` seconds.
        otherwise: what a user without a network can do.

    Raises:
        StorageError: unreachable, refused, cut short each time (the part stays, to go on from), or complete with
            another hash or size (nothing stays).
        UserError: `mirror` is not a web address.
    """
    address = url(work, mirror)
    if urlsplit(address).scheme not in ("https", "http"):
        raise UserError(f"--mirror={mirror}: must begin with https:// or http://")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{work.id}-{work.source_sha256[:16]}{Path(work.source_path).suffix}"
    part = target.with_name(f"{target.name}.part")
    if target.exists():
        if sha256(target) == work.source_sha256:
            return target
        target.unlink()
    reason, attempt = "", 0
    for attempt in range(tries):
        if attempt:
            sleep(pause * 2 ** (attempt - 1))
        try:
            _go_on(address, part, work.source_bytes, timeout)
        except urllib.error.HTTPError as error:
            reason = f"{error.code} {error.reason}"
            error.close()
            if error.code < 500 and error.code not in (408, 416, 429):
                break  # it is not there, and will not be a second later
            if error.code == 416:
                part.unlink(missing_ok=True)
            continue
        except urllib.error.URLError as error:
            reason = str(error.reason)
            if isinstance(error.reason, socket.gaierror):
                break  # no network
            continue
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in (28, 122):  # no space, quota
                part.unlink(missing_ok=True)
                raise StorageError(f"{part}: {error.strerror}") from error
            reason = (
                f"connection lost ({type(error).__name__})"
                if not isinstance(error, TimeoutError)
                else f"no byte in {timeout:g} s"
            )
            continue
        size = part.stat().st_size
        if size == work.source_bytes and sha256(part) == work.source_sha256:
            with open(part, "rb") as stream:
                os.fsync(stream.fileno())
            os.replace(part, target)
            return target
        with open(part, "rb") as stream:
            page = stream.read(300).lstrip().lower().startswith((b"<!doctype html", b"<html"))
        if page or size >= work.source_bytes:
            reason = (
                "a web page came instead of the file"
                if page
                else f"the file that came ({size:,} bytes) has another SHA-256 than the manifest says"
            )
            part.unlink()
        else:
            reason = f"{size:,} of {work.source_bytes:,} bytes came"
    raise StorageError(f"{address}: {reason}; tried {attempt + 1} times. Without a network: {otherwise}")


def _go_on(address: str, part: Path, size: int, timeout: float) -> None:
    """Open one connection: append to the part what is missing, or begin anew where the server knows no ranges."""
    begin = part.stat().st_size if part.exists() else 0
    if begin >= size > 0:
        part.unlink()
        begin = 0
    request = urllib.request.Request(address, headers={"User-Agent": "juliagpt_jax", "Accept-Encoding": "identity"})
    if begin:
        request.add_header("Range", f"bytes={begin}-")
    with urllib.request.urlopen(request, timeout=timeout) as response:
        if response.status != 206:
            begin = 0
        elif not (response.headers.get("Content-Range") or "").startswith(f"bytes {begin}-"):
            part.unlink(missing_ok=True)
            raise http.client.HTTPException("another range than was asked for")
        with open(part, "r+b" if begin else "wb") as file:
            file.seek(begin)
            at, started = begin, time.monotonic()
            while block := response.read1(_BLOCK):
                at += len(block)
                if at > size + _BLOCK:  # longer than it can be: whatever it is, it is not the file
                    break
                file.write(block)
                elapsed = time.monotonic() - started
                if elapsed > timeout and at - begin < SLOWEST * elapsed:
                    raise TimeoutError
