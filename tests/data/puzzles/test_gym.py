"""Puzzles of reasoning-gym, and our verifiers beside that library's."""

import sys

import numpy as np
import pytest

from juliagpt_jax.data.puzzles import build, maze, solver
from juliagpt_jax.ground.errors import UserError

GYM = ["data.path=reasoning-gym", "model.kind=recursive", "train.objective=recursive"]
FEW = ["data.puzzle.train=12", "data.puzzle.test=4"]
SUDOKUS = ["data.puzzle.kind=sudoku", "data.puzzle.side=9", "model.context=81", "data.puzzle.least=35"]
MAZES = ["data.puzzle.kind=maze", "data.puzzle.side=9", "model.context=81", "data.puzzle.least=5"]


@pytest.fixture
def library():
    return pytest.importorskip("reasoning_gym", reason="pip install '.[puzzles]'")


@pytest.fixture
def kinds(tiny):
    return {
        "sudoku": lambda *more: build.build_puzzles(tiny(*GYM, *FEW, *SUDOKUS, "data.puzzle.most=60", *more)),
        "maze": lambda *more: build.build_puzzles(tiny(*GYM, *FEW, *MAZES, "data.puzzle.most=0", *more)),
    }


@pytest.mark.parametrize("kind", ["sudoku", "maze"])
def test_puzzles_of_the_library(library, kinds, kind):
    puzzles = kinds[kind]()
    puzzles.load()
    assert len(puzzles.train.inputs) == 12 and 1 <= len(puzzles.test.inputs) <= 4
    for part in (puzzles.train, puzzles.test):
        for puzzle, answer in zip(part.inputs, part.targets, strict=True):
            assert not puzzles.refuse(puzzle) and not puzzles.wrong(puzzle, answer)
    if kind == "sudoku":
        givens = puzzles.hardness(puzzles.train.inputs)
        assert 35 <= givens.min() and givens.max() <= 60
    assert not {*map(bytes, puzzles.train.inputs)} & {*map(bytes, puzzles.test.inputs)}


def damaged(rng, answer, symbols):
    """An answer with one cell changed."""
    other, cell = answer.copy(), rng.integers(len(answer))
    other[cell] = rng.choice([symbol for symbol in symbols if symbol != answer[cell]])
    return other


def test_both_judge_sudokus_alike(library, kinds):
    """Full marks of the library, no words of ours: for the solution alone, of an answer with one cell changed never,
    and never for another solved grid."""
    puzzles, rng = kinds["sudoku"](), np.random.default_rng(0)
    entries = list(library.create_dataset("sudoku", size=100, seed=1, min_empty=30, max_empty=40))
    for entry, later in zip(entries, entries[1:] + entries[:1], strict=True):
        puzzle, solution, stranger = (
            np.array(one["metadata"][name]).ravel()
            for one, name in ((entry, "puzzle"), (entry, "solution"), (later, "solution"))
        )
        counts, found = solver.solve(solver.candidates(puzzle[None], 9), 9)
        assert counts[0] == 1 and (found[0] == solution).all()
        for answer in (solution, damaged(rng, solution, range(1, 10)), stranger):
            rows = "\n".join(" ".join(map(str, row)) for row in answer.reshape(9, 9))
            theirs = library.get_score_answer_fn("sudoku")(rows, entry) == 1
            assert theirs == (not puzzles.wrong(puzzle, answer)) == bool((answer == solution).all())


def test_both_find_shortest_ways_of_the_same_length(library, kinds):
    puzzles, rng, judged = kinds["maze"](), np.random.default_rng(0), set()
    for entry in library.create_dataset("maze", size=150, seed=1, min_grid_size=9, max_grid_size=9):
        own = entry["metadata"]
        signs = str.maketrans("".join(own[name] for name in ("wall", "path", "start", "goal")), "#.SG")
        grid = puzzles._tokens([row.translate(signs) for row in own["grid"]])
        assert len(maze.shortest(grid)) - 1 == own["shortest_path_length"]
        answer = maze.solved(grid).ravel()
        for said in (answer, damaged(rng, answer, range(maze.WAY + 1))):
            steps = str((said == maze.WAY).sum() + 1)
            theirs = library.get_score_answer_fn("maze")(steps, entry) == 1
            ours = puzzles.wrong(grid.ravel(), said)
            judged.add((theirs, not ours))
            assert theirs or ours, "a way of another length"
        assert not puzzles.wrong(grid.ravel(), answer)
    assert (True, True) in judged and (False, False) in judged


@pytest.mark.parametrize(
    "kind, override, says",
    [
        ("sudoku", "data.puzzle.least=16", "from 17 to 81 givens"),
        ("sudoku", "data.puzzle.most=30", "from 17 to 81 givens"),
        ("maze", "data.puzzle.side=8", "5, 7, 9"),
    ],
)
def test_what_it_does_not_make_is_refused(kinds, kind, override, says):
    with pytest.raises(UserError, match=says):
        kinds[kind](override)


def test_a_library_that_is_not_there_is_named(monkeypatch, kinds):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(UserError, match=r"pip install 'juliagpt-jax\[puzzles\]'"):
        kinds["maze"]().load()
