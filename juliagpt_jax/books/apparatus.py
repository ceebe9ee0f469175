"""What stands around an author's text in a published file, taken away: licence, title page, contents, headings, notes,
page numbers, tables, index.

A text is cut into blocks at blank lines. Each block is prose (or verse), which stays, or one kind of apparatus, which
goes; the characters of each kind are counted, so that what went and what stayed add up to what was there.
"""

import dataclasses
import re
from collections import Counter

from juliagpt_jax.books.blocks import ROMAN, is_heading, is_prose, is_table, join
from juliagpt_jax.books.parsers import HEADING

_START = re.compile(r"^ *\*{3} ?START OF (?:THE|THIS) PROJECT GUTENBERG[^*]*(?:\*{3}[^\n]*)?$", re.M)
_SMALL_PRINT = re.compile(r"^.*END.{0,4}THE SMALL PRINT!?.*$", re.M)
_HEADER_LINE = re.compile(
    r"^(?:Title|Author|Translator|Editor|Language|Release Date|Posting Date|Last Updated|Character set encoding)"
    r"\s*:.*$",
    re.M | re.I,
)
_END = re.compile(
    r"^ *(?:\*{3} ?END OF (?:THE|THIS) PROJECT GUTENBERG|\*{0,3} ?END OF (?:THE |THIS )?PROJECT GUTENBERG).*",
    re.M | re.I,
)
_ARCHIVE_START = re.compile(r"\A\s*Provided by The Internet Classics Archive.*?^-{20,}$", re.M | re.S)
_ARCHIVE_END = re.compile(r"^(?:THE END\s+)?-{20,}\s+Copyright statement:\s+The Internet Classics Archive", re.M)

_NOTE_WORDS = re.compile(
    r"transcriber|proofread|project gutenberg|\be-?text\b|\bebook\b|https?://|\bwww\.|"
    r"produced by .{3,60}\n?.*(?:team|http)|"
    r"archaic spelling|spelling and punctuation|"
    r"digital (?:file|data)|was scanned|page images|html version|html file|\bascii\b|character set",
    re.I,
)
_PUBLISHER = re.compile(
    r"copyright|publish(?:ing|ers)|printed (?:for|by|at)|\b(?:London|New York|Oxford|Boston|Chicago|Dublin)\s*:|"
    r"^_?Author of|^Reprinted from|"
    r"^price \d|& (?:sons|co\.?)\b",
    re.I,
)
_TO_THE_END = re.compile(
    r"^(?:A |THE )?(?:GENERAL |ANALYTICAL |ALPHABETICAL )?"
    r"(?:INDEX|GLOSSARY|BIBLIOGRAPHY|ERRATA|ADVERTISEMENTS?|FINIS|COLOPHON)\b",
    re.I,
)
_CONTENTS = re.compile(r"^(?:TABLE OF |THE |ANALYSIS OF )?(?:CONTENTS|MATTERS)\b|^(?:LIST OF )?ILLUSTRATIONS\b", re.I)
_NEXT_PART = re.compile(r"(?!(?:BOOK|CHAPTER|PART|SECTION)\b)(?=(?:.*[A-Z]){4})[^a-z]+")  # after notes at the end
_LISTED = re.compile(r"(?:[IVXLC]+|\d{1,2})\b[.):]?\s+\S")
_NOTES = re.compile(r"^(?:FOOT|END)?NOTES?\s*(?:TO .*)?[.:]?$|^FOOTNOTES?\b", re.I)
_PERSONS = re.compile(
    r"^(?:PERSONS|CHARACTERS|PERSONAE|DRAMATIS PERSONAE)\b.*\b(?:DIALOGUE|PERSONAE|DRAMA)\b|^SCENE\s*:", re.I
)
_NOTE_MARK = re.compile(
    r"^\s*(?:P\.? ?\d{1,3},? ?[l1I]\b|\[\s*(?:\d{1,3}|[A-Z]|\*+|[†‡])\s*\]|\[?Footnote\b|\*+ ?\w|[†‡]|\{\d+\}|\(\*+\))"
)
_SPEAKER = re.compile(r"([A-Z][a-z]+(?: [A-Z][a-z]+)?)\.\s+(?=[\"'(]*[A-Z])")
_PAGE = re.compile(rf"^\W*(?:p(?:age|g)?\.?\s*)?(?:\d{{1,4}}|{ROMAN})\W*$", re.I)
_NUMBERING = re.compile(
    r"^\s*(?:(?:§+|Sect?\.)\s*\d+[a-z]?\.?\s*|\[\d+\]\s*|\d{1,3}[.)]\s+(?=[\"'(_]*[A-Z])|\(\d{1,3}\)\s+|"
    r"(?:[IVXLC]+)\.\s+(?=[\"'(_]*[A-Z]))"
)
_OPENERS = (
    "illustration",
    "sidenote",
    "footnote",
    "transcriber",
    "note:",
    "editor",
    "handwritten",
    "decoration",
    "music",
    "figure",
    "plate",
    "table",
    "diagram",
    "image",
)
_MARKS = re.compile(
    r"\[(?:\d{1,3}|[A-Za-z]|\*+|[†‡§])\]|\{\d{1,4}[a-z]?\}|\[(?:Pg|p\.|page) ?[\divxlc]+\]|(?<=\w)[*†‡]+|\(\*+\)", re.I
)


