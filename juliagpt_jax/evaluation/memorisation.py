"""Find what of a text stands in the training text: its longest piece that does, and the passage most like it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from juliagpt_jax.ground.errors import UserError

SHINGLE = 6  # characters; a word and a half, so that misspelled words find their like
WHOLE_LINE = 40  # characters; shorter lines ("romeo:") may well stand anywhere


class Copy(NamedTuple):
    """The longest common substring: so many characters, from `at` in the text, from `source` in the training text."""

    length: int
    at: int
    source: int


def longest_copies(texts: Sequence[str], training: str) -> list[Copy]:
    """The longest common substring of each text with the training text, by a suffix array of the latter's UTF-8: there
    the bytes of whole characters are found nowhere but where these characters stand.

    Raises:
        UserError: pydivsufsort is missing.
    """
    try:
        from pydivsufsort import divsufsort, sa_search
    except ImportError as error:
        raise UserError("the suffix array needs pydivsufsort: pip install 'juliagpt-jax[study]'") from error
    encode = lambda text: np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).copy()
    source = encode(training)
    order = divsufsort(source) if training else source
    found = []
    for text in texts:
        best, begin = Copy(0, 0, 0), 0
        for at in range(len(text) if training else 0):
            while at + best.length < len(text):
                count, first = sa_search(source, order, encode(text[at : at + best.length + 1]))
                if not count:
                    break
                best, begin = Copy(best.length + 1, at, 0), int(order[first])
        before = source[:begin].tobytes().decode("utf-8", "surrogatepass")
        found.append(best._replace(source=len(before)))
    return found


def nearest(texts: Sequence[str], passages: Sequence[str]) -> list[tuple[float, int]]:
    """For each text the passage most like it, as (similarity, index): the Jaccard index of their sets of SHINGLE
    characters in a row. (0, 0) where no passage shares any. All passages are compared; nothing is estimated."""
    holders: dict[str, list[int]] = {}
    wanted = [_shingles(text) for text in texts]
    for number, shingles in enumerate(wanted):
        for shingle in shingles:
            holders.setdefault(shingle, []).append(number)
    best = [(0.0, 0)] * len(texts)
    for index, passage in enumerate(passages):
        own = _shingles(passage)
        shared: dict[int, int] = {}
        for shingle in own & holders.keys():
            for number in holders[shingle]:
                shared[number] = shared.get(number, 0) + 1
        for number, count in shared.items():
            similarity = count / (len(own) + len(wanted[number]) - count)
            if similarity > best[number][0]:
                best[number] = (similarity, index)
    return best


def _shingles(text: str) -> set[str]:
    return {text[i : i + SHINGLE] for i in range(len(text) - SHINGLE + 1)}


def whole_lines(texts: Sequence[str], passages: Sequence[str]) -> tuple[int, int]:
    """Of the lines of at least WHOLE_LINE characters that the texts have whole (each begins with a line and breaks off
    in its last), how many stand in the training text word for word, and how many there are."""
    known = set(passages)
    lines = [line for text in texts for line in text.split("\n")[:-1] if len(line) >= WHOLE_LINE]
    return sum(line in known for line in lines), len(lines)
