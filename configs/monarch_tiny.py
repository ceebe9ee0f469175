"""tiny with Monarch Mixer: long convolutions for attention, SwiGLU of Monarch matrices; 3 x 192, context 128.

Command:   python -m juliagpt_jax.main --config=configs/monarch_tiny.py --workdir=runs/monarch_tiny
Hardware:  two cores of a processor
Time:      not measured yet; 884,592 parameters and half the FLOPs of tiny, which has 1,778,304 and takes 170 s
Result:    not measured yet; experiments/monarch has the same parts at 2 x 96
"""

import ml_collections
from tiny import get_config as tiny_config


def get_config() -> ml_collections.ConfigDict:
    config = tiny_config()
    config.model.mixer = "monarch"
    config.model.channel = "monarch"
    return config
