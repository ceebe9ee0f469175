"""Preferences after configs/sums_sft.py, by DPO: the right sum rather than one of its own mistakes.

Command:   python -m juliagpt_jax.main --config=configs/sums_dpo.py --workdir=runs/sums_dpo
Hardware:  a share of two cores of an AMD EPYC
Time:      211 s in all, on a busy machine
Result:    75.0% of 200 dev sums right (95%: 68.6 to 80.5), from 65.0%; so many also after as many more steps of
           SFT alone, so that of DPO itself no effect was seen; without preference.sft it is 35.0% (seed 42)
"""

import ml_collections
from sums_sft import get_config as sums_sft


def get_config(init: str = "runs/sums_sft") -> ml_collections.ConfigDict:
    """`init`: the workdir of the run that this one begins with, and from which rewards are measured."""
    config = sums_sft()
    config.train.init = init
    config.train.objective = "dpo"
    config.train.preference.samples = 4  # answers of the SFT model, of which a wrong one is rejected
    config.train.preference.sft = 1.0  # without it the right sums become less likely, too: 35% right
    config.train.steps = 200
    config.train.batch_size = 32  # pairs: as many rows as 64 examples
    config.train.lr = 3e-4
    config.train.min_lr = 3e-5
    config.train.warmup = 20
    config.train.eval_every = 50
    return config
