"""The baseline with twice the context: 6 x 384, context 512.

Command:   python -m juliagpt_jax.main --config=configs/base_512.py --workdir=runs/base_512
"""

import ml_collections
from base import get_config as base_config


def get_config() -> ml_collections.ConfigDict:
    config = base_config()
    config.model.context = 512
    return config
