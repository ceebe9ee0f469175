"""What a block of lines looks like: a heading, prose beyond doubt, or a table. And a block as one line."""

import re

from juliagpt_jax.books.parsers import HEADING

ROMAN = r"(?:[IVXLC]+|[ivxlc]+)"
_DIVISION = re.compile(
    rf"^(?:THE )?(?:BOOK|PART|CHAPTER|CHAP\.?|SECTION|SECT\.?|LECTURE|ESSAY|LETTER|VOLUME|VOL\.?|CANTO|ACT|SCENE|"
    rf"APPENDIX|Book|Part|Chapter|Chap\.|Section|Lecture|Essay|Letter|Volume|Appendix|"
    rf"(?:FIRST|SECOND|THIRD|FOURTH|FIFTH|SIXTH|SEVENTH|EIGHTH|NINTH|TENTH) (?:BOOK|PART))\b(?: the)?\s*"
    rf"(?:{ROMAN}\b|\d+|[A-Z]{{3,}}|"
    rf"(?:One|Two|Three|Four|Five|Six|Seven|Eight|Nine|Ten|First|Second|Third|Fourth|Fifth)\b)[.:]?"
)
_PART_NAMES = re.compile(
    r"(?:The )?(?:Introduction|Preface|Foreword|Contents|Conclusion|Exercises|Definitions?|Axioms?|Postulates|"
    r"Propositions|Appendix|Summary|Prologue|Epilogue|Index|Notes?|Argument|Examples|Observations?|Dedication|Postscript|"
    r"Corollary)\W*",
    re.I,
)
_SPEECH = re.compile(r"^[A-Z][A-Z .]{2,30}: .*[a-z]")
_LEADER = re.compile(
    r"(?:\.\s?){4,}\s*[\divxlc$]{1,8}[\d./-]*\s*$|(?:\. ?){7,}|\S\s{3,}(?:_?[Pp]age )?(?:\d{1,3}|[ivxlc]{1,7})_?\.?\s*$"
)


def is_heading(block: str, lines: list[str]) -> bool:
    """A block that names what follows: marked by the format, in capitals, "Chapter 3 ...", or a short title."""
    if block.lstrip().startswith(HEADING):
        return True
    text = " ".join(lines)
    if len(lines) > 5 or len(text) > 240:
        return False
    letters = [c for c in text if c.isalpha()]
    if not letters:
        return False
    if _SPEECH.match(text):
        return False
    if sum(c.isupper() for c in letters) > 0.8 * len(letters) and len(letters) > 1 and not re.search(r"[=+]", text):
        return len(text) < 200
    if _PART_NAMES.fullmatch(text):
        return True
    division = _DIVISION.match(text)
    if division and len(text) < 160 and len(text) - len(division[0]) < 120:
        return True
    if len(text) > 70 or text[-1] in ",;?!\"'”’-":
        return False
    words = [w for w in re.findall(r"[^\W\d_][\w'’]*", text) if len(w) > 3]
    title_case = sum(w[0].isupper() for w in words) >= 0.6 * len(words) if words else text[0].isupper()
    if text[-1] == ".":
        return len(text) < 50 and len(words) > 1 and "," not in text and all(w[0].isupper() for w in words)
    return text[0].isupper() and title_case and len(lines) <= 2


def is_prose(block: str, lines: list[str]) -> bool:
    """Running text beyond doubt: some full lines, or a sentence that ends."""
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


def is_table(block: str, lines: list[str]) -> bool:
    """Columns, rules, leaders or mostly figures."""
    solid = len(re.sub(r"\s+", "", block))
    figures = len(re.findall(r"\d", block))
    if figures > 0.25 * solid and len(lines) > 1:
        return True
    if figures + len(re.findall(r"[=+<>|^/\\]", block)) > 0.4 * solid:
        return True
    odd = sum(
        bool("|" in line or re.search(r"\S\s{3,}\S+\s{3,}\S|-{4,}|_{4,}|={4,}", line) or _LEADER.search(line))
        for line in lines
    )
    return odd >= 0.4 * len(lines) and odd > 0


def join(block: str, words: set[str]) -> str:
    """One line. A hyphen at a line's end goes where the word without it is one that the book also uses."""

    def mend(match: re.Match[str]) -> str:
        left, right = match[1], match[2]
        if left + right in words or not (left in words and right in words):
            return left + right
        return f"{left}-{right}"

    block = re.sub(r"(?<![A-Za-z])([A-Za-z]+)-[ \t]*\n[ \t]*([a-z]+)", mend, block)
    return " ".join(block.replace(HEADING, " ").split())
