"""A page of HTML as text: blocks set off by blank lines, headings marked, without what the page marks as no text.

The parser is libxml2's (lxml), which reports tags and text as they come and builds no tree. It is linear in the input
where the standard library's is quadratic, it forgives what browsers forgive, and a tree cannot swell ("<p>" after a
thousand open "<font>" makes a thousand more in an HTML5 tree).
"""

import dataclasses
import re
from collections.abc import Mapping

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]  (compiled, without a stub)

from juliagpt_jax.books.ledger import Ledger, allowed
from juliagpt_jax.ground.errors import UserError

HEADING = "\x01"  # stands before a line that the page calls a heading
DEEPEST = 1_000  # tags inside each other; a page of a browser's limit has 512

_BLOCKS = frozenset(
    "p div li ul ol dl dt dd blockquote pre section article header footer main aside hr tr figure body address "
    "fieldset details summary center form".split()
)
_TELLING = frozenset("math figcaption caption noscript nav footer sup".split())  # without an attribute too
_NO_TEXT = frozenset(
    "head script style template svg canvas audio video object iframe noframes select button textarea map".split()
)
_HEADINGS = frozenset(f"h{level}" for level in range(1, 7))
# Tags that only dress a text up; old pages leave them open by the thousand.
_DRESS = re.compile(r"</?(?:font|b|i|u|s|big|small|tt|em|strong|center|nobr|blink)(?=[\s>])[^<>]*>", re.I)
_MARK = re.compile(r"\s*[\[(]?\s*(\d{1,4}|[a-z]|[ivxlc]+|[*†‡§¶]+)\s*[\])]?\s*", re.I)
_PAGE = re.compile(r"\W*(?:p(?:g|age)?\.?\s*)?(?:\d{1,4}|[ivxlc]+)\W*", re.I)
_MENU = re.compile(
    r"nav|navbar|navigation|menu|breadcrumbs?|sidebar|share|sharing|social|cookie|cookies|consent|newsletter|"
    r"subscribe|related|pagination|pager|skip|toolbar|toc|masthead|footer|widget|advert|ads|banner",
    re.I,
)
_LEGAL = re.compile(r"©|\bcopyright\b|all rights reserved|powered by|privacy policy|terms of (?:use|service)", re.I)
_NOTE_REFERENCE = {"noteref", "doc-noteref", "footnote-ref", "footnote-reference", "fnref", "fnanchor", "reference"}
_NOTE = {
    "footnote", "footnotes", "endnote", "endnotes", "rearnote", "rearnotes", "doc-footnote", "doc-endnote",
    "doc-endnotes", "references", "fnbody",
}  # fmt: skip
_PAGE_NUMBER = {
    "pagebreak", "doc-pagebreak", "page-break", "pagenum", "pageno", "page-number", "pagenumber", "page_number", "pb",
    "xhtml_pagenum",
}  # fmt: skip
_LINE_NUMBER = {"linenum", "lineno", "linenumber", "line-number", "ln", "linenos", "poem-line-number", "versenum"}
_VERSE_LINE = {"line", "verse", "l", "verseline", "poem-line"}


@dataclasses.dataclass
class _Frame:
    """An open element whose text may be left out once it is known.

    Attributes:
        rule: under which; "layout" for a table, until its cells are known.
        parts: its text so far.
        links: characters of it inside links.
        cells: of a table, with the blocks inside them.
        before: the text right before it, a few characters.
    """

    rule: str
    depth: int
    parts: list[str]
    links: int = 0
    cells: int = 0
    linked: bool = False
    before: str = ""


def read(name: str, page: str) -> tuple[str, Ledger, str]:
    """Return the text of a page, what was left out, and its title.

    A rule that would take more than its share of the page leaves the text where it is.

    Raises:
        UserError: tags are nested deeper than a sound page has them.
    """
    page = _mended(page)
    off: set[str] = set()
    spared = Ledger()
    dressed = True
    while True:
        reader = _Reader(frozenset(off))
        parser = etree.HTMLParser(target=reader, huge_tree=True, remove_comments=True, remove_pis=True)
        try:
            for begin in range(0, len(page), 1 << 16):  # in pieces: an error of the reader ends the work at once
                parser.feed(page[begin : begin + (1 << 16)])
            parser.close()
        except _TooDeep as error:
            if not dressed:
                message = f"{name}: tags nested more than {DEEPEST:,} deep: not a sound page"
                raise UserError(message) from error
            page, dressed = _DRESS.sub("", page), False
            continue
        except (etree.LxmlError, AssertionError) as error:  # "no element found": a page without one tag or letter
            if page.strip() and not reader.seen:
                raise UserError(f"{name}: not a page that can be read: {error}") from error
        text = reader.text()
        size = len(text) + reader.ledger.counts.total()
        over = [r for r, n in reader.ledger.counts.items() if n > allowed(r, size) and r not in off]
        if not over:
            reader.ledger.spared += spared.spared
            return text, reader.ledger, reader.title
        for rule in over:
            spared.spared[rule] += reader.ledger.counts[rule]
            off.add(rule)


