"""Sudokus that are the same but for their symmetries: digits that change their names; rows, bands, columns and stacks
that change their places; the transposition where boxes are square."""

import functools
import itertools

import numpy as np

from juliagpt_jax.data.puzzles import solver
from juliagpt_jax.data.puzzles.puzzles import Forms


def forms(rng: np.random.Generator, side: int, N: int) -> Forms:
    """Return as many symmetries, drawn from all of them; a blank keeps its name, 0."""
    height, width = solver.BOXES[side]
    names = np.concatenate([np.zeros((N, 1), int), np.argsort(rng.random((N, side)), axis=1) + 1], axis=1)
    rows, columns = _lines(rng, N, side, height), _lines(rng, N, side, width)
    cells = rows[:, :, None] * side + columns[:, None, :]
    if height == width:
        cells = np.where(rng.random((N, 1, 1)) < 0.5, cells.swapaxes(1, 2), cells)
    return Forms(cells.reshape(N, side * side), names)


def _lines(rng: np.random.Generator, N: int, side: int, size: int) -> np.ndarray:
    """Return N orders of rows (N, n): groups of so many change places, and the rows in each."""
    groups = np.argsort(rng.random((N, side // size)), axis=1)
    inner = np.argsort(rng.random((N, side // size, size)), axis=2)
    return (groups[:, :, None] * size + inner).reshape(N, side)


@functools.cache
def all_grids(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return every grid whose first row is 1, 2, ..., and the class of each under all symmetries: (M, n^2) int, (M,)
    int. With new names for the digits these are all grids there are: 12 x 4! of side 4, 39,168 x 6! of side 6, in 2
    and in 49 classes. A side of 9 has too many."""
    height, width = solver.BOXES[side]
    rows = np.array(list(itertools.permutations(range(side))))
    bit = np.int64(1) << (rows + side * np.arange(side))  # a digit in a column
    columns = np.bitwise_or.reduce(bit, axis=1)
    stack = np.int64(1) << (rows + side * (np.arange(side) // width))  # a digit in a stack of boxes
    boxes = np.bitwise_or.reduce(stack, axis=1)
    partial = np.zeros((1, 1), int)  # the numbers of the rows; the first permutation is 1, 2, ...
    for row in range(1, side):
        used = np.bitwise_or.reduce(columns[partial], axis=1)
        band = partial[:, row - row % height :]
        in_band = np.bitwise_or.reduce(boxes[band], axis=1) if band.shape[1] else np.zeros(len(partial), np.int64)
        fits = ((used[:, None] & columns) == 0) & ((in_band[:, None] & boxes) == 0)
        before, new = np.nonzero(fits)
        partial = np.concatenate([partial[before], new[:, None]], axis=1)
    grids = rows[partial].reshape(-1, side * side) + 1
    return grids, _joined(grids, side)


def _joined(grids: np.ndarray, side: int) -> np.ndarray:
    """Return the class of each grid: those that some exchange of lines turns into each other are one."""
    height, width = solver.BOXES[side]
    number = {key: i for i, key in enumerate(map(bytes, grids.astype(np.uint8)))}
    classes = np.arange(len(grids))
    cells = np.arange(side * side).reshape(side, side)
    turns = []
    for size, turned in ((height, False), (width, True)):
        lines = np.arange(side)
        swaps = [(at, at + 1, 1) for at in range(0, side, size) for at in range(at, at + size - 1)]
        swaps += [(at, at + size, size) for at in range(0, side - size, size)]
        for a, b, many in swaps:
            order = lines.copy()
            order[a : a + many], order[b : b + many] = lines[b : b + many], lines[a : a + many]
            turns.append((cells[:, order] if turned else cells[order]).ravel())
    if height == width:
        turns.append(cells.T.ravel())
    others = []
    for turn in turns:
        moved = grids[:, turn]
        names = np.argsort(moved[:, :side], axis=1) + 1  # of the digit at a place of the first row
        moved = np.take_along_axis(names, moved - 1, axis=1).astype(np.uint8)
        others.append(np.array([number[key] for key in map(bytes, moved)]))
    while True:  # the smallest number spreads through each class
        least = classes
        for other in others:
            least = np.minimum(least, least[other])
            np.minimum.at(least, other, least.copy())
        if (least == classes).all():
            return np.unique(classes, return_inverse=True)[1]
        classes = least


def signatures(puzzles: np.ndarray, side: int, rounds: int = 6) -> np.ndarray:
    """Return a number (N,) uint64 for each puzzle (N, n^2) that no symmetry changes: puzzles with different ones are
    different under all symmetries. Cells are coloured by what is around them, again and again (Weisfeiler & Leman)."""
    height, width = solver.BOXES[side]
    of = solver.shape(side).of
    row, column, box = ((of[i] == np.arange(i * side, i * side + side)[:, None]).astype(np.uint64) for i in range(3))
    joined = lambda units, size: (units.reshape(side // size, size, -1).sum(1)).astype(np.uint64)
    lines = [(row, joined(row, height)), (column, joined(column, width))]
    given = puzzles > 0
    colours = _mixed(given.astype(np.uint64))
    same = (puzzles[:, :, None] == puzzles[:, None, :]) & given[:, :, None] & given[:, None, :]
    with np.errstate(over="ignore"):
        around = lambda units: (colours @ units.T) @ units  # the sum over a cell's unit
        for _ in range(rounds):
            digit = np.einsum("nij,nj->ni", same.astype(np.uint64), colours)
            seen = [_mixed(_mixed(around(one)) * np.uint64(3) + _mixed(around(several))) for one, several in lines]
            if height == width:  # a transposition exchanges them
                both = seen[0] + seen[1]
            else:
                both = seen[0] * np.uint64(5) + seen[1]
            colours = _mixed(
                colours * np.uint64(7) + _mixed(both) + _mixed(around(box)) * np.uint64(11) + _mixed(digit)
            )
        return _mixed(colours.sum(1))


def _mixed(x: np.ndarray) -> np.ndarray:
    """Scatter the bits of numbers (splitmix64)."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
