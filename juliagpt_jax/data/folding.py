"""A text in the letters that a tokenizer has: small ones for capitals, or characters composed as its own are.

A model of a text in small letters has no "T", one of a decomposed text (NFD) no "é" in one piece. Folding writes such a
character as the vocabulary has it, and changes no other.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np

from juliagpt_jax.ground.errors import UserError

UNKNOWN = ("error", "skip", "fold")  # what may become of characters that a tokenizer lacks

# Ways to write characters otherwise, the mildest first.
WAYS: dict[str, Callable[[str], str]] = {
    "composed (NFC)": lambda text: unicodedata.normalize("NFC", text),
    "decomposed (NFD)": lambda text: unicodedata.normalize("NFD", text),
    "as small letters": str.lower,
    "as small letters, composed": lambda text: unicodedata.normalize("NFC", text.lower()),
    "as small letters, decomposed": lambda text: unicodedata.normalize("NFD", text.lower()),
    "as capitals": str.upper,
    "as plain characters (NFKC)": lambda text: unicodedata.normalize("NFKC", text),
}


def encode(tokenizer: Any, text: str, unknown: str) -> np.ndarray:
    """Return the ids of a text that a user gives.

    Args:
        unknown: what becomes of characters that the tokenizer lacks: "error", "skip" to leave them out, or "fold" to
            write them as it has them.

    Raises:
        UserError: naming the characters that are lacking, how the tokenizer has them, and the flag that takes them so.
    """
    if unknown == "fold":
        text = fold(tokenizer, text)[0]
    lacking = tokenizer.unknown(text)
    if lacking and unknown != "skip":
        ways = fold(tokenizer, text)[1]
        has = f"; it has them {' or '.join(ways)}, which --unknown=fold takes" if ways else ""
        says = f"characters the tokenizer lacks: {describe(lacking)}{has}"
        raise UserError(f"{says}; --unknown=skip leaves them out")
    return tokenizer.encode(text, unknown if unknown == "skip" else "error")


def fold(tokenizer: Any, text: str) -> tuple[str, list[str]]:
    """Return the text with each character that the tokenizer lacks written as it has it, where it does, and the ways
    of WAYS that this took. A letter and the combining signs behind it are written anew together."""
    lacking = set(tokenizer.unknown(text))
    taken: dict[str, None] = {}

    def written(found: re.Match[str]) -> str:
        cluster = found[0]
        for way, write in WAYS.items() if lacking.intersection(cluster) else ():
            if not tokenizer.unknown(write(cluster)):
                taken.setdefault(way)
                return write(cluster)
        return cluster

    signs = "".join(sorted(sign for sign in set(text) if unicodedata.combining(sign)))
    cluster = f"[\\s\\S][{re.escape(signs)}]*" if signs else r"[\s\S]"
    return (re.sub(cluster, written, text) if lacking else text), list(taken)


def describe(characters: str) -> str:
    """Name characters for a message: "'é' (U+00E9), '\\t' (U+0009)", at most ten."""
    names = [f"{c!r} (U+{ord(c):04X})" for c in characters[:10]]
    return ", ".join(names) + (f" and {len(characters) - 10} more" if len(characters) > 10 else "")
