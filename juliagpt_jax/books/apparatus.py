"""Take away what stands around an author's text in a published file: licence, title page, contents, headings, notes,
page numbers, tables, index.

A text is cut into blocks at blank lines. Each block is prose (or verse), which stays, or one kind of apparatus, which
goes. A block goes for two reasons, never for one: its look and its place, its heading and what stands under it, or a
pattern that the work confirms elsewhere. A kind that would take more than its share of the work takes nothing
(`ledger.SHARES`). What went and what stayed add up to what was there.
"""

import dataclasses
import itertools
import re
from collections import Counter

from juliagpt_jax.books import notes, publisher
from juliagpt_jax.books.blocks import ROMAN, heading, is_label, is_prose, is_table, join, names_a_page, words
from juliagpt_jax.books.ledger import Ledger, allowed
from juliagpt_jax.books.pages import HEADING

_NOTE_WORDS = re.compile(
    r"transcriber|proofread|project gutenberg|\be-?text\b|\bebook\b|https?://|\bwww\.|"
    r"produced by .{3,60}\n?.*(?:team|http)|archaic spelling|spelling and punctuation|"
    r"digital (?:file|data|copy)|was scanned|page images|html version|html file|\bascii\b|character set|"
    r"distributed proof|obvious (?:errors|misprints)|google book|"
    r"internet (?:classics )?archive|transcribed (?:by|from) the|amended to|in (?:the )?original,? amended|\be-?mail:?",
    re.I,
)
_LICENCE = re.compile(
    r"copyright|©|\(c\) ?\d{4}|all rights reserved|\bisbn\b|no part of this|reproduced|without (?:the )?(?:prior )?"
    r"(?:written )?permission|creative commons|licen[cs]ed? (?:under|agreement|notes?|edition)|public domain|"
    r"library of congress|first published|published by|work of fiction|living or dead|(?:smashwords|kindle) edition|"
    r"project gutenberg|trademark|catalogu(?:e|ing) (?:record|in)|printed in|cover (?:design|art)|e-?book edition|"
    r"rights? of the author|terms of use|\bcc[ -]by\b|generations on library shelves",
    re.I,
)
# Words of the two lists that a story may have, even two of them in one sentence.
_IN_NOVELS_TOO = {
    "copyright", "reproduced", "published by", "first published", "public domain", "printed in", "trademark",
    "terms of use", "http://", "https://", "www.", "ebook", "etext", "ascii", "email", "e-mail", "email:", "e-mail:",
}  # fmt: skip
_PUBLISHER = re.compile(
    r"copyright|publish(?:ing|ers)|printed (?:for|by|at)|\b(?:London|New York|Oxford|Boston|Chicago|Dublin)\s*:|"
    r"^_?Author of|^Reprinted from|^price \d|& (?:sons|co\.?)\b|\b1[5-9]\d\d\b",
    re.I,
)
_INDEX = re.compile(
    r"^(?:A |THE )?(?:GENERAL |ANALYTICAL |ALPHABETICAL )?"
    r"(?:INDEX|GLOSSARY|BIBLIOGRAPHY|ERRATA|ADVERTISEMENTS?|FINIS|COLOPHON)\b",
    re.I,
)
_CONTENTS = re.compile(r"^(?:TABLE OF |THE |ANALYSIS OF )?(?:CONTENTS|MATTERS)\b|^(?:LIST OF )?ILLUSTRATIONS\b", re.I)
_NEXT_PART = re.compile(r"(?!(?:BOOK|CHAPTER|PART|SECTION)\b)(?=(?:.*[A-Z]){4})[^a-z]+")  # after notes at the end
_LISTED = re.compile(r"(?:[IVXLC]+|\d{1,2})\b[.):]?\s+\S")
_NOTES = re.compile(r"^(?:FOOT|END)?NOTES?\s*(?:TO .*)?[.:]?$|^FOOTNOTES?\b", re.I)
_NOTE_LINE = re.compile(
    r"\s*(?:\(?\d{1,4}[.):\]]?\s|P(?:age|\.)? ?\d|L(?:ine|\.) ?\d|Ver(?:se|\.) ?\d|[IVXLC]+[. ])", re.I
)
_PERSONS = re.compile(r"^(?:PERSONS|CHARACTERS|PERSONAE|DRAMATIS PERSONAE)\b.*\b(?:DIALOGUE|PERSONAE|DRAMA)\b", re.I)
_SPEAKER = re.compile(r"([A-Z][a-z]+(?: [A-Z][a-z]+)?)\.\s+(?=[\"'(]*[A-Z])")
_PAGE = re.compile(rf"^\W*(?:p(?:age|g)?\.?\s*)?(?:\d{{1,4}}|{ROMAN})\W*$", re.I)
_PAGE_SURE = re.compile(
    rf"^\W*(?:p(?:age|g)?\.?\s*(?:\d{{1,4}}|{ROMAN})\W*|\[\d{{1,4}}\]|[-–—] ?\d{{1,4}} ?[-–—])$", re.I
)


