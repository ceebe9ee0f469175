"""Files that hold text: which files of a folder count, what a file really is, and its bytes as characters.

`main` (config.data.path), `prepare` and `tokenize` (--source) read through this module, so that they take and refuse
the same files in the same words. It knows neither tokens nor books.
"""

import codecs
import dataclasses
import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from juliagpt_jax.ground.errors import UserError

_LATIN = {"ascii", "iso8859-1", "cp1252"}  # as browsers do, all three are read as Windows-1252
_MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARED = re.compile(
    rb"character set encoding:\s*([\w.:-]+)|<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]+)|"
    rb"<meta[^>]{0,300}?charset\s*=\s*[\"']?\s*([\w.:-]+)",
    re.I,
)
# What other files begin with: the place, the bytes, what such a file is.
_SIGNATURES = [
    (0, b"%PDF-", "a PDF document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"{\\rtf", "an RTF document"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a Word document (.doc) or another file of old Microsoft Office"),
    (0, b"\xffWPC", "a WordPerfect document"),
    (0, b"AT&TFORM", "a DjVu document"),
    (60, b"BOOKMOBI", "a Kindle book (.mobi, .azw)"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ\0", "an xz archive"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\0\x05\x16\x07", "an AppleDouble file, which macOS puts beside the real one"),
    (0, b"\x89PNG\r\n", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"II*\0", "a TIFF picture"),
    (0, b"MM\0*", "a TIFF picture"),
    (0, b"OggS", "a sound file"),
    (0, b"ID3\x03", "a sound file"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"\x7fELF", "a program"),
    (0, b"PAR1", "a Parquet table"),
]
_ZIPPED = [  # what a zip archive holds near its beginning, and what it then is
    (b"mimetypeapplication/epub+zip", "an EPUB book"),
    (b"mimetypeapplication/vnd.oasis", "an OpenDocument file (.odt)"),
    (b"word/", "a Word document (.docx)"),
    (b"[Content_Types].xml", "an Office document (.docx, .xlsx, .pptx)"),
]
_ARCHIVES = {  # what `prepare` reads, under such a name
    "a zip archive": ".zip",
    "an EPUB book": ".epub",
    "a gzip archive": ".gz",
    "a tar archive": ".tar",
    "a bzip2 archive": ".bz2",
    "an xz archive": ".xz",
}

SNAPSHOT = "manifest.jsonl"  # names the files of a frozen folder


@dataclasses.dataclass(frozen=True)
class Decoded:
    """A file's characters.

    Attributes:
        text: line ends are \\n.
        replaced: bytes that were not of the encoding and became U+FFFD.
        encoding: as Python names it.
    """

    text: str
    replaced: int
    encoding: str


def path(given: str) -> Path:
    """Return the path that a user gave; a ~ at its start is the home folder, also where the shell left it alone."""
    try:
        return Path(given).expanduser()
    except (RuntimeError, ValueError):  # no home folder is known; or a user's name that no name can be
        return Path(given)


def hidden(name: str) -> bool:
    """Tell whether a relative path is one that its owner does not see: .name, ._name and __MACOSX of macOS."""
    return any((p.startswith(".") and p not in (".", "..")) or p == "__MACOSX" for p in re.split(r"[/\\]", name))


def listed(folder: Path, suffixes: Sequence[str], deep: bool) -> tuple[list[Path], list[Path]]:
    """Return a folder's files whose names end in one of the suffixes, in capitals or not, and its other files.

    Hidden files, and the manifest.jsonl of a snapshot, are in neither list. Both are in the order of their paths.

    Args:
        suffixes: small letters, with their dot: ".txt", ".tar.gz".
        deep: look into the folders inside too.
    """
    found = [f for f in (folder.rglob("*") if deep else folder.glob("*")) if f.is_file() or f.is_symlink()]
    found = sorted(
        (f for f in found if not hidden(f.relative_to(folder).as_posix()) and not _is_snapshot(f)),
        key=lambda f: f.relative_to(folder).as_posix(),
    )
    taken = [f for f in found if f.name.lower().endswith(tuple(suffixes))]
    return taken, [f for f in found if f not in set(taken)]


def _is_snapshot(file: Path) -> bool:
    """Tell whether a file lists what a folder holds (data/snapshots.py), and is no part of it."""
    if file.name != SNAPSHOT or not file.is_file():
        return False
    with open(file, "rb") as stream:
        return b'"snapshot": ' in stream.readline(2**16)


def shown(name: str) -> str:
    """Return a file's name as a text that can be written; bytes of it that are not UTF-8 become U+FFFD."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def not_read(folder: Path, others: Sequence[Path]) -> list[str]:
    """Return a note that names the files of a folder that are not read; none if there is none."""
    if not others:
        return []
    names = [f.relative_to(folder).as_posix() for f in others]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return [f"{len(names)} other files of the folder are not read: {', '.join(names[:5])}{more}"]


def read_bytes(file: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}") from error


def read_unpacked(file: Path, most: int) -> bytes:
    """Return the bytes of a file; of a .gz those that are packed in it, `most` at most.

    Raises:
        UserError: as `read_bytes`, or it is damaged, or holds more.
    """
    if not file.name.lower().endswith(".gz"):
        return read_bytes(file)
    try:
        with gzip.open(file) as packed:
            content = packed.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or f"not a sound gzip file: {error}"
        raise UserError(f"{file}: {reason}") from error
    if len(content) > most:
        raise UserError(f"{file}: more than {most:,} bytes when unpacked")
    return content


def kind(content: bytes) -> str:
    """Return what a file is if its first bytes say that it is no plain text: "a PDF document"; else ""."""
    start = content[:4_096]
    for place, sign, what in _SIGNATURES:
        if start[place:].startswith(sign) or (place == 0 and start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(sign)):
            return what
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return next((what for sign, what in _ZIPPED if sign in start), "a zip archive")
    return ""


def decode(name: str, content: bytes, errors: str = "strict", flag: str = "--errors") -> Decoded:
    """Return the characters of a file of plain text or of a page.

    The encoding is the one that a mark at the start names; else UTF-8; else the one that the text itself declares (a
    Gutenberg header, `<meta charset>`, `<?xml encoding?>`); else UTF-16 without a mark, told by its zero bytes.

    Args:
        name: of the file, for messages.
        errors: "strict"; "replace" puts U+FFFD for bytes that are of no such encoding. Data that are no text at all are
            refused in either case.
        flag: the name of `errors` on the command line, for messages.

    Raises:
        UserError: the file is a document of another kind, or not text, or has bytes of another encoding.
    """
    if what := kind(content):
        advice = (
            f"python -m juliagpt_jax.prepare reads it under a name that ends in {_ARCHIVES[what]}"
            if what in _ARCHIVES
            else "save its text as plain text (.txt, UTF-8) and give that"
        )
        raise UserError(f"{name}: {what}, not plain text; {advice}")
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return _decoded(name, content[len(mark) :], encoding, errors, flag, len(mark))
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        pass
    else:
        if "\0" not in text or not (encoding := _without_mark(content)):
            return Decoded(_lines(text), 0, "utf-8")
        return Decoded(_lines(content.decode(encoding)), 0, encoding)
    if declared := _declared(content):
        return _decoded(name, content, declared, "replace" if declared == "cp1252" else errors, flag)
    if encoding := _without_mark(content):
        return Decoded(_lines(content.decode(encoding)), 0, encoding)
    start = content[:65_536]
    if sum(map(start.count, _CONTROLS)) > 0.02 * len(start):
        raise UserError(f"{name}: binary data, not text; save its text as plain text (.txt, UTF-8) and give that")
    return _decoded(name, content, "utf-8", errors, flag)


def blocks(file: Path, errors: str = "strict", flag: str = "--errors", size: int = 2**22) -> Iterator[str]:
    """Yield the characters that `decode` returns of a file, in blocks of about `size` bytes, so that a large file is
    never held whole. That is so for UTF-8; a file in another encoding, or damaged, is read at once.

    Raises:
        UserError: as `decode` before anything is yielded, or the file cannot be read.
    """
    ends = False  # some line ends in \n: a \r elsewhere is none
    try:
        with open(file, "rb") as handle:
            plain = not kind(handle.read(4_096))
        for text in _utf8(file, size) if plain else ():
            ends = ends or "\n" in text
            plain = plain and "\0" not in text
    except UnicodeDecodeError:
        plain = False
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}") from error
    if not plain:
        yield decode(str(file), read_bytes(file), errors, flag).text
        return
    rest, begun = "", False
    for text in _utf8(file, size):
        if text and not begun:
            text, begun = text.removeprefix("\ufeff").removeprefix("\ufeff"), True  # the mark, and one in the text
        text = rest + text
        rest = "\r" if text.endswith("\r") else ""
        text = text[: len(text) - len(rest)]
        yield text.replace("\r\n", "\n") if ends else text.replace("\r", "\n")
    yield rest if ends else rest.replace("\r", "\n")


def _utf8(file: Path, size: int) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open(file, "rb") as handle:
        while part := handle.read(size):
            yield decoder.decode(part)
        yield decoder.decode(b"", final=True)


def refused(messages: Sequence[str], total: int, advice: str = "") -> UserError:
    """Return one error that names all files that were refused, not only the first.

    Args:
        messages: one a file, of the `UserError` that it gave.
        total: files that were to be read.
        advice: what to do about it.
    """
    more = f"; and {len(messages) - 20} more" if len(messages) > 20 else ""
    each = "; ".join(message.rstrip(".") for message in messages[:20])
    begin = f"{len(messages)} of {total} files cannot be read: " if len(messages) > 1 else ""
    return UserError(f"{begin}{each}{more}{'; ' + advice if advice else ''}")


_CONTROLS: Iterable[bytes] = [bytes([b]) for b in range(32) if b not in b"\t\n\v\f\r\x1a\x1b"]


def _decoded(name: str, content: bytes, encoding: str, errors: str, flag: str, mark: int = 0) -> Decoded:
    try:
        return Decoded(_lines(content.decode(encoding)), 0, encoding)
    except UnicodeDecodeError as error:
        if errors == "strict":
            shown = {"utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}.get(encoding, encoding.upper())
            perhaps = (
                "; if it is Windows-1252 or Latin-1, convert it (iconv -f WINDOWS-1252 -t UTF-8)"
                if encoding == "utf-8"
                else ""
            )
            raise UserError(
                f"{name}: byte {mark + error.start} is not {shown} ({error.reason}){perhaps}; "
                f"{flag}=replace replaces such bytes"
            ) from error
        text = content.decode(encoding, "replace")
        own = content.count("\ufffd".encode(encoding)) if encoding.startswith("utf") else 0
        return Decoded(_lines(text), text.count("\ufffd") - own, encoding)


def _declared(content: bytes) -> str:
    """Return the encoding that a text says it has, as Python names it; "" if it says none or one that is not known."""
    for match in _DECLARED.finditer(content[:8_000]):
        label = next(group for group in match.groups() if group).decode("ascii", "replace")
        label = re.sub(r"(?i)^iso-?latin-?1$", "latin-1", label.rstrip("."))
        try:
            found = codecs.lookup(label)
        except (LookupError, ValueError):
            continue
        if found.name.startswith("utf") or not getattr(found, "_is_text_encoding", True):
            continue  # it is not UTF-8, and UTF-16 would not let the label be read
        return "cp1252" if found.name in _LATIN else found.name
    return ""


def _without_mark(content: bytes) -> str:
    """Return "utf-16-le" or "utf-16-be" if every second byte of a text is nearly always zero, and no other is."""
    sample = content[: min(len(content), 65_536) // 2 * 2]
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    for encoding, high, low in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        if len(content) % 2 == 0 and len(sample) >= 8 and high > 0.35 * len(sample) and low == 0:
            try:
                content.decode(encoding)
                return encoding
            except UnicodeDecodeError:
                pass
    return ""


def _lines(text: str) -> str:
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    return text.replace("\r", "\n") if "\n" not in text else text  # of an old Macintosh
