"""tiny with two Monarch blocks and one of attention, SwiGLU of Monarch matrices; 3 x 192, context 128.

Command:   python -m juliagpt_jax.main --config=configs/monarch_hybrid.py --workdir=runs/monarch_hybrid
Hardware:  two cores of a processor
Time:      not measured yet; 878,368 parameters and half the FLOPs of tiny, which has 1,778,304 and takes 170 s
Result:    not measured yet; experiments/monarch has the same parts at 2 x 96
"""

import ml_collections
from monarch_tiny import get_config as monarch_tiny_config


def get_config() -> ml_collections.ConfigDict:
    config = monarch_tiny_config()
    config.model.mixer = "monarch monarch attention"
    return config
