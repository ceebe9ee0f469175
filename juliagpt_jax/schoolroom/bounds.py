"""Bounds of the length of what a production can write, in characters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from juliagpt_jax.schoolroom.grammar import Choice, Derived, Literal, Node, Production, Rule, Variable, Word
from juliagpt_jax.schoolroom.variables import SPELL, Draw


def length_bounds_of(production: Production) -> tuple[int, int]:
    low = high = 0
    for node in production.nodes:
        a, b = _node_bounds(node, production)
        low, high = low + a, high + b
    return low, high


def _node_bounds(node: Node, scope: Production) -> tuple[int, int]:
    match node:
        case Literal():
            return len(node.text), len(node.text)
        case Word():
            lengths = [len(w) for w in node.words]
        case Rule():
            pairs = [length_bounds_of(p) for p in node.productions]
            return min(a for a, _ in pairs), max(b for _, b in pairs)
        case Choice():
            sums = [[_node_bounds(n, scope) for n in branch] for branch in node.branches]
            return min(sum(a for a, _ in s) for s in sums), max(sum(b for _, b in s) for s in sums)
        case Variable() if node.lexicon:
            lengths = [len(w) for w in node.words]
        case Variable():
            values = {env[node.slot] for env in _environments(scope, [scope.draws[node.slot]])}
            lengths = [len(SPELL[v]) for v in values]
        case Derived():
            values = {node.value(env) for env in _environments(scope, node.draws)}
            lengths = [len(SPELL[v] if isinstance(v, int) else v) for v in values]
        case _:
            raise TypeError(node)
    return min(lengths), max(lengths)


def _environments(scope: Production, wanted: list[Draw]) -> Iterator[list[Any]]:
    """Every assignment to the wanted variables and those that their domains depend on."""
    needed = set(wanted)
    for draw in reversed(scope.draws):
        if draw in needed:
            needed.update(draw.needs)
    envs: list[list[Any]] = [[None] * len(scope.draws)]
    for draw in (d for d in scope.draws if d in needed):
        envs = [[*e[: draw.slot], v, *e[draw.slot + 1 :]] for e in envs for v in draw.domain(e)]
    yield from envs
