"""A paragraph of a book to the project's alphabet.

    plain   a-z and .,;:?!'"-() and the space: numbers become words, capitals small letters
    full    also A-Z and 0-9

Repairs come first (mojibake, typographic signs, markup), then signs that have a spoken form are written out, then
numbers, then what has no place in the alphabet goes. How much of a text changed on the way is counted.
"""

import dataclasses
import re
import string
import unicodedata
from collections import Counter

import ftfy

from juliagpt_jax.data import numerals

_PUNCTUATION = " .,;:?!'\"-()"
ALPHABETS = {
    "plain": frozenset(string.ascii_lowercase + _PUNCTUATION),
    "full": frozenset(string.ascii_letters + string.digits + _PUNCTUATION),
}

_GREEK = dict(
    zip("αβγδεζηθικλμνξοπρσςτυφχψω", "a b g d e z e th i k l m n x o p r s s t y ph ch ps o".split(), strict=True)
)
_GREEK_NAMES = dict(
    zip(
        "αβγδεζηθικλμνξοπρστυφχψω",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi chi "
        "psi omega".split(),
        strict=True,
    )
)
_LETTERS = str.maketrans(
    {
        "æ": "ae",
        "Æ": "Ae",
        "œ": "oe",
        "Œ": "Oe",
        "ß": "ss",
        "ø": "o",
        "Ø": "O",
        "ð": "d",
        "þ": "th",
        "ł": "l",
        "đ": "d",
        "ı": "i",
    }
)
_SIGNS = str.maketrans(
    {
        "‘": "'", "’": "'", "‚": "'", "‛": "'", "ʼ": "'", "′": "'", "´": "'", "`": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"',
        "″": '"', "‐": "-", "‑": "-", "‒": "-", "–": "--", "—": "--", "―": "--", "−": " minus ", "…": "...", "\u00a0": " ", "\u00ad": "",
        "½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⅓": " 1/3", "⅔": " 2/3", "⅛": " 1/8", "⅜": " 3/8", "⅝": " 5/8", "⅞": " 7/8",
        "²": "^2", "³": "^3", "¹": "", "×": " times ", "÷": " divided by ", "√": " root of ", "°": " degrees ", "º": " degrees ", "⁄": "/",
        "≤": " is at most ", "≥": " is at least ", "≠": " is not equal to ", "∞": " infinity ", "∠": " angle ", "△": " triangle ", "⊥": " is perpendicular to ",
    }
)  # fmt: skip

# Signs with a spoken form. Order matters.
_SPOKEN = [
    (re.compile(p), r)
    for p, r in [
        (r"&c\b\.?", "etc."),
        (r"\s*&\s*", " and "),
        (r"(?<![\w.])[£](\d[\d,]*(?:\.\d+)?)", r"\1 pounds"),
        (r"(?<![\w.])[$](\d[\d,]*(?:\.\d+)?)", r"\1 dollars"),
        (r"(\d)\s?%", r"\1 percent"),
        (r"\s*=\s*(?=\S)", " equals "),
        (r"\s+\+\s*|(?<=\w)\+(?=\w)", " plus "),
        (r"(?<=[\w)])\s*\^\{?2\}?", " squared"),
        (r"(?<=[\w)])\s*\^\{?3\}?", " cubed"),
        (r"(?<=[\w)])\s*\^\{?(\d+|[a-z])\}?", r" to the power \1"),
        (r"(?<=[\w)])\s+<\s+(?=[\w(])", " is less than "),
        (r"(?<=[\w)])\s+>\s+(?=[\w(])", " is greater than "),
        (r"(?<=\w)\s*::\s*(?=\w)", " as "),
        (r"§+\s*(?=\d)", "section "),
    ]
]
_SHORT = {
    "Prop": "proposition", "Props": "propositions", "Def": "definition", "Deff": "definitions", "Defs": "definitions", "Ax": "axiom",
    "Post": "postulate", "Cor": "corollary", "Coroll": "corollary", "Chap": "chapter", "Ch": "chapter", "Sect": "section", "Sec": "section", "Fig": "figure",
    "Figs": "figures", "Vol": "volume", "Sol": "solution", "Dem": "demonstration", "Hyp": "hypothesis", "Obs": "observation",
    "Exper": "experiment", "Qu": "question", "Schol": "scholium", "Bk": "book", "Theor": "theorem", "Prob": "problem", "Lib": "book", "Cap": "chapter",
}  # fmt: skip
_SHORTENED = re.compile(
    rf"\b({'|'.join(_SHORT)}|{'|'.join(s.lower() for s in _SHORT if s not in ('Post', 'Sol', 'Sec', 'Ch', 'Cap', 'Dem', 'Lib'))}|{'|'.join(s.upper() for s in _SHORT)})\.(?=\s*(?:--|\w))"
)

