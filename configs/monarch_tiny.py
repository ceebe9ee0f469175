"""tiny with Monarch Mixer: long convolutions for attention, SwiGLU of Monarch matrices; 3 x 192, context 128.

Command:   python -m juliagpt_jax.main --config=configs/monarch_tiny.py --workdir=runs/monarch_tiny
Hardware:  two cores of an Intel Xeon with AVX-512
Time:      312 s in all, beside other work; half the FLOPs of tiny
Result:    1.309 bits per character of validation text (seed 42), 884,592 parameters; tiny has 1.372 with 1,778,304
"""

import ml_collections
from tiny import get_config as tiny_config


def get_config() -> ml_collections.ConfigDict:
    config = tiny_config()
    config.model.mixer = "monarch"
    config.model.channel = "monarch"
    return config
