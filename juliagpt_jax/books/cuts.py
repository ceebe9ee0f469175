"""Where one document of a file ends and the next begins. Each cut says by which signs it goes."""

import dataclasses
import itertools
import re
from collections.abc import Callable

MARK = "<|endoftext|>"
_TITLE = re.compile(r" = (?!= )(.+) = ")


@dataclasses.dataclass
class Piece:
    """A document as it was cut out of a file.

    Attributes:
        text: its own, all lines.
        title: "" where none is given.
        cause: why it is none, "" where it is one: a name of `documents.FATES`.
    """

    text: str
    title: str = ""
    cause: str = ""


def articles(text: str) -> list[Piece]:
    """Cut WikiText: a line ` = Title = ` between two blank lines begins an article, ` = = Section = = ` does not. The
    pieces, joined, are the text to the byte: what stands before the first title is the first article's."""
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    blank = lambda i: not 0 <= i < len(lines) or not lines[i].strip()
    found = [(i, m[1]) for i, line in enumerate(lines) if (m := _TITLE.fullmatch(line.rstrip("\n")))]
    found = [(i, title) for i, title in found if blank(i - 1) and blank(i + 1)]
    if not found:
        return [Piece(text)] if text else []
    begins = [0, *(i for i, _ in found[1:]), len(lines)]
    spans = zip(itertools.pairwise(begins), found, strict=True)
    return [Piece("".join(lines[begin:end]), title) for (begin, end), (_, title) in spans]


def stories(text: str) -> list[Piece]:
    """Cut at the sign <|endoftext|>, which ends a story. What no such sign ends was cut off: it is none. White space
    around a story goes."""
    *whole, rest = text.split(MARK)
    pieces = [Piece(story.strip()) for story in whole]
    return [*pieces, *([Piece(rest.strip(), cause="unfinished")] if rest.strip() else [])]


def blanks(text: str) -> list[Piece]:
    """Cut where two or more blank lines stand in a row. White space around a document goes."""
    return [Piece(part.strip()) for part in re.split(r"\n(?:[ \t]*\n){2,}", text) if part.strip()]


def file(text: str) -> list[Piece]:
    """Leave a file whole. White space around it goes."""
    return [Piece(text.strip())]


CUTS: dict[str, Callable[[str], list[Piece]]] = {
    "file": file,
    "blank": blanks,
    "story": stories,
    "article": articles,
}
ROW = "row"  # of a .jsonl file, whose "text" is the document: no cut is needed
