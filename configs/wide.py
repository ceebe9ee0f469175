"""Wide: 3 x 512, context 256.

Command:   python -m juliagpt_jax.main --config=configs/wide.py --workdir=runs/wide
Hardware:  meant for a GPU, not run on one yet; 12,606,464 parameters on the schoolroom corpus
Time:      two CPU cores would need about 9 hours (6.6e+15 FLOPs, at the rate measured in experiments/speed)
Result:    not measured yet
"""

import ml_collections
from base import get_config as base_config


def get_config() -> ml_collections.ConfigDict:
    config = base_config()
    config.model.width = 512
    config.model.layers = 3
    config.model.heads = 4
    return config
