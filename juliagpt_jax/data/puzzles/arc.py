"""ARC-AGI: grids of colours that one rule turns into others, to be guessed from a few demonstrations.

A model learns all tasks at once, their demonstrations as examples and each task by the embedding of its id. A task has
`puzzle.copies` forms, the first as it is, the others turned, mirrored and with other colours; each is a puzzle with an
id of its own. What a model answers in all forms is turned back, and the forms vote (`vote`).
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from juliagpt_jax.data.puzzles.puzzles import FIRST, Given, Pairs, Puzzles
from juliagpt_jax.ground.errors import UserError

PAD, COLOUR, END = 0, 1, 11  # the ids of " ", of the colour 0, and of "|"
TRIES = 2
UNKNOWN = -1  # the id of a task that training has not seen; its embedding is zero

Grid = np.ndarray  # (h, w) colours 0 .. 9


class Form(NamedTuple):
    """A form of a task: one of the eight turns, and colours (10,) in the place of 0 .. 9."""

    turn: int
    colours: np.ndarray

    def of(self, grid: Grid) -> Grid:
        """Return a grid in this form."""
        return self.colours[np.rot90(grid.T if self.turn >= 4 else grid, self.turn % 4)]

    def back(self, grid: Grid) -> Grid:
        """Return a grid that this is the form of."""
        turned = np.rot90(np.argsort(self.colours)[grid], -(self.turn % 4))
        return turned.T if self.turn >= 4 else turned


class Task(NamedTuple):
    """A task: its name, its demonstrations, and its tests, whose outputs are None where they are not known."""

    name: str
    train: list[tuple[Grid, Grid]]
    test: list[tuple[Grid, Grid | None]]


class Ask(NamedTuple):
    """A test puzzle: which task's, which of its tests, in which form."""

    task: str
    number: int
    form: Form


