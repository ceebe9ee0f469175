"""Supervised training on sums of three-digit numbers, 3 x 96: the first stage of a small post-training.

Command:   python -m juliagpt_jax.main --config=configs/sums_sft.py --workdir=runs/sums_sft
Hardware:  a share of two cores of an AMD EPYC
Time:      249 s in all, on a busy machine
Result:    65.0% of 200 dev sums right (95%: 58.2 to 71.3), 1.224 perplexity of an answer's token (seed 42)
"""

import ml_collections
from base import get_config as base_config


def get_config() -> ml_collections.ConfigDict:
    config = base_config()
    config.data.path = "generated"
    config.data.task = "addition"
    config.model.width = 96
    config.model.layers = 3
    config.model.heads = 3
    config.model.context = 32
    config.train.steps = 400  # short: what it gets wrong is what the next stages have to work on
    config.train.batch_size = 64
    config.train.lr = 2e-3
    config.train.min_lr = 2e-4
    config.train.checkpoint_every = 200
    config.train.sample_every = 200
    return config
