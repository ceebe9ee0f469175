"""Wide: 3 x 512, context 256.

Command:   python -m juliagpt_jax.main --config=configs/wide.py --workdir=runs/wide
"""

import ml_collections
from base import get_config as base_config


def get_config() -> ml_collections.ConfigDict:
    config = base_config()
    config.model.width = 512
    config.model.layers = 3
    config.model.heads = 4
    return config
