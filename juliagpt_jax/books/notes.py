"""Signs that stand in an author's text and are not his: notes and their marks, numbers of paragraphs and of lines,
captions in brackets.

None is taken by its look alone. A note needs a mark in the text that refers to it, a number its neighbours in the
sequence, a line's number its distance to the next.
"""

import itertools
import re
from collections import Counter
from collections.abc import Sequence

from juliagpt_jax.books import numerals
from juliagpt_jax.books.ledger import Ledger, allowed

# A block that looks like a note, by the kind of its mark: "[12] See ...", "* See ...".
_NOTE = {
    "number": re.compile(r"\s*\[\s*(\d{1,3})\s*\]\s"),
    "letter": re.compile(r"\s*\[\s*([A-Za-z])\s*\]\s"),
    "stars": re.compile(r"\s*(?:\[(\*+|[†‡§]+)\]|(\*{1,4}|[†‡]+)(?=[ \w\"'“‘]))"),
    "brace": re.compile(r"\s*(\{\d+\})"),
    "round": re.compile(r"\s*(\(\*+\))"),
    "line": re.compile(r"\s*(P\.? ?\d{1,3},? ?[l1I])\b"),
    "word": re.compile(r"\s*\[?(Foot ?note)\b[ \d:*.A-Z\]]"),
}
# The same mark where the text refers to the note: right after a word or its punctuation, never before one.
_REFERENCE = {
    "number": re.compile(r"(?<=[\w.,;:!?)\"'”’])\[\s*(\d{1,3})\s*\]"),
    "letter": re.compile(r"(?<=[\w.,;:!?)\"'”’])\[\s*([A-Za-z])\s*\]"),
    "stars": re.compile(r"(?<=[\w.,;:!?)\"'”’])(?:\[(\*+|[†‡§]+)\]|(\*{1,4}|[†‡]+)(?![*\w]))"),
    "brace": re.compile(r"(\{\d+\})"),
    "round": re.compile(r"(\(\*+\))"),
}
_EMPHASIS = re.compile(r"(?<![\w*])(\*{1,3})(?=\S)(?:(?!\1)[^*\n]|\n(?!\n))+?(?<=\S)\1(?![\w*])")
_NEAR = 30  # blocks from a mark to its note at the foot of the page

_NUMBERED = re.compile(
    r"^\s*(?:(?P<section>(?:§+|Sect?\.)\s*\d+[a-z]?\.?\s*)|\[(?P<square>\d+)\]\s*|"
    r"(?P<plain>\d{1,3})[.)]\s+(?=[\"'“‘(_]*[A-Z])|\((?P<round>\d{1,3})\)\s+|"
    r"(?P<roman>[IVXLC]+)\.\s+(?=[\"'“‘(_]*[A-Z]))"
)
_MARKS = re.compile(
    r"\[(?:\d{1,3}|[A-Za-z]|\*+|[†‡§])\]|\{\d{1,4}[a-z]?\}|\[(?:Pg|p\.|page) ?[\divxlc]+\]|"
    r"(?<=[\w.,;:!?)\"'”’])(?:\*+|[†‡]+)(?![*\w])|\(\*+\)",
    re.I,
)
_CAPTION = re.compile(
    r"[ _*=]*(?P<name>illustrations?|sidenote|footnote|transcriber(?:'s|’s|s)?|decoration|handwritten|"
    r"music(?:al)?(?: illustration)?|figure|plate|table|diagram|image|picture|photo|map|note|editor(?:'s|’s|s)?)"
    r"(?P<rest>(?: notes?)?[ _]*(?:[\divxlc]+[a-z]?|[A-Z*])?[ _]*[:\].—-])?",
    re.I,
)
_SURE = ("illustration", "sidenote", "footnote", "transcriber", "decoration", "handwritten")


def looks_like_one(block: str) -> bool:
    """Tell whether a block begins like a note. Alone it proves nothing: lists and emphasis begin so too."""
    return any(pattern.match(block) for pattern in _NOTE.values())


def found(blocks: Sequence[str]) -> set[int]:
    """Return the indices of the blocks that are notes: they begin with a mark, and most blocks that begin with such a
    mark have one like it in the text before them."""
    notes: dict[str, list[int]] = {kind: [] for kind in _NOTE}
    seen: dict[str, dict[str, int]] = {kind: {} for kind in _REFERENCE}  # the last block that refers to each mark
    referred: Counter[str] = Counter()
    for i, block in enumerate(blocks):
        plain = _EMPHASIS.sub(lambda m: " " * len(m[0]), block) if "*" in block else block
        start = ""
        for kind, pattern in _NOTE.items():
            match = pattern.match(plain)
            if not match or (kind == "stars" and len(block) > 2_000):
                continue
            mark = next(group for group in match.groups() if group)
            start = match[0]
            notes[kind].append(i)
            last = seen.get(kind, {}).get(mark)
            near = last is not None and (kind in ("number", "letter", "brace") or i - last <= _NEAR)
            referred[kind] += near or kind in ("line", "word")
            break
        for kind, pattern in _REFERENCE.items():
            for match in pattern.finditer(plain, len(start)):
                seen[kind][next(group for group in match.groups() if group)] = i
    result: set[int] = set()
    for kind, places in notes.items():
        if places and referred[kind] > 0.5 * len(places) and (kind not in ("line",) or len(places) > 2):
            result.update(places)
    return result