def _mended(page: str) -> str:
    """Return a page in which what was left open takes no text with it: a comment, a title, a style or script in the
    head."""
    closed, sign, rest = page.rpartition("-->")
    page = closed + sign + rest.replace("<!--", "")
    for tag in ("title", "style", "script"):
        opened = [m.end() for m in re.finditer(rf"<{tag}\b[^<>]*>", page, re.I)]
        if len(opened) > len(re.findall(rf"</{tag}\b", page, re.I)):
            last = opened[-1]
            following = re.compile(r"<(?:body|p|h[1-6]|div|/head)\b" if tag == "title" else r"<(?:body|/head)\b", re.I)
            if match := following.search(page, last):
                page = f"{page[: match.start()]}</{tag}>{page[match.start() :]}"
    return page


class _TooDeep(Exception):
    """Ends the reading of a page."""


class _Reader:
    """The events of libxml2's parser to text."""

    def __init__(self, off: frozenset[str]) -> None:
        self.ledger = Ledger()
        self.title = ""
        self.seen = False
        self._off = off
        self._open: list[tuple[str, str]] = []  # each with what is written at its end
        self._frames = [_Frame("", -1, [])]
        self._silent = 0  # depth at which an element without text began, counted from 1
        self._pre = 0
        self._links = 0
        self._tail = ""  # the last few characters that were written

    def text(self) -> str:
        while len(self._frames) > 1:
            self._close_frame()
        return "".join(self._frames[0].parts)

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self.seen = True
        tag = tag.rpartition(":")[2].lower()
        heading = tag in _HEADINGS
        if self._silent and self._open[self._silent - 1][0] == "head" and (tag in _BLOCKS or heading):
            self._silent = 0  # a head that was never closed
        self._open.append((tag, ""))
        if len(self._open) > DEEPEST:
            raise _TooDeep
        if self._silent:
            return
        if tag in _NO_TEXT:
            self._silent = len(self._open)
            return
        words = _words(attributes) if attributes else set()
        if tag == "a":
            self._links += 1
            if attributes.get("href", "").startswith("#"):
                for frame in self._frames[1:]:
                    frame.linked = True
        rule = self._rule(tag, attributes, words)
        breaks = tag in _BLOCKS and not (tag in ("div", "p") and words & _VERSE_LINE)
        if rule and rule not in self._off:
            self._frames.append(_Frame(rule, len(self._open), [], before=self._tail, linked=rule == "note reference"))
        if tag == "br" or (tag in _BLOCKS and not breaks):
            self._write("\n")
        elif breaks or tag == "table" or heading:
            self._pre += tag == "pre"
            self._open[-1] = (tag, "\n\n")
            self._write(f"\n\n{HEADING}" if heading else "\n\n")
        elif tag in ("td", "th"):
            for frame in self._frames[:0:-1]:
                if frame.rule == "layout":
                    frame.cells += 1
                    break
            self._write("   ")

    def _rule(self, tag: str, attributes: Mapping[str, str], words: set[str]) -> str:
        """Return the rule by which an element may be left out, or ""; what it holds decides."""
        if tag == "table":
            return "layout"
        if not attributes and tag not in _TELLING:
            return ""
        if tag in ("math", "figcaption", "caption"):
            return {"math": "formulas"}.get(tag, "captions")
        if "hidden" in attributes or re.search(r"display\s*:\s*none", attributes.get("style", "")):
            return "hidden"
        if words & _PAGE_NUMBER:
            return "page numbers"
        if words & _LINE_NUMBER:
            return "line numbers"
        if tag in ("a", "sup", "span") and words & _NOTE_REFERENCE:
            return "note reference"
        if tag == "sup" or (tag == "a" and re.match(r"#.*(?:note|fn|ftn|foot|cite)", attributes.get("href", ""), re.I)):
            return "note mark"
        if words & _NOTE and tag not in ("a", "sup", "span", "body"):
            return "notes"
        if tag == "noscript":
            return "menu"
        if tag in ("nav", "footer") or "navigation" in words or "doc-toc" in words:
            return "navigation"
        if tag in ("div", "ul", "ol", "aside", "section", "header", "p", "form", "span"):
            if any(_MENU.fullmatch(part) for word in words for part in [word, *re.split(r"[-_]+", word)]):
                return "menu"
        return ""

    def end(self, tag: str) -> None:
        tag = tag.rpartition(":")[2].lower()
        if all(tag != name for name, _ in self._open):
            return
        while self._open:
            name, written = self._open.pop()
            self._leave(name, written)
            if name == tag:
                return

    def _leave(self, tag: str, written: str) -> None:
        depth = len(self._open) + 1
        if self._silent:
            if depth <= self._silent:
                self._silent = 0
            return
        if tag == "a":
            self._links -= 1
        if written:
            self._pre -= tag == "pre"
            self._write(written)
        while len(self._frames) > 1 and self._frames[-1].depth >= depth:
            self._close_frame()

    def data(self, data: str) -> None:
        self.seen = True
        if self._silent:
            if self._open[-1][0] == "title" and len(self.title) < 300:
                self.title += data
            return
        data = data.replace(HEADING, "")
        text = data if self._pre > 0 else re.sub(r"\s+", " ", data)
        if self._links:
            self._frames[-1].links += len(text.strip())
        self._write(text)

    def comment(self, text: str) -> None:
        pass

    def pi(self, target: str, data: str | None = None) -> None:
        pass

    def close(self) -> None:
        pass

    def _write(self, text: str) -> None:
        self._frames[-1].parts.append(text)
        self._tail = (self._tail + text)[-12:]

    def _close_frame(self) -> None:
        """Decide on an element that has ended: its text goes under its rule, or into what is around it."""
        frame = self._frames.pop()
        text = "".join(frame.parts)
        rule, replaced = _verdict(frame, text)
        if rule and rule not in self._off:
            self.ledger.drop(rule, text.replace(HEADING, ""), len(text))
            if "\n\n" in text:
                self._frames[-1].parts.append("\n\n")
            self._tail = frame.before
        else:
            self._frames[-1].parts.append(replaced)
            self._frames[-1].links += frame.links


