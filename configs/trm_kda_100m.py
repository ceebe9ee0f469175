"""The recursive model of 100M with three layers of Kimi Delta Attention to one of attention in its core.

Command:   python -m juliagpt_jax.main --config=configs/trm_kda_100m.py --workdir=runs/trm_kda_100m \
               --config.data.path=FOLDER
Hardware:  meant for a GPU
Time:      not run; it builds and takes a step, one puzzle of 10 x 10 in four minutes of a shared core, most of which it
           compiles (tests/training/test_large_puzzles.py)
Result:    not run

A delta rule reads in one direction. Here two of them read in both, each with weights of its own, and are added up:
with recursive.both_ways=false a place would not see those behind it but through the layer of attention.
"""

import ml_collections
from trm_100m import get_config as large_config


def get_config() -> ml_collections.ConfigDict:
    config = large_config()
    config.model.width = 1_280
    config.model.heads = 10
    config.model.recursive.core = "kda kda kda attention"
    return config
