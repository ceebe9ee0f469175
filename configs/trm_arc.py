"""A tiny recursive model on ARC-AGI-1: 400 tasks and the demonstrations of 400 others, each in 8 forms.

Command:   python -m juliagpt_jax.main --config=configs/trm_arc.py --workdir=runs/trm_arc --config.data.path=FOLDER
Hardware:  meant for a GPU
Time:      not run
Result:    not run; at the size of trm_sudoku6, tasks of at most ten rows, 1,200 steps, 14 minutes of a core: no
           task, 60.8% of symbols (experiments/recursion)

The folder has training.jsonl and evaluation.jsonl, a task a line. The published run has 1,000 forms, of more tasks.
"""

import ml_collections
from trm_sudoku9 import get_config as sudoku_config


def get_config() -> ml_collections.ConfigDict:
    config = sudoku_config()
    config.data.path = "data/arc"
    config.data.puzzle.kind = "arc"
    config.data.puzzle.side = 30
    config.data.puzzle.train = 400
    config.data.puzzle.test = 400
    config.data.puzzle.copies = 8
    config.model.context = 900
    config.model.recursive.core = "attention"
    config.model.recursive.inner = 4
    config.model.recursive.ids = 6_400
    config.train.batch_size = 256
    config.train.recursive.ids_lr = 1e-2
    config.train.recursive.ids_decay = 0.1
    config.train.remat = True
    return config
