"""Sudokus: their solver, their classes and symmetries, their files."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from juliagpt_jax.data.puzzles import build, classes, solver
from juliagpt_jax.ground import config_file
from juliagpt_jax.ground.errors import UserError

ROOT = Path(__file__).parents[3]
BASE = ["data.path=generated", "data.puzzle.kind=sudoku", "model.kind=recursive", "train.objective=recursive"]


def sudokus(*overrides, side=4):
    places = f"model.context={side * side}"
    return config_file.load(str(ROOT / "configs" / "base.py"), [*BASE, places, f"data.puzzle.side={side}", *overrides])


FEW = ["data.puzzle.train=40", "data.puzzle.test=20", "data.puzzle.least=4", "data.puzzle.most=8"]


def by_hand(puzzle, side):
    """Every solution, by trying all digits in all cells."""
    if not (puzzle == 0).any():
        return [puzzle]
    at = int(np.argmin(puzzle))
    found = []
    for digit in range(1, side + 1):
        tried = puzzle.copy()
        tried[at] = digit
        if not solver.clash(tried, side):
            found += by_hand(tried, side)
    return found


def test_the_solver_finds_what_trying_everything_finds():
    rng = np.random.default_rng(0)
    puzzles = classes.all_grids(4)[0][rng.integers(12, size=20)] * (rng.random((20, 16)) < 0.35)
    puzzles[0] = 0
    puzzles[1, :2] = 1  # no solution
    counts, found = solver.solve(solver.candidates(puzzles, 4), 4, most=1000)
    for puzzle, count, one in zip(puzzles[1:], counts[1:], found[1:], strict=True):
        every = by_hand(puzzle, 4)
        assert count == len(every)
        assert any((one == grid).all() for grid in every) if every else not one.any()
    assert counts[0] == 288 and counts[1] == 0 and 1 in counts


def test_a_hard_9x9():
    """Arto Inkala's of 2012, whose solution many have published."""
    puzzle = "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4.."
    solution = "812753649943682175675491283154237896369845721287169534521974368438526917796318452"
    given = np.array([[0 if c == "." else int(c) for c in puzzle]])
    counts, found = solver.solve(solver.candidates(given, 9), 9)
    assert counts[0] == 1 and "".join(map(str, found[0])) == solution


def test_all_grids():
    grids, kinds = classes.all_grids(4)
    assert len(grids) * 24 == 288 and kinds.max() + 1 == 2
    assert not any(solver.clash(grid, 4) for grid in grids)


@pytest.mark.long
def test_all_grids_of_6x6():
    """28,200,960, in 49 classes (Jarvis & Russell counted both)."""
    grids, kinds = classes.all_grids(6)
    assert len(grids) * 720 == 28_200_960 and kinds.max() + 1 == 49
    units = np.sort(grids[:, solver.shape(6).units], axis=2)
    assert (units == np.arange(1, 7)).all() and len(np.unique(grids, axis=0)) == len(grids)


def every_form(grid, side):
    """Yield a grid under all symmetries but those of names, from all orders of lines; its first row is 1, 2, ..."""
    height, width = solver.BOXES[side]

    def orders(size):
        groups = [range(at, at + size) for at in range(0, side, size)]
        for some in itertools.permutations(groups):
            for inner in itertools.product(*map(itertools.permutations, some)):
                yield [line for group in inner for line in group]

    square = grid.reshape(side, side)
    for form in [square, square.T] if height == width else [square]:
        for rows in orders(height):
            for columns in orders(width):
                moved = form[rows][:, columns]
                names = np.argsort(moved[0]) + 1
                yield names[moved - 1].ravel()


def test_classes_are_what_the_symmetries_join():
    grids, kinds = classes.all_grids(4)
    for grid, kind in zip(grids[:3], kinds, strict=False):
        forms = {bytes(form) for form in map(np.int8, every_form(grid, 4))}
        assert forms == {bytes(other) for other in np.int8(grids[kinds == kind])}


@pytest.mark.parametrize("side", [4, 6, 9])
def test_a_symmetry_keeps_a_puzzle_and_its_signature(side):
    rng = np.random.default_rng(1)
    empty = solver.candidates(np.zeros((20, side * side), int), side)
    grids = solver.solve(empty, side, 1, rng)[1]
    puzzles = grids * (rng.random(grids.shape) < 0.4)
    form = classes.forms(rng, side, 20)
    turned, answers = form.of(puzzles), form.of(grids)
    np.testing.assert_array_equal(form.back(answers), grids)
    assert (turned != puzzles).any(1).all()
    for puzzle, answer in zip(turned, answers, strict=True):
        assert not solver.clash(answer, side) and ((puzzle == 0) | (puzzle == answer)).all() and answer.min() > 0
    one, other = classes.signatures(puzzles, side), classes.signatures(turned, side)
    np.testing.assert_array_equal(one, other)
    if side == 9:
        assert len(set(one.tolist())) == 20
        fewer = puzzles.copy()
        fewer[np.arange(20), np.argmax(puzzles > 0, axis=1)] = 0
        assert not set(one.tolist()) & set(classes.signatures(fewer, side).tolist())


