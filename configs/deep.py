"""Deep: 12 x 256, context 256.

Command:   python -m juliagpt_jax.main --config=configs/deep.py --workdir=runs/deep
Hardware:  meant for a GPU, not run on one yet; 12,599,296 parameters on the schoolroom corpus
Time:      two CPU cores would need about 9 hours (7e+15 FLOPs, at the rate measured in experiments/speed)
Result:    not measured yet
"""

import ml_collections
from base import get_config as base_config


def get_config() -> ml_collections.ConfigDict:
    config = base_config()
    config.model.width = 256
    config.model.layers = 12
    config.model.heads = 2
    return config
