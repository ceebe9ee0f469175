"""Figures and Roman numerals written as words, where a reader would read them as words.

What is said: counts, years, ordinals, fractions, "Book IV", "Charles II". What is not: references such as
"(Metaph. iv. 5)" or "[Def. 3]", which are dropped, since read aloud they would be noise.
"""

import functools
import re

from num2words import num2words

_UNITS = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_ROMAN = re.compile(r"M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})")
_DIVISIONS = frozenset(
    "book books chapter chapters part parts section sections proposition propositions definition definitions "
    "axiom axioms postulate postulates lemma corollary theorem problem figure figures volume canto act scene "
    "psalm table number lecture essay note page pages line lines verse article question experiment "
    "observation appendix century exercise case song letter stanza".split()
)
_AFTER_DIVISION = re.compile(
    r"\b([A-Za-z]{4,})(\.? )([IVXLCDM]+|[ivxlcdm]+)\b(?:\.(?= ?[,;:)]| [a-z]))?"  # the word must be a division
)
_KING = re.compile(r"\b([A-Z][a-z]{2,})\s+([IVX]+)\b(?!\.?\s*[a-z]?\d)")
_KINGS = set("Charles Edward George Gregory Henry Philip Pius Pope Leo Louis Urban".split())  # the I, the V, the X
_NO_NAMES = set("The And But For Then When That Thus Hence Let From".split())  # "Then II stands for"
_WORKS = set(
    "Lib Cap Cic Cf See Def Prop Ax Post Cor Vol Pt Fig Figs Obs Exper Qu Sect Chap Met Eth Pol Rep Od Il Aen Sat "
    "Ep".split()
)
_BARE_ROMAN = re.compile(r"\b(?:[IVXLCDM]{2,}|[ivxl]{2,})\b")
_WORDS = set("mix mi di vi li mm cd dc md dim mid lid mil xi ill MIX MD DC CD MM DI".split())  # not numerals
_YEAR_BEFORE = re.compile(
    r"(?:\b(?:in|In|of|by|since|until|till|before|after|[Yy]ears?|from|to|and|about|January|February|March|April|May|June|July|"
    r"August|September|October|November|December|Jan|Feb|Aug|Sept|Oct|Nov|Dec|A\.? ?D|died|born)\.?,?|\d,|[-(,;])\s*$"
)
_NUMBER = re.compile(
    r"(?P<whole>\d+)\s?[- ]\s?(?P<top>\d+)/(?P<bottom>\d+)(?![/\d])"
    r"|(?P<top2>\d+)/(?P<bottom2>\d+)(?:(?:ths?|rds?|nds?|st)\b)?(?![/\d])"
    r"|(?P<ordinal>\d+)(?i:st|nd|rd|d|th)\b"
    r"|(?P<decimal>\d*\.\d+|\d{1,3}(?:,\d{3})+(?:\.\d+)?)"
    r"|(?P<number>\d+)"
)


def roman(text: str) -> int | None:
    """Return the value of a well-formed Roman numeral, else None."""
    text = text.upper()
    if not text or not _ROMAN.fullmatch(text):
        return None
    values = [_UNITS[c] for c in text]
    return sum(-v if v < max(values[i:]) else v for i, v in enumerate(values))


@functools.lru_cache(maxsize=20_000)
def words(number: int, kind: str = "cardinal") -> str:
    """Return a number in words without commas: "one thousand two hundred and six". Kinds: cardinal, ordinal, year."""
    if number >= 10**15:  # a row of figures, not a number that is said
        return " ".join(num2words(int(d)) for d in str(number))
    return num2words(number, to=kind).replace(",", "")


def _fraction(top: int, bottom: int) -> str:
    if top == 0 or bottom == 0:
        return f"{words(top)} over {words(bottom)}"
    if bottom > 100 and bottom not in (1_000, 10_000, 1_000_000):
        return f"{words(top)} over {words(bottom)}"
    if bottom in (1, 2, 4):
        name = {1: "whole", 2: "half", 4: "quarter"}[bottom]
    else:
        name = words(bottom, "ordinal")
    if top == 1:
        return f"one {name}"
    return f"{words(top)} {'halves' if name == 'half' else name + 's'}"


def _figures(match: re.Match[str]) -> str:
    group = match.groupdict()
    if group["whole"]:
        return f"{words(int(group['whole']))} and {_fraction(int(group['top']), int(group['bottom']))}"
    if group["top2"]:
        return _fraction(int(group["top2"]), int(group["bottom2"]))
    if group["ordinal"]:
        return words(int(group["ordinal"]), "ordinal")
    if group["decimal"]:
        whole, _, part = group["decimal"].replace(",", "").partition(".")
        return words(int(whole or 0)) + (" point " + " ".join(words(int(d)) for d in part) if part else "")
    number = int(group["number"])
    before = match.string[max(0, match.start() - 14) : match.start()]
    if 1100 <= number <= 1999 and len(group["number"]) == 4 and _YEAR_BEFORE.search(before):
        return words(number, "year")
    return words(number)


def spell(text: str) -> str:
    """Return a text with every figure and every unmistakable Roman numeral as words. The pronoun I stays.

    Roman numerals are read as ordinals after a name ("Charles II" is "Charles the second") and as numbers after a
    division ("Book IV") and where nothing else can be meant ("XIV", "viii").
    """
    if re.search(r"[IVXLCDMivxlcdm]", text):
        text = re.sub(r"(?<=\d)\.(?= ?[,;:)]| [a-z])", "", text)
        text = _AFTER_DIVISION.sub(_division, text)
        text = _KING.sub(_king, text)
        text = _BARE_ROMAN.sub(_bare, text)
    if not re.search(r"\d", text):
        return text
    text = re.sub(r"(?<=\d)(?=[A-Za-z])(?!(?i:st|nd|rd|d|th)\b)|(?<=[A-Za-z])(?=\d)", " ", text)
    return _NUMBER.sub(_figures, text)


def _division(match: re.Match[str]) -> str:
    value = roman(match[3]) if match[1].lower() in _DIVISIONS else None
    if not value or (match[3] == "I" and match[1].islower()):
        return match[0]  # "in this case I ..."
    return f"{match[1]} {words(value)}"


def _king(match: re.Match[str]) -> str:
    name, value = match[1], roman(match[2])
    if not value or value > 30 or name in _NO_NAMES or (len(match[2]) == 1 and name not in _KINGS):
        return match[0]
    return f"{name} {words(value)}" if name in _WORKS else f"{name} the {words(value, 'ordinal')}"


def _bare(match: re.Match[str]) -> str:
    value = None if match[0] in _WORDS else roman(match[0])
    return match[0] if not value else words(value)
