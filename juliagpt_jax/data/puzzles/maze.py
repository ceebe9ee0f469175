"""Mazes: the shortest way through a grid of walls."""

import json
from collections import deque
from pathlib import Path
from typing import ClassVar

import numpy as np

from juliagpt_jax.data.puzzles import gym
from juliagpt_jax.data.puzzles.puzzles import FIRST, GENERATED, Forms, Given, Puzzles, pairs, split
from juliagpt_jax.ground.errors import UserError

WALL, FREE, GOAL, START, WAY = range(5)  # the symbols "#.GSo" by their ids
STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


class Maze(Puzzles):
    """Symbols are "#", a wall, ".", "S", "G", and "o" for the way from S to G in the solution.

    Half of the generated ones are made by depth-first search, whose corridors are long, half by loop-erased random
    walks (Wilson 1996), all mazes of a size alike. Both have one way from a place to another. `puzzle.least` is how
    many steps a way has at least, `puzzle.most` at most.
    """

    symbols: ClassVar[str] = "#.GSo"
    hardness_is: ClassVar[str] = "steps of the way"

    def check(self, files: bool = True) -> None:
        own = self.settings.puzzle
        if own.side % 2 == 0 or own.side < 5:
            raise UserError(f"config.data.puzzle.side: a maze with its walls has 5, 7, 9, ... rows, not {own.side}")
        made = self.settings.path in (GENERATED, gym.GYM)
        if files and not made and not Path(self.settings.path).exists():
            raise UserError(f"{self.settings.path}: no such file or folder")

    def load(self) -> None:
        own, rng = self.settings.puzzle, np.random.default_rng(FIRST)
        if self.settings.path == GENERATED:
            found = self._generate(rng, own.train + own.test)
        else:
            if self.settings.path == gym.GYM:
                read = [self._tokens(rows) for rows in gym.mazes(own)]
            else:
                read = [given.puzzle.reshape(self.shape) for given in self.read(Path(self.settings.path))]
            found = self._unlike(read)
            split(len(found), own, self.settings.path)
            found = [found[i] for i in rng.permutation(len(found))[: own.train + own.test]]
        inputs = np.array(found).reshape(-1, self.places)
        targets = np.array([solved(grid.reshape(self.shape)).ravel() for grid in inputs])
        whole = pairs(inputs, targets)
        self.train, self.test = whole.take(slice(own.train)), whole.take(slice(own.train, None))

    def _generate(self, rng: np.random.Generator, many: int) -> list[np.ndarray]:
        own, found, cells = self.settings.puzzle, {}, self.settings.puzzle.side // 2
        for tried in range(200 * many):
            grid = (depth_first if tried % 2 else wilson)(rng, cells)
            begin, end = rng.choice(cells * cells, 2, replace=False)
            grid[_place(begin, cells)] = START
            grid[_place(end, cells)] = GOAL
            steps = len(shortest(grid) or ()) - 1
            if steps >= own.least and (not own.most or steps <= own.most):
                found.setdefault(_form(grid), grid)
            if len(found) == many:
                return list(found.values())
        raise UserError(
            f"config.data.puzzle: {len(found):,} of {many:,} mazes of side {own.side} with a way of {own.least} to "
            f"{own.most or 'any number of'} steps were found; a smaller least or a larger side has more"
        )

    @staticmethod
    def _unlike(grids: list[np.ndarray]) -> list[np.ndarray]:
        return list({_form(grid): grid for grid in grids}.values())

    def forms(self, rng: np.random.Generator, count: int) -> Forms:
        """Turn and mirror each: eight forms."""
        side = self.settings.puzzle.side
        turned = np.array([form.ravel() for form in eight(np.arange(side * side).reshape(side, side))])
        return Forms(turned[rng.integers(8, size=count)], np.tile(np.arange(len(self.symbols)), (count, 1)))

    def read(self, path: Path) -> list[Given]:
        """Read lines of JSON with a "grid", a list of rows."""
        found = []
        for file in sorted(path.glob("*.jsonl")) if path.is_dir() else [path]:
            try:
                lines = file.read_text(encoding="utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"{file}: not a readable text: {error}") from error
            for number, line in enumerate(lines, 1):
                if line.strip():
                    found.append(Given(f"{file}:{number}", self._grid(line, f"{file}:{number}").ravel()))
        if not found:
            raise UserError(f"{path}: no maze in it")
        return found

    def _grid(self, line: str, where: str) -> np.ndarray:
        side = self.settings.puzzle.side
        try:
            rows = [*map(str, json.loads(line)["grid"])]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise UserError(f'{where}: no maze: a line of JSON with "grid", a list of rows') from error
        if len(rows) != side or {*map(len, rows)} != {side}:
            raise UserError(f"{where}: not {side} rows of {side} characters")
        bad = set("".join(rows)) - set(self.symbols[:WAY])
        if bad:
            raise UserError(f"{where}: {min(bad)!r} is none of {self.symbols[:WAY]!r}")
        grid = self._tokens(rows)
        if reason := self.refuse(grid.ravel()):
            raise UserError(f"{where}: {reason}")
        return grid

    def _tokens(self, rows: list[str]) -> np.ndarray:
        return np.array([[self.symbols.index(c) for c in row] for row in rows])

    def refuse(self, puzzle: np.ndarray) -> str:
        for symbol in (START, GOAL):
            if (many := (puzzle == symbol).sum()) != 1:
                return f"{many} places are {self.symbols[symbol]}, not one"
        return "" if shortest(puzzle.reshape(self.shape)) else "no way leads from S to G"

    def wrong(self, puzzle: np.ndarray, answer: np.ndarray) -> str:
        grid, way = puzzle.reshape(self.shape), shortest(puzzle.reshape(self.shape))
        marked = answer.reshape(self.shape) == WAY
        if (np.where(marked.ravel(), FREE, answer) != puzzle).any():
            return "walls, S or G were changed"
        if way is None or marked.sum() != len(way) - 2:
            return f"{marked.sum()} places are marked, and the shortest way has {len(way or ()) - 2}"
        inside = np.where(marked | (grid == START) | (grid == GOAL), grid, WALL)
        return "" if shortest(inside) else "what is marked does not lead from S to G"

    def hardness(self, inputs: np.ndarray) -> np.ndarray:
        """Steps of the way, in tens."""
        return np.array([len(shortest(grid.reshape(self.shape)) or ()) // 10 * 10 for grid in inputs])

    def draw(self, tokens: np.ndarray) -> str:
        rows = np.array(list("# GSo"))[tokens].reshape(self.shape)
        return "\n".join("".join(row) for row in rows)


def _place(cell: int, cells: int) -> tuple[int, int]:
    return 2 * (int(cell) // cells) + 1, 2 * (int(cell) % cells) + 1


def eight(grid: np.ndarray) -> list[np.ndarray]:
    """Return a square grid turned and mirrored, itself first."""
    return [np.rot90(form, k) for form in (grid, grid.T) for k in range(4)]


def _form(grid: np.ndarray) -> bytes:
    """Return the same of a grid in all its eight forms."""
    return min(form.astype(np.uint8).tobytes() for form in eight(grid))


def shortest(grid: np.ndarray) -> list[tuple[int, int]] | None:
    """Return the places of the shortest way from S to G, both among them; None where there is none (breadth first)."""
    (begin,) = zip(*np.nonzero(grid == START), strict=True)
    before = {begin: begin}
    waiting = deque([begin])
    while waiting:
        here = waiting.popleft()
        if grid[here] == GOAL:
            way = [here]
            while way[-1] != begin:
                way.append(before[way[-1]])
            return way[::-1]
        for down, right in STEPS:
            there = here[0] + down, here[1] + right
            inside = 0 <= there[0] < grid.shape[0] and 0 <= there[1] < grid.shape[1]
            if inside and grid[there] != WALL and there not in before:
                before[there] = here
                waiting.append(there)
    return None


def solved(grid: np.ndarray) -> np.ndarray:
    """Return a maze with its shortest way marked."""
    answer, way = grid.copy(), shortest(grid) or []
    for place in way[1:-1]:
        answer[place] = WAY
    return answer


def depth_first(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Return a maze of so many cells a side: a walk that goes on until it is stuck, and back to where it can go on."""
    grid = np.full((2 * cells + 1, 2 * cells + 1), WALL)
    stack = [tuple(rng.integers(cells, size=2))]
    seen = {stack[0]}
    grid[1::2, 1::2] = FREE
    while stack:
        row, column = stack[-1]
        ways = [(row + d, column + r) for d, r in STEPS if (row + d, column + r) not in seen]
        ways = [(r, c) for r, c in ways if 0 <= r < cells and 0 <= c < cells]
        if not ways:
            stack.pop()
            continue
        there = ways[rng.integers(len(ways))]
        grid[row + there[0] + 1, column + there[1] + 1] = FREE
        seen.add(there)
        stack.append(there)
    return grid


def wilson(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Return a maze drawn from all of its size alike: random walks from cell to cell, their loops taken out, until
    each has joined those before it."""
    grid = np.full((2 * cells + 1, 2 * cells + 1), WALL)
    grid[1::2, 1::2] = FREE
    order = [divmod(int(cell), cells) for cell in rng.permutation(cells * cells)]
    inside = {order[0]}
    for begin in order[1:]:
        here, left = begin, {}
        while here not in inside:
            down, right = STEPS[rng.integers(4)]
            there = here[0] + down, here[1] + right
            if 0 <= there[0] < cells and 0 <= there[1] < cells:
                left[here] = there  # the last way that it was left by: so loops fall out
                here = there
        here = begin
        while here not in inside:
            inside.add(here)
            grid[here[0] + left[here][0] + 1, here[1] + left[here][1] + 1] = FREE
            here = left[here]
    return grid
