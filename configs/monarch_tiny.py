"""tiny with Monarch Mixer: long convolutions for attention, SwiGLU of Monarch matrices; 3 x 192, context 128.

Command:   python -m juliagpt_jax.main --config=configs/monarch_tiny.py --workdir=runs/monarch_tiny
Hardware:  two cores of an Intel Xeon with AVX-512
Time:      TBD
Result:    TBD
"""

import ml_collections
from tiny import get_config as tiny_config


def get_config() -> ml_collections.ConfigDict:
    config = tiny_config()
    config.model.mixer = "monarch"
    config.model.channel = "monarch"
    return config
