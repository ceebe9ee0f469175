"""Made-up documents of the kinds that books lack: puzzles with their solutions, graphs, programs and what they do.

A document is a pure function of a seed and its number, so a set of any size costs no disk until it is tokenised, and
what it says is true: answers are computed, traces are of programs that were run.
"""

import functools
import itertools
from collections import deque
from collections.abc import Callable

import numpy as np

from juliagpt_jax.data.puzzles import classes, maze, solver
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.words import near

_NAMES = "abcdefghjkmnpqrstuvwxyz"


def parse(source: str) -> tuple[str, int, int]:
    """Return kind, number of documents and seed of "generated:KIND:COUNT" or "generated:KIND:COUNT:SEED".

    Raises:
        UserError: it is none.
    """
    _, kind, *numbers = source.split(":")
    if kind not in GENERATED:
        raise UserError(f"--source={source}: no kind is called {kind!r}{near(kind, GENERATED)}")
    if not 1 <= len(numbers) <= 2 or not all(n.isdecimal() and len(n) < 12 for n in numbers) or int(numbers[0]) < 1:
        raise UserError(f"--source={source}: write generated:{kind}:COUNT, or generated:{kind}:COUNT:SEED")
    return kind, int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else 0


def grids(rng: np.random.Generator) -> str:
    """Return a sudoku of 4 rows or a maze, and its solution."""
    if rng.random() < 0.5:
        every = _grids()
        grid = (1 + rng.permutation(4))[every[rng.integers(len(every))] - 1]
        puzzle = solver.dig(rng, grid[None], 4, 4, 10)[0]
        return f"Sudoku:\n{_rows(puzzle, '.1234')}\nSolution:\n{_rows(grid, '.1234')}"
    cells = int(rng.integers(3, 7))
    grid = maze.depth_first(rng, cells)
    begin, goal = rng.choice(cells * cells, 2, replace=False)
    for cell, sign in ((begin, maze.START), (goal, maze.GOAL)):
        grid[2 * (cell // cells) + 1, 2 * (cell % cells) + 1] = sign
    return f"Maze:\n{_rows(grid, maze.Maze.symbols)}\nShortest way:\n{_rows(maze.solved(grid), maze.Maze.symbols)}"


@functools.lru_cache(maxsize=1)
def _grids() -> np.ndarray:
    return classes.all_grids(4)[0]


def _rows(grid: np.ndarray, signs: str) -> str:
    side = grid.reshape(int(np.sqrt(grid.size)), -1)
    return "\n".join("".join(signs[int(cell)] for cell in row) for row in side)


def graphs(rng: np.random.Generator) -> str:
    """Return a graph, a question for the shortest way, the search breadth first, step by step, and its answer."""
    names = [_NAMES[i] for i in rng.permutation(len(_NAMES))[: int(rng.integers(5, 11))]]
    pairs = [(names[i], names[int(rng.integers(i))]) for i in range(1, len(names))]  # a tree: all can be reached
    every = [p for p in itertools.combinations(names, 2) if p not in pairs and p[::-1] not in pairs]
    pairs += [every[i] for i in rng.permutation(len(every))[: int(rng.integers(0, len(names)))]]
    ways: dict[str, list[str]] = {name: [] for name in names}
    for one, other in pairs:
        ways[one].append(other)
        ways[other].append(one)
    begin, goal = names[0], names[-1]
    before, waiting, told = {begin: ""}, deque([begin]), []
    while goal not in before:
        here = waiting.popleft()
        fresh = [name for name in sorted(ways[here]) if name not in before]
        before |= dict.fromkeys(fresh, here)
        waiting.extend(fresh)
        told.append(f"At {here}: {', '.join(fresh) if fresh else 'nothing'} new.")
    way = [goal]
    while before[way[-1]]:
        way.append(before[way[-1]])
    edges = ", ".join(f"{one}-{other}" for one, other in pairs)
    shortest = " ".join(reversed(way))
    return f"Graph: {edges}\nFrom {begin} to {goal}?\n" + "\n".join(told) + f"\nShortest way: {shortest}"


def programs(rng: np.random.Generator) -> str:
    """Return a program of a few assignments and a loop in Python, and the values after each step."""
    names = [_NAMES[i] for i in rng.permutation(len(_NAMES))[:3]]
    values = {name: int(rng.integers(1, 20)) for name in names}
    lines = [f"{name} = {value}" for name, value in values.items()]
    body = []
    for _ in range(int(rng.integers(1, 4))):
        to, one, other = (names[i] for i in rng.integers(3, size=3))
        body.append((to, one, "+-*"[rng.integers(3)], other))
    count = int(rng.integers(2, 5))
    lines += [f"for i in range({count}):", *(f"    {to} = ({a} {sign} {b}) % 97" for to, a, sign, b in body)]
    told = []
    for i in range(count):
        for to, a, sign, b in body:
            x, y = values[a], values[b]
            values[to] = {"+": x + y, "-": x - y, "*": x * y}[sign] % 97
        told.append(f"i = {i}: " + ", ".join(f"{name} = {value}" for name, value in values.items()))
    asked = names[int(rng.integers(3))]
    return "\n".join([*lines, f"print({asked})", "", *told, f"It prints {values[asked]}."])


def sums(rng: np.random.Generator) -> str:
    """Return a small problem of arithmetic in words, its steps and its answer."""
    who, what = (words[rng.integers(len(words))] for words in (_PEOPLE, _THINGS))
    a, b, c = (int(n) for n in rng.integers(2, 30, size=3))
    less = int(rng.integers(1, a * b))
    total = a * b - less + c
    asked = f"{who} has {a} boxes of {b} {what}, gives {less} {what} away and finds {c} more. How many are there now?"
    steps = f"{a} * {b} = {a * b}. {a * b} - {less} = {a * b - less}. {a * b - less} + {c} = {total}."
    return f"{asked}\n{steps}\n#### {total}"


def arc(rng: np.random.Generator) -> str:
    """Return grids before and after a rule, one before it alone, and what the rule makes of that."""
    rule = _RULES[list(_RULES)[rng.integers(len(_RULES))]]
    colours = rng.permutation(np.arange(1, 10))
    rows, columns = (int(n) for n in rng.integers(2, 7, size=2))
    told = []
    for i in range(4):
        grid = np.where(rng.random((rows, columns)) < 0.5, 0, colours[rng.integers(3, size=(rows, columns))])
        told.append(pair(grid, rule(grid, colours), f"{i + 1}" if i < 3 else "?"))
    return "\n".join(told)


def pair(before: np.ndarray, after: np.ndarray, name: str) -> str:
    """Return a pair of grids as text, in digits."""
    text = lambda grid: "\n".join("".join(map(str, row)) for row in np.asarray(grid).tolist())
    return f"Input {name}:\n{text(before)}\nOutput {name}:\n{text(after)}"


def _fall(grid: np.ndarray, colours: np.ndarray) -> np.ndarray:
    made = np.zeros_like(grid)
    for column in range(grid.shape[1]):
        kept = grid[:, column][grid[:, column] > 0]
        made[len(grid) - len(kept) :, column] = kept
    return made


_RULES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "mirror": lambda grid, colours: grid[:, ::-1],
    "turn": lambda grid, colours: np.rot90(grid),
    "recolour": lambda grid, colours: np.where(grid == colours[0], colours[4], grid),
    "fall": _fall,
    "double": lambda grid, colours: np.kron(grid, np.ones((2, 2), int)),
    "tile": lambda grid, colours: np.hstack([grid, grid[:, ::-1]]),
    "keep": lambda grid, colours: np.where(grid == colours[1], grid, 0),
}
_PEOPLE = "Ada Ben Cleo Dan Eva Finn Gina Hugo Ines Jon Kira Leo Mia Nils Olga Paul".split()
_THINGS = "apples books candles coins eggs figs keys marbles nuts pears pens shells stamps stones".split()

# `GENERATED[kind](rng)` is a document.
GENERATED: dict[str, Callable[[np.random.Generator], str]] = {
    "grids": grids,
    "graphs": graphs,
    "programs": programs,
    "sums": sums,
    "arc": arc,
}