# A reference in brackets: names of works, divisions and numbers, without a sentence around them.
_REFERENCE = re.compile(r"\s*[(\[]([^()\[\]]{1,80})[)\]]")
_REFERENCE_WORD = re.compile(
    r"(?:see|cf|compare|comp|vide|v|i\.? ?e|also|and|or|by|note|p|pp|l|ll|ad|init|fin|sqq?|ff?|n|q|ibid|op|cit|loc|ch|bk|vs|ver|"
    r"st|supra|infra|post|def|axiom|prop|cor|ax|hyp|const|fig|art|sect?|lib|cap|chap|vol|book|part|obs|exper|lemma|coroll?|note|"
    r"[A-Z][a-z]{1,14}|[a-z]|\d+[a-z]?|[ivxlcdm]+|[IVXLCDM]+)",
)
_ENUMERATION = re.compile(r"(?<![\w])[(\[](?:\d{1,3}|[a-z]|[ivx]{1,4})[)\]]\s*")


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


def clean(text: str, alphabet: str = "plain", changes: Changes | None = None) -> str:
    """A paragraph in the alphabet, capitals kept (`small` takes them away once sentences are found), without double
    spaces."""
    before = text
    text = _repair(text)
    text = _drop_references(text)
    for pattern, spoken in _SPOKEN:
        text = pattern.sub(spoken, text)
    text = _SHORTENED.sub(lambda m: _cased(m[1], _SHORT[m[1].capitalize()]) + " ", text)
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
    """The last step, once sentences are known: small letters, where the alphabet has no capitals."""
    return text.lower() if alphabet == "plain" else text


def _repair(text: str) -> str:
    """Mojibake, ligatures, typographic signs, accents, Greek."""
    text = text.replace("\x00", "")
    if not text.isascii():
        text = ftfy.fix_text(
            text, uncurl_quotes=True, fix_latin_ligatures=True, fix_character_width=True, normalization="NFC"
        )
        text = text.translate(_SIGNS).translate(_LETTERS)
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
        text = re.sub(r"[α-ωΑ-Ω]+", _greek, text).translate(_SIGNS)
    text = re.sub(r"(?<=[a-z])_(?=[a-z]+_)|[_*#~{}]+|(?<!\w)\^", "", text.replace("`", "'"))
    text = text.replace("''", '"')
    return re.sub(r"\s+", " ", text)


def _greek(match: re.Match[str]) -> str:
    word = match[0].lower()
    if len(word) == 1:
        return f" {_GREEK_NAMES.get(word, 'sigma')} "
    return "".join(_GREEK.get(c, "") for c in word)


def _drop_references(text: str) -> str:
    text = _REFERENCE.sub(lambda m: "" if _is_reference(m[1]) else m[0], text)
    return _ENUMERATION.sub("", text).replace("[", "").replace("]", "")


def _is_reference(inside: str) -> bool:
    if not re.search(r"\d|\b[ivxlcIVXLC]+\b", inside) or len(inside) < 2:
        return False
    tokens = re.findall(r"[A-Za-z\d]+", inside)
    if (
        not any(re.fullmatch(r"\d+[a-z]?|[ivxlc]+|[IVXLC]{2,}|[IVX]", t) for t in tokens)
        or len(tokens) == 1
        and tokens[0] == "I"
    ):
        return False
    return all(_REFERENCE_WORD.fullmatch(t) for t in tokens) and not re.search(r"[=+]", inside)


def _cased(model: str, word: str) -> str:
    return word.capitalize() if model[0].isupper() else word


def _tidy(text: str) -> str:
    """Spacing and punctuation as a printer would have them. A dash is a hyphen between spaces."""
    text = re.sub(
        r"(?<=[A-Za-z])-(?=(?:and|but|for|the|which|who|if|when|it|he|they|we|this|these|those|what|is|are|because|since|as|or|nor|that|a|an|some|all|while|though|although|there|such|both|either|neither|i\.e)\b(?!-))(?<!-[A-Za-z]-)",
        _dash,
        text,
    )
    text = re.sub(r"\s*-{2,}\s*|\s+-\s+", " - ", text)
    text = re.sub(r"\.(?:\s*\.)+", lambda m: "..." if len(m[0]) > 2 else ".", text)
    text = re.sub(r"\(\s*[.,;:\s-]*\)", "", text)
    text = re.sub(r"\s+([,;:?!.)])", r"\1", text)
    text = re.sub(r"\(\s+", "(", text)
    text = re.sub(r",(?:\s*,)+", ",", text)
    text = re.sub(r"([,;:])\s*(?=[.?!])", "", text)
    text = re.sub(r"([,;:?!])(?=[A-Za-z(])", r"\1 ", text)
    text = re.sub(r"\s+", " ", text)
    return text.strip(" -,;:").strip() if not re.search(r"[A-Za-z]", text[:3]) else text.strip()


def _dash(match: re.Match[str]) -> str:
    """Some archives print a dash as one hyphen: "in general-as changes". A hyphen before such a word is taken for one,
    unless it belongs to a chain ("out-of-the-way")."""
    start = match.start()
    word = re.search(r"[\w-]*$", match.string[max(0, start - 30) : start])
    return "-" if word and "-" in word[0] else " - "
