"""A laptop's model: 3 x 192, context 128.

Command:   python -m juliagpt_jax.main --config=configs/tiny.py --workdir=runs/tiny
"""

import ml_collections
from base import get_config as base_config


def get_config() -> ml_collections.ConfigDict:
    config = base_config()
    config.model.width = 192
    config.model.layers = 3
    config.model.heads = 3
    config.model.context = 128
    return config
