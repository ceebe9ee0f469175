"""The largest: 8 x 512, context 512.

Command:   python -m juliagpt_jax.main --config=configs/scaled.py --workdir=runs/scaled
Hardware:  meant for a GPU, not run on one yet; 33,583,104 parameters on the schoolroom corpus
Time:      two CPU cores would need about 49 hours (3.7e+16 FLOPs, at the rate measured in experiments/speed)
Result:    not measured yet
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
