"""ARC-AGI: grids as tokens and back, the forms of a task, the vote, and the official submission."""

import json

import numpy as np
import pytest

from juliagpt_jax.data.batch import IGNORED
from juliagpt_jax.data.puzzles import arc, build
from juliagpt_jax.data.puzzles.arc import Arc, Ask, Form
from juliagpt_jax.ground.errors import UserError

RNG = np.random.default_rng(0)
GRIDS = [RNG.integers(10, size=(int(h), int(w))) for h, w in RNG.integers(1, 7, size=(40, 2))]


def task(name, seed, tests=1):
    rng = np.random.default_rng(seed)
    pair = lambda: {key: rng.integers(10, size=(2, 3)).tolist() for key in ("input", "output")}
    return {"id": name, "train": [pair(), pair()], "test": [pair() for _ in range(tests)]}


@pytest.fixture
def tasks(tiny, tmp_path):
    folder = tmp_path / "arc"
    folder.mkdir()
    large = {"id": "large", "train": [], "test": [{"input": [[0] * 9], "output": [[1]]}]}
    lines = lambda *several: "\n".join(map(json.dumps, several))
    (folder / "training.jsonl").write_text(lines(task("a", 1), task("b", 2), large))
    (folder / "evaluation.jsonl").write_text(lines(task("c", 3, tests=2), task("d", 4)))

    def make(*overrides):
        own = ["data.puzzle.kind=arc", "model.kind=recursive", "train.objective=recursive", f"data.path={folder}"]
        few = ["data.puzzle.side=7", "data.puzzle.copies=3", "model.recursive.ids=12", "model.context=49"]
        return tiny(*own, *few, *overrides)

    return make


@pytest.mark.parametrize("at", [(0, 0), (1, 2)])
def test_a_grid_is_laid_and_lifted(at):
    for grid in GRIDS:
        if grid.shape[0] + at[0] <= 6 and grid.shape[1] + at[1] <= 6:
            tokens = arc.lay(grid, 7, at).reshape(7, 7)
            inside = tokens[at[0] :, at[1] :]
            np.testing.assert_array_equal(arc.lift(arc.lay(inside[: grid.shape[0], : grid.shape[1]] - 1, 7), 7), grid)
            assert (tokens == arc.END).sum() == sum(grid.shape)
    full = np.ones((7, 7), int)
    np.testing.assert_array_equal(arc.lift(arc.lay(full, 7), 7), full)
    assert arc.lift(np.zeros(49, int), 7).size == 0


@pytest.mark.parametrize("copy", range(12))
def test_a_form_is_undone(copy):
    form = Arc.form(5, copy)
    for grid in GRIDS:
        np.testing.assert_array_equal(form.back(form.of(grid)), grid)
        assert (form.of(grid) == 0).sum() == (grid == 0).sum()
    assert copy or (form.turn == 0 and (form.colours == np.arange(10)).all())


def test_all_turns_are_drawn():
    assert {Arc.form(5, copy).turn for copy in range(60)} == set(range(8))


def test_what_is_learned_and_what_is_asked(tasks):
    puzzles = build.load(tasks())
    assert isinstance(puzzles, Arc) and puzzles.ids == 12
    assert len(puzzles.train.inputs) == (2 + 1) + (2 + 1) + 2 + 2  # the tests of training tasks, not of the others
    assert [(ask.task, ask.number) for ask in puzzles.asks[:3]] == [("c", 0), ("c", 1), ("d", 0)]
    assert len(puzzles.test.inputs) == 9 and puzzles.test.ids.tolist() == [6, 6, 9, 7, 7, 10, 8, 8, 11]
    for ask, tokens in zip(puzzles.asks, puzzles.test.targets, strict=True):
        (wanted,) = [t.test[ask.number][1] for t in puzzles.tasks if t.name == ask.task]
        np.testing.assert_array_equal(ask.form.back(arc.lift(tokens, 7)), wanted)
    assert ((puzzles.test.targets == IGNORED) == (arc.lay(np.zeros((2, 3), int), 7) == 0)).any()
    tests = {puzzle.tobytes() for puzzle in puzzles.test.inputs}
    for step in range(5):
        offered = puzzles.offer(0, step, 32)
        assert not tests & {puzzle.tobytes() for puzzle in offered.inputs}
        assert offered.ids.max() < 12
        placed = (offered.inputs > 0).reshape(-1, 7, 7).any(2).argmax(1)
    assert placed.max() > 0
    again = build.load(tasks()).offer(0, 4, 32)
    for one, other in zip(offered, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_too_few_embeddings_are_refused(tasks):
    with pytest.raises(UserError, match="these puzzles need 12 embeddings"):
        build.load(tasks("model.recursive.ids=11"))


def test_the_most_frequent_answer_wins_then_the_trusted():
    plain = Form(0, np.arange(10))
    turned = Form(1, np.array([0, 2, 1, 3, 4, 5, 6, 7, 8, 9]))
    one, two, three = np.array([[1, 2]]), np.array([[3]]), np.array([[4, 4]])
    asks = [Ask("t", 0, form) for form in (plain, turned, plain, plain)]
    answers = np.array([arc.lay(grid, 7) for grid in (one, turned.of(one), two, three)])
    voted = arc.vote(asks, answers, np.array([-9.0, -9.0, 1.0, 2.0]), 7)
    first, second = voted["t"][0]
    np.testing.assert_array_equal(first, one)
    np.testing.assert_array_equal(second, three)
    assert arc.submission(voted) == {"t": [{"attempt_1": [[1, 2]], "attempt_2": [[4, 4]]}]}
    truth = [arc.Task("t", [], [(one, three)])]
    assert arc.solved(truth, voted) == 1 and arc.solved(truth, voted, tries=1) == 0


def test_all_tests_of_a_task_must_be_right():
    grids = [[np.array([[1]])], [np.array([[2]])]]
    right = arc.Task("t", [], [(grids[0][0], grids[0][0]), (grids[0][0], grids[1][0])])
    wrong = arc.Task("t", [], [(grids[0][0], grids[0][0]), (grids[0][0], grids[0][0])])
    assert arc.solved([right], {"t": grids}) == 1 and arc.solved([wrong], {"t": grids}) == 0


def test_a_users_tasks(tasks, tmp_path):
    puzzles = build.build_puzzles(tasks())
    path = tmp_path / "mine.json"
    known, new = task("c", 3), task("new", 9)
    del new["test"][0]["output"]
    path.write_text(json.dumps({"c": known, "new": new}))
    given = puzzles.read(path)
    assert [one.id for one in given] == [6, 7, 8, arc.UNKNOWN]
    answer = arc.lay(np.array(known["test"][0]["output"]), 7)
    assert not puzzles.wrong(given[0].puzzle, answer)
    assert "another grid" in puzzles.wrong(given[0].puzzle, np.zeros(49, int))
    assert "not known" in puzzles.wrong(given[3].puzzle, answer)


@pytest.mark.parametrize(
    "text, says",
    [
        ('{"id": "x"}\n{"id"', "mine.json:1: no task of ARC"),
        ('{"train": [], "test": [{"input": [[1, 2], [3]]}]}', "no task of ARC"),
        ('{"train": [], "test": [{"input": [[11]]}]}', "numbers from 0 to 9"),
        ("[1]", "no tasks of ARC"),
        ("", "no task in it"),
    ],
)
def test_what_is_no_task_is_refused(tmp_path, text, says):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        arc.read_tasks(path)