@dataclasses.dataclass
class Text:
    """An author's own text.

    Attributes:
        sections: between two headings each, a list of paragraphs, each a string without line breaks.
        dropped: characters that went, by reason. With `kept` they add up to the length of the file's text.
        kept: characters of the blocks that stayed.
        facts: what a Gutenberg or Archive header says: title, author, translator.
    """

    sections: list[list[str]]
    dropped: Counter[str]
    kept: int
    facts: dict[str, str]


def strip(text: str) -> Text:
    """Take the apparatus away."""
    dropped: Counter[str] = Counter()
    total = len(text)
    body = _inside(text, dropped)
    facts = _facts(text[: text.find(body)] if body else text)
    body = _drop_brackets(body, dropped)
    words = set(re.findall(r"[A-Za-z]+", body))
    sections: list[list[str]] = [[]]
    kept = 0
    for kind, block in _classify(_blocks(body)):
        if kind in ("prose", "heading"):
            number = _NUMBERING.match(block) if kind == "prose" else None
            if number:
                dropped["numbering"] += number.end()
                block = block[number.end() :]
        if kind == "prose":
            length = len(block)
            block = _MARKS.sub("", block)
            dropped["note marks"] += length - len(block)
            kept += len(block)
            sections[-1].append(join(block, words))
        else:
            dropped[kind] += len(block)
            if kind == "heading" and sections[-1]:
                sections.append([])
    # The white space between blocks belongs to no kind.
    dropped["blank"] = total - kept - sum(n for reason, n in dropped.items() if reason != "blank")
    return Text([s for s in sections if s], dropped, kept, facts)


def speakers(sections: list[list[str]]) -> dict[str, str]:
    """Names that so many paragraphs of a dialogue begin with ("Cleinias. True.") that they must be its speakers, each
    with its full form ("Ath" is "Athenian Stranger")."""
    found = Counter(m[1] for section in sections for p in section if (m := _SPEAKER.match(p)))
    names = [name for name, n in found.items() if n >= 15]
    if len(names) < 2:
        return {}
    full = {name: [longer for longer in found if longer.startswith(name) and longer != name] for name in names}
    result = {name: max(longer, key=lambda n: (found[n], n)) if longer else name for name, longer in full.items()}
    return result | {name: name for name in result.values()}


def name_speaker(paragraph: str, names: dict[str, str]) -> str:
    """The paragraph with its speaker set off by a colon, as in the other dialogues."""
    match = _SPEAKER.match(paragraph)
    return f"{names[match[1]]}: {paragraph[match.end() :]}" if match and match[1] in names else paragraph


