"""A tiny recursive model that finds the way through mazes of 13 x 13 places.

Command:   python -m juliagpt_jax.main --config=configs/trm_maze.py --workdir=runs/trm_maze
Hardware:  two CPU cores
Time:      not measured yet
Result:    not measured yet
"""

import ml_collections
from trm_sudoku6 import get_config as sudoku_config


def get_config() -> ml_collections.ConfigDict:
    config = sudoku_config()
    config.data.puzzle.kind = "maze"
    config.data.puzzle.side = 13
    config.data.puzzle.least = 16
    config.data.puzzle.most = 0
    config.model.context = 169
    # mlp_t, as for sudoku: which places touch is the same in all mazes; attention had not found out in 1,500 steps
    config.train.steps = 3_000
    return config
