"""Files to raw text: .txt, .html, .epub, and .zip and .gz around them. Nothing is ever unpacked to the disk.

Whatever a file claims, no more than the budget allows is read from it: an archive that would grow past it (a zip or
gzip bomb) is refused while it is being read, so that memory stays flat.
"""

import dataclasses
import gzip
import io
import posixpath
import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

from juliagpt_jax.ground.errors import UserError

HEADING = "\f"  # stands before a line that the file's format calls a heading
TEXTS = (".txt", ".text", ".html", ".htm", ".xhtml")
_CHARSET = re.compile(rb"character set encoding:\s*([\w-]+)", re.I)
_LATIN = {"iso-8859-1", "iso-latin-1", "latin-1", "latin1", "windows-1252", "cp1252", "iso8859-1"}


@dataclasses.dataclass
class Budget:
    """How much may still be read.

    Attributes:
        total_bytes: over all files, after decompression.
        file_bytes: of one file, after decompression.
        files: over all archives and folders.
    """

    total_bytes: int = 1 << 30
    file_bytes: int = 64 << 20
    files: int = 10_000

    def read(self, stream: io.IOBase, name: str) -> bytes:
        """The whole of a stream.

        Raises:
            UserError: it is longer than what is left, or there is one file too many.
        """
        limit = min(self.file_bytes, self.total_bytes)
        content = stream.read(limit + 1)
        if len(content) > limit:
            raise UserError(
                f"{name}: more than {limit:,} bytes once unpacked; --max_bytes, --max_file_bytes say how much is read"
            )
        self.files -= 1
        if self.files < 0:
            raise UserError(f"{name}: one file too many; --max_files says how many are read")
        self.total_bytes -= len(content)
        return content


@dataclasses.dataclass(frozen=True)
class Document:
    """One text as it was published, with header and footer.

    Attributes:
        name: the file, and the member of the archive after a "!".
        text: lines end in \\n.
        replaced: bytes that were not of the encoding and became U+FFFD.
        facts: title, author and translator, where the format itself states them.
    """

    name: str
    text: str
    replaced: int = 0
    facts: dict[str, str] = dataclasses.field(default_factory=dict)


def read(path: Path, budget: Budget, errors: str = "strict") -> list[Document]:
    """All documents in a file.

    Args:
        errors: "strict", or "replace" for bytes that are not UTF-8 nor of the encoding that the file declares.

    Raises:
        UserError: the file cannot be read, is damaged, too large, holds a path that leads out of its archive, or has
            bytes that are not text.
    """
    try:
        with open(path, "rb") as stream:
            return parse(str(path), stream, budget, errors)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error


