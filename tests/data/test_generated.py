"""Made-up documents say what is true, and the same seed makes the same."""

import contextlib
import io
import itertools
import re
from collections import deque

import numpy as np
import pytest

from juliagpt_jax.data import generated
from juliagpt_jax.data.puzzles import maze, solver


def made(kind, count=40):
    return [generated.GENERATED[kind](np.random.default_rng([3, i])) for i in range(count)]


@pytest.mark.parametrize("kind", generated.GENERATED)
def test_a_pure_function_of_its_seed(kind):
    first = made(kind, 30)
    assert first == made(kind, 30) and len(set(first)) > 25


def test_programs_print_what_python_prints():
    for text in made("programs"):
        program, rest = text.split("\n\n")
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(program, {})
        assert rest.endswith(f"It prints {out.getvalue().strip()}.")


def test_sums_are_right():
    for text in made("sums"):
        steps = re.findall(r"([\d *+-]+) = (-?\d+)", text)
        assert len(steps) == 3 and all(eval(left) == int(right) for left, right in steps)
        assert text.endswith(f"#### {steps[-1][1]}")


def test_ways_through_graphs_are_shortest():
    for text in made("graphs"):
        edges = [tuple(e.split("-")) for e in re.match(r"Graph: (.*)\n", text)[1].split(", ")]
        begin, goal = re.search(r"From (\w) to (\w)\?", text).groups()
        way = text.splitlines()[-1].removeprefix("Shortest way: ").split()
        joined = {frozenset(edge) for edge in edges}
        assert (way[0], way[-1]) == (begin, goal)
        assert all(frozenset(step) in joined for step in itertools.pairwise(way))
        steps, waiting = {begin: 0}, deque([begin])
        while waiting:
            here = waiting.popleft()
            for other in {name for edge in joined if here in edge for name in edge} - set(steps):
                steps[other] = steps[here] + 1
                waiting.append(other)
        assert len(way) - 1 == steps[goal]


def test_grids_are_solved():
    kinds = set()
    for text in made("grids"):
        kind, *rows = text.split("\n")
        kinds.add(kind)
        half = len(rows) // 2
        before, after = (
            np.array([[*map(maze.Maze.symbols.index if kind == "Maze:" else ".1234".index, row)] for row in part])
            for part in (rows[:half], rows[half + 1 :])
        )
        if kind == "Maze:":
            np.testing.assert_array_equal(np.where(after == maze.WAY, maze.FREE, after), before)
            assert (after == maze.WAY).sum() == len(maze.shortest(before)) - 2
        else:
            assert not solver.clash(after.ravel(), 4) and (after > 0).all()
            assert (before == 0).any() and ((before == 0) | (before == after)).all()
            found, solution = solver.solve(solver.candidates(before.reshape(1, -1), 4), 4, most=2)
            assert found[0] == 1 and (np.ravel(solution) == after.ravel()).all()
    assert kinds == {"Maze:", "Sudoku:"}


def test_the_last_grid_follows_the_rule_of_the_others():
    """Of the rules there are, the one that makes the three first answers makes the last."""
    rows = lambda text: np.array([[*map(int, row)] for row in text.split("\n")])
    for text in made("arc"):
        found = re.findall(r"Input .:\n([\d\n]+)\nOutput .:\n([\d\n]+?)(?:\n(?=Input)|$)", text)
        pairs = [(rows(before), rows(after)) for before, after in found]
        assert len(pairs) == 4
        fits = []
        for name, rule in generated._RULES.items():
            for first in range(1, 10):
                for other in range(1, 10):
                    colours = np.array([first, first, 0, 0, other])
                    same = [np.array_equal(rule(before, colours), after) for before, after in pairs]
                    fits += [(name, same[3])] if all(same[:3]) else []
        assert fits and any(right for _, right in fits)
