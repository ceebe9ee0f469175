"""Preferences after configs/sums_sft.py, by DPO: the right sum rather than the wrong one that is most like it.

Command:   python -m juliagpt_jax.main --config=configs/sums_dpo.py --workdir=runs/sums_dpo
Hardware:  not measured yet
Time:      not measured yet
Result:    not measured yet
"""

import ml_collections
from sums_sft import get_config as sums_sft


def get_config(init: str = "runs/sums_sft") -> ml_collections.ConfigDict:
    """`init`: the workdir of the run that this one begins with, and from which rewards are measured."""
    config = sums_sft()
    config.train.init = init
    config.train.objective = "dpo"
    config.train.steps = 200
    config.train.batch_size = 32  # pairs: as many rows as 64 examples
    config.train.lr = 1e-4
    config.train.min_lr = 1e-5
    config.train.warmup = 20
    config.train.eval_every = 50
    return config
