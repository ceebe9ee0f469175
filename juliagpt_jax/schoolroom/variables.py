"""Variables of the grammar: what they are drawn from, their chance, and how numbers and words of a lexicon are spelled
and found in a text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from juliagpt_jax.schoolroom import lessons


class Pen:
    """The tally kept while one passage is written: the probability of its choices and its largest number."""

    __slots__ = ("largest", "p", "rnd")

    def __init__(self, rnd: Callable[[], float]) -> None:
        self.rnd = rnd
        self.p = 1.0
        self.largest = 1


# Numbers: every spelling the grammar can write, found by its first word.

SPELL: list[str] = [lessons.spell(n) for n in range(lessons.LARGEST + 1)]
_VALUE: dict[str, int] = {word: n for n, word in enumerate(SPELL)}
_WORD_END = re.compile(r"[ -]|[^a-z -]|$")


def numbers_at(text: str, pos: int) -> list[tuple[int, int]]:
    """Every (value, end) such that text[pos:end] spells a number; a number may begin a longer one.

    The lessons never write a letter right after a number, so each number ends where a word does.
    """
    found = []
    end = pos
    limit = min(len(text), pos + 48)
    while end < limit:
        stop = _WORD_END.search(text, end + 1)
        end = stop.start() if stop else len(text)
        value = _VALUE.get(text[pos:end])
        if value is not None:
            found.append((value, end))
        elif end - pos > 13 and not found:
            break
    return found


class Lexicon:
    """A list of entries, each with the same named forms (strings, or integers that are spelled when written)."""

    def __init__(self, forms: dict[str, tuple[Any, ...]]) -> None:
        self.size = len(next(iter(forms.values())))
        self.forms = {k: tuple(SPELL[v] if isinstance(v, int) else v for v in vs) for k, vs in forms.items()}
        rows = zip(*forms.values(), strict=True)
        self.entries = [SimpleNamespace(**dict(zip(forms, row, strict=True))) for row in rows]
        self.index: dict[str, dict[str, list[tuple[str, int]]]] = {}

    def at(self, form: str, text: str, pos: int) -> Iterator[tuple[int, int]]:
        """(entry, end) for each entry whose form stands at pos; indexed by the first two characters."""
        if form not in self.index:
            index = self.index[form] = {}
            for i, word in enumerate(self.forms[form]):
                index.setdefault(word[:2], []).append((word, i))
        for word, i in self.index[form].get(text[pos : pos + 2], ()):
            if text.startswith(word, pos):
                yield i, pos + len(word)


LEXICONS: dict[str, Lexicon] = {name: Lexicon(forms) for name, forms in lessons.LEXICONS.items()}


class Draw:
    """A variable and its domain: a range of integers or a lexicon, perhaps without values drawn before."""

    def __init__(self, spec: str, slots: dict[str, int], draws: list[Draw]) -> None:
        self.name, domain = spec.split(":")
        domain, *others = domain.split("!")
        self.slot = len(slots)
        self.others = [slots[name] for name in others]
        self.lexicon = LEXICONS.get(domain)
        self.needs: list[Draw] = []
        if self.lexicon:
            self.fixed: range | None = range(self.lexicon.size)
        else:
            low, high = domain.split("..")
            high, _, step = high.partition("/")
            self.needs = [d for d in draws if re.search(rf"\b{d.name}\b", low + " " + high)]
            arguments = ",".join(d.name for d in self.needs)
            self.range = eval(f"lambda {arguments}: range({low}, ({high}) + 1, {step or 1})", dict(lessons.HELPERS))
            self.fixed = None if self.needs else self.range()
        slots[self.name] = self.slot

    def value(self, env: Sequence[int | None]) -> Any:
        v = env[self.slot]
        return self.lexicon.entries[v] if self.lexicon and v is not None else v

    def domain(self, env: Sequence[int | None]) -> range:
        return self.fixed if self.fixed is not None else self.range(*[d.value(env) for d in self.needs])

    def emit(self, env: list[int | None], pen: Pen) -> None:
        domain = self.domain(env) if self.fixed is None else self.fixed
        n = len(domain)
        if self.others:
            taken = sorted({domain.index(env[o]) for o in self.others if env[o] in domain})  # pyright: ignore
            n -= len(taken)
            i = int(pen.rnd() * n)
            for t in taken:
                i += i >= t
        else:
            i = int(pen.rnd() * n)
        pen.p /= n
        env[self.slot] = domain[i]

    def prior(self, env: Sequence[int | None]) -> float:
        """Probability of the value in env given those before it; 0 outside the domain."""
        v = env[self.slot]
        domain = self.domain(env)
        if v not in domain:
            return 0.0
        if not self.others:
            return 1.0 / len(domain)
        taken = {env[o] for o in self.others}
        return 0.0 if v in taken else 1.0 / (len(domain) - sum(t in domain for t in taken))