@dataclasses.dataclass
class Text:
    """An author's own text.

    Attributes:
        sections: between two headings each, a list of paragraphs, each a string without line breaks.
        ledger: what went, by rule. Its counts and `kept` add up to the length of the file's text.
        kept: characters of the blocks that stayed.
        facts: what a Gutenberg or Archive header says: title, author, translator.
    """

    sections: list[list[str]]
    ledger: Ledger
    kept: int
    facts: dict[str, str]


def strip(text: str) -> Text:
    """Take the apparatus away."""
    ledger = Ledger()
    body = publisher.inside(text, ledger)
    without = notes.without_line_numbers(body.text, ledger)
    without = notes.without_captions(without, ledger)
    blocks = [block for block in re.split(r"\n(?:[ \t]*\n)+", without.strip("\n")) if block.strip()]
    kinds = _bounded(blocks, _Reading(blocks, body.published).kinds(), ledger)
    numbers = notes.numbering([b if k == "prose" else "" for b, k in zip(blocks, kinds, strict=True)])
    if sum(numbers.values()) > allowed("numbering", len(without)):
        ledger.spared["numbering"] += sum(numbers.values())
        numbers = {}
    known = words(without)
    sections: list[list[str]] = [[]]
    kept = 0
    for i, (block, kind) in enumerate(zip(blocks, kinds, strict=True)):
        if kind != "prose":
            ledger.drop(kind, block.replace(HEADING, ""), len(block))
            if kind == "headings" and sections[-1]:
                sections.append([])
            continue
        if number := numbers.get(i):
            ledger.drop("numbering", block[: number + 20], number)
            block = block[number:]
        block = notes.without_marks(block, ledger)
        kept += len(block)
        sections[-1].append(join(block, known))
    # The white space between blocks belongs to no rule.
    ledger.counts["blank"] = len(text) - kept - ledger.counts.total()
    return Text([s for s in sections if s], ledger, kept, body.facts)


def _bounded(blocks: list[str], kinds: list[str], ledger: Ledger) -> list[str]:
    """Give back what a rule would take beyond its share of the work."""
    size = sum(map(len, blocks))
    sums: Counter[str] = Counter()
    for block, kind in zip(blocks, kinds, strict=True):
        sums[kind] += len(block)
    over = {kind for kind, n in sums.items() if kind != "prose" and n > allowed(kind, size)}
    ledger.spared.update({kind: sums[kind] for kind in over})
    return ["prose" if kind in over else kind for kind in kinds]


def speakers(sections: list[list[str]]) -> dict[str, str]:
    """Return the names that so many paragraphs of a dialogue begin with ("Cleinias. True.") that they must be its
    speakers, each with its full form ("Ath" is "Athenian Stranger")."""
    found = Counter(m[1] for section in sections for p in section if (m := _SPEAKER.match(p)))
    names = [name for name, n in found.items() if n >= 15]
    if len(names) < 2:
        return {}
    full = {name: [longer for longer in found if longer.startswith(name) and longer != name] for name in names}
    result = {name: max(longer, key=lambda n: (found[n], n)) if longer else name for name, longer in full.items()}
    return result | {name: name for name in result.values()}


def name_speaker(paragraph: str, names: dict[str, str]) -> str:
    """Return the paragraph with its speaker set off by a colon, as in the other dialogues."""
    match = _SPEAKER.match(paragraph)
    return f"{names[match[1]]}: {paragraph[match.end() :]}" if match and match[1] in names else paragraph


