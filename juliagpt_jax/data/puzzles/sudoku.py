"""Sudokus: 4x4 and 6x6 generated, 9x9 generated, from files or from reasoning-gym."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np

from juliagpt_jax.data.puzzles import classes, gym, solver
from juliagpt_jax.data.puzzles.puzzles import FIRST, GENERATED, Forms, Given, Pairs, Puzzles, pairs, split
from juliagpt_jax.ground.errors import UserError

BLANKS = ".0_-x*?"  # as files write a blank cell
TESTED = 1 / 5  # share of the classes of grids that test puzzles are made of


class Sudoku(Puzzles):
    """Symbols are ".", a blank, and the digits; the solution names every cell, the given ones too.

    Generated 6x6 puzzles have one solution each, and `puzzle.least` to `puzzle.most` givens. There are 28,200,960 such
    grids, which are 49 but for their symmetries: those of the test puzzles are none of those that training puzzles
    have, however they are turned and named. Of 9x9 grids there are too many for that: there the puzzles themselves are
    told apart under all symmetries.
    """

    hardness_is: ClassVar[str] = "givens"

    @property
    def symbols(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return "." + "123456789"[: self.side]

    @property
    def side(self) -> int:
        return self.settings.puzzle.side

    def check(self, files: bool = True) -> None:
        own, path = self.settings.puzzle, self.settings.path
        if own.side not in solver.BOXES:
            raise UserError(f"config.data.puzzle.side: sudokus here have 4, 6 or 9 rows, not {own.side}")
        if path == gym.GYM:
            gym.check("sudoku", own)
        elif path != GENERATED:
            _files(Path(path)) if files else None
        elif not 4 <= own.least <= own.most <= own.side**2:
            raise UserError(
                f"config.data.puzzle: {own.least} to {own.most} givens: a generated sudoku of {own.side} rows has from "
                f"4 to {own.side**2}"
            )

    def load(self) -> None:
        if self.settings.path == gym.GYM:
            self._divide(*gym.sudokus(self.settings.puzzle))
        elif self.settings.path != GENERATED:
            self._read()
        elif self.side == 9:
            self._generate_large()
        else:
            self._generate()

    def _generate(self) -> None:
        """Make puzzles of grids whose classes are split between training and test."""
        own, rng = self.settings.puzzle, np.random.default_rng(FIRST)
        grids, kinds = classes.all_grids(self.side)
        order = rng.permutation(kinds.max() + 1)
        tested = order[: max(1, round(TESTED * len(order)))]
        parts = np.isin(kinds, tested)
        make = lambda chosen, many: self._make(rng, lambda n: chosen[rng.integers(len(chosen), size=n)], many)
        self.train, self.test = make(grids[~parts], own.train), make(grids[parts], own.test)
        self.notes.append(
            f"test puzzles are made of {len(tested)} of the {len(order)} classes of grids, training puzzles of the rest"
        )

    def _generate_large(self) -> None:
        """Make puzzles of random grids, and leave out what stands in training and test."""
        own, rng = self.settings.puzzle, np.random.default_rng(FIRST)
        empty = lambda n: solver.candidates(np.zeros((n, self.places), int), self.side)
        made = self._make(rng, lambda n: solver.solve(empty(n), self.side, 1, rng)[1], own.train + own.test)
        self.train = made.take(slice(own.train))
        self.test = self._unlike_train(made.take(slice(own.train, None)))

    def _make(self, rng: np.random.Generator, grids: Callable[[int], np.ndarray], many: int) -> Pairs:
        """Return so many different puzzles. Given a function that draws solved grids."""
        own = self.settings.puzzle
        puzzles = np.zeros((0, self.places), int)
        for _ in range(50):
            solved = grids(many)
            drawn = classes.forms(rng, self.side, len(solved)).of(solved)
            puzzles = np.concatenate([puzzles, solver.dig(rng, drawn, self.side, own.least, own.most)])
            first = np.unique(puzzles, axis=0, return_index=True)[1]
            puzzles = puzzles[np.sort(first)]
            if len(puzzles) >= many:
                puzzles = puzzles[:many]
                return pairs(puzzles, solver.solve(solver.candidates(puzzles, self.side), self.side)[1])
        raise UserError(
            f"config.data.puzzle: {len(puzzles):,} of {many:,} sudokus with {own.least} to {own.most} givens were "
            "found in 50 rounds; more givens are easier to find"
        )

    def _read(self) -> None:
        """Read puzzles from files."""
        found = [one for file in _files(Path(self.settings.path)) for one in _rows(file, self.side)]
        puzzles = np.array([puzzle for _, puzzle, _ in found]).reshape(-1, self.places)
        solutions = np.array([np.zeros(self.places, int) if s is None else s for _, _, s in found])
        unsolved = (solutions == 0).any(1)
        if unsolved.any():
            counts, solved = solver.solve(solver.candidates(puzzles[unsolved], self.side), self.side)
            for i, count in zip(np.flatnonzero(unsolved), counts, strict=True):
                if count != 1:
                    raise UserError(f"{found[i][0]}: {'no' if count == 0 else 'more than one'} solution")
            solutions[unsolved] = solved
        units = np.sort(solutions[:, solver.shape(self.side).units], axis=2)
        sound = (units == np.arange(1, self.side + 1)).all((1, 2)) & ((puzzles == 0) | (puzzles == solutions)).all(1)
        for i in np.flatnonzero(~sound)[:1]:
            why = self.wrong(puzzles[i], solutions[i])
            raise UserError(f"{found[i][0]}: the solution beside it is none: {why}")
        self._divide(puzzles, solutions)

    def _divide(self, puzzles: np.ndarray, solutions: np.ndarray) -> None:
        """Split puzzles at random."""
        own, first = self.settings.puzzle, np.sort(np.unique(puzzles, axis=0, return_index=True)[1])
        split(len(first), own, self.settings.path)
        order = np.random.default_rng(FIRST).permutation(first)[: own.train + own.test]
        whole = pairs(puzzles, solutions)
        self.train = whole.take(order[: own.train])
        self.test = self._unlike_train(whole.take(order[own.train :]))

    def _unlike_train(self, test: Pairs) -> Pairs:
        """Leave out of test puzzles those that may be a training puzzle in another form."""
        signed = lambda puzzles: np.concatenate(
            [classes.signatures(puzzles[i : i + 512], self.side) for i in range(0, len(puzzles), 512)]
        )
        same = np.isin(signed(test.inputs), signed(self.train.inputs))
        if same.any():
            self.notes.append(f"{same.sum():,} test puzzles were left out: training has them in another form")
        return test.take(~same)

    def forms(self, rng: np.random.Generator, count: int) -> Forms:
        return classes.forms(rng, self.side, count)

    def read(self, path: Path) -> list[Given]:
        return [Given(where, puzzle) for file in _files(path) for where, puzzle, _ in _rows(file, self.side)]

    def refuse(self, puzzle: np.ndarray) -> str:
        if reason := solver.clash(puzzle, self.side):
            return reason
        counts, _ = solver.solve(solver.candidates(puzzle[None], self.side), self.side)
        return ("it has no solution", "", "it has more than one solution")[counts[0]]

    def wrong(self, puzzle: np.ndarray, answer: np.ndarray) -> str:
        if (answer == 0).any():
            return f"{(answer == 0).sum()} cells are blank"
        if (changed := (puzzle > 0) & (puzzle != answer)).any():
            return f"{changed.sum()} givens were changed"
        return solver.clash(answer, self.side)

    def hardness(self, inputs: np.ndarray) -> np.ndarray:
        return (inputs > 0).sum(1)

    def draw(self, tokens: np.ndarray) -> str:
        height, width = solver.BOXES[self.side]
        lines = []
        for i, row in enumerate(np.array(list(self.symbols))[tokens].reshape(self.shape)):
            if i and i % height == 0:
                lines.append("+".join(["-" * (2 * width + 1)] * (self.side // width))[1:-1])
            lines.append(" | ".join(" ".join(row[j : j + width]) for j in range(0, self.side, width)))
        return "\n".join(lines)


def _files(path: Path) -> list[Path]:
    """Return the files of puzzles at a path: itself, or the .csv and .txt files of a folder."""
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix in (".csv", ".txt"))
        if not found:
            raise UserError(f"{path}: no .csv or .txt file of puzzles in it")
        return found
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    return [path]


def _rows(path: Path, side: int) -> list[tuple[str, np.ndarray, np.ndarray | None]]:
    """Return the puzzles of a file, each with "file:line" and its solution, None where there is none: a puzzle a line,
    as so many characters; or a table with commas whose columns are called puzzle and solution, or quizzes and
    solutions, or question and answer."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable text: {error}") from error
    found, columns = [], (0, None)
    for number, line in enumerate(lines, 1):
        cells = [cell.strip() for cell in next(csv.reader([line]), [])]
        where = f"{path}:{number}"
        if not cells or not cells[0] or cells[0].startswith("#"):
            continue
        if number == 1 and not _is_grid(cells[0], side):
            names = [cell.lower() for cell in cells]
            ask = next((names.index(n) for n in ("puzzle", "quizzes", "question", "quiz") if n in names), None)
            if ask is not None:
                answer = next((names.index(n) for n in ("solution", "solutions", "answer") if n in names), None)
                columns = ask, answer
                continue
        if len(cells) <= columns[0]:
            raise UserError(f"{where}: no puzzle in column {columns[0] + 1}")
        puzzle = _grid(cells[columns[0]], side, where)
        solution = None
        if columns[1] is not None and len(cells) > columns[1] and cells[columns[1]]:
            solution = _grid(cells[columns[1]], side, where)
        found.append((where, puzzle, solution))
    if not found:
        raise UserError(f"{path}: no puzzle in it")
    return found


def _is_grid(text: str, side: int) -> bool:
    return len(text) == side * side and all(c in BLANKS or c.isdecimal() for c in text)


def _grid(text: str, side: int, where: str) -> np.ndarray:
    if len(text) != side * side:
        raise UserError(f"{where}: {len(text)} characters, and a sudoku of {side} rows has {side * side}")
    bad = [c for c in text if c not in BLANKS and not (c.isascii() and c.isdecimal() and int(c) <= side)]
    if bad:
        raise UserError(f"{where}: {bad[0]!r} is neither a digit up to {side} nor a blank (. or 0)")
    return np.array([0 if c in BLANKS else int(c) for c in text])
