"""Experts for a laptop: tiny with eight of them in each layer, of which a token goes through two.

Command:   python -m juliagpt_jax.main --config=configs/moe_tiny.py --workdir=runs/moe_tiny
Hardware:  two cores of a CPU
Time:      not measured yet
Result:    not measured yet
"""

import ml_collections
from tiny import get_config as tiny_config


def get_config() -> ml_collections.ConfigDict:
    config = tiny_config()
    config.model.channel = "moe"  # 2 experts of 2 widths multiply as much with a token as tiny's channel of 4
    return config
