"""tiny with two Monarch blocks and one of attention, SwiGLU of Monarch matrices; 3 x 192, context 128.

Command:   python -m juliagpt_jax.main --config=configs/monarch_hybrid.py --workdir=runs/monarch_hybrid
Hardware:  two cores of an Intel Xeon with AVX-512
Time:      half the FLOPs of tiny, which takes 170 s; 924 s beside much other work
Result:    1.293 bits per character of validation text (seed 42), 878,368 parameters; tiny has 1.372 with 1,778,304
"""

import ml_collections
from monarch_tiny import get_config as monarch_tiny_config


def get_config() -> ml_collections.ConfigDict:
    config = monarch_tiny_config()
    config.model.mixer = "monarch monarch attention"
    return config
