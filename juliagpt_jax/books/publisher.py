"""A publisher's header and footer around a work: Project Gutenberg's of every age, the Internet Classics Archive's.

A line is a border only where the file has a second sign that it comes from there. A file may hold several books.
"""

import re
from typing import NamedTuple

from juliagpt_jax.books.ledger import Ledger

_TITLE_TO_STARS = r"(?:[^*\n]*(?:\n[^*\n]+){0,4}\*{3}[^\n]*|[^\n]*)$"  # the stars that close it may be missing
_START = re.compile(rf"^ *\*{{0,3}} ?START OF (?:THE|THIS) PROJECT GUTENBERG\b{_TITLE_TO_STARS}", re.M)
_END = re.compile(r"^ *\*{0,3} ?END OF (?:THE |THIS )?PROJECT GUTENBERG(?! HEADER)\b", re.M | re.I)
_SMALL_PRINT_BEGINS = re.compile(r"^.*START.{0,4}THE SMALL PRINT!?.*$", re.M)
_SMALL_PRINT = re.compile(r"^.*END.{0,4}THE SMALL PRINT!?.*$", re.M)
_LICENCE = re.compile(
    r"^ *\*{0,3} ?(?:START: FULL LICEN[CS]E|(?:THE )?FULL PROJECT GUTENBERG(?:-TM|™)? LICEN[CS]E)\b", re.M | re.I
)
_HEADER_LINE = re.compile(
    r"^(?:Title|Author|Translator|Editor|Illustrator|Language|Release Date|Posting Date|Last Updated|"
    r"Character set encoding|Edition|Credits)\s*:.*$|^.{0,80}(?:Project Gutenberg E-?(?:text|book) (?:of|#)|"
    r"This file should be named|\[E-?(?:text|book) ?#).*$",
    re.M | re.I,
)
_ARCHIVE_START = re.compile(
    r"\A\s*Provided by The Internet Classics Archive.*?^(?:-{20,}|Translated by [^\n]+)$", re.M | re.S
)
_ARCHIVE_END = re.compile(r"^(?:THE END\s+)?-{20,}\s+Copyright statement:\s+The Internet Classics Archive", re.M)
_BOOK_BEGINS = re.compile(
    r"^[ \t\ufeff*]*(?:The )?Project Gutenberg(?:'s|’s)? (?:E-?(?:text|book)\b|of\b|[^\n]{0,60}, by\b).*$|"
    r"^Provided by The Internet Classics Archive.*$",
    re.M | re.I,
)
_HEADED = re.compile(rf"^Title\s*:|^By \S|{_START.pattern}|{_SMALL_PRINT.pattern}", re.M)


class Body(NamedTuple):
    """A work without what its publisher put around it.

    Attributes:
        text: of the work.
        published: whether the file came from one of the publishers: a second sign for rules about their notes.
        facts: title, author and translator, where the header names them.
    """

    text: str
    published: bool
    facts: dict[str, str]


def split(text: str) -> list[str]:
    """Return the books of a file, each with its header and footer; joined they are the text.

    A book begins at the first header after the end of the last one. A header has a title or a border after it.
    """
    cuts = [0]
    while end := _END.search(text, _begin(text, cuts[-1]) or cuts[-1]):
        following = (
            m.start()
            for m in _BOOK_BEGINS.finditer(text, end.end())
            if not _END.match(text, m.start()) and _HEADED.search(text, m.end(), m.end() + 3_000)
        )
        begin = next(following, None)
        if begin is None:
            break
        cuts.append(begin)
    return [text[a:b] for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]


def _begin(text: str, at: int) -> int | None:
    """Return where a book's text begins: after the border that stands before its END line, else after its header's
    lines. A border is a START line or the end of the small print."""
    end = _END.search(text, at)
    limit = end.start() if end else len(text)
    if border := _START.search(text, at, limit) or _SMALL_PRINT.search(text, at, limit):
        small = _SMALL_PRINT.search(text, border.end(), limit)  # some old files have it after the START line
        return small.end() if small and small.start() - border.end() < 30_000 else border.end()
    if "project gutenberg" in text[at : at + 1_000].lower():
        lines = list(_HEADER_LINE.finditer(text, at, min(at + 8_000, limit)))
        return lines[-1].end() if lines else None
    return None


def inside(text: str, ledger: Ledger) -> Body:
    """Take the publisher's header and footer away, whatever their wording."""
    begin, end = 0, len(text)
    known = len(re.findall("project gutenberg", text, re.I)) > 1  # one mention alone may be the author's
    archive = _ARCHIVE_START.search(text, 0, 3_000)
    if archive:
        begin = archive.end()
    elif known and (found := _begin(text, 0)) is not None:
        begin = found
    patterns = [_ARCHIVE_END] if archive else [_END, _SMALL_PRINT_BEGINS, _LICENCE] if known else []
    for pattern in patterns:
        if match := pattern.search(text, begin):
            end = min(end, match.start())
    header, body, footer = text[:begin], text[begin:end], text[end:]
    for part in (header, footer):
        if part:
            ledger.drop("header and footer", part)
    if archive:
        body = re.sub(r"(?<=\S) \n(?=\S)", "\n\n", body)  # the Archive ends a paragraph with a space
    return Body(body, bool(archive or (known and (header or footer))), _facts(header))


def _facts(header: str) -> dict[str, str]:
    facts = {}
    for name in ("title", "author", "translator"):
        if match := re.search(rf"^{name}:[ \t]*(\S.*)$", header, re.I | re.M):
            facts[name] = " ".join(match[1].split())
    if "Internet Classics Archive" in header and (match := re.search(r"\n\n(\S.*)\nBy (\S.*)\n", header)):
        facts |= {"title": match[1].strip(), "author": match[2].strip()}
        if match := re.search(r"^Translated by (\S.*)$", header, re.M):
            facts["translator"] = match[1].strip()
    return facts
