"""From a config to the puzzles that it names."""

from juliagpt_jax.data.puzzles.arc import Arc
from juliagpt_jax.data.puzzles.logic import Logic
from juliagpt_jax.data.puzzles.maze import Maze
from juliagpt_jax.data.puzzles.puzzles import Puzzles
from juliagpt_jax.data.puzzles.sudoku import Sudoku
from juliagpt_jax.ground import config, words
from juliagpt_jax.ground.errors import UserError

PUZZLES = {"sudoku": Sudoku, "maze": Maze, "arc": Arc, "logic": Logic}


def build_puzzles(settings: config.Config, files: bool = True) -> Puzzles:
    """Return a config's kind of puzzles, without any of them.

    Args:
        files: data.path must be there, as it need not where the user gives other puzzles.

    Raises:
        UserError: no kind is called so, or it does not have what the config asks for.
    """
    kind = settings.data.puzzle.kind
    if kind not in PUZZLES:
        raise UserError(f"config.data.puzzle.kind: no kind of puzzle is called {kind!r}{words.near(kind, PUZZLES)}")
    puzzles = PUZZLES[kind](settings.data)
    puzzles.check(files)
    if settings.model.context != puzzles.places:
        raise UserError(
            f"config.model.context: such a puzzle has {puzzles.places} symbols, so the model's context is that, not "
            f"{settings.model.context}"
        )
    return puzzles


def load(settings: config.Config) -> Puzzles:
    """Return the puzzles of a config.

    Raises:
        UserError: as `build_puzzles`, or as a kind's `load`.
    """
    puzzles = build_puzzles(settings)
    puzzles.load()
    if puzzles.ids > settings.model.recursive.ids:
        raise UserError(
            f"config.model.recursive.ids: these puzzles need {puzzles.ids:,} embeddings, one for each task in each of "
            f"its forms, and there are {settings.model.recursive.ids:,}"
        )
    return puzzles