def numbering(blocks: Sequence[str]) -> dict[int, int]:
    """Return, for each block that begins with a number of a sequence, how many characters the number has.

    "C. S. Lewis" has an initial, not a number: a number's neighbour, one more or one less, begins the next or the last
    block that is numbered in that way.
    """
    runs: dict[str, list[tuple[int, int, int]]] = {}  # kind of number: (block, value, characters)
    result: dict[int, int] = {}
    for i, block in enumerate(blocks):
        match = _NUMBERED.match(block)
        if not match:
            continue
        kind = str(match.lastgroup)
        if kind == "section":  # a sign of its own beside the number
            result[i] = match.end()
            continue
        value = numerals.roman(match[kind]) if kind == "roman" else int(match[kind])
        if value is not None:
            runs.setdefault(kind, []).append((i, value, match.end()))
    for places in runs.values():
        for k, (i, value, length) in enumerate(places):
            neighbours = [places[j][1] for j in (k - 1, k + 1) if 0 <= j < len(places)]
            if any(abs(n - value) == 1 for n in neighbours):
                result[i] = length
    return result


def without_marks(block: str, ledger: Ledger) -> str:
    """Return a block without the marks that refer to notes and pages. A pair of stars around words is emphasis."""

    def take(match: re.Match[str]) -> str:
        ledger.drop("note marks", match.string[max(0, match.start() - 30) : match.end()], len(match[0]))
        return ""

    if "*" in block:
        block = _EMPHASIS.sub(lambda m: m[0].replace("*", "\x02"), block)
    return _MARKS.sub(take, block).replace("\x02", "*")


def without_line_numbers(text: str, ledger: Ledger) -> str:
    """Return a text without the numbers that count its lines in the margin, at the ends of lines or at their starts.

    They are known by their sequence: most are as much larger than the one before as the others are, or begin anew.
    """
    patterns = (
        r"(?<=\S)(?:[ ]{2,}|[ ]*\t[ \t]*)(\d{1,5})[ \t]*$",
        r"^[ \t]*(\d{1,5})(?:[ ]{2,}|[ ]*\t[ \t]*)(?=\S)",
        r"(?<=[a-z,;:.!?'’\"”-])[ ](\d{1,5})[ ]*$",
    )
    for strict, pattern in enumerate(patterns):
        matches = list(re.finditer(pattern, text, re.M))
        values = [int(m[1]) for m in matches]
        if len(values) < 3:
            continue
        steps = Counter(b - a for a, b in itertools.pairwise(values) if b > a)
        if not steps:
            continue
        step, times = steps.most_common(1)[0]
        lines = [m.start() for m in re.finditer("\n", text)]
        even = times >= 0.6 * (len(values) - 1) and sum(v % step == 0 for v in values) >= 0.9 * len(values)
        if not even or (strict == 2 and (step < 3 or times < 8)):
            continue
        if step > 1 and len(lines) < 2 * len(values):
            continue  # a number on nearly every line, and not by ones: a column of a table
        if sum(len(m[0].strip()) for m in matches) > allowed("line numbers", len(text)):
            ledger.spared["line numbers"] += sum(len(m[1]) for m in matches)
            continue
        for match in matches:
            ledger.drop("line numbers", match[1])
        text = re.sub(pattern, "", text, flags=re.M)
    return text


def without_captions(text: str, ledger: Ledger) -> str:
    """Return a text without [Footnote: ...], [Illustration], [Sidenote: ...] and their like, over several lines and
    nested. [Greek: logos] keeps its letters."""
    spans: list[tuple[int, int, str]] = []
    depth, begin, rule = 0, 0, ""
    for match in re.finditer(r"[\[\]]", text):
        i = match.start()
        if depth == 0:
            if match[0] == "[" and (name := _caption(text, i)):
                depth, begin = 1, i
                rule = {"footnote": "notes", "sidenote": "sidenotes"}.get(name, "captions")
        elif i - begin > 20_000 or (match[0] == "[" and text[i - 2 : i] == "\n\n" and i - begin > 4_000):
            depth = 0  # it never closes: it was not what it looked like
        else:
            depth += 1 if match[0] == "[" else -1
            if depth == 0:
                spans.append((begin, i + 1, rule))
    sums: Counter[str] = Counter()
    for begin, end, rule in spans:
        sums[rule] += end - begin
    kept, at = [], 0
    for begin, end, rule in spans:
        if sums[rule] > allowed(rule, len(text)):
            continue
        ledger.drop(rule, text[begin:end])
        kept.append(text[at:begin])
        at = end
    ledger.spared.update({rule: n for rule, n in sums.items() if n > allowed(rule, len(text))})
    text = "".join([*kept, text[at:]])
    return re.sub(r"\[Greek(?: transliterated)?:?\s*([^\]]*)\]", lambda m: m[1].replace("\n", " "), text)


def _caption(text: str, at: int) -> str:
    """Return the name of what a bracket opens, in small letters, if it is no part of the text; else ""."""
    match = _CAPTION.match(text, at + 1, at + 260)
    if not match or (not match["rest"] and not match["name"].lower().startswith(_SURE)):
        return ""
    return match["name"].lower()
