"""The baseline with twice the context: 6 x 384, context 512.

Command:   python -m juliagpt_jax.main --config=configs/base_512.py --workdir=runs/base_512
Hardware:  meant for a GPU, not run on one yet; 14,175,744 parameters on the schoolroom corpus
Time:      two CPU cores would need about 22 hours (1.6e+16 FLOPs, at the rate measured in experiments/speed)
Result:    not measured yet
"""

import ml_collections
from base import get_config as base_config


def get_config() -> ml_collections.ConfigDict:
    config = base_config()
    config.model.context = 512
    return config
