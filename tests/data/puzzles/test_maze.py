"""Mazes: one way between any two places, the shortest way, eight forms, and files."""

import json

import numpy as np
import pytest

from juliagpt_jax.data.puzzles import maze
from juliagpt_jax.data.puzzles.maze import FREE, GOAL, START, WALL, WAY, Maze
from juliagpt_jax.ground.errors import UserError


@pytest.fixture
def mazes(tiny):
    def make(*overrides):
        own = ["data.puzzle.kind=maze", "data.path=generated", "model.kind=recursive", "train.objective=recursive"]
        few = ["data.puzzle.side=9", "data.puzzle.train=20", "data.puzzle.test=10", "data.puzzle.least=6"]
        return Maze(tiny(*own, *few, "data.puzzle.most=0", *overrides).data)

    return make


@pytest.mark.parametrize("make", [maze.depth_first, maze.wilson])
def test_all_places_are_joined_by_one_way(make):
    """A tree: connected, and one passage fewer than cells."""
    for seed in range(5):
        grid = make(np.random.default_rng(seed), 5)
        free = grid != WALL
        assert free[1::2, 1::2].all() and not free[0::2, 0::2].any() and free.sum() == 25 + 24
        seen, waiting = {(1, 1)}, [(1, 1)]
        while waiting:
            r, c = waiting.pop()
            for near in ((r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)):
                if free[near] and near not in seen:
                    seen.add(near)
                    waiting.append(near)
        assert len(seen) == free.sum()


def test_wilson_draws_all_mazes_alike():
    """Of 2 x 2 cells there are four trees: each without one of the four passages."""
    rng = np.random.default_rng(0)
    counts = np.zeros(4, int)
    for _ in range(400):
        grid = maze.wilson(rng, 2)
        counts[[grid[1, 2], grid[2, 1], grid[2, 3], grid[3, 2]].index(WALL)] += 1
    assert counts.min() > 60


def test_generated_mazes(mazes):
    puzzles = mazes()
    puzzles.check()
    puzzles.load()
    forms = set()
    for part in (puzzles.train, puzzles.test):
        for puzzle, answer in zip(part.inputs, part.targets, strict=True):
            assert not puzzles.refuse(puzzle) and not puzzles.wrong(puzzle, answer)
            assert (answer == WAY).sum() + 1 >= 6
            forms.add(min(form.tobytes() for form in maze.eight(puzzle.reshape(9, 9))))
    assert len(forms) == 30  # no test maze is a training maze, turned
    offered = puzzles.offer(0, 3, 40)
    assert not any(
        puzzles.wrong(puzzle, answer) for puzzle, answer in zip(offered.inputs, offered.targets, strict=True)
    )
    whole = {row.tobytes() for row in puzzles.train.inputs}
    assert any(row.tobytes() not in whole for row in offered.inputs)


def test_a_maze_that_is_turned_counts_once(mazes):
    """Of 2 x 2 cells there are 4 mazes with 12 ways each: 48, of which eight at a time are one but for turns."""
    puzzles = mazes("data.puzzle.side=5", "data.puzzle.train=20", "data.puzzle.test=4", "data.puzzle.least=1")
    with pytest.raises(UserError, match="of 24 mazes of side 5"):
        puzzles.load()


def test_what_is_no_way_is_seen(mazes):
    puzzles = mazes()
    puzzles.load()
    puzzle, answer = puzzles.train.inputs[0], puzzles.train.targets[0].copy()
    changed = answer.copy()
    changed[np.flatnonzero(answer == WALL)[0]] = FREE
    assert "walls" in puzzles.wrong(puzzle, changed)
    gap = answer.copy()
    gap[np.flatnonzero(answer == WAY)[0]] = FREE
    assert "the shortest way has" in puzzles.wrong(puzzle, gap)
    gap[np.flatnonzero(answer == FREE)[0]] = WAY
    assert "does not lead" in puzzles.wrong(puzzle, gap)


@pytest.mark.parametrize(
    "line, says",
    [
        ("{}", 'with "grid"'),
        ('{"grid": ["##", "##"]}', "not 9 rows of 9"),
        (json.dumps({"grid": ["#" * 9] * 8 + ["#######x#"]}), "'x' is none of"),
        (json.dumps({"grid": ["#" * 9] * 9}), "0 places are S"),
        (json.dumps({"grid": ["#S#####G#"] + ["#" * 9] * 8}), "no way leads"),
    ],
)
def test_what_is_no_maze_is_refused_with_its_line(mazes, tmp_path, line, says):
    (tmp_path / "mazes.jsonl").write_text(line)
    with pytest.raises(UserError, match=says) as error:
        mazes().read(tmp_path / "mazes.jsonl")
    assert "mazes.jsonl:1" in str(error.value)


def test_mazes_from_a_file(mazes, tmp_path):
    puzzles = mazes()
    puzzles.load()
    rows = [puzzles.text(puzzle) for puzzle in puzzles.train.inputs]
    lines = [json.dumps({"grid": [row[i : i + 9] for i in range(0, 81, 9)]}) for row in rows]
    (tmp_path / "mazes.jsonl").write_text("\n".join(lines))
    read = mazes(f"data.path={tmp_path}", "data.puzzle.train=15", "data.puzzle.test=5")
    read.check()
    read.load()
    assert len(read.train.inputs) == 15 and len(read.test.inputs) == 5
    assert {*map(bytes, np.int8(read.train.inputs))} < {*map(bytes, np.int8(puzzles.train.inputs))}
    assert (read.train.inputs == START).sum() == (read.train.inputs == GOAL).sum() == 15


def test_an_even_side_is_refused(mazes):
    with pytest.raises(UserError, match="5, 7, 9"):
        mazes("data.puzzle.side=8").check()
