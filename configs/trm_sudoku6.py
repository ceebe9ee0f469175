"""A tiny recursive model that learns 6x6 sudoku from 1,000 puzzles.

Command:   python -m juliagpt_jax.main --config=configs/trm_sudoku6.py --workdir=runs/trm_sudoku6
Hardware:  two CPU cores
Time:      not measured yet
Result:    not measured yet
"""

import ml_collections
from base import get_config as base_config


def get_config() -> ml_collections.ConfigDict:
    config = base_config()
    config.data.path = "generated"
    config.data.puzzle.kind = "sudoku"
    config.data.puzzle.side = 6
    config.model.kind = "recursive"
    config.model.width = 96
    config.model.layers = 2
    config.model.heads = 3
    config.model.context = 36
    config.model.ffn_mult = 8 / 3  # 4 widths of an MLP with two matrices
    config.model.tie = False
    config.model.init = "truncated"
    config.model.recursive.core = "mlp_t"  # better than attention where each place means the same in all puzzles
    config.model.recursive.inner = 2
    config.model.recursive.outer = 2
    config.model.recursive.slots = 4
    config.model.recursive.multiple = 64
    config.train.objective = "recursive"
    config.train.recursive.steps = 8
    config.train.steps = 3_000
    config.train.batch_size = 128
    config.train.optimizer = "muon"
    config.train.lr = 1e-2
    config.train.adam_lr = 1e-3
    config.train.min_lr = 0.0
    config.train.beta2 = 0.95
    config.train.weight_decay = 0.1
    config.train.ema = 0.995
    config.train.eval_every = 250
    config.train.eval_windows = 256
    config.train.sample_every = 1_000
    return config