class _Reading:
    """The blocks of a work, read once from its beginning to its end, each with its kind."""

    def __init__(self, blocks: list[str], published: bool):
        self.blocks, self.published = blocks, published
        self.lines = [[line.strip(" \t_=*") for line in block.strip().split("\n")] for block in blocks]
        self.titles = [lines[0].strip(" .:_=*#" + HEADING) for lines in self.lines]
        self.looks = [heading(block, lines) for block, lines in zip(blocks, self.lines, strict=True)]
        self.prose = [is_prose(block, lines) for block, lines in zip(blocks, self.lines, strict=True)]
        self.size = sum(map(len, blocks)) or 1
        before = 0
        self.places = []
        for block in blocks:
            self.places.append(before / self.size)
            before += len(block)
        self.keys = [_key(title) for title in self.titles]
        self.headings = self._headings()
        self.notes = notes.found(blocks)
        self.pages = self._pages()
        self.named = Counter(self.keys[i] for i in self.headings)

    def kinds(self) -> list[str]:
        result: list[str] = []
        front = True
        while len(result) < len(self.blocks):
            i = len(result)
            kind, end = self._region(i)
            if not kind:
                kind, end = self._kind(i, front), i + 1
            front = front and kind not in ("prose", "notes") and not (kind == "headings" and self.places[i] > 0.02)
            result += [kind] * (end - i)
        return result

    def _kind(self, i: int, front: bool) -> str:
        """Return the kind of one block."""
        block, lines, place = self.blocks[i], self.lines[i], self.places[i]
        if not re.search(r"[^\W\d_]", block):
            if re.search(r"\d", block):
                return "page numbers" if i in self.pages or _PAGE_SURE.match(block) else "prose"
            return "ornaments"
        if len(block) < 15 and _PAGE.match(block) and (_PAGE_SURE.match(block) or self.looks[i] == "numbered"):
            return "headings" if self.looks[i] == "numbered" else "page numbers"
        if self._is_boilerplate(block, lines, place):
            return "transcriber's notes"
        if self._is_licence(block, lines, place):
            return "licence"
        if (place < 0.03 or place > 0.98) and len(block) < 700 and is_label(lines) and _PUBLISHER.search(block):
            return "front matter"
        if _PERSONS.match(self.titles[i]):
            return "front matter"
        if i in self.headings:
            return "headings"
        if i in self.notes:
            return "notes"
        if is_table(block, lines) and (not self.looks[i] or all(map(names_a_page, lines))):
            return "tables"
        if (
            front
            and not self.prose[i]
            and is_label(lines)
            and len(block) < 300
            and place * self.size < max(0.05 * self.size, 2_000)
        ):
            return "front matter"
        return "prose"

    def _is_boilerplate(self, block: str, lines: list[str], place: float) -> bool:
        """Tell whether a block speaks of how the file was made. A novel may have one such word, also at its edges."""
        edge = place < 0.05 or place > 0.97
        if not edge and not (self.published and len(block) < 300):
            return False
        signs = {match[0].lower()[:12] for match in _NOTE_WORDS.finditer(block[:3_000])}
        if not signs:
            return False
        if re.match(r"\W*transcri(?:ber['’]?s?'? (?:end)?notes?\b|bed (?:by|from)\b)", block, re.I):
            return True
        if self.published:
            return len(signs) > 1 or (edge and len(block) < 700)
        told = len(signs) > 1 and bool(signs - _IN_NOVELS_TOO)
        return edge and told and len(block) < 1_500 and not re.match(r"\s*[\"“'‘]", block)

    def _is_licence(self, block: str, lines: list[str], place: float) -> bool:
        """Tell whether a block at an edge of the work says who may copy it."""
        before = place * self.size
        near = before < max(0.03 * self.size, 2_500) or self.size - before < max(0.03 * self.size, 3_500)
        if not near or not (signs := {match[0].lower() for match in _LICENCE.finditer(block[:3_000])}):
            return False
        strong = re.search(r"all rights reserved|\bisbn\b[ :]*[\d-]{9}|(?:copyright|©).{0,20}\b\d{4}|©", block, re.I)
        if strong:
            return len(signs) > 1 or is_label(lines) or len(block) < 200
        return len(signs) > 1 and (is_label(lines) or bool(signs - _IN_NOVELS_TOO))

    def _headings(self) -> set[int]:
        """Return the headings. Those known by their look alone need the work's own structure to confirm them: there are
        several, text follows most of them, none comes again and again like a speaker's name; or they stand beside a
        sure one, or in the table of contents."""
        sure = {i for i, look in enumerate(self.looks) if look in ("marked", "numbered")}
        result = set(sure)
        times = Counter(self.titles)
        listed = {_key(line) for lines in self.lines for line in lines if names_a_page(line)}
        alone = {i for i in range(len(self.looks)) if not all(self.looks[max(0, i - 2) : i + 3])}  # not of a list
        for look in ("capitals", "title"):
            group = [i for i in sorted(alone) if self.looks[i] == look and times[self.titles[i]] < 4]
            followed = sum(self._text_follows(i) for i in group)
            confirmed = len(group) > 2 and followed > 0.6 * len(group)
            if confirmed and sum(len(self.blocks[i]) for i in group) < allowed("headings", self.size):
                result.update(group)
        for i, look in enumerate(self.looks):
            beside = i - 1 in sure or i + 1 in sure or (i - 2 in sure and i - 1 in result)
            if look and (beside or (self.keys[i] in listed and " " in self.keys[i])):
                result.add(i)
        return result

    def _text_follows(self, i: int) -> bool:
        following = next((k for k in range(i + 1, min(i + 5, len(self.blocks))) if not self.looks[k]), None)
        return following is not None and (len(self.blocks[following]) > 80 or len(self.lines[following]) > 1)

    def _pages(self) -> set[int]:
        """Return the blocks of one figure that count the pages: each is larger than the one before."""
        found = [(i, int(m[0])) for i, b in enumerate(self.blocks) if (m := re.fullmatch(r"\s*\d{1,4}\s*", b))]
        rising = sum(0 < b[1] - a[1] < 20 for a, b in itertools.pairwise(found))
        return {i for i, _ in found} if len(found) > 2 and rising > 0.7 * (len(found) - 1) else set()

    def _region(self, i: int) -> tuple[str, int]:
        """Return what a heading opens, and where that ends: contents, notes, an index. Its own look is one sign, the
        look of what stands under it the second."""
        block, lines, title, place = self.blocks[i], self.lines[i], self.titles[i], self.places[i]
        if place < 0.4 and _CONTENTS.match(title) and (self.looks[i] or self._is_entry(i, 1)):
            end = self._contents_end(i)
            return ("contents", end) if end > i + 1 or len(lines) > 1 else ("", i)
        if place < 0.2 and len(lines) > 3 and self._is_entry(i) and self._listed(lines):
            return "contents", i + 1
        if not self.looks[i]:
            return "", i
        if place > 0.6 and _INDEX.match(title):
            if (place > 0.85 and self.published) or self._refers_to_pages(i + 1):
                return "index", len(self.blocks)
        if _NOTES.match(title):
            end = self._notes_end(i)
            if end > i + 1:
                return "notes", end
        if re.match(r"\W*transcriber['’]?s?'? (?:end)?notes?\b", block, re.I) and (self.published or place > 0.9):
            end = i + 1
            while end < len(self.blocks) and (place > 0.97 or not (self.looks[end] or len(self.blocks[end]) > 1_500)):
                end += 1
            return "transcriber's notes", end
        return "", i

    def _listed(self, lines: list[str]) -> bool:
        return sum(bool(_LISTED.match(line)) for line in lines) > 0.4 * len(lines)

    def _is_entry(self, i: int, skip: int = 0) -> bool:
        """Tell whether a block's lines are entries of contents: they name a page or a heading of the work."""
        lines = [line for line in self.lines[i][skip:] if line]
        own = i in self.headings and len(lines) == 1  # it names itself
        good = sum(names_a_page(line) or self.named[_key(line)] > own for line in lines)
        return bool(lines) and good >= 0.5 * len(lines)

    def _contents_end(self, i: int) -> int:
        """Return the first block after the contents: a heading that the contents have named, or text."""
        entries: set[str] = set()
        k = end = i + 1
        while k < len(self.blocks) and self.places[k] - self.places[i] < 0.15:
            look, key = self.looks[k], self.keys[k]
            text = k + 1 < len(self.blocks) and self.prose[k + 1] and len(self.lines[k + 1]) > 2
            if (self.prose[k] and len(self.lines[k]) > 2) or (look and ((" " in key and key in entries) or text)):
                break
            if self._is_entry(k) or self._listed(self.lines[k]) or (look and (not text or key in entries)):
                end = k + 1
            elif k - end > 2:
                break
            entries.add(key)
            k += 1
        return end

    def _refers_to_pages(self, begin: int) -> bool:
        lines = [line for lines in self.lines[begin : begin + 30] for line in lines][:60]
        return bool(lines) and sum(bool(re.search(r"\b\d{1,4}[.,;]?$|, \d", line)) for line in lines) > 0.4 * len(lines)

    def _notes_end(self, i: int) -> int:
        """Return the first block after the notes under a heading; the one after the heading if there are none."""
        footnotes = self.titles[i].lower().startswith("foot")
        first = range(i + 1, min(i + (3 if footnotes else 5), len(self.blocks)))
        alike = sum(self._like_a_note(k) for k in first)
        if not first or (alike < 0.5 * len(first) and not (self.places[i] > 0.8 and self.published)):
            return i + 1
        for k in range(i + 1, len(self.blocks)):
            if notes.looks_like_one(self.blocks[k]):
                continue
            if self.looks[k] and (footnotes or self.places[k] < 0.8 or _NEXT_PART.fullmatch(self.titles[k])):
                return k
            if footnotes and not self.blocks[k].startswith("  "):
                if not any(notes.looks_like_one(b) for b in self.blocks[k + 1 : k + 4]):  # else the last note goes on
                    return k
        return len(self.blocks)

    def _like_a_note(self, k: int) -> bool:
        return notes.looks_like_one(self.blocks[k]) or bool(_NOTE_LINE.match(self.blocks[k]))


def _key(title: str) -> str:
    """Return the words of a title by which the contents and the heading are known as the same."""
    return " ".join(w for w in re.findall(r"[a-z]+", title.lower()) if not re.fullmatch("[ivxlc]+", w))