def _verdict(frame: _Frame, text: str) -> tuple[str, str]:
    """Return the rule under which an element's text goes, or "" and the text that stays. Each rule needs a second sign
    beside the name of the element: what it holds."""
    inside = text.replace(HEADING, "").strip()
    solid = len(re.sub(r"\s+", "", inside))
    linked = frame.links / max(1, solid)
    if frame.rule in ("page numbers", "line numbers"):
        return (frame.rule if not inside or _PAGE.fullmatch(inside) else ""), text
    if frame.rule in ("note reference", "note mark"):
        mark = _MARK.fullmatch(inside)
        after_word = re.search(r"[^\W\d_]{3}\s*$|[.,;:!?)\]\"'”’»]\s*$", frame.before)
        if mark and (frame.linked or frame.links or frame.rule == "note reference" or after_word):
            return "note marks", text
        return "", f"^{inside}" if re.fullmatch(r"\d+", inside) else text
    if frame.rule == "navigation":
        return ("navigation" if linked > 0.4 or len(inside) < 60 or _LEGAL.search(inside) else ""), text
    if frame.rule == "menu":
        return ("navigation" if linked > 0.5 or (_LEGAL.search(inside) and len(inside) < 600) else ""), text
    if frame.rule == "layout":
        longest = max(re.split(r"\n\s*\n| {3}", text), key=len)
        sentence = len(longest) > 80 and re.search(r"[a-z,]{2} [a-z]+ .*[a-z][.?!]", longest)
        if frame.cells and (solid / frame.cells > 60 or sentence):
            return "", re.sub(r" {3,}", "\n\n", text)  # a table that only places running text on the page
        return "tables", text
    return frame.rule, text


def _words(attributes: Mapping[str, str]) -> set[str]:
    """Return the words by which a page says what an element is."""
    given = (attributes.get(name) or "" for name in ("class", "id", "role", "epub:type", "type"))
    return {word.lower() for value in given for word in value.split()[:20]}
