"""Sudokus of any shape, solved many at a time: what is forced is filled in, then guessed and tried.

The candidates of a cell are the bits of a number: bit d - 1 is set where it may be the digit d.
"""

import functools
from typing import NamedTuple

import numpy as np

BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}  # rows and columns of a box, by the side of the grid
AT_ONCE = 2048  # states that are looked at together: memory stays flat
BITS = np.array([i.bit_count() for i in range(2**9)], np.uint8)


class Shape(NamedTuple):
    """A grid of n x n cells.

    Attributes:
        units: (3 n, n) the cells of each row, column and box.
        of: (3, n^2) the row, column and box of each cell, as numbers of these.
        full: all candidates.
    """

    side: int
    units: np.ndarray
    of: np.ndarray
    full: int


@functools.cache
def shape(side: int) -> Shape:
    """Return the grid of a side in BOXES."""
    height, width = BOXES[side]
    row, column = np.divmod(np.arange(side * side), side)
    of = np.stack([row, column, row // height * (side // width) + column // width])
    units = np.concatenate([np.argsort(kind, kind="stable").reshape(side, side) for kind in of])
    return Shape(side, units, of + side * np.arange(3)[:, None], 2**side - 1)


def candidates(puzzles: np.ndarray, side: int) -> np.ndarray:
    """Return the candidates of each cell by what is written in it: (N, n^2) uint16 of (N, n^2), 0 for a blank."""
    return np.where(puzzles == 0, shape(side).full, 1 << np.maximum(puzzles - 1, 0)).astype(np.uint16)


def forced(states: np.ndarray, grid: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Take from candidates (M, n^2) all that the rules exclude, and return them with (M,) whether they are still
    possible: a digit that a cell must have is no candidate of its row, column and box, and one that has a single place
    in one of these is there."""
    possible, changing, states = np.ones(len(states), bool), np.arange(len(states)), states.copy()
    joined = lambda units: np.bitwise_or.reduce(units[:, grid.of], axis=1)  # what a cell's three units say
    while len(changing):
        now = states[changing]
        single = np.where(BITS[now] == 1, now, np.uint16(0))
        inside = single[:, grid.units]
        taken = np.bitwise_or.reduce(inside, axis=2)
        sound = (inside.sum(axis=2) == taken).all(1)  # else a digit stands twice
        after = np.where(single > 0, now, now & ~joined(taken))
        inside = after[:, grid.units]
        once, twice = np.zeros_like(taken), np.zeros_like(taken)
        for k in range(grid.side):
            twice |= once & inside[:, :, k]
            once |= inside[:, :, k]
        hidden = after & joined(once & ~twice)
        count = BITS[hidden]
        after = np.where(count == 0, after, np.where(count == 1, hidden, np.uint16(0)))
        sound &= (after > 0).all(1) & (once == grid.full).all(1)
        possible[changing] = sound
        moved = sound & (after != now).any(1)
        states[changing] = after
        changing = changing[moved]
    return states, possible


def solve(
    states: np.ndarray, side: int, most: int = 2, rng: np.random.Generator | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return how many solutions each of some puzzles has, (N,) up to `most`, and one of them, (N, n^2), 0 where there
    is none.

    Args:
        states: the candidates (N, n^2) of each.
        rng: guesses in random order, for random grids.
    """
    grid = shape(side)
    counts, found = np.zeros(len(states), int), np.zeros(states.shape, np.int64)
    stack = [(states, np.arange(len(states)))]
    at_once = AT_ONCE if rng is None else len(states)
    while stack:
        now, owner = _last(stack, at_once)
        wanted = counts[owner] < most
        now, possible = forced(now[wanted], grid)
        now, owner = now[possible], owner[wanted][possible]
        many = BITS[now]
        done = (many == 1).all(1)
        np.add.at(counts, owner[done], 1)
        found[owner[done]] = np.log2(now[done]).astype(int) + 1
        now, owner, many = now[~done], owner[~done], many[~done]
        if not len(now):
            continue
        cell = np.where(many > 1, many, side + 1).argmin(1)
        there = now[np.arange(len(now)), cell][:, None] >> np.arange(side) & 1
        state, digit = np.nonzero(there)
        if rng is not None:
            order = rng.permutation(len(state))
            state, digit = state[order], digit[order]
        guess = now[state]
        guess[np.arange(len(state)), cell[state]] = 1 << digit
        first = np.unique(state, return_index=True)[1]  # one guess of each is looked at before the others
        others = np.setdiff1d(np.arange(len(state)), first)
        stack += [(guess[part], owner[state[part]]) for part in (others, first) if len(part)]
    return np.minimum(counts, most), found


def _last(stack: list[tuple[np.ndarray, np.ndarray]], most: int) -> tuple[np.ndarray, np.ndarray]:
    """Take the last `most` states, with their owners, from a stack of several arrays of them."""
    taken = [stack.pop()]
    while stack and sum(len(owner) for _, owner in taken) < most:
        taken.append(stack.pop())
    now, owner = (np.concatenate(parts) for parts in zip(*reversed(taken), strict=True))
    if len(owner) > most:
        stack.append((now[:-most], owner[:-most]))
    return now[-most:], owner[-most:]


def clash(puzzle: np.ndarray, side: int) -> str:
    """Return which digit of a puzzle (n^2,) stands twice in a row, column or box: "two 5s in row 2"; "" where none
    does."""
    for i, unit in enumerate(shape(side).units):
        digits, counts = np.unique(puzzle[unit][puzzle[unit] > 0], return_counts=True)
        if (counts > 1).any():
            kind, number = ("row", "column", "box")[i // side], i % side + 1
            return f"two {digits[counts > 1][0]}s in {kind} {number}"
    return ""


def dig(rng: np.random.Generator, grids: np.ndarray, side: int, least: int, most: int) -> np.ndarray:
    """Return puzzles with these grids (N, n^2) as their one solution, with `least` to `most` givens each; fewer than N
    where a grid has more left when no other can go."""
    N, C = grids.shape
    wanted = rng.integers(least, most + 1, size=N)
    order = np.argsort(rng.random((N, C)), axis=1)
    puzzles = grids.copy()
    for cell in order.T:
        active = np.flatnonzero((puzzles > 0).sum(1) > wanted)
        if not len(active):
            break
        without, at = puzzles[active], cell[active]
        without[np.arange(len(active)), at] = 0
        others = candidates(without, side)
        others[np.arange(len(active)), at] &= ~(1 << (grids[active, at] - 1)).astype(np.uint16)
        counts, _ = solve(others, side, most=1)
        puzzles[active[counts == 0], at[counts == 0]] = 0
    return puzzles[(puzzles > 0).sum(1) <= most]
