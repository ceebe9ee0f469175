"""A paragraph of a book in the project's alphabet.

    plain   a-z and .,;:?!'"-() and the space: numbers become words, capitals small letters
    full    also A-Z and 0-9

Repairs come first (mojibake, typographic signs, markup), then signs that have a spoken form are written out, then
numbers, then what has no place in the alphabet goes. How much of a text changed on the way is counted.
"""

import dataclasses
import re
import string
from collections import Counter

import ftfy

from juliagpt_jax.books import letters, numerals
from juliagpt_jax.books.ledger import Ledger

_PUNCTUATION = " .,;:?!'\"-()"
ALPHABETS = {
    "plain": frozenset(string.ascii_lowercase + _PUNCTUATION),
    "full": frozenset(string.ascii_letters + string.digits + _PUNCTUATION),
}

_SIGNS = str.maketrans(
    {
        "‘": "'", "’": "'", "‚": "'", "‛": "'", "ʼ": "'", "′": "'", "´": "'", "`": "'", "“": '"', "”": '"', "„": '"',
        "«": '"', "»": '"', "‹": "'", "›": "'", "‟": '"', "〝": '"', "〞": '"',
        "⸺": "--", "⁓": "--", "″": '"', "‐": "-", "‑": "-", "‒": "-", "–": "--", "—": "--", "―": "--", "−": " minus ",
        "…": "...", "\u00a0": " ", "\u00ad": "",
        "½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⅓": " 1/3", "⅔": " 2/3", "⅛": " 1/8", "⅜": " 3/8", "⅝": " 5/8",
        "⅞": " 7/8",
        "²": "^2", "³": "^3", "¹": "", "×": " times ", "÷": " divided by ", "√": " root of ",
        "°": " degrees ", "º": " degrees ", "⁄": "/",
        "≤": " is at most ", "≥": " is at least ", "≠": " is not equal to ", "∞": " infinity ",
        "∠": " angle ", "△": " triangle ", "⊥": " is perpendicular to ", "∴": " therefore ",
    }
)  # fmt: skip

# Signs with a spoken form: the sign, a pattern with it, what is said. Order matters.
_SPOKEN = [
    (sign, re.compile(pattern), spoken)
    for sign, pattern, spoken in [
        (".'.", r"\.'\.", " therefore "),
        ("-", r"(?<![\w)-])-(?=\d)", " minus "),
        ("-", r"(?<=\d) ?- ?(?=\d)(?!\d+/\d)", " to "),
        ("/", r"\b([A-Za-z])/([A-Za-z])\b", r"\1 over \2"),
        ("&", r"&c\b\.?", "etc."),
        ("&", r" ?& ?", " and "),
        ("£", r"(?<![\w.])£(\d[\d,]*(?:\.\d+)?)", r"\1 pounds"),
        ("€", r"(?<![\w.])€ ?(\d[\d,]*(?:\.\d+)?)", r"\1 euros"),
        ("$", r"(?<![\w.])\$(\d[\d,]*(?:\.\d+)?)", r"\1 dollars"),
        ("%", r"(\d) ?%", r"\1 percent"),
        ("=", r" ?= ?(?=\S)", " equals "),
        ("+", r" \+ ?|(?<=\w)\+(?=\w)", " plus "),
        ("^", r"(?<=[\w)]) ?\^\{?2\}?", " squared"),
        ("^", r"(?<=[\w)]) ?\^\{?3\}?", " cubed"),
        ("^", r"(?<=[\w)]) ?\^\{?(\d+|[a-z])\}?", r" to the power \1"),
        ("<", r"(?<=[\w)]) < (?=[\w(])", " is less than "),
        (">", r"(?<=[\w)]) > (?=[\w(])", " is greater than "),
        ("::", r"(?<=\w) ?:: ?(?=\w)", " as "),
        ("§", r"§+ ?(?=\d)", "section "),
    ]
]
_SHORT = {
    "Prop": "proposition", "Props": "propositions", "Def": "definition", "Deff": "definitions", "Defs": "definitions",
    "Ax": "axiom", "Post": "postulate", "Cor": "corollary", "Coroll": "corollary", "Chap": "chapter", "Ch": "chapter",
    "Sect": "section", "Sec": "section", "Fig": "figure", "Figs": "figures", "Vol": "volume", "Sol": "solution",
    "Dem": "demonstration", "Hyp": "hypothesis", "Obs": "observation", "Exper": "experiment", "Qu": "question",
    "Schol": "scholium", "Bk": "book", "Theor": "theorem", "Prob": "problem", "Lib": "book", "Cap": "chapter",
}  # fmt: skip
_SHORT_IN_CAPITALS_ONLY = {"Post", "Sol", "Sec", "Ch", "Cap", "Dem", "Lib"}  # "in one sec." may be something else
_SHORTENED = re.compile(r"\b([A-Za-z]{2,6})\. ?(?=--|\w)")

