"""The engine of the schoolroom: a weighted grammar that writes texts, and sums the probabilities of all ways to read
one.

The same compiled nodes write and read. Writing walks a list of nodes with `emit`; reading follows `next` pointers
with `match`, depth first, binding variables as it meets them. A rule in angle brackets sees no variables but its
own, so what it matches at a position is computed once per text. The notation is described in `lessons`.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from juliagpt_jax.schoolroom import lessons
from juliagpt_jax.schoolroom.variables import LEXICONS, SPELL, Draw, Lexicon, Pen, numbers_at


class _Reading:
    """The state of matching one production at one place of a text."""

    __slots__ = ("ends", "env", "memo", "pending", "text")

    def __init__(self, text: str, memo: dict[tuple[int, int], list[tuple[int, float]]], size: int) -> None:
        self.text = text
        self.memo = memo
        self.env: list[int | None] = [None] * size
        self.pending: list[tuple[Derived, int]] = []  # derived numbers read before their variables
        self.ends: dict[int, float] = {}


class Node:
    next: Node

    def emit(self, env: list[int | None], pen: Pen, out: list[str]) -> None:
        raise NotImplementedError

    def match(self, reading: _Reading, pos: int, p: float) -> None:
        raise NotImplementedError


class _End(Node):
    """Closes a production: settles what was read before its variables, sums over variables that were never written
    by themselves ("as ak is to bk"), and weighs the draws.
    """

    def __init__(self, draws: list[Draw]) -> None:
        self.draws = draws

    def match(self, reading: _Reading, pos: int, p: float) -> None:
        if self._settled(reading):
            missing = [d for d in self.draws if reading.env[d.slot] is None]
            self._fill(reading, pos, p, missing)

    def _settled(self, reading: _Reading) -> bool:
        env = reading.env
        return all(
            derived.value(env) == number
            for derived, number in reading.pending
            if all(env[d.slot] is not None for d in derived.draws)
        )

    def _fill(self, reading: _Reading, pos: int, p: float, missing: list[Draw]) -> None:
        env = reading.env
        if not missing:
            for draw in self.draws:
                p *= draw.prior(env)
            if p:
                reading.ends[pos] = reading.ends.get(pos, 0.0) + p
            return
        draw, *rest = missing
        for value in draw.domain(env):
            env[draw.slot] = value
            if self._settled(reading):
                self._fill(reading, pos, p, rest)
        env[draw.slot] = None


class Literal(Node):
    def __init__(self, text: str) -> None:
        self.text = text

    def emit(self, env: list[int | None], pen: Pen, out: list[str]) -> None:
        out.append(self.text)

    def match(self, reading: _Reading, pos: int, p: float) -> None:
        if reading.text.startswith(self.text, pos):
            self.next.match(reading, pos + len(self.text), p)


class Word(Node):
    """An anonymous uniform choice from one form of a lexicon."""

    def __init__(self, lexicon: Lexicon, form: str) -> None:
        self.lexicon, self.form, self.words, self.n = lexicon, form, lexicon.forms[form], lexicon.size

    def emit(self, env: list[int | None], pen: Pen, out: list[str]) -> None:
        pen.p /= self.n
        out.append(self.words[int(pen.rnd() * self.n)])

    def match(self, reading: _Reading, pos: int, p: float) -> None:
        for _, end in self.lexicon.at(self.form, reading.text, pos):
            self.next.match(reading, end, p / self.n)


class Variable(Node):
    """A drawn variable, written as a number or in one form of its lexicon."""

    def __init__(self, draw: Draw, form: str) -> None:
        self.slot, self.lexicon, self.form = draw.slot, draw.lexicon, form
        self.words = draw.lexicon.forms[form] if draw.lexicon else SPELL

    def emit(self, env: list[int | None], pen: Pen, out: list[str]) -> None:
        v: int = env[self.slot]  # pyright: ignore
        if not self.lexicon and v > pen.largest:
            pen.largest = v
        out.append(self.words[v])

    def match(self, reading: _Reading, pos: int, p: float) -> None:
        v = reading.env[self.slot]
        if v is not None:
            word = self.words[v] if 0 <= v < len(self.words) else "\n"
            if reading.text.startswith(word, pos):
                self.next.match(reading, pos + len(word), p)
            return
        found = self.lexicon.at(self.form, reading.text, pos) if self.lexicon else numbers_at(reading.text, pos)
        for value, end in found:
            reading.env[self.slot] = value
            self.next.match(reading, end, p)
        reading.env[self.slot] = None


class Derived(Node):
    """A function of the variables: an integer (spelled) or a string."""

    def __init__(self, expression: str, draws: list[Draw]) -> None:
        self.draws = [d for d in draws if re.search(rf"\b{d.name}\b", expression)]
        names = ",".join(d.name for d in self.draws)
        self.fn = eval(f"lambda {names}: {expression}", dict(lessons.HELPERS))
        self.spelled: dict[str, list[tuple[str, int]]] = {}  # of a single variable, what each of its values gives
        if len(self.draws) == 1 and self.draws[0].fixed is not None and not self.draws[0].lexicon:
            for v in self.draws[0].fixed:
                result = self.fn(v)
                word = SPELL[result] if isinstance(result, int) else result
                self.spelled.setdefault(word[:3], []).append((word, v))

    def value(self, env: Sequence[int | None]) -> Any:
        return self.fn(*[d.value(env) for d in self.draws])

    def emit(self, env: list[int | None], pen: Pen, out: list[str]) -> None:
        v = self.value(env)
        if isinstance(v, int):
            if v > pen.largest:
                pen.largest = v
            v = SPELL[v]
        out.append(v)

    def match(self, reading: _Reading, pos: int, p: float) -> None:
        env = reading.env
        if all(env[d.slot] is not None for d in self.draws):
            # What was read may lie outside the domains, where the function need not be defined.
            if not all(d.prior(env) for d in self.draws if all(env[n.slot] is not None for n in d.needs)):
                return
            v = self.value(env)
            word = SPELL[v] if isinstance(v, int) else v
            if reading.text.startswith(word, pos):
                self.next.match(reading, pos + len(word), p)
            return
        if self.spelled:
            slot = self.draws[0].slot
            for word, v in self.spelled.get(reading.text[pos : pos + 3], ()):
                if reading.text.startswith(word, pos):
                    env[slot] = v
                    self.next.match(reading, pos + len(word), p)
            env[slot] = None
            return
        for number, end in numbers_at(reading.text, pos):
            reading.pending.append((self, number))
            self.next.match(reading, end, p)
            reading.pending.pop()


class Choice(Node):
    """Bracketed alternatives, inside the scope of their production."""

    def __init__(self, branches: list[tuple[float, list[Node]]]) -> None:
        self.set_weights([w for w, _ in branches])
        self.branches = [nodes for _, nodes in branches]

    def set_weights(self, weights: list[float]) -> None:
        total = sum(weights)
        self.shares = [w / total for w in weights]
        self.bars = list(itertools.accumulate(self.shares))[:-1]

    def emit(self, env: list[int | None], pen: Pen, out: list[str]) -> None:
        i = bisect_right(self.bars, pen.rnd())
        pen.p *= self.shares[i]
        for node in self.branches[i]:
            node.emit(env, pen, out)

    def match(self, reading: _Reading, pos: int, p: float) -> None:
        for share, branch in zip(self.shares, self.branches, strict=True):
            (branch[0] if branch else self.next).match(reading, pos, p * share)


class Production:
    """Draws and the nodes that use them; the body of a form or of one line of a rule."""

    def __init__(self, grammar: Grammar, draws: str, text: str) -> None:
        slots: dict[str, int] = {}
        self.draws: list[Draw] = []
        for spec in draws.split():
            self.draws.append(Draw(spec, slots, self.draws))
        self.grammar = grammar
        tokens = re.findall(r"[\[\]|]|\{[^}]*\}|<[^>]*>|[^\[\]|{}<>]+", text)
        self.nodes, rest = self._sequence(tokens, 0)
        if rest != len(tokens):
            raise ValueError(f"unbalanced brackets in {text!r}")
        self.first = _link(self.nodes, _End(self.draws))

    def _sequence(self, tokens: list[str], i: int) -> tuple[list[Node], int]:
        nodes: list[Node] = []
        while i < len(tokens) and tokens[i] not in "|]":
            token = tokens[i]
            if token == "[":
                branches = []
                while tokens[i] != "]":
                    weight = re.match(r"(\d+)\*", tokens[i + 1])
                    if weight:
                        tokens[i + 1] = tokens[i + 1][weight.end() :]
                    branch, i = self._sequence(tokens, i + 1)
                    branches.append((float(weight[1]) if weight else 1.0, branch))
                nodes.append(Choice(branches))
            elif not token:  # nothing but a weight stood here
                pass
            elif token[0] == "{":
                nodes.append(self._slot(token[1:-1]))
            elif token[0] == "<":
                nodes.append(self.grammar.reference(token[1:-1]))
            else:
                nodes.append(Literal(token))
            i += 1
        return nodes, i

    def _slot(self, slot: str) -> Node:
        if slot[0] == "=":
            return Derived(slot[1:], self.draws)
        name, _, form = slot.partition(".")
        draw = next((d for d in self.draws if d.name == name), None)
        if draw is None:
            raise ValueError(f"the variable {name} is not drawn")
        return Variable(draw, form or "sg")

    def emit(self, pen: Pen, out: list[str]) -> None:
        env: list[int | None] = [None] * len(self.draws)
        for draw in self.draws:
            draw.emit(env, pen)
        for node in self.nodes:
            node.emit(env, pen, out)

    def ends(self, text: str, pos: int, memo: dict[tuple[int, int], list[tuple[int, float]]]) -> dict[int, float]:
        """Every end that this production can have when it begins at pos, with its probability."""
        reading = _Reading(text, memo, len(self.draws))
        self.first.match(reading, pos, 1.0)
        return reading.ends


def _link(nodes: list[Node], after: Node) -> Node:
    for node in reversed(nodes):
        node.next = after
        if isinstance(node, Choice):
            for branch in node.branches:
                _link(branch, after)
        after = node
    return after


class Rule(Node):
    """A reference to a rule: alternatives, each a production with variables of its own."""

    def __init__(self, number: int, productions: list[Production], bars: list[float], shares: list[float]) -> None:
        self.number, self.productions, self.bars, self.shares = number, productions, bars, shares

    def emit(self, env: list[int | None], pen: Pen, out: list[str]) -> None:
        i = bisect_right(self.bars, pen.rnd())
        pen.p *= self.shares[i]
        self.productions[i].emit(pen, out)

    def match(self, reading: _Reading, pos: int, p: float) -> None:
        ends = reading.memo.get((self.number, pos))
        if ends is None:
            total: dict[int, float] = {}
            for share, production in zip(self.shares, self.productions, strict=True):
                for end, q in production.ends(reading.text, pos, reading.memo).items():
                    total[end] = total.get(end, 0.0) + share * q
            ends = reading.memo[(self.number, pos)] = list(total.items())
        for end, q in ends:
            self.next.match(reading, end, p * q)


class Grammar:
    """The rules, compiled once, in the order in which they are first referred to."""

    def __init__(self, rules: dict[str, str]) -> None:
        self.source = rules
        self.rules: dict[str, tuple[int, list[Production], list[float], list[float]]] = {}

    def reference(self, name: str) -> Node:
        head, _, form = name.partition(".")
        if head in LEXICONS:
            return Word(LEXICONS[head], form or "sg")
        if head not in self.rules:
            productions, weights = [], []
            for line in self.source[head].strip("\n").split("\n"):
                draws, _, text = line.rpartition(" :: ")
                weight = re.match(r"(\d+)\*", text)
                weights.append(float(weight[1]) if weight else 1.0)
                productions.append(Production(self, draws, text[weight.end() :] if weight else text))
            shares = [w / sum(weights) for w in weights]
            self.rules[head] = (len(self.rules), productions, list(itertools.accumulate(shares))[:-1], shares)
        return Rule(*self.rules[head])