class Arc(Puzzles):
    """Symbols are " " for nothing, the colours, and "|" behind the end of each row and column.

    data.path is a folder with training.jsonl and evaluation.jsonl, a task a line. Training has `puzzle.train` tasks of
    the first, their tests too, and the demonstrations of `puzzle.test` tasks of the second, whose tests are the test
    puzzles. A task of which a grid does not fit in `puzzle.side` rows and columns is left out.
    """

    symbols: ClassVar[str] = " 0123456789|"

    def check(self, files: bool = True) -> None:
        own = self.settings.puzzle
        if own.side > 30:
            raise UserError(f"config.data.puzzle.side: grids of ARC have at most 30 rows, not {own.side}")
        if files:
            for name in ("training", "evaluation"):
                if not (Path(self.settings.path) / f"{name}.jsonl").exists():
                    raise UserError(f"{self.settings.path}: no {name}.jsonl in it")

    def load(self) -> None:
        own, folder = self.settings.puzzle, Path(self.settings.path)
        fit = lambda path, most: [task for task in read_tasks(path) if self._fits(task)][:most]
        learned, asked = fit(folder / "training.jsonl", own.train), fit(folder / "evaluation.jsonl", own.test)
        if not learned or not asked:
            raise UserError(f"{folder}: no task whose grids fit in {own.side} rows and columns")
        self.tasks = learned + asked
        self._numbers = {task.name: i for i, task in enumerate(self.tasks)}
        known = lambda task: [(ask, answer) for ask, answer in task.test if answer is not None]
        self._examples = [task.train + known(task) for task in learned] + [task.train for task in asked]
        self.train = self._pairs([(i, ask, answer, 0) for i, some in enumerate(self._examples) for ask, answer in some])
        self.asks, rows = [], []
        for copy in range(own.copies):
            for task in asked:
                for number, (ask, answer) in enumerate(task.test):
                    i = self._numbers[task.name]
                    self.asks.append(Ask(task.name, number, self.form(i, copy)))
                    rows.append((i, ask, ask if answer is None else answer, copy))
        self.test = self._pairs(rows)
        self._answers = {(a.tobytes(), i): b for a, b, i in zip(*self.test, strict=True)}
        self.notes.append(f"{len(learned)} + {len(asked)} tasks fit in {own.side} rows; each in {own.copies} forms")

    @property
    def ids(self) -> int:
        return len(self.tasks) * self.settings.puzzle.copies

    def _fits(self, task: Task) -> bool:
        grids = [grid for pair in [*task.train, *task.test] for grid in pair if grid is not None]
        return max(max(grid.shape) for grid in grids) <= self.settings.puzzle.side

    def _pairs(self, rows: Sequence[tuple[int, Grid, Grid, int]]) -> Pairs:
        """Return examples (task, question, answer, form) in the upper left corner."""
        side, copies = self.settings.puzzle.side, self.settings.puzzle.copies
        forms = [self.form(i, copy) for i, _, _, copy in rows]
        laid = lambda which: np.array([lay(form.of(row[which]), side) for form, row in zip(forms, rows, strict=True)])
        ids = np.array([i * copies + copy for i, _, _, copy in rows], np.int32)
        return Pairs(laid(1).astype(np.int32), asked(laid(2)), ids)

    @staticmethod
    def form(task: int, copy: int) -> Form:
        """Return a form of a task: a pure function of both. Black, 0, stays: in most tasks it is the ground."""
        rng = np.random.default_rng([FIRST, task, copy])
        if copy == 0:
            return Form(0, np.arange(10))
        return Form(int(rng.integers(8)), np.concatenate([[0], rng.permutation(9) + 1]))

    def offer(self, seed: int, step: int, rows: int) -> Pairs:
        """Return examples of tasks that are drawn alike, each in one of its forms and, with `puzzle.symmetries`, moved
        to where there is room for both grids."""
        rng, own = np.random.default_rng([FIRST, seed, step]), self.settings.puzzle
        inputs, targets, ids = [], [], []
        for _ in range(rows):
            i, copy = int(rng.integers(len(self._examples))), int(rng.integers(own.copies))
            pair = self._examples[i][int(rng.integers(len(self._examples[i])))]
            ask, answer = (self.form(i, copy).of(grid) for grid in pair)
            room = own.side - np.maximum(ask.shape, answer.shape)
            at = rng.integers(0, room + 1) if own.symmetries else np.zeros(2, int)
            inputs.append(lay(ask, own.side, at))
            targets.append(lay(answer, own.side, at))
            ids.append(i * own.copies + copy)
        return Pairs(np.array(inputs, np.int32), asked(np.array(targets)), np.array(ids, np.int32))

    def read(self, path: Path) -> list[Given]:
        """Return the tests of a user's tasks, in all forms of a task that training had: these have embeddings."""
        if not hasattr(self, "_numbers"):
            self.load()
        side, copies, found = self.settings.puzzle.side, self.settings.puzzle.copies, []
        self.asks = []
        for task in read_tasks(path):
            if not self._fits(task):
                raise UserError(f"{path}: task {task.name} has a grid of more than {side} rows or columns")
            i = self._numbers.get(task.name)
            for copy in range(1 if i is None else copies):
                form, own_id = self.form(i or 0, copy), UNKNOWN if i is None else i * copies + copy
                for number, (ask, answer) in enumerate(task.test):
                    puzzle = lay(form.of(ask), side).astype(np.int32)
                    found.append(Given(f"{task.name}, test {number + 1}, form {copy + 1}", puzzle, own_id))
                    self.asks.append(Ask(task.name, number, form))
                    if answer is not None:
                        self._answers[puzzle.tobytes(), own_id] = lay(form.of(answer), side)
        return found

    def wrong(self, puzzle: np.ndarray, answer: np.ndarray) -> str:
        known = [right for (asked, _), right in self._answers.items() if asked == puzzle.astype(np.int32).tobytes()]
        if not known:
            return "its solution is not known"
        side = self.settings.puzzle.side
        same = any(np.array_equal(lift(right, side), lift(answer, side)) for right in known)
        return "" if same else "another grid than the solution's"

    def draw(self, tokens: np.ndarray) -> str:
        return "\n".join(" ".join(self.symbols[t] for t in row) for row in tokens.reshape(self.shape))


def lay(grid: Grid, side: int, at: Any = (0, 0)) -> np.ndarray:
    """Return the tokens (side^2,) of a grid at a place, with marks behind its last row and column where there is
    room."""
    tokens = np.full((side, side), PAD)
    (top, left), (bottom, right) = at, np.add(at, grid.shape)
    tokens[top:bottom, left:right] = grid + COLOUR
    tokens[bottom : bottom + 1, left:right] = END
    tokens[top:bottom, right : right + 1] = END
    return tokens.ravel()


def asked(tokens: np.ndarray) -> np.ndarray:
    """Return the targets of answers: nothing is asked where nothing is."""
    from juliagpt_jax.data.batch import IGNORED  # imports JAX, which refusing a config does without

    return np.where(tokens == PAD, IGNORED, tokens).astype(np.int32)


