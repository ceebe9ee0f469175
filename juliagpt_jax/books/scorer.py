"""Measures of a chunk: how hard it is to read, and how much it looks like running text.

Both are measured against the rest of the corpus: the text of other works for compression, the words of all other
chunks for quality.
"""

import dataclasses
import functools
import math
import random
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

DICTIONARY_BYTES = 32_000  # what zlib looks back on
MTLD_THRESHOLD = 0.72  # McCarthy and Jarvis 2010
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_SENTENCE = re.compile(r"[.?!]+(?:[\"')]+)?(?:\s|$)")
_VOWELS = re.compile(r"[aeiouy]+")
# Neighbours that are two syllables: idea, trivium, poem, being, society, science, create.
_TWO = re.compile(
    r"(?<![cstgx])ia(?!n$|ns$|ge)|i[uo](?=m|u?s[a-z])|(?<![cstgx])iou|oe(?=[mt])|[aeiouy]ing$|[aeiouy]ings$|iet|(?<!t)(?<!c)ie(?=n[tc])|sci(?=e|o)|"
    r"(?<=[dr])ea(?=$|s$)|crea(?=t)|thea|(?<![gq])ua(?=[lrt])|ui(?=n)|eo(?=l|r|m)|oya|rue(?=l)|ism"
)
# Vowels that are none: make, walked, makes, purely, every, dialogue.
_SILENT = re.compile(
    r"(?<=[^aeiouy])(?<![^aeiouy]l)e$|(?<=[^aeiouytd])ed$|(?<=[^aeiouyscgxz])(?<![^aeiouy]l)es$|(?<=[^aeiouyhs])(?<!g)e(?=ly$|ful|less|ment|ness)|"
    r"ogue?s?(?=$)|ique?s?(?=$)|(?<=ev)e(?=ry)"
)


@dataclasses.dataclass(frozen=True)
class Scores:
    """Measures of one chunk.

    Attributes:
        compression: compressed over plain bytes, given a dictionary of other works' text. High is surprising.
        mtld: measure of textual lexical diversity: words that a text of this variety takes to wear out.
        flesch: reading ease, about 0 (hard) to 100 (easy).
        quality: in [0, 1], the product of the shares below, each from its poor to its good end.
        letters: share of letters and spaces among all characters.
        known: share of words that the corpus has elsewhere too.
        function: share of words such as "the" and "of": English text has near half of them, other languages few.
        repetition: share of words that are repetitions beyond what a text of this length has.
        fragments: share of words that are single letters or end nothing: what lists, formulas and tables consist of.
    """

    compression: float
    mtld: float
    flesch: float
    quality: float
    letters: float
    known: float
    function: float
    repetition: float
    fragments: float


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


@functools.lru_cache(maxsize=200_000)
def syllables(word: str) -> int:
    """Return the syllables of an English word by rule: groups of vowels, less a silent e, plus what the rule misses.

    Own rule; on the words of its test it is right nine times in ten.
    """
    word = re.sub(r"'s?$", "", word.lower())
    count = len(_VOWELS.findall(word)) + len(_TWO.findall(word)) - len(_SILENT.findall(word))
    return max(count, 1)


def flesch(text: str) -> float:
    """Return 206.835 - 1.015 words per sentence - 84.6 syllables per word (Flesch 1948)."""
    found = words(text)
    if not found:
        return 0.0
    ends = len(_SENTENCE.findall(text)) or 1
    return 206.835 - 1.015 * len(found) / ends - 84.6 * sum(map(syllables, found)) / len(found)


def mtld(found: Sequence[str], threshold: float = MTLD_THRESHOLD) -> float:
    """Return the mean length of runs whose type-token ratio stays above the threshold, forwards and backwards
    (McCarthy and Jarvis 2010). The last run counts as the part of a run that its ratio has come down to.

    A text too short to come down at all is taken to repeat itself with its next word: so the measure stays finite and
    grows with the length.
    """
    if not found:
        return 0.0
    return (_mtld_one_way(found, threshold) + _mtld_one_way(found[::-1], threshold)) / 2


