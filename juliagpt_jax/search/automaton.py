"""Finite automata over bytes: a form is put together from pieces and becomes a table of states.

A piece adds its states to an automaton that may be in several at once (Thompson 1968, Regular Expression Search
Algorithm); `build` makes one of it that is in one state at a time. Everything is bounded, so that every text ends.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from juliagpt_jax.ground.errors import UserError

MOST_STATES = 20_000
DEAD, START = 0, 1
Range = tuple[int, int]  # first and last byte


class Draft:
    """States with the bytes that lead from one to others, and steps that need no byte."""

    def __init__(self) -> None:
        self.edges: list[list[tuple[int, int, int]]] = []  # of each state: first byte, last byte, where to
        self.free: list[list[int]] = []

    def state(self) -> int:
        """Return a new state.

        Raises:
            UserError: there are too many.
        """
        if len(self.edges) >= MOST_STATES:
            raise UserError(
                f"the form has more than {MOST_STATES:,} states; allow shorter texts and fewer items "
                "(maxLength, maxItems)"
            )
        self.edges.append([])
        self.free.append([])
        return len(self.edges) - 1


# A piece of a form: adds what it allows behind a state, and returns the state at its end.
Piece = Callable[[Draft, int], int]


def text(said: str) -> Piece:
    """Allow exactly this text.

    Raises:
        UserError: it has half of a surrogate pair, which UTF-8 cannot say.
    """
    try:
        read = said.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"{said[:40]!r} has half of a surrogate pair, and is no text") from error

    def add(draft: Draft, at: int) -> int:
        for byte in read:
            after = draft.state()
            draft.edges[at].append((byte, byte, after))
            at = after
        return at

    return add


def byte(*ranges: Range) -> Piece:
    """Allow one byte out of some ranges."""

    def add(draft: Draft, at: int) -> int:
        after = draft.state()
        draft.edges[at] += [(first, last, after) for first, last in ranges]
        return after

    return add


def row(*pieces: Piece) -> Piece:
    """Allow pieces one behind the other."""

    def add(draft: Draft, at: int) -> int:
        for piece in pieces:
            at = piece(draft, at)
        return at

    return add


def either(*pieces: Piece) -> Piece:
    """Allow one of the pieces."""

    def add(draft: Draft, at: int) -> int:
        end = draft.state()
        for piece in pieces:
            begin = draft.state()  # of its own: an end that leads back would join the pieces
            draft.free[at].append(begin)
            draft.free[piece(draft, begin)].append(end)
        return end

    return add


def maybe(piece: Piece) -> Piece:
    """Allow a piece, or nothing."""
    return either(piece, row())


def times(piece: Piece, least: int, most: int) -> Piece:
    """Allow a piece so many times."""

    def add(draft: Draft, at: int) -> int:
        end = draft.state()
        for count in range(most + 1):
            if count >= least:
                draft.free[at].append(end)
            if count < most:
                at = piece(draft, at)
        return end

    return add


class Automaton:
    """A form as states, of which a text is in one at a time.

    Attributes:
        table: (S, 256) int32, the state behind each byte. DEAD leads to itself alone; START is the first.
        accepting: (S,) bool, where a text may end.
    """

    def __init__(self, table: np.ndarray, accepting: np.ndarray):
        self.table, self.accepting = table, accepting

    def accepts(self, said: str) -> bool:
        """Tell whether a text is of this form."""
        state = START
        for own in said.encode("utf-8", "surrogatepass"):
            state = int(self.table[state, own])
        return bool(self.accepting[state])


def build(piece: Piece) -> Automaton:
    """Return the automaton of a form.

    Raises:
        UserError: it has more than MOST_STATES states.
    """
    draft = Draft()
    first = draft.state()
    end = piece(draft, first)
    begin = _closure(draft, [first])
    numbers, todo = {begin: START}, [begin]
    rows: list[np.ndarray] = [np.zeros(256, np.int32)]
    accepting = [False]
    for own in todo:  # grows on the way
        line = np.zeros(256, np.int32)
        edges = [edge for state in own for edge in draft.edges[state]]
        borders = sorted({first for first, *_ in edges} | {last + 1 for _, last, _ in edges})
        for low, high in itertools.pairwise(borders):
            targets = [to for first, last, to in edges if first <= low and high - 1 <= last]
            if targets:
                after = _closure(draft, targets)
                if after not in numbers:
                    if len(numbers) >= MOST_STATES:
                        raise UserError(f"the form has more than {MOST_STATES:,} states")
                    numbers[after] = len(numbers) + 1
                    todo.append(after)
                line[low:high] = numbers[after]
        rows.append(line)
        accepting.append(end in own)
    return Automaton(np.stack(rows), np.array(accepting))


def _closure(draft: Draft, states: Sequence[int]) -> frozenset[int]:
    """Return states with all that can be reached from them without a byte."""
    found, todo = set(states), list(states)
    while todo:
        for other in draft.free[todo.pop()]:
            if other not in found:
                found.add(other)
                todo.append(other)
    return frozenset(found)
