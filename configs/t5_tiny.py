"""A tiny T5 that learns to add from examples, written with the last digit first: an encoder and a decoder of 2 x 64.

Command:   python -m juliagpt_jax.main --config=configs/t5_tiny.py --workdir=runs/t5_tiny
Hardware:  two CPU cores
Time:      not measured yet
Result:    all of 200 unseen sums right (seed 42)
"""

import ml_collections
from base import get_config as base_config


def get_config() -> ml_collections.ConfigDict:
    config = base_config()
    config.data.task = "addition_reversed"
    config.model.kind = "t5"
    config.model.width = 64
    config.model.layers = 2
    config.model.heads = 4
    config.model.context = 32
    config.model.ffn_mult = 2.0
    config.model.tie = False
    config.model.norm_eps = 1e-6
    config.model.positions = "none"
    config.train.steps = 1_000
    config.train.batch_size = 64
    config.train.lr = 2e-3
    config.train.min_lr = 2e-4
    config.train.eval_every = 200
    config.train.sample_every = 500
    config.train.checkpoint_every = 500
    return config