def _mtld_one_way(found: Sequence[str], threshold: float) -> float:
    factors, seen, length = 0.0, set(), 0
    for word in found:
        seen.add(word)
        length += 1
        if len(seen) / length < threshold:
            factors += 1
            seen, length = set(), 0
    if length:
        factors += (1 - len(seen) / length) / (1 - threshold)
    if factors == 0:
        factors = (1 / (len(found) + 1)) / (1 - threshold)
    return len(found) / factors


def dictionary(others: Sequence[str], seed: int) -> bytes:
    """32 kB of text for `Judge`: chunks drawn from `others`, which are in a fixed order and hold no chunk to judge."""
    order = list(range(len(others)))
    random.Random(f"dictionary {seed}").shuffle(order)
    picked, size = [], 0
    for i in order:
        if size > DICTIONARY_BYTES:
            break
        picked.append(others[i])
        size += len(others[i]) + 1
    return "\n".join(picked).encode()[:DICTIONARY_BYTES]


class Judge:
    """Scores chunks against text that is not theirs.

    Args:
        dictionary: what the compressor may quote from.
        counts: how often each word of the chunks occurs in the whole corpus.
        total: words of the whole corpus. A word is known if it occurs outside the chunk: three times in a large corpus,
            once in one of less than 50,000 words.
    """

    def __init__(self, dictionary: bytes, counts: Mapping[str, int], total: int):
        self._counts = counts
        self._enough = min(3, 1 + total // 50_000)
        self._empty = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, dictionary)

    def compression(self, text: str) -> float:
        content = text.encode()
        packer = self._empty.copy()  # with the dictionary already indexed
        return (len(packer.compress(content)) + len(packer.flush())) / max(len(content), 1)

    def score(self, text: str) -> Scores:
        found = words(text)
        n = max(len(found), 1)
        counts = Counter(found)
        letters = sum(c.isalpha() or c == " " for c in text) / max(len(text), 1)
        known = sum(m for word, m in counts.items() if self._counts.get(word, 0) - m >= self._enough) / n
        # A text of 40 words has about 30 different ones; a refrain or a table's ditto has far fewer.
        repetition = max(0.0, 1 - len(counts) / n - 0.25) if n > 8 else 0.0
        function = sum(word in _FUNCTION_WORDS for word in found) / n
        lone = sum(len(word) == 1 and word not in "aio" for word in found)
        numbers = sum(word in _NUMBER_WORDS for word in found)
        breaks = len(re.findall(r"[.;:,?!()-]", text))
        fragments = min(1.0, (lone + max(0, numbers - 0.2 * n) + max(0, breaks - 0.35 * n)) / n)
        quality = (
            (
                _stretch(letters, 0.70, 0.88)
                * _stretch(known, 0.55, 0.92)
                * _stretch(function, 0.08, 0.22)
                * _stretch(-repetition, -0.45, -0.25)
                * _stretch(-fragments, -0.40, -0.10)
            )
            if found
            else 0.0
        )
        return Scores(
            self.compression(text), mtld(found), flesch(text), quality, letters, known, function, repetition, fragments
        )


_FUNCTION_WORDS = frozenset(
    "the of and to in is that it as be not he by which or for but this are with his they have from was at all who if "
    "what we on no so will any has there when one their been than them its would may had him you my do shall can were "
    "other these such she her your our then only some more thou thy unto i an".split()
)
_NUMBER_WORDS = frozenset(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million equals plus "
    "minus squared cubed point".split()
)


def _stretch(value: float, poor: float, good: float) -> float:
    return min(1.0, max(0.0, (value - poor) / (good - poor)))


def ranks(values: Iterable[float]) -> np.ndarray:
    """Return ranks in [0, 1], ties sharing their mean; 0.5 for a single value."""
    array = np.asarray(list(values), np.float64)
    if len(array) < 2:
        return np.full(len(array), 0.5)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - (counts + 1) / 2) / (len(array) - 1))[inverse]


def difficulty(scores: Sequence[Scores]) -> np.ndarray:
    """Return a number in [0, 1] for each chunk: the mean of three ranks among all chunks, of compression, of MTLD and
    of Flesch from easy to hard."""
    if not scores:
        return np.zeros(0)
    assert all(math.isfinite(s.mtld) for s in scores)
    return (ranks(s.compression for s in scores) + ranks(s.mtld for s in scores) + ranks(-s.flesch for s in scores)) / 3
