"""A verifier of the sums that the model of configs/sums_sft.py writes, which it begins with.

Command:   python -m juliagpt_jax.main --config=configs/sums_value.py --workdir=runs/sums_value
Hardware:  a share of two cores of an AMD EPYC
Time:      577 s in all, on a very busy machine, most of it for the 42,000 answers that are judged
Result:    of 2,000 answers to dev sums a right one gets more than a wrong one in 63% of pairs; accepts 17% of the
           wrong ones, rejects 66% of the right ones, is off by 2.6 points on average: calibrated, and weak (seed 42)
"""

import ml_collections
from sums_sft import get_config as sums_sft


def get_config(init: str = "runs/sums_sft") -> ml_collections.ConfigDict:
    """`init`: the workdir of the run whose answers it judges, and whose weights it begins with."""
    config = sums_sft()
    config.train.init = init
    config.train.objective = "value"
    config.train.steps = 400
    config.train.lr = 1e-3
    config.train.min_lr = 1e-4
    config.train.eval_every = 100
    return config