def lift(tokens: np.ndarray, side: int) -> Grid:
    """Return the grid that tokens (side^2,) show: the largest rectangle of colours from the upper left corner on."""
    colours = (tokens >= COLOUR) & (tokens < END)
    wide = np.minimum.accumulate(np.logical_and.accumulate(colours.reshape(side, side), axis=1).sum(1))
    height = int(np.argmax(wide * np.arange(1, side + 1))) + 1
    return tokens.reshape(side, side)[:height, : wide[height - 1]] - COLOUR


def vote(asks: Sequence[Ask], answers: np.ndarray, trust: np.ndarray, side: int) -> dict[str, list[list[Grid]]]:
    """Return for each task, for each of its tests, the two answers that most of its forms give, of equally many the
    more trusted.

    Args:
        answers: (N, side^2) to the asks.
        trust: (N,) of the halting head.
    """
    counts: dict[tuple[str, int], dict[Any, list[float]]] = defaultdict(lambda: defaultdict(list))
    for ask, answer, sure in zip(asks, answers, trust, strict=True):
        grid = lift(answer, side)
        if grid.size:
            grid = np.ascontiguousarray(ask.form.back(grid))
            counts[ask.task, ask.number][grid.shape, grid.tobytes()].append(float(sure))
    found: dict[str, list[list[Grid]]] = {}
    for ask in asks:
        tests = found.setdefault(ask.task, [])
        if ask.number < len(tests):
            continue
        votes = counts[ask.task, ask.number]
        best = sorted(votes, key=lambda key, votes=votes: (len(votes[key]), np.mean(votes[key])), reverse=True)[:TRIES]
        tests.append([np.frombuffer(raw, np.int64).reshape(shape) for shape, raw in best] or [np.zeros((1, 1), int)])
    return found


def submission(voted: dict[str, list[list[Grid]]]) -> dict[str, list[dict[str, list[list[int]]]]]:
    """Return answers in the form of ARC Prize's submission.json: {"task": [{"attempt_1": grid, "attempt_2": grid}]}."""
    tries = lambda grids: {f"attempt_{i + 1}": grids[min(i, len(grids) - 1)].tolist() for i in range(TRIES)}
    return {task: [tries(grids) for grids in tests] for task, tests in voted.items()}


def solved(tasks: Sequence[Task], voted: dict[str, list[list[Grid]]], tries: int = TRIES) -> float:
    """Return the share of tasks all of whose tests are right in one of so many tries."""
    same = lambda one, other: one is not None and one.shape == other.shape and bool((one == other).all())
    right = []
    for task in tasks:
        if task.name in voted:
            tests = zip(task.test, voted[task.name], strict=True)
            right.append(all(any(same(answer, grid) for grid in grids[:tries]) for (_, answer), grids in tests))
    return float(np.mean(right))


def read_tasks(path: Path) -> list[Task]:
    """Return the tasks of a file: a task a line, each with its "id"; one task; or several by their names.

    Raises:
        UserError: with file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable text: {error}") from error
    found: list[Task] = []
    try:
        whole = json.loads(text)
        several = {path.stem: whole} if isinstance(whole, dict) and "test" in whole else whole
        if not isinstance(several, dict):
            raise UserError(f"{path}: no tasks of ARC: {{name: task}}, or a task")
        return [_task(values, str(name), f"{path}: task {name}") for name, values in several.items()]
    except (ValueError, RecursionError):
        pass  # lines
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            where = f"{path}:{number}"
            try:
                values = json.loads(line)
                found.append(_task(values, str(values["id"]), where))
            except (ValueError, LookupError, TypeError, RecursionError) as error:
                raise UserError(f'{where}: no task of ARC: JSON with "id", "train" and "test"') from error
    if not found:
        raise UserError(f"{path}: no task in it")
    return found


def _task(values: Any, name: str, where: str) -> Task:
    def grid(rows: Any) -> Grid:
        array = np.array(rows)
        if array.ndim != 2 or array.dtype.kind != "i" or not array.size or array.min() < 0 or array.max() > 9:
            raise UserError(f"{where}: a grid has rows of equally many numbers from 0 to 9")
        if max(array.shape) > 30:
            raise UserError(f"{where}: a grid has at most 30 rows and columns")
        return array

    try:
        train = [(grid(pair["input"]), grid(pair["output"])) for pair in values["train"]]
        test = [(grid(pair["input"]), grid(pair["output"]) if "output" in pair else None) for pair in values["test"]]
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f'{where}: no task of ARC: "train" and "test", lists of "input" and "output"') from error
    return Task(name, train, test)
