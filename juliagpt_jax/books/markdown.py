"""Markdown as a page: what its signs mark is left out or set apart by the rules for HTML, which it is turned into.

The parser is markdown-it-py (CommonMark 0.31, with tables). What CommonMark has no form for comes first: the metadata
between two lines of dashes at the start, and footnotes. Code in a fence that names its language is no text; in a bare
fence people set verse and letters, and it stays.
"""

import re

from markdown_it import MarkdownIt

from juliagpt_jax.books import pages
from juliagpt_jax.books.ledger import Ledger, allowed

SUFFIXES = (".md", ".markdown")
# Files of these names tell of the folder that they lie in, not of the world.
ABOUT = frozenset("readme license licence copying changelog contributing code_of_conduct security authors".split())

_FRONT = re.compile(r"\A---[ \t]*\n((?:[\w -]+:.*\n|[ \t]+.*\n|- .*\n|#.*\n|\n)*?)(?:---|\.\.\.)[ \t]*(?:\n|\Z)")
_TITLE = re.compile(r"^title:[ \t]*(.+)$", re.MULTILINE | re.IGNORECASE)
_NOTE = re.compile(r"^\[\^([^\]\s]{1,40})\]:[ \t]*(.*(?:\n(?:[ \t]+\S.*|\S.*))*)\n?", re.MULTILINE)
_MARK = re.compile(r"\[\^([^\]\s]{1,40})\]")
_YEAR = re.compile(r"^( {0,3}\d{3,9})(?=[.)]\s)", re.MULTILINE)  # "1986. That year ..." is no list


def read(name: str, text: str) -> tuple[str, Ledger, str]:
    """Return a text without its Markdown, what was left out, and the title that its metadata state.

    Raises:
        UserError: as `pages.read`.
    """
    ledger, title = Ledger(), ""
    if front := _FRONT.match(text):
        ledger.drop("metadata", front[0])
        title = match[1].strip(" '\"") if (match := _TITLE.search(front[1])) else ""
        text = text[front.end() :]
    text = _without_notes(text, ledger)
    tokens = _PARSER.parse(_YEAR.sub(r"\1\\", text))
    code = [t for t in tokens if t.type == "fence" and t.info.strip()]
    if sum(len(t.content) for t in code) <= allowed("code", len(text)):
        for token in code:
            ledger.drop("code", token.content)
        tokens = [t for t in tokens if not (t.type == "fence" and t.info.strip())]
    else:
        ledger.spared["code"] += sum(len(t.content) for t in code)
    page = _PARSER.renderer.render(tokens, _PARSER.options, {})
    plain, dropped, heading = pages.read(name, f"<body>{page}")
    ledger.add(dropped)
    return plain, ledger, title or heading


def _without_notes(text: str, ledger: Ledger) -> str:
    """Return a text without its footnotes and their marks, where there are both."""
    marks, notes = {m[1] for m in _MARK.finditer(_NOTE.sub("", text))}, {m[1] for m in _NOTE.finditer(text)}
    both = marks & notes
    if not both:
        return text
    found = [m[0] for m in _NOTE.finditer(text) if m[1] in both]
    if sum(map(len, found)) > allowed("notes", len(text)):
        ledger.spared["notes"] += sum(map(len, found))
        return text
    for note in found:
        ledger.drop("notes", note)
    text = _NOTE.sub(lambda m: "" if m[1] in both else m[0], text)
    return _MARK.sub(lambda m: "" if m[1] in both else m[0], text)


_PARSER = MarkdownIt("commonmark").enable("table")
