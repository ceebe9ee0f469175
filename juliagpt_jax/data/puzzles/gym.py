"""Puzzles of another library, reasoning-gym (Stojanovski et al. 2025, arXiv 2505.24760), in place of our own."""

from typing import Any

import numpy as np

from juliagpt_jax.data.puzzles.puzzles import FIRST
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs.data import Puzzle

GYM = "reasoning-gym"  # data.path of puzzles that it makes
EMPTY = 64  # most blanks of its sudokus


def check(kind: str, own: Puzzle) -> None:
    """Refuse what the library does not have.

    Raises:
        UserError: naming the key.
    """
    if kind == "sudoku" and (own.side != 9 or not 81 - EMPTY <= own.least <= own.most <= 81):
        raise UserError(
            f"config.data.puzzle: sudokus of {GYM} have a side of 9 and from {81 - EMPTY} to 81 givens, not a side of "
            f"{own.side} and {own.least} to {own.most} givens"
        )


def sudokus(own: Puzzle) -> tuple[np.ndarray, np.ndarray]:
    """Return sudokus with one solution each, and their solutions, (N, 81) each. Those with too few blanks are
    left out."""
    made = _made("sudoku", own, min_empty=81 - own.most, max_empty=min(81 - own.least, EMPTY))
    both = (np.array([one[name] for one in made]).reshape(-1, 81) for name in ("puzzle", "solution"))
    puzzles, solutions = both
    few = (puzzles > 0).sum(1) <= own.most
    return puzzles[few], solutions[few]


def mazes(own: Puzzle) -> list[list[str]]:
    """Return mazes as rows of "#.SG": three places of ten inside are walls, so there may be several shortest ways."""
    far = own.most or own.side**2
    sizes = {"min_grid_size": own.side, "max_grid_size": own.side, "min_dist": max(own.least, 1), "max_dist": far}
    found = []
    for one in _made("maze", own, **sizes):
        signs = str.maketrans("".join(one[name] for name in ("wall", "path", "start", "goal")), "#.SG")
        found.append([row.translate(signs) for row in one["grid"]])
    return found


def _made(kind: str, own: Puzzle, **how: int) -> list[dict[str, Any]]:
    """Return what the library says of some more puzzles than the config wants: a few are the same, or too easy."""
    try:
        import reasoning_gym  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(f"config.data.path: {GYM} is not installed: pip install 'juliagpt-jax[puzzles]'") from error
    try:
        many = 8 + (own.train + own.test) * 9 // 8
        made = reasoning_gym.create_dataset(kind, size=many, seed=FIRST, **how)
        return [made[number]["metadata"] for number in range(many)]
    except (AssertionError, RuntimeError) as error:
        raise UserError(f"config.data.puzzle: {GYM} makes no such puzzles: {error}") from error
