"""Reward by the verifier after configs/sums_sft.py: the model writes sums, and learns from those that are right.

Command:   python -m juliagpt_jax.main --config=configs/sums_grpo.py --workdir=runs/sums_grpo
Hardware:  not measured yet
Time:      not measured yet
Result:    not measured yet
"""

import ml_collections
from sums_sft import get_config as sums_sft


def get_config(init: str = "runs/sums_sft", objective: str = "grpo") -> ml_collections.ConfigDict:
    """`init`: the workdir of the run that this one begins with. `objective`: or expert_iteration."""
    config = sums_sft()
    config.train.init = init
    config.train.objective = objective
    config.train.steps = 200
    config.train.batch_size = 64  # answers: 8 to each of 8 questions
    config.train.lr = 3e-4
    config.train.min_lr = 3e-5
    config.train.warmup = 20
    config.train.eval_every = 50
    return config
