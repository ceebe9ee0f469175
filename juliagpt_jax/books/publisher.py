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
    r"^[ \t\ufeff*]*(?:The )?Project Gutenberg(?:'s|’s)? (?:E-?(?:text|book)|of\b|[^\n]{0,60}, by\b).*$|"
    r"^Provided by The Internet Classics Archive.*$",
    re.M | re.I,
)


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

    A book begins at the first header after the last book's START and END lines.
    """
    cuts = [0]
    at = 0
    while (begin := _begin(text, at)) is not None and (end := _END.search(text, begin)):
        following = _next_start(text, end.end())
        if following is None:
            break
        headers = [m.start() for m in _BOOK_BEGINS.finditer(text, end.end(), following)]
        headers = [h for h in headers if not _END.match(text, h)]
        cuts.append(headers[0] if headers else text.rfind("\n", 0, following) + 1)
        at = cuts[-1]
    return [text[a:b] for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]


def _next_start(text: str, at: int) -> int | None:
    """Return the end of the next book's header, if there is one; small print must have an END line after it."""
    if match := _START.search(text, at):
        return match.end()
    small = _SMALL_PRINT.search(text, at)
    return small.end() if small and _END.search(text, small.end()) else None


def _begin(text: str, at: int) -> int | None:
    """Return where a book's text begins: after its START line, or after small print that no END line precedes."""
    begin = None
    if match := _START.search(text, at):
        begin = match.end()
    end = _END.search(text, begin or at)
    small = _SMALL_PRINT.search(text, begin or at, end.start() if end else len(text))
    if small and small.start() - (begin or at) < 30_000:
        begin = small.end()  # some old files have the small print after the START line
    return begin


def inside(text: str, ledger: Ledger) -> Body:
    """Take the publisher's header and footer away, whatever their wording."""
    begin, end = 0, len(text)
    known = len(re.findall("project gutenberg", text, re.I)) > 1  # one mention alone may be the author's
    archive = _ARCHIVE_START.search(text, 0, 3_000)
    if archive:
        begin = archive.end()
    elif known and (found := _begin(text, 0)) is not None:
        begin = found
    elif known and "project gutenberg" in text[:1_000].lower():
        first_end = _END.search(text)
        lines = list(_HEADER_LINE.finditer(text, 0, min(8_000, first_end.start() if first_end else 8_000)))
        begin = lines[-1].end() if lines else 0
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