def _inside(text: str, dropped: Counter[str]) -> str:
    """Between the publisher's header and footer, whatever their wording."""
    begin, end = 0, len(text)
    if match := _ARCHIVE_START.search(text, 0, 3_000):
        begin = match.end()
        text = re.sub(r"(?<=\S) \n(?=\S)", "\n\n", text)  # the Archive ends a paragraph with a space
        end = len(text)
    elif match := _START.search(text):
        begin = match.end()
    elif match := _SMALL_PRINT.search(text, 0, max(20_000, len(text) // 5)):
        begin = match.end()
    elif "project gutenberg" in text[:1_000].lower():
        lines = list(_HEADER_LINE.finditer(text, 0, 8_000))
        begin = lines[-1].end() if lines else 0
    if (match := _SMALL_PRINT.search(text, begin, begin + 20_000)) and match.end() < len(text) // 2:
        begin = match.end()  # some old files have the small print after the START line
    for pattern in (_END, _ARCHIVE_END):
        if match := pattern.search(text, begin + (end - begin) // 3):
            end = min(end, match.start())
    dropped["header and footer"] += begin + len(text) - end
    return text[begin:end]


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


def _drop_brackets(text: str, dropped: Counter[str]) -> str:
    """Without [Footnote: ...], [Illustration], [Sidenote: ...] and their like, over several lines and nested.
    [Greek: logos] keeps its letters."""
    kept, at, depth, begin = [], 0, 0, 0
    for match in re.finditer(r"[\[\]]", text):
        i = match.start()
        if depth == 0:
            if match[0] == "[" and text[i + 1 : i + 20].lstrip(" _*=").lower().startswith(_OPENERS):
                kept.append(text[at:i])
                depth, begin = 1, i
        elif i - begin > 20_000 or (match[0] == "[" and text[i - 2 : i] == "\n\n" and i - begin > 4_000):
            depth, at = 0, begin  # it never closes: it was not what it looked like
        else:
            depth += 1 if match[0] == "[" else -1
            if depth == 0:
                at = i + 1
                opening = text[begin + 1 : begin + 20].lstrip(" _*=").lower()
                reason = {"footnote": "notes", "sidenote": "sidenotes"}.get(opening[:8], "captions")
                dropped[reason] += at - begin
    kept.append(text[begin if depth else at :])
    text = "".join(kept)
    return re.sub(r"\[Greek(?: transliterated)?:?\s*([^\]]*)\]", lambda m: m[1].replace("\n", " ").ljust(0), text)


def _blocks(text: str) -> list[str]:
    return [block for block in re.split(r"\n(?:[ \t]*\n)+", text.strip("\n")) if block.strip()]


def _classify(blocks: list[str]) -> list[tuple[str, str]]:
    """Each block with its kind. The state is what a heading opened: contents, notes, or matter up to the end."""
    result: list[tuple[str, str]] = []
    size = sum(map(len, blocks)) or 1
    state, seen, begun = "front matter", 0, 0
    entries: set[str] = set()
    for i, block in enumerate(blocks):
        place, seen = seen / size, seen + len(block)
        lines = [line.strip(" \t_=*") for line in block.strip().split("\n")]
        title = lines[0].strip(" .:_=*" + HEADING)
        heading = is_heading(block, lines)
        prose = is_prose(block, lines)
        kind = "prose"
        if not re.search(r"[^\W\d_]", block):
            kind = "page numbers" if re.search(r"\d", block) else "ornaments"
        elif len(block) < 15 and _PAGE.match(block):
            kind = "heading" if re.fullmatch(rf"\W*{ROMAN}\W*", block) else "page numbers"
        elif re.match(r"\W*transcriber", block, re.I):
            kind = "transcriber's notes"
            if heading:
                state, begun = kind, seen
        elif (place < 0.05 or place > 0.97 or len(block) < 300) and _NOTE_WORDS.search(block):
            kind = "transcriber's notes"
            if place > 0.97 and (heading or len(block) < 100):
                state, begun = kind, seen
        elif (place < 0.03 or place > 0.98) and len(block) < 700 and _PUBLISHER.search(block):
            kind = "front matter"
        elif place < 0.2 and len(lines) > 3 and sum(bool(_LISTED.match(line)) for line in lines) > 0.4 * len(lines):
            kind = "contents"
        elif heading and _CONTENTS.match(title) and place < 0.4:
            kind, state, begun, entries = "contents", "contents", seen, set()
        elif heading and _TO_THE_END.match(title) and place > 0.6:
            kind, state = "index", "index"
        elif heading and _NOTES.match(title):
            kind, state = "notes", "footnotes" if title.lower().startswith("foot") else "notes"
        elif _PERSONS.match(title):
            kind = "front matter"
        elif state == "index":
            kind = "index"
        elif state == "contents":
            kind = "contents"
            key = " ".join(w for w in re.findall(r"[a-z]+", title.lower()) if not re.fullmatch("[ivxlc]+", w))
            following = any(is_prose(b, b.split("\n")) and b.count("\n") > 1 for b in blocks[i + 1 : i + 2])
            if (
                (prose and len(lines) > 2)
                or (heading and ((" " in key and key in entries) or following))
                or seen - begun > 0.12 * size + 6_000
            ):
                state = ""
                kind = "heading" if heading else "prose"
            entries.add(key)
        elif state == "transcriber's notes" and place > 0.97:
            kind = state
        elif state and state != "front matter":
            kind = state.removeprefix("foot")
            if _NOTE_MARK.match(block):
                pass
            elif heading and (state != "notes" or place < 0.8 or _NEXT_PART.fullmatch(title)):
                kind, state = "heading", ""
            elif state == "transcriber's notes" and seen - begun > 6_000:
                kind, state = "prose", ""
            elif state == "footnotes" and not block.startswith("  "):
                if not any(_NOTE_MARK.match(b) for b in blocks[i + 1 : i + 4]):  # else the last note goes on
                    kind, state = "prose", ""
        elif heading:
            kind = "heading"
        elif _NOTE_MARK.match(block) and not (block.lstrip().startswith("*") and len(block) > 2_000):
            kind = "notes"
        elif is_table(block, lines):
            kind = "tables"
        elif state == "front matter" and not prose and seen < max(0.05 * size, 2_000):
            kind = "front matter"
        if kind == "heading" and state == "front matter" and place > 0.02:
            state = ""
        if kind == "prose":
            state = ""
        result.append((kind, block))
    return result
