"""A tiny recursive model that finds the way through mazes of 13 x 13 places.

Command:   python -m juliagpt_jax.main --config=configs/trm_maze.py --workdir=runs/trm_maze
Hardware:  two CPU cores
Time:      about two hours, by 700 steps of half the batch in 40 minutes of a shared core
Result:    not run to its end; after those 700 steps no maze whole (experiments/recursion). Of 9 rows, 1,500 steps of
           64: 91.0% of 256 mazes, 99.6% by the vote of eight forms (--config.data.puzzle.side=9
           --config.data.puzzle.least=8 --config.model.context=81 --config.model.zero_init=False; 14 minutes of a core)
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
