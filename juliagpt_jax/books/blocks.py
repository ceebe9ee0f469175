"""The look of a block of lines: a heading, a label, prose beyond doubt, or a table. And a block as one line."""

import re
from collections.abc import Collection

from juliagpt_jax.books import numerals
from juliagpt_jax.books.pages import HEADING

ROMAN = r"(?:[IVXLC]+|[ivxlc]+)"
_DIVISION = re.compile(
    rf"^(?:THE )?(?:BOOK|PART|CHAPTER|CHAP\.?|SECTION|SECT\.?|LECTURE|ESSAY|LETTER|VOLUME|VOL\.?|CANTO|ACT|SCENE|"
    rf"APPENDIX|Book|Part|Chapter|Chap\.|Section|Lecture|Essay|Letter|Volume|Appendix|"
    rf"(?:FIRST|SECOND|THIRD|FOURTH|FIFTH|SIXTH|SEVENTH|EIGHTH|NINTH|TENTH) (?:BOOK|PART))\b(?: the)?\s*"
    rf"(?:{ROMAN}\b|\d+|[A-Z]{{3,}}|"
    rf"(?:One|Two|Three|Four|Five|Six|Seven|Eight|Nine|Ten|First|Second|Third|Fourth|Fifth)\b)[.:]?"
)
_ORDINAL = re.compile(
    r"(?:The )?(?:First|Second|Third|Fourth|Fifth|Sixth|Seventh|Eighth|Ninth|Tenth|Eleventh|Twelfth|Last) "
    r"(?:Book|Part|Chapter|Canto|Act|Scene|Letter|Lecture|Essay|Section)\W*",
    re.I,
)
_PART_NAMES = re.compile(
    r"(?:The )?(?:Introduction|Preface|Foreword|Contents|Conclusion|Exercises|Definitions?|Axioms?|Postulates|"
    r"Propositions|Appendix|Summary|Prologue|Epilogue|Index|Notes?|Argument|Examples|Observations?|Dedication|Postscript|"
    r"Corollary)\W*",
    re.I,
)
_SPEECH = re.compile(r"^[A-Z][A-Z .]{2,30}: .*[a-z]")
_MARKDOWN = re.compile(r"#{1,6} +\S")
_LEADER = re.compile(
    r"(?:\.\s?){4,}\s*[\divxlc$]{1,8}[\d./-]*\s*$|(?:\. ?){7,}|\S\s{3,}(?:_?[Pp]age )?(?:\d{1,3}|[ivxlc]{1,7})_?\.?\s*$"
)


def heading(block: str, lines: list[str]) -> str:
    """Return how a block names what follows, or "" if it does not.

    "marked" by the format (HTML, Markdown), "numbered" ("Chapter 3 ...", "XIV.", "Preface"), in "capitals", or a short
    "title" in Title Case. The last two are a look that a line of verse or a speaker's name may have too.
    """
    if block.lstrip().startswith(HEADING):
        return "marked"
    text = " ".join(lines)
    if len(lines) > 5 or len(text) > 240:
        return ""
    if len(lines) == 1 and _MARKDOWN.match(text):
        return "marked"
    letters = [c for c in text if c.isalpha()]
    if not letters or _SPEECH.match(text):
        return ""
    if len(text) < 15 and re.fullmatch(rf"\W*{ROMAN}\W*", text) and numerals.roman(re.sub(r"\W", "", text)):
        return "numbered"
    division = _DIVISION.match(text)
    if division and len(text) < 160 and len(text) - len(division[0]) < 120 and not _goes_on(text[division.end() :]):
        return "numbered"
    if _PART_NAMES.fullmatch(text) or _ORDINAL.fullmatch(text):
        return "numbered"
    if sum(c.isupper() for c in letters) > 0.8 * len(letters) and len(letters) > 1 and not re.search(r"[=+]", text):
        return "capitals" if len(text) < 200 else ""
    if len(text) > 70 or text[-1] in ",;?!\"'”’-":
        return ""
    words = [w for w in re.findall(r"[^\W\d_][\w'’]*", text) if len(w) > 3]
    title_case = sum(w[0].isupper() for w in words) >= 0.6 * len(words) if words else text[0].isupper()
    if text[-1] == ".":
        short = len(text) < 50 and len(words) > 1 and "," not in text
        return "title" if short and all(w[0].isupper() for w in words) else ""
    return "title" if text[0].isupper() and title_case and len(lines) <= 2 else ""


