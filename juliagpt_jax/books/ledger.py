"""A list of all that was left out of a work, rule by rule: how many characters, some of them, and what a rule was not
allowed to take.

A rule that drops text is bounded: where it would take more than its share of a work, it was tuned on other works than
this one, and the text stays. Both are written into the report.
"""

import dataclasses
from collections import Counter

SHOWN = 5  # samples of a rule
_LENGTH = 100  # characters of a sample
_REMEMBERED = 4_096  # samples of a rule before they are thinned out
_ALWAYS = 400  # characters that a rule may take even of a short work

# The largest share of a work that a rule may take. Where a rule has none, what it takes is marked by the file's format,
# or is no text: the publisher's header and footer, hidden elements, signs without a letter.
SHARES = {
    "captions": 0.15,
    "code": 0.5,
    "contents": 0.15,
    "front matter": 0.1,
    "headings": 0.15,
    "hidden": 0.3,
    "index": 0.3,
    "licence": 0.3,
    "line numbers": 0.1,
    "navigation": 0.4,
    "note marks": 0.1,
    "notes": 0.5,
    "numbering": 0.1,
    "page numbers": 0.05,
    "references": 0.1,
    "sidenotes": 0.15,
    "tables": 0.3,
    "transcriber's notes": 0.1,
}


def allowed(rule: str, size: int) -> float:
    """Return how many of a work's `size` characters a rule may take."""
    return max(SHARES[rule] * size, _ALWAYS) if rule in SHARES else float("inf")


@dataclasses.dataclass
class Ledger:
    """All that was left out of one work.

    Attributes:
        counts: characters, by rule.
        spared: characters that a rule would have taken beyond its share, and which stayed, by rule.
    """

    counts: Counter[str] = dataclasses.field(default_factory=Counter)
    spared: Counter[str] = dataclasses.field(default_factory=Counter)
    _samples: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def drop(self, rule: str, text: str, count: int | None = None) -> None:
        """Write down that a rule takes a text, or `count` characters of which the text is a sample."""
        self.counts[rule] += len(text) if count is None else count
        sample = " ".join(text[: 4 * _LENGTH].split())
        if sample:
            known = self._samples.setdefault(rule, [])
            known.append(sample if len(sample) <= _LENGTH else f"{sample[: _LENGTH - 3]}...")
            if len(known) > _REMEMBERED:
                del known[1::2]

    def samples(self, rule: str) -> list[str]:
        """Return some of the texts that a rule took, from its first to its last."""
        known = list(dict.fromkeys(self._samples.get(rule, [])))
        if len(known) <= SHOWN:
            return known
        return [known[i * (len(known) - 1) // (SHOWN - 1)] for i in range(SHOWN)]

    def add(self, other: "Ledger") -> None:
        """Take over what another ledger holds."""
        self.counts += other.counts
        self.spared += other.spared
        for rule, known in other._samples.items():
            self._samples.setdefault(rule, []).extend(known)
