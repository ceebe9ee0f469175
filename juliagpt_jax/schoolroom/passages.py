"""A schoolroom that never runs out of lessons: the embedded corpus, and its exact probability.

The lessons are an explicit weighted grammar (notation: `lessons`; engine: `grammar`). One passage is one
independent draw: a form is chosen with known weight, every slot is a weighted choice, a choice without
replacement or an integer from a range, and whatever follows from earlier slots (the sum, the plural, the
conclusion) is computed. Nothing is ever rejected, so `log_prob` can be exact: it parses a text back into all the
derivations that could have written it and adds up their probabilities.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import re
import zlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from juliagpt_jax.schoolroom import lessons
from juliagpt_jax.schoolroom.bounds import length_bounds_of
from juliagpt_jax.schoolroom.examiner import Claim, examine
from juliagpt_jax.schoolroom.grammar import Grammar, Production
from juliagpt_jax.schoolroom.variables import Pen

__all__ = [
    "ALPHABET",
    "KNOWN_AS",
    "VERSION",
    "Claim",
    "Passage",
    "corpus",
    "digest",
    "entropy_bits_per_character",
    "examine",
    "form_names",
    "length_bounds",
    "log_prob",
    "passages",
    "sample",
]

ALPHABET: str = "".join(sorted("abcdefghijklmnopqrstuvwxyz .,;:?!'\"-()\n"))
"""Every character of the corpus, sorted; the newline only ever separates passages."""

VERSION: int = 1
"""Raised whenever a change to the grammar changes the text."""

_DIGEST = "6679b265e5fca86d41ce21daed9d4f54556953b08510aec53a7c55e51a4164a5"
KNOWN_AS: dict[str, str] = {_DIGEST: "50e55a21bd4dc5983dd66db116f030f9984ad3869b199c0b05823effae595b46"}
"""By `digest` of a corpus, what runs were told it is when that was a hash of the generator's source: they resume."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One passage of 40 to 256 characters, and what is known of it.

    difficulty, in [0, 1], is the mean of four ratios, each capped at 1: the order of magnitude of the largest number
    (log10 over 4), the steps of reasoning the form asks for (over 4), words per sentence (over 24) and letters per
    word (over 7).

    quality, in [0, 1], is the mean of three: the form's merit (set by hand in `lessons`: does the passage prove, teach
    or amuse, or merely assert?), variety (the share of words that are not repetitions, from 0.5 to 1, stretched to
    0..1) and freshness (bits of choice per character that went into the derivation, over 1.2, capped at 1). It says
    how much a passage offers to a reader, not how likely it is to be true: every passage is meant to be true.
    """

    text: str
    author: str
    art: str
    phase: str
    difficulty: float
    quality: float
    form: str


_GRAMMAR = Grammar(lessons.RULES)
_FORMS: list[tuple[lessons.Form, Production]] = [(f, Production(_GRAMMAR, f.draws, f.text)) for f in lessons.FORMS]
_ART_TOTAL = {art: sum(f.weight for f in lessons.FORMS if f.art == art) for art in lessons.ARTS}
_SHARES = [lessons.ARTS[f.art].share * f.weight / _ART_TOTAL[f.art] for f in lessons.FORMS]
_BARS = list(itertools.accumulate(_SHARES))[:-1]
_SENTENCES = re.compile(r"[.?!;]")


def _draw(rnd: Callable[[], float]) -> tuple[Passage, float]:
    """One passage, and the natural logarithm of the probability of the derivation that wrote it."""
    i = bisect_right(_BARS, rnd())
    form, production = _FORMS[i]
    pen, out = Pen(rnd), []
    production.emit(pen, out)
    text = "".join(out)
    log_p = math.log(pen.p) + math.log(_SHARES[i])
    words = text.split()
    n = len(words)
    sentences = len(_SENTENCES.findall(text)) or 1
    difficulty = (
        min(1.0, math.log10(pen.largest) / 4)
        + min(1.0, form.steps / 4)
        + min(1.0, n / sentences / 24)
        + min(1.0, len(text) / n / 7)
    ) / 4
    freshness = min(1.0, -log_p / math.log(2) / len(text) / 1.2)
    quality = (form.merit + max(0.0, 2 * len(set(words)) / n - 1) + freshness) / 3
    art = lessons.ARTS[form.art]
    return Passage(text, form.author, form.art, art.phase, round(difficulty, 4), round(quality, 4), form.name), log_p


def sample(count: int, seed: int) -> list[tuple[Passage, float]]:
    """The passages of `passages(count, seed)`, each with the log-probability (nats) of its derivation.

    That is at most `log_prob` of the text, and equal unless the text has other derivations.
    """
    rnd = random.Random(seed).random
    return [_draw(rnd) for _ in range(count)]


def passages(count: int, seed: int) -> list[Passage]:
    """`count` independent draws from the grammar; the same seed gives the same passages, a longer run extends them."""
    return [passage for passage, _ in sample(count, seed)]


def corpus(seed: int = 0, characters: int = 3_000_000) -> tuple[list[Passage], list[Passage]]:
    """(train, validation): draws until their characters, newlines included, number about `characters`.

    A passage belongs to validation if and only if crc32 of its text is 0 modulo 20 (about 5%), so no text is in both,
    and the split never depends on seed or size. Given its side, each passage is still an independent draw from the
    grammar, restricted to that side. Repetitions inside a side remain, as in any i.i.d. sample.

    What this does to exactness: the distribution of a validation passage is exp(log_prob) divided by the probability
    V of all validation texts, V being about 1/20 but not known exactly. `log_prob`, which is unconditional, is
    therefore log V (about -4.3 bits a passage) away from the conditional; a model trained on the train side cannot
    know the hash and has to be compared with the unconditional figure, as `entropy_bits_per_character` does.
    """
    rnd = random.Random(seed).random
    train: list[Passage] = []
    validation: list[Passage] = []
    written = 0
    while written < characters:
        passage, _ = _draw(rnd)
        written += len(passage.text) + 1
        (train if zlib.crc32(passage.text.encode()) % 20 else validation).append(passage)
    return train, validation


def digest(sides: tuple[list[Passage], list[Passage]]) -> str:
    """Return the SHA-256 of all that is known of the passages of both sides."""
    return hashlib.sha256(repr(sides).encode()).hexdigest()


def log_prob(text: str) -> float:
    """Natural logarithm of the probability that one draw is exactly `text`, summed over all its derivations.

    `text` is one passage without its newline: given the passage, the newline is certain. -inf if the grammar cannot
    write it.
    """
    memo: dict[tuple[int, int], list[tuple[int, float]]] = {}
    n = len(text)
    p = sum(s * production.ends(text, 0, memo).get(n, 0.0) for s, (_, production) in zip(_SHARES, _FORMS, strict=True))
    return math.log(p) if p > 0 else -math.inf


def entropy_bits_per_character(passages: Sequence[Passage | str]) -> float:
    """sum(-log2 p) / sum(len + 1): an unbiased look at the entropy rate of the corpus, newlines counted.

    The lowest bits per character any model can expect on such passages. inf if one of them is not in the grammar;
    ValueError if there are none.
    """
    if not passages:
        raise ValueError("no passages")
    texts = [p if isinstance(p, str) else p.text for p in passages]
    return -sum(log_prob(t) for t in texts) / math.log(2) / sum(len(t) + 1 for t in texts)


def form_names() -> list[str]:
    """The names of all forms, in the order of the lessons."""
    return [form.name for form, _ in _FORMS]


def length_bounds(form: str) -> tuple[int, int]:
    """Lengths, in characters, that no passage of the form can leave (every slot taken at its extreme).

    KeyError for an unknown form.
    """
    production = next((p for f, p in _FORMS if f.name == form), None)
    if production is None:
        raise KeyError(form)
    return length_bounds_of(production)