def _goes_on(rest: str) -> bool:
    """Tell whether what follows "Part two" is a sentence: it begins small, without a stop before it, and ends."""
    return bool(re.match(r"\s+(?!the\b|of\b|and\b|to\b)[a-z]", rest)) and rest.rstrip()[-1:] in ".?!,;"


def is_label(lines: list[str]) -> bool:
    """Tell whether short lines are a label and no sentence: most of their longer words begin with a capital."""
    words = [w for line in lines for w in re.findall(r"[^\W\d_][\w'’]*", line) if len(w) > 3]
    capitals = sum(w[0].isupper() for w in words)
    return bool(words) and all(len(line) < 90 for line in lines) and capitals >= 0.6 * len(words)


def is_prose(block: str, lines: list[str]) -> bool:
    """Tell whether a block is running text beyond doubt: some full lines, or a sentence that ends."""
    if _LEADER.search(lines[-1]) or is_table(block, lines) or re.search(r"\bpage \d+_?$", block.strip(), re.I):
        return False
    full = [len(line) for line in lines[:-1]]
    if len(lines) == 2:
        return len(lines[0]) > 50 and len(block) > 80 and bool(re.search(r"[a-z][.?!][\"'”’)]*$", lines[1]))
    if len(lines) == 1:
        return len(lines[0]) > 1_000 or (
            len(lines[0]) > 150 and bool(re.search(r"[a-z][.?!][\"'”’)]*(\s|$)", lines[0]))
        )
    if len(lines) < 3 or sum(full) / len(full) < 36 or len(block) < 140:
        return False
    lower = len(re.findall(r"[a-z]", block))
    return (
        lower > 0.7 * len(block) * 0.8
        and block.count("--") < 1 + len(block) // 90
        and bool(re.search(r"[a-z,;:.?!\"'”’)-]\s*$", block))
    )


def names_a_page(line: str) -> bool:
    """Tell whether a line ends like one of a table of contents: with leaders or, far from its words, a number."""
    return bool(_LEADER.search(line))


def is_table(block: str, lines: list[str]) -> bool:
    """Tell whether a block is columns, rules, leaders or mostly figures."""
    solid = len(re.sub(r"\s+", "", block))
    figures = len(re.findall(r"\d", block))
    if figures > 0.25 * solid and len(lines) > 1:
        return True
    signs = len(re.findall(r"[=+<>|^/\\]", block))
    words = len(lines) == 1 and re.search(r"[A-Za-z]{4}", block)  # "12 March 1911" is none
    if signs + (0 if words else figures) > 0.4 * solid:
        return True
    odd = sum(
        bool("|" in line or re.search(r"\S\s{3,}\S+\s{3,}\S|-{4,}|_{4,}|={4,}", line) or _LEADER.search(line))
        for line in lines
    )
    return odd >= 0.4 * len(lines) and odd > 0


_CUT = re.compile(r"(?<![^\W\d_])([^\W\d_]+)([-\u2010\u00ad\u00ac])[ \t]*\n[ \t]*([^\W\d_]+)")


def words(text: str) -> set[str]:
    """Return the words of a text and its compounds, without the halves of words that are cut at a line's end."""
    whole = _CUT.sub(" ", text)
    return set(re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", whole)) | set(re.findall(r"[^\W\d_]+", whole))


def join(block: str, known: Collection[str]) -> str:
    """Return a block as one line.

    A hyphen at a line's end goes (a soft one, U+2010 and the sign ¬ that OCR makes of it too), unless the book has the
    compound elsewhere, or has both halves as words and not the whole.
    """

    def mend(match: re.Match[str]) -> str:
        left, sign, right = match.groups()
        if sign in "\u00ad\u00ac":
            return left + right
        if f"{left}-{right}" in known or not right[0].islower():
            return f"{left}-{right}"
        if left + right in known or (left + right).lower() in known or not (left in known and right in known):
            return left + right
        return f"{left}-{right}"

    if re.search(r"[-\u2010\u00ad\u00ac][ \t]*\n", block):
        block = _CUT.sub(mend, block)
    block = re.sub(r"(?<=[^\W\d_])\u00ac ?(?=[^\W\d_])", "", block)
    return " ".join(block.replace(HEADING, " ").split())
