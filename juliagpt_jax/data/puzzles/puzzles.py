"""The interface of a kind of puzzles: what training, solving and drawing ask of it."""

import functools
import hashlib
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs.data import Puzzle

GENERATED = "generated"  # data.path of puzzles that are made on the spot
FIRST = 0x9E3779B9  # of the seeds of puzzles, so that they are not those of other draws


class Pairs(NamedTuple):
    """Puzzles and their solutions, (N, L) int32 each, and the ids (N,) int32 of their embeddings."""

    inputs: np.ndarray
    targets: np.ndarray
    ids: np.ndarray

    def take(self, index: Any) -> "Pairs":
        """Return some of them."""
        return Pairs(*(array[index] for array in self))


def pairs(inputs: np.ndarray, targets: np.ndarray) -> Pairs:
    """Return puzzles that share the id 0."""
    return Pairs(inputs.astype(np.int32), targets.astype(np.int32), np.zeros(len(inputs), np.int32))


class Forms(NamedTuple):
    """A form of each of some puzzles: the cell (N, L) that comes to each place, and the symbol (N, V) that each symbol
    becomes."""

    cells: np.ndarray
    names: np.ndarray

    def of(self, grids: np.ndarray) -> np.ndarray:
        """Return grids (N, L) in these forms."""
        taken = np.take_along_axis(grids, self.cells, axis=1)
        return np.take_along_axis(self.names, taken, axis=1).astype(grids.dtype)

    def back(self, grids: np.ndarray) -> np.ndarray:
        """Return the grids (N, L) that these are the forms of."""
        return Forms(np.argsort(self.cells, axis=1), np.argsort(self.names, axis=1)).of(grids)


class Given(NamedTuple):
    """A user's puzzle (L,), the words that name it in messages ("sudokus.txt:3"), and the id of its embedding."""

    name: str
    puzzle: np.ndarray
    id: int = 0


class Puzzles:
    """Puzzles of one kind, to train on and to test on. `load` sets these two; a kind that only reads and judges what a
    user has does without.

    Attributes:
        symbols: the vocabulary, sorted: a character a symbol.
        shape: rows and columns of a grid.
        train: what `offer` draws from.
        test: puzzles that are none of these in another form.
        notes: what a user should know of how they were chosen.
    """

    symbols: ClassVar[str]
    train: Pairs
    test: Pairs
    notes: list[str]

    def __init__(self, settings: config.Data):
        self.settings, self.notes = settings, []

    @property
    def shape(self) -> tuple[int, int]:
        return self.settings.puzzle.side, self.settings.puzzle.side

    @property
    def places(self) -> int:
        """L, the symbols of a puzzle."""
        return self.shape[0] * self.shape[1]

    @property
    def tokenizer(self) -> CharTokenizer:
        return CharTokenizer(self.symbols)

    def check(self, files: bool = True) -> None:
        """Refuse settings that this kind does not have and, with `files`, a data.path that is not there; nothing is
        computed.

        Raises:
            UserError: naming the key.
        """

    def load(self) -> None:
        """Make or read the puzzles: the same for every seed of a run.

        Raises:
            UserError: there are not enough, or a file is none of theirs; with file and line.
        """
        raise NotImplementedError

    def forms(self, rng: np.random.Generator, count: int) -> Forms | None:
        """Return as many forms, drawn from all that the symmetries of this kind have; None of one that has none of
        cells and symbols."""
        return None

    def vary(self, rng: np.random.Generator, drawn: Pairs) -> Pairs:
        """Return each puzzle in another form, drawn from all that its symmetries have."""
        form = self.forms(rng, len(drawn.inputs))
        return drawn if form is None else Pairs(form.of(drawn.inputs), form.of(drawn.targets), drawn.ids)

    def offer(self, seed: int, step: int, rows: int) -> Pairs:
        """Return the puzzles that a step offers to its rows: a pure function of the arguments."""
        rng = np.random.default_rng([FIRST, seed, step])
        drawn = self.train.take(rng.integers(len(self.train.inputs), size=rows))
        return self.vary(rng, drawn) if self.settings.puzzle.symmetries else drawn

    @functools.cached_property
    def fingerprint(self) -> str:
        """Return a hash of all puzzles."""
        whole = hashlib.sha256(self.symbols.encode())
        for array in (*self.train, *self.test):
            whole.update(np.ascontiguousarray(array).tobytes())
        return whole.hexdigest()

    @property
    def ids(self) -> int:
        """Return how many embeddings of puzzles there must be, of a kind that was loaded; 0 or 1 where they share
        one."""
        return 0

    def read(self, path: Path) -> list[Given]:
        """Return a user's puzzles.

        Raises:
            UserError: with file and line.
        """
        raise NotImplementedError

    def refuse(self, puzzle: np.ndarray) -> str:
        """Return why a puzzle (L,) cannot be solved, or has several solutions; "" of a sound one."""
        return ""

    def wrong(self, puzzle: np.ndarray, answer: np.ndarray) -> str:
        """Return why an answer (L,) is no solution; "" of one that is."""
        raise NotImplementedError

    def hardness(self, inputs: np.ndarray) -> np.ndarray:
        """Return a number (N,) for each puzzle, by which the report groups them; it says what it is in
        `hardness_is`."""
        return np.zeros(len(inputs), int)

    hardness_is: ClassVar[str] = ""

    def draw(self, tokens: np.ndarray) -> str:
        """Return a grid as text."""
        rows = np.array(list(self.symbols))[tokens].reshape(self.shape)
        return "\n".join(" ".join(row) for row in rows)

    def text(self, tokens: np.ndarray) -> str:
        """Return a grid as one line of symbols."""
        return "".join(self.symbols[token] for token in tokens)

    def beside(self, puzzle: np.ndarray, answer: np.ndarray) -> str:
        """Return a puzzle and an answer as text, side by side."""
        lines = zip(self.draw(puzzle).split("\n"), self.draw(answer).split("\n"), strict=True)
        return "\n".join(f"{left}   {right}" for left, right in lines)


def split(found: int, wanted: Puzzle, path: str) -> None:
    """Raise a UserError where there are fewer puzzles than the config wants."""
    if found < wanted.train + wanted.test:
        raise UserError(
            f"{path}: {found:,} different puzzles, and config.data.puzzle wants {wanted.train:,} to train on and "
            f"{wanted.test:,} to test on"
        )