# A reference in brackets: names of works, divisions and numbers, without a sentence around them.
_REFERENCE = re.compile(r"\s*[(\[]([^()\[\]]{1,80})[)\]]")
_REFERENCE_WORD = re.compile(
    r"(?:see|cf|compare|comp|vide|v|i\.? ?e|also|and|or|by|note|p|pp|l|ll|ad|init|fin|sqq?|ff?|n|q|ibid|op|cit|loc|"
    r"ch|bk|vs|ver|"
    r"st|supra|infra|post|def|axiom|prop|cor|ax|hyp|const|fig|art|sect?|lib|cap|chap|vol|book|part|obs|exper|lemma|coroll?|note|"
    r"pages?|lines?|above|below|nos?|ed|tom|tract|tr|[A-Z][a-z]{1,14}|[a-z]|\d+[a-z]?|[ivxlcdm]+|[IVXLCDM]+)",
)
_ENUMERATION = re.compile(r"(?<![\w])[(\[](?:\d{1,3}|[a-z]|[ivx]{1,4})[)\]]\s*")

# Words that seldom end a compound: a hyphen before one is a dash that was printed as a hyphen.
_AFTER_A_DASH = (
    "and but for the which who if when it he they we this these those what is are because since as or nor that a an "
    "some all while though although there such both either neither"
).split()
_TIGHT_DASH = re.compile(rf"(?<=[A-Za-z])-(?=(?:{'|'.join(_AFTER_A_DASH)})\b(?!-))")


@dataclasses.dataclass
class Changes:
    """Characters other than white space, small and capital letters taken for the same.

    Attributes:
        seen: in the text as it came.
        lost: of those, how many the clean text has no more.
        added: how many the clean text has that were not there (a figure loses one or two and adds a word).
    """

    seen: int = 0
    lost: int = 0
    added: int = 0

    def count(self, before: str, after: str) -> None:
        old, new = Counter(before.lower()), Counter(after.lower())
        for blank in [c for c in old if c.isspace()]:
            del old[blank]
        del new[" "]
        self.seen += old.total()
        self.lost += (old - new).total()
        self.added += (new - old).total()


def clean(
    text: str,
    alphabet: str = "plain",
    changes: Changes | None = None,
    ledger: Ledger | None = None,
    references: bool = True,
) -> str:
    """Return a paragraph in the alphabet, capitals kept (`small` takes them away once sentences are found), without
    double spaces. One that is mostly of other letters (Cyrillic, Hebrew, ...) is left out: its commas are no text.

    Args:
        changes: counts what the cleaner did.
        ledger: gets what it left out as a whole: references, words and paragraphs of other letters.
        references: take references to pages and works away; False where a work has more of them than can be.
    """
    before = text
    text = _repair(text)
    text, foreign = letters.without_others(text, ledger)
    if foreign:
        if changes is not None:
            changes.count(before, "")
        return ""
    if references:
        text = _drop_references(text, ledger)
    text = text.replace("[", "").replace("]", "")
    for sign, pattern, spoken in _SPOKEN:
        if sign in text:
            text = pattern.sub(spoken, text)
    text = _SHORTENED.sub(_long, text)
    if alphabet == "plain":
        text = numerals.spell(text)
    text = re.sub(r"(?<=\d)/(?=\d)", " over ", text)
    text = re.sub(r"(?<=\w)/(?=\w)", " or " if alphabet == "plain" else " ", text)
    allowed = ALPHABETS["full"]
    text = "".join(c if c in allowed else " " if c in "|/\\~\n\t" or c.isspace() else "" for c in text)
    if alphabet == "plain":
        text = re.sub(r"\d", "", text)
    text = _tidy(text)
    if changes is not None:
        changes.count(before, text)
    return text


def small(text: str, alphabet: str) -> str:
    """Return a clean text in small letters, where the alphabet has no capitals: the last step, once sentences are
    known."""
    return text.lower() if alphabet == "plain" else text


