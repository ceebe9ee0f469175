"""Files to raw text: .txt, .html, .md, .epub, and .zip, .tar and .gz around them."""

import dataclasses
import io
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from juliagpt_jax.books import archives, epub, markdown, pages
from juliagpt_jax.books.archives import PACKED, TARS, Budget, damaged
from juliagpt_jax.books.ledger import Ledger
from juliagpt_jax.ground import texts
from juliagpt_jax.ground.errors import UserError

PAGES = (".html", ".htm", ".xhtml")
TEXTS = (".txt", ".text", *PAGES, *markdown.SUFFIXES)
SUFFIXES = (*TEXTS, ".epub", ".zip", *TARS, *PACKED)
_MEMBERS = (*TEXTS, ".epub", *(text + packed for text in TEXTS for packed in PACKED))


@dataclasses.dataclass(frozen=True)
class Document:
    """One text as it was published, with header and footer.

    Attributes:
        name: the file, and the member of the archive after a "!".
        text: lines end in \\n.
        replaced: bytes that were not of the encoding and became U+FFFD.
        facts: title, author and translator, where the format itself states them.
        ledger: what the format marks as no text (navigation, page numbers, notes), and was left out.
    """

    name: str
    text: str
    replaced: int = 0
    facts: dict[str, str] = dataclasses.field(default_factory=dict)
    ledger: Ledger = dataclasses.field(default_factory=Ledger)


def read(path: Path, budget: Budget, errors: str = "strict", notes: list[str] | None = None) -> list[Document]:
    """Return all documents in a file.

    Args:
        errors: "strict"; "replace" for bytes that are not UTF-8 nor of the encoding that the file declares; "skip" to
            leave out the members of an archive that cannot be read.
        notes: what is left out of an archive is added to it.

    Raises:
        UserError: the file cannot be read, is damaged, too large, holds a path that leads out of its archive, or is not
            text.
    """
    try:
        with open(path, "rb") as stream:
            return parse(str(path), stream, budget, errors, notes)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error


def parse(
    name: str, stream: Any, budget: Budget, errors: str = "strict", notes: list[str] | None = None
) -> list[Document]:
    """Return the documents of an open file (see `read`); its name says what it claims to be."""
    notes = [] if notes is None else notes
    lower = name.lower()
    packed = next((suffix for suffix in PACKED if lower.endswith(suffix)), "")
    try:
        if lower.endswith(TARS):
            return _members(name, archives.tarred(name, stream, budget, _MEMBERS), budget, errors, notes)
        if lower.endswith(".zip"):
            return _members(name, archives.zipped(name, stream, budget), budget, errors, notes)
        if lower.endswith(".epub"):
            return [_epub(name, stream, budget, errors)]
        if packed:
            content = budget.read(PACKED[packed](stream), name)
            if texts.kind(content) == "a tar archive":
                return _members(
                    name, archives.tarred(name, io.BytesIO(content), budget, _MEMBERS), budget, errors, notes
                )
            return [_text(name, content, errors, lower.removesuffix(packed))]
        return [_text(name, budget.read(stream, name), errors, lower)]
    except OSError as error:
        if error.errno is not None:  # of the disk; one of a damaged archive has no number
            raise
        raise UserError(damaged(name, error)) from error
    except archives.DAMAGE as error:
        raise UserError(damaged(name, error)) from error


def _members(
    name: str, members: Iterable[archives.Member], budget: Budget, errors: str, notes: list[str]
) -> list[Document]:
    """Return the documents of an archive, in the order of their names; all bad ones are named at once."""
    documents, faults, others, taken = [], [], [], 0
    for member, content in members:
        full = f"{name}!{member}"
        if not member.lower().endswith(_MEMBERS):
            if not texts.hidden(member):
                others.append(member)
            continue
        if texts.hidden(member):
            continue
        taken += 1
        try:  # a text has taken its bytes from the budget already
            inner = content()
            own = Budget(len(inner), len(inner), 1) if member.lower().endswith(TEXTS) else budget
            documents += parse(full, io.BytesIO(inner), own, "strict" if errors == "skip" else errors, notes)
        except UserError as error:
            if "--max_" in str(error):
                raise
            faults.append(str(error))
    if not taken:
        raise UserError(f"{name}: no .txt, .html, .md or .epub in it")
    if faults and (errors != "skip" or not documents):
        raise texts.refused(faults, taken)
    notes += [f"left out: {fault}" for fault in faults]
    if others:
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        notes.append(f"{name}: {len(others)} other files in it are not read: {', '.join(others[:5])}{more}")
    return documents


def _epub(name: str, stream: Any, budget: Budget, errors: str) -> Document:
    found, facts = epub.pages(name, stream, budget)
    documents = [_text(f"{name}!{path}", content, errors, PAGES[0]) for path, content in found.items()]
    ledger = Ledger()
    for document in documents:
        ledger.add(document.ledger)
    text = "\n\n".join(document.text for document in documents)
    return Document(name, text, sum(d.replaced for d in documents), facts, ledger)


def _text(name: str, content: bytes, errors: str, claims: str) -> Document:
    """Return a text, read as what its name `claims` that it is, by its end."""
    decoded = texts.decode(name, content, "strict" if errors == "skip" else errors)
    text = unicodedata.normalize("NFC", decoded.text.replace("\r", "\n")).replace(pages.HEADING, "")
    start = re.sub(r"\A(?:\s+|<\?xml[^>]*>|<!--.*?-->)+", "", text[:4_000], flags=re.S)
    reader = next((reader for end, reader in FORMS.items() if claims.endswith(end)), None)
    if reader or re.match(r"<(?:!doctype\s+html|html)\b", start, re.I):
        text, ledger, title = (reader or pages.read)(name, text)
        return Document(name, text, decoded.replaced, {"title": t} if (t := " ".join(title.split())) else {}, ledger)
    return Document(name, text, decoded.replaced)


FORMS = dict.fromkeys(PAGES, pages.read) | dict.fromkeys(markdown.SUFFIXES, markdown.read)
