"""A laptop's model, 3 x 192, context 128, by characters with AdamW: the textbook's way, beside configs/laptop.py.

Command:   python -m juliagpt_jax.main --config=configs/tiny.py --workdir=runs/tiny
Hardware:  two cores of an Intel Xeon with AVX-512
Time:      170 to 240 s in all
Result:    1.372 bits per character of validation text (seed 42); the entropy of the corpus is 0.510
"""

import ml_collections
from base import get_config as base_config


def get_config() -> ml_collections.ConfigDict:
    config = base_config()
    config.model.width = 192
    config.model.layers = 3
    config.model.heads = 3
    config.model.context = 128
    config.train.steps = 2_000
    config.train.batch_size = 8  # few tokens in few minutes: many small steps learn more than few large ones
    config.train.lr = 1e-3  # the best of 1e-3, 2e-3, 4e-3 and 8e-3 in 500 steps, on another draw of the corpus
    config.train.min_lr = 1e-4
    config.train.checkpoint_every = 500
    return config
