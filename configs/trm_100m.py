"""A recursive model of about 100M parameters, for ARC-AGI: expect it to lose to the tiny one.

Command:   python -m juliagpt_jax.main --config=configs/trm_100m.py --workdir=runs/trm_100m --config.data.path=FOLDER
Hardware:  meant for a GPU
Time:      not run; it builds and takes a step (tests/training/test_large_puzzles.py)
Result:    not run

On sudoku four layers did worse than two in the paper (79.5% against 87.4%), and a model of 27M in place of 7M was said
to solve nothing: with few puzzles and many applications of the network, more weights learn the puzzles by heart. The
7M of the published model do not count the embeddings of its puzzles, which are many times as many.
"""

import ml_collections
from trm_arc import get_config as arc_config


def get_config() -> ml_collections.ConfigDict:
    config = arc_config()
    config.model.width = 1_408
    config.model.heads = 11
    config.model.layers = 4
    config.train.batch_size = 64
    config.train.lr = 3e-3
    config.train.adam_lr = 3e-4
    return config