def parse(name: str, stream: io.IOBase, budget: Budget, errors: str = "strict") -> list[Document]:
    """`read`, from an open file; its kind follows from its name."""
    suffix = posixpath.splitext(name.lower())[1]
    try:
        if suffix == ".gz":
            content = budget.read(gzip.GzipFile(fileobj=stream), name)  # pyright: ignore[reportArgumentType]
            inner = posixpath.splitext(name)[0]
            return [_text(name, content, errors, inner.lower().endswith((".html", ".htm")))]
        if suffix == ".zip":
            return list(_archive(name, stream, budget, errors))
        if suffix == ".epub":
            return [_epub(name, stream, budget, errors)]
    except (zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{name}: damaged, encrypted or not what its name says: {error}") from error
    return [_text(name, budget.read(stream, name), errors, suffix in TEXTS[2:])]


def _archive(name: str, stream: io.IOBase, budget: Budget, errors: str) -> Iterator[Document]:
    with zipfile.ZipFile(stream) as archive:  # pyright: ignore[reportArgumentType]
        members = _members(name, archive, budget)
        wanted = [m for m in members if m.filename.lower().endswith((*TEXTS, ".epub"))]
        if not wanted:
            raise UserError(f"{name}: no .txt, .html or .epub in it")
        for member in wanted:
            with archive.open(member) as file:
                if member.filename.lower().endswith(".epub"):
                    inner = io.BytesIO(budget.read(file, f"{name}!{member.filename}"))  # pyright: ignore[reportArgumentType]
                    yield _epub(f"{name}!{member.filename}", inner, budget, errors)
                else:
                    yield from parse(f"{name}!{member.filename}", file, budget, errors)  # pyright: ignore[reportArgumentType]


def _members(name: str, archive: zipfile.ZipFile, budget: Budget) -> list[zipfile.ZipInfo]:
    """The files of an archive, in the order of their names; paths that lead out of it and links are refused."""
    members = sorted((m for m in archive.infolist() if not m.is_dir()), key=lambda m: m.filename)
    if len(members) > budget.files:
        raise UserError(f"{name}: {len(members):,} files in it; --max_files says how many are read")
    for member in members:
        path = member.filename.replace("\\", "/")
        if path.startswith("/") or re.match(r"[A-Za-z]:", path) or ".." in path.split("/"):
            raise UserError(f"{name}: {member.filename!r} leads out of the archive")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise UserError(f"{name}: {member.filename!r} is a link")
    return members


def _epub(name: str, stream: io.IOBase, budget: Budget, errors: str) -> Document:
    """An e-book: the pages of its spine, in their order. META-INF/container.xml names the package file."""
    with zipfile.ZipFile(stream) as archive:  # pyright: ignore[reportArgumentType]
        members = {m.filename: m for m in _members(name, archive, budget)}

        def page(path: str) -> bytes:
            if path not in members:
                raise UserError(f"{name}: not a sound e-book: {path} is missing")
            with archive.open(members[path]) as file:
                return budget.read(file, f"{name}!{path}")  # pyright: ignore[reportArgumentType]

        container = _Package()
        container.feed(_decode(name, page("META-INF/container.xml"), errors)[0])
        if not container.root:
            raise UserError(f"{name}: not a sound e-book: its container names no package file")
        package = _Package()
        package.feed(_decode(name, page(container.root), errors)[0])
        pages = []
        replaced = 0
        for item in package.spine:
            if item not in package.items:
                raise UserError(f"{name}: not a sound e-book: its spine names {item!r}, which is not in it")
            href, properties = package.items[item]
            if "nav" in properties.split():
                continue
            path = posixpath.normpath(posixpath.join(posixpath.dirname(container.root), unquote(href.split("#")[0])))
            document = _text(f"{name}!{path}", page(path), errors, html=True)
            pages.append(document.text)
            replaced += document.replaced
        if not pages:
            raise UserError(f"{name}: not a sound e-book: no pages in its spine")
        return Document(name, "\n\n".join(pages), replaced, package.facts)


def _text(name: str, content: bytes, errors: str, html: bool) -> Document:
    text, replaced = _decode(name, content, errors)
    if html or re.match(r"\s*<(!doctype html|html)\b", text[:500], re.I):
        reader = _Html()
        reader.feed(text)
        reader.close()
        text = "".join(reader.parts)
    return Document(name, text, replaced)


def _decode(name: str, content: bytes, errors: str) -> tuple[str, int]:
    """UTF-8, UTF-16 with its mark, or the Latin encoding that a Gutenberg header declares; else fault 15."""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    try:
        text, replaced = content.decode(encoding), 0
    except UnicodeDecodeError as error:
        declared = _CHARSET.search(content[:8_000])
        if declared and declared[1].decode().lower() in _LATIN:
            text, replaced = content.decode("cp1252", "replace"), 0
        elif errors == "strict":
            raise UserError(
                f"{name}: byte {error.start} is not {encoding.upper()} ({error.reason}); "
                "--errors=replace replaces such bytes"
            ) from error
        else:
            text = content.decode(encoding, "replace")
            replaced = text.count("\ufffd") - content.count("\ufffd".encode())
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize("NFC", text), replaced


class _Package(HTMLParser):
    """What an e-book's container.xml and package file say. Read without expanding entities, so that none can swell."""

    def __init__(self) -> None:
        super().__init__()
        self.root = ""
        self.items: dict[str, tuple[str, str]] = {}
        self.spine: list[str] = []
        self.facts: dict[str, str] = {}
        self._fact = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {k: v or "" for k, v in attrs}
        name = tag.split(":")[-1]
        if name == "rootfile" and not self.root:
            self.root = values.get("full-path", "")
        elif name == "item":
            self.items[values.get("id", "")] = (values.get("href", ""), values.get("properties", ""))
        elif name == "itemref":
            self.spine.append(values.get("idref", ""))
        self._fact = {"dc:title": "title", "dc:creator": "author"}.get(tag, "")

    def handle_data(self, data: str) -> None:
        if self._fact and data.strip():
            self.facts.setdefault(self._fact, " ".join(data.split()))

    def handle_endtag(self, tag: str) -> None:
        self._fact = ""


class _Html(HTMLParser):
    """A page to text: blocks are set off by blank lines, headings marked; scripts, tables and note marks left out."""

    BLOCKS = frozenset(
        "p div br li ul ol dl dt dd blockquote pre section article header footer hr tr figure body".split()
    )
    SILENT = frozenset("head script style nav table svg math audio video object noscript template figcaption".split())

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._silent: list[str] = []
        self._sup = ""
        self._in_sup = False
        self._pre = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._silent or tag in self.SILENT:
            if tag in self.SILENT:
                self._silent.append(tag)
        elif tag == "sup":
            self._in_sup, self._sup = True, ""
        elif tag == "br":
            self.parts.append("\n")
        elif re.fullmatch("h[1-6]", tag):
            self.parts.append(f"\n\n{HEADING}")
        elif tag in self.BLOCKS:
            self._pre += tag == "pre"
            self.parts.append("\n\n")

    def handle_endtag(self, tag: str) -> None:
        if self._silent:
            if tag in self._silent:  # an unclosed tag inside ends with the one around it
                del self._silent[len(self._silent) - 1 - self._silent[::-1].index(tag) :]
        elif tag == "sup":
            if not re.fullmatch(r"[\[(]?(\d+|[a-z*†‡])[\])]?", self._sup.strip(), re.I):
                self.parts.append(self._sup)
            self._in_sup = False
        elif re.fullmatch("h[1-6]", tag) or (tag in self.BLOCKS and tag != "br"):
            self._pre -= tag == "pre"
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        text = data if self._pre > 0 else re.sub(r"\s+", " ", data)
        if self._in_sup:
            self._sup += text
        else:
            self.parts.append(text)
