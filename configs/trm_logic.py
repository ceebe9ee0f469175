"""A tiny recursive model that learns sums and arguments in the schoolroom's words.

Command:   python -m juliagpt_jax.main --config=configs/trm_logic.py --workdir=runs/trm_logic
Hardware:  two CPU cores
Time:      more than two hours, by 1,000 steps of half the batch in 25 minutes of a core
Result:    not run to its end; after those 1,000 steps the question is copied and an answer has its form and beginning,
           and none of 256 is right (experiments/recursion)
"""

import ml_collections
from trm_sudoku6 import get_config as sudoku_config


def get_config() -> ml_collections.ConfigDict:
    config = sudoku_config()
    config.data.puzzle.kind = "logic"
    config.data.puzzle.side = 40
    config.data.puzzle.train = 4_000
    config.model.context = 160  # three rows for the question, one for the answer
    config.model.recursive.core = "attention"  # letters are compared wherever they stand
    config.train.steps = 3_000
    return config
