"""Letters that the alphabet lacks: Latin ones in plain letters, Greek ones in Latin letters, others left out."""

import functools
import re
import unicodedata

from juliagpt_jax.books.ledger import Ledger

_GREEK = dict(
    zip("αβγδεζηθικλμνξοπρσςτυφχψω", "a b g d e z e th i k l m n x o p r s s t y ph ch ps o".split(), strict=True)
)
_GREEK_NAMES = dict(
    zip(
        "αβγδεζηθικλμνξοπρστυφχψω",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi "
        "chi psi omega".split(),
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
    }
)
# Letters that Unicode names by more than one letter; of the others ("LATIN SMALL LETTER L WITH STROKE") the name tells.
_NAMED = {
    "THORN": "th", "ETH": "d", "ENG": "ng", "SCHWA": "e", "ESH": "sh", "EZH": "zh", "YOGH": "gh", "WYNN": "w",
    "KRA": "k", "HWAIR": "hw", "DOTLESS I": "i", "OPEN E": "e", "OPEN O": "o", "LONG S": "s", "SHARP S": "ss",
    "UPSILON": "u", "ALPHA": "a", "IOTA": "i", "GAMMA": "g", "TURNED E": "e", "REVERSED E": "e", "AFRICAN D": "d",
}  # fmt: skip


def plain(text: str) -> str:
    """Return a text without accents and ligatures, and with its Greek words in Latin letters."""
    text = text.translate(_LETTERS)
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return re.sub(r"[α-ωΑ-Ω]+", _greek, text)


def _greek(match: re.Match[str]) -> str:
    word = match[0].lower()
    if len(word) == 1:
        return f" {_GREEK_NAMES.get(word, 'sigma')} "
    return "".join(_GREEK.get(c, "") for c in word)


@functools.lru_cache(maxsize=4_096)
def _latin(letter: str) -> str:
    """Return a Latin letter that has no parts (ħ, Ł, ə) in plain letters; "" for a letter of another script."""
    match = re.match(
        r"LATIN (SMALL|CAPITAL|LETTER SMALL CAPITAL) (?:LETTER |LIGATURE )?(.+?)(?: WITH .*)?$", _name(letter)
    )
    if not match:
        return ""
    plain = match[2].lower() if len(match[2]) <= 2 else _NAMED.get(match[2], "")
    return plain.capitalize() if match[1] == "CAPITAL" else plain


def _name(letter: str) -> str:
    return unicodedata.name(letter, "")


def without_others(text: str, ledger: Ledger | None) -> tuple[str, bool]:
    """Return a text in Latin letters, without the words of other scripts; and whether most of it was of those."""
    if text.isascii():
        return text, False
    text = re.sub(r"[^\W\d_a-zA-Z]", lambda m: _latin(m[0]) or m[0], text)
    other = re.findall(r"[^\W\d_a-zA-Z]+", text)
    count = sum(map(len, other))
    foreign = count > len(re.findall(r"[a-zA-Z]", text))
    if ledger is not None and other:
        if foreign:
            ledger.drop("other alphabet", text)
        else:
            for word in other:
                ledger.drop("other letters", word)
    return re.sub(r"[^\W\d_a-zA-Z]+", "", text), foreign