def _repair(text: str) -> str:
    """Return a text with its mojibake, ligatures, typographic signs, accents and Greek put right."""
    text = text.replace("\x00", "")
    if not text.isascii():
        text = ftfy.fix_text(
            text, uncurl_quotes=True, fix_latin_ligatures=True, fix_character_width=True, normalization="NFC"
        )
        text = letters.plain(text.translate(_SIGNS)).translate(_SIGNS)
    text = re.sub(r"(?<=[a-z])_(?=[a-z]+_)|[_*#~{}]+|(?<!\w)\^", "", text.replace("`", "'"))
    text = re.sub(r"(?<![\w)] )(?<!\w)=([A-Za-z][^=]*)=(?=$|[\s.,;:)!?])", r"\1", text)  # =small capitals=
    text = re.sub(r"\b0 (?=[A-Z][a-z])", "O ", text.replace("''", '"'))
    if text.startswith('"') and text.count('"') % 2:
        text = text[1:]  # of a quotation of several paragraphs, or of none
    return re.sub(r"\s+", " ", text)


def _drop_references(text: str, ledger: Ledger | None) -> str:
    def take(match: re.Match[str]) -> str:
        if not _is_reference(match[1]):
            return match[0]
        if ledger is not None:
            ledger.drop("references", match[0])
        return ""

    return _ENUMERATION.sub("", _REFERENCE.sub(take, text))


def _is_reference(inside: str) -> bool:
    """Tell whether brackets hold a reference: nothing but names and numbers, and one sign more than a capital letter
    before a number, which "(Boeing 747)" has too: a word of references, a shortened name, a Roman number, several
    numbers."""
    if not re.search(r"\d|\b[ivxlcIVXLC]+\b", inside) or len(inside) < 2:
        return False
    tokens = re.findall(r"[A-Za-z\d]+", inside)
    if not any(re.fullmatch(r"\d+[a-z]?|[ivxlc]+|[IVXLC]{2,}|[IVX]", t) for t in tokens) or (
        len(tokens) == 1 and tokens[0] == "I"
    ):
        return False
    if not all(_REFERENCE_WORD.fullmatch(t) for t in tokens) or re.search(r"[=+]", inside):
        return False
    if len(tokens) == 1 and re.fullmatch(r"1\d{3}|20\d\d", inside.strip()):
        return False  # a year
    plain = [t for t in tokens if not re.fullmatch(r"[A-Z][a-z]+", t)]
    return len(plain) > 1 or len(tokens) == 1 or bool(re.search(r"[a-z]\.", inside)) or not plain[0].isdigit()


def _long(match: re.Match[str]) -> str:
    short = match[1].capitalize()
    if short not in _SHORT or (match[1].islower() and short in _SHORT_IN_CAPITALS_ONLY):
        return match[0]
    return f"{_SHORT[short] if match[1].islower() else _SHORT[short].capitalize()} "


def _tidy(text: str) -> str:
    """Return a text spaced and punctuated as a printer would have it. A dash is a hyphen between spaces."""
    text = _TIGHT_DASH.sub(_dash, text)
    text = re.sub(r"(?<=[a-z])- (?=[A-Za-z])(?!(?:and|or)\b)| -(?=[a-z]{2})", " - ", text)
    text = re.sub(r" ?--[- ]*| -(?: -)* ", " - ", text)
    text = re.sub(r"\.(?: *\.)+", lambda m: "... " if len(m[0]) > 2 else ".", text)
    text = re.sub(r"\([.,;: -]*\)", "", text)
    text = re.sub(r" +([,;:?!.)])", r"\1", text)
    text = re.sub(r"\( +", "(", text)
    text = re.sub(r",(?: *,)+", ",", text)
    text = re.sub(r"(?:[,;:] *)+(?=[.?!])", "", text)
    text = re.sub(r"([,;:?!])(?=[A-Za-z(])", r"\1 ", text)
    text = re.sub(r"  +", " ", text)
    return text.strip(" -,;:").strip() if not re.search(r"[A-Za-z]", text[:3]) else text.strip()


def _dash(match: re.Match[str]) -> str:
    """Return a hyphen, or the dash that some archives print as one: "in general-as changes". "out-of-the-way" has
    none."""
    start = match.start()
    word = re.search(r"[\w-]*$", match.string[max(0, start - 30) : start])
    return "-" if word and "-" in word[0] else " - "
