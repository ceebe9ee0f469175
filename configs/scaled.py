"""The largest: 8 x 512, context 512.

Command:   python -m juliagpt_jax.main --config=configs/scaled.py --workdir=runs/scaled
"""

import ml_collections
from base import get_config as base_config


def get_config() -> ml_collections.ConfigDict:
    config = base_config()
    config.model.width = 512
    config.model.layers = 8
    config.model.heads = 4
    config.model.context = 512
    return config
