"""The baseline's shape with Monarch Mixer: long convolutions for attention, SwiGLU of Monarch matrices; 6 x 384,
context 256.

Command:   python -m juliagpt_jax.main --config=configs/monarch_base.py --workdir=runs/monarch_base
Hardware:  meant for a GPU, not run on one yet; 6,947,424 parameters on the schoolroom corpus, base has 14,175,744
Time:      not measured yet
Result:    not measured yet
"""

import ml_collections
from base import get_config as base_config


def get_config() -> ml_collections.ConfigDict:
    config = base_config()
    config.model.mixer = "monarch"
    config.model.channel = "monarch"
    return config