def test_generated_puzzles_have_one_solution_and_classes_of_their_own():
    puzzles = build.load(sudokus(*FEW))
    grids, kinds = classes.all_grids(4)
    kind_of = {bytes(grid): kind for grid, kind in zip(np.int8(grids), kinds, strict=True)}
    classes_of = []
    for part in (puzzles.train, puzzles.test):
        givens = puzzles.hardness(part.inputs)
        assert givens.min() >= 4 and givens.max() <= 8
        for puzzle, answer in zip(part.inputs, part.targets, strict=True):
            assert [grid.tolist() for grid in by_hand(puzzle, 4)] == [answer.tolist()]
        named = [(np.argsort(answer[:4]) + 1)[answer - 1] for answer in part.targets]
        classes_of.append({kind_of[bytes(np.int8(grid))] for grid in named})
    assert len(puzzles.train.inputs) == 40 and len(puzzles.test.inputs) == 20
    assert not classes_of[0] & classes_of[1]


def test_what_is_offered_is_a_function_of_seed_and_step():
    puzzles, again = build.load(sudokus(*FEW)), build.load(sudokus(*FEW))
    one = puzzles.offer(1, 7, 8)
    for a, b in zip(one, again.offer(1, 7, 8), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one.inputs != puzzles.offer(1, 8, 8).inputs).any() and (one.inputs != puzzles.offer(2, 7, 8).inputs).any()
    assert not any(puzzles.wrong(puzzle, answer) for puzzle, answer in zip(one.inputs, one.targets, strict=True))
    assert puzzles.fingerprint == again.fingerprint


GOOD, SOLVED = "12..34..2..14...", "1234341221434321"


@pytest.mark.parametrize(
    "text, says",
    [
        ("12.. 34..\n", "9 characters, and a sudoku of 4 rows has 16"),
        ("12..34..2..1x5..\n", "'5' is neither a digit up to 4 nor a blank"),
        ("1.1.............\n", "two 1s in row 1"),
        ("1...1...........\n", "two 1s in column 1"),
        ("1....1..........\n", "two 1s in box 1"),
        ("123....4........\n", "it has no solution"),
        ("1...............\n", "it has more than one solution"),
        ("", "no puzzle in it"),
        ("id,puzzle\n1\n", "no puzzle in column 2"),
    ],
)
def test_what_is_no_puzzle_is_refused_with_its_line(tmp_path, text, says):
    path = tmp_path / "puzzles.csv"
    path.write_text(text)
    puzzles = build.build_puzzles(sudokus())
    with pytest.raises(UserError) as error:
        for given in puzzles.read(path):
            if reason := puzzles.refuse(given.puzzle):
                raise UserError(f"{given.name}: {reason}")
    assert says in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize(
    "text", [f"{GOOD}\n", f"# mine\n\n{GOOD.replace('.', '0')}\n", f"n,puzzle,solution\n1,{GOOD},\n"]
)
def test_the_usual_files_are_read(tmp_path, text):
    path = tmp_path / "puzzles.csv"
    path.write_text(text)
    puzzles = build.build_puzzles(sudokus())
    (given,) = puzzles.read(path)
    assert puzzles.text(given.puzzle) == GOOD and not puzzles.refuse(given.puzzle)
    (answer,) = by_hand(given.puzzle, 4)
    assert not puzzles.wrong(given.puzzle, answer)
    assert "blank" in puzzles.wrong(given.puzzle, given.puzzle)
    assert "givens were changed" in puzzles.wrong(given.puzzle, answer[::-1])


def test_training_files_are_split_and_their_solutions_checked(tmp_path):
    rows = build.load(sudokus(*FEW)).train
    lines = [",".join("".join(map(str, row)) for row in pair) for pair in zip(rows.inputs, rows.targets, strict=True)]
    path = tmp_path / "puzzles.csv"
    path.write_text("puzzle,solution\n" + "\n".join(lines))
    own = sudokus(f"data.path={path}", "data.puzzle.train=30", "data.puzzle.test=9")
    puzzles = build.load(own)
    assert len(puzzles.train.inputs) == 30 and 1 <= len(puzzles.test.inputs) <= 9
    signed = [set(classes.signatures(part.inputs, 4).tolist()) for part in (puzzles.train, puzzles.test)]
    assert not signed[0] & signed[1]
    with pytest.raises(UserError, match=r"40 different puzzles, and .* wants 35"):
        build.load(sudokus(f"data.path={path}", "data.puzzle.train=35", "data.puzzle.test=9"))
    path.write_text("puzzle,solution\n" + lines[0][:-1] + ("1" if lines[0][-1] != "1" else "2"))
    with pytest.raises(UserError, match="csv:2: the solution beside it is none"):
        build.load(own)


@pytest.mark.parametrize(
    "override, says",
    [
        ("data.puzzle.side=5", "4, 6 or 9 rows, not 5"),
        ("data.puzzle.kind=suduko", "did you mean sudoku"),
        ("data.puzzle.least=13", "13 to 12 givens"),
        ("model.context=17", "16 symbols"),
        ("data.path=nowhere", "no such file"),
    ],
)
def test_settings_without_sense_are_refused(override, says):
    with pytest.raises(UserError, match=says):
        build.build_puzzles(sudokus(override))
