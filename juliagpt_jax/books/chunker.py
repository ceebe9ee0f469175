"""Paragraphs to chunks of 40 to 256 characters, on sentence boundaries, in reading order, nothing lost.

Sentences are put together while they fit; a chunk rather ends with its paragraph than in the middle of the next. A
sentence that is too long is cut at a clause, else between words, as evenly as that allows.
"""

import dataclasses
import re
from collections.abc import Iterator

SHORTEST, LONGEST = 40, 256
_ENOUGH = 120  # a chunk of this length ends with its paragraph

_END = re.compile(r"[.?!][\"')]*\s+(?:- )?(?=[\"'(]*[A-Z0-9])")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'-])(?:[A-Z]|Mr|Mrs|Ms|Dr|St|Sir|Rev|Prof|Gen|Col|Capt|Lieut|Hon|Messrs|Mme|Mlle|Jun|Sen|Esq|viz|vs|cf|ib|ibid|id|op|cit|"
    r"i\.e|e\.g|p|pp|no|nos|vol|vols|ed|lib|cap|fol|ch|sc|fig|figs|etc|al|A\.D|B\.C|a\.m|p\.m|Jan|Feb|Aug|Sept|Oct|Nov|Dec|"
    r"Matt?|Gen|Exod?|Lev|Numb?|Deut|Sam|Kin|Chron|Psal|Prov|Isa|Jer|Ezek|Dan|Cor|Gal|Eph|Phil|Thess|Tim|Tit|Heb|Pet|Rom|Met|Rep|Pol|Eth)\.$"
)
_BREAKS = [r"[;:]['\")]*\s", r",['\")]*\s|\s-\s", r"\s"]  # where a long sentence is cut, best first


@dataclasses.dataclass(frozen=True)
class Limits:
    """Characters of a chunk. With `longest` three times `shortest` there is always a place to cut between words."""

    shortest: int = SHORTEST
    longest: int = LONGEST


def sentences(paragraph: str) -> list[str]:
    """Return the sentences of a paragraph whose capitals are still there. Joined by spaces they are the paragraph."""
    result, begin = [], 0
    for match in _END.finditer(paragraph):
        if _ABBREVIATION.search(paragraph[max(begin, match.start() - 12) : match.start() + 1]):
            continue
        result.append(paragraph[begin : match.end()].strip())
        begin = match.end()
    rest = paragraph[begin:].strip()
    return [*result, rest] if rest else result


def chunks(sections: list[list[list[str]]], limits: Limits = Limits()) -> list[str]:
    """Return the chunks of a work, given as sections of paragraphs of sentences.

    Their words, in order, are those of the sentences. Every chunk has `shortest` to `longest` characters, but for a
    work shorter than that, whose one chunk is what there is, and for words longer than a chunk, which are cut. No
    chunk holds text of two sections, unless one of them is shorter than a chunk.
    """
    return list(_even([part for section in sections for part in _parts(section, limits)], limits))


def _parts(paragraphs: list[list[str]], limits: Limits) -> Iterator[str]:
    """Yield parts of at most `longest` characters; some may be too short."""
    current = ""
    for paragraph in paragraphs:
        for piece in (p for sentence in paragraph for p in _cut(sentence, limits)):
            joined = f"{current} {piece}" if current else piece
            if len(joined) > limits.longest:
                yield current
                current = piece
            else:
                current = joined
        if len(current) >= min(_ENOUGH, limits.longest // 2):
            yield current
            current = ""
    if current:
        yield current


def _cut(sentence: str, limits: Limits) -> Iterator[str]:
    """Yield pieces of at most `longest` characters."""
    if len(sentence) <= limits.longest:
        yield sentence
        return
    at = _middle(sentence, limits)
    yield from _cut(sentence[:at].strip(), limits)
    yield from _cut(sentence[at:].strip(), limits)


def _middle(text: str, limits: Limits) -> int:
    """Return the place to cut a text that is too long: after the clause or word that ends nearest its middle, both
    parts long enough."""
    half, low, high = len(text) / 2, limits.shortest, len(text) - limits.shortest
    parts = -(-len(text) // limits.longest)
    reach = max(half - len(text) / (2 * parts) + 20, half / 2)  # a clause may be this far from the middle
    for pattern in _BREAKS:
        places = [m.end() for m in re.finditer(pattern, text) if low <= m.end() - 1 and m.end() <= high]
        if places:
            at = min(places, key=lambda place: (abs(place - half), place))
            if abs(at - half) <= reach or pattern == _BREAKS[-1]:
                return at
    return int(half)


def _even(parts: list[str], limits: Limits) -> Iterator[str]:
    """Yield the words in parts of which none is too short: such a one is put to the one before or after it, and cut
    anew if need be."""
    held = ""
    for part in parts:
        if held and (len(held) < limits.shortest or len(part) < limits.shortest):
            held = f"{held} {part}"
            if len(held) > limits.longest:
                *done, held = _cut(held, limits)
                yield from done
        else:
            if held:
                yield held
            held = part
    if held:
        yield held
