"""Tiny Shakespeare at the budget of nanoGPT's small CPU recipe: 4 layers, width 128, context 64, 2,000 steps of 12
windows.

Command:   python -m juliagpt_jax.main --config=configs/shakespeare.py --workdir=runs/shakespeare
           (put the text at data/shakespeare.txt, or give --config.data.path)
Hardware:  two cores of an Intel Xeon with AVX-512
Time:      about 100 s in all
Result:    1.595 nats a character on the last tenth (stride 32), 1.632 in windows side by side; 3 seeds
"""

import ml_collections
from base import get_config as base_config


def get_config() -> ml_collections.ConfigDict:
    config = base_config()
    config.data.path = "data/shakespeare.txt"
    config.model.width = 128
    config.model.layers = 4
    config.model.heads = 4
    config.model.context = 64
    config.model.ffn_mult = 8 / 3  # 795,392 parameters; the recipe's GELU network has 804,096
    config.train.steps = 2_000
    config.train.batch_size = 12
    config.train.lr = 1e-3  # 2e-3 does as well on the last tenth of the training text
    config.train.min_lr = 1e-4
    return config
