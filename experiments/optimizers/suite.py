"""How many steps, and how many seconds, does an optimizer take to tuned AdamW's final loss?

python -m juliagpt_jax.ablate --suite=experiments/optimizers/suite.py --out=experiments/optimizers [--jobs=2]

Each with the learning rates that were best in tuning.py, on other seeds; the same steps, batch and schedule for all.
The table has the steps to the loss AdamW ends with, and tokens/s; seconds are steps x step_s of results.jsonl, on a
machine that does nothing else.
"""

from juliagpt_jax.study.suite import Arm, Suite

# The best so far of tuning.py and of trials, on seed 7: see experiments/LOG.md.
ARMS = {
    "adamw": {"train.lr": 4e-3},
    "muon": {"train.optimizer": "muon", "train.lr": 0.02, "train.adam_lr": 4e-3},
    "soap": {"train.optimizer": "soap", "train.lr": 4e-3, "train.adam_lr": 4e-3},
    "kfac": {
        "train.optimizer": "kfac",
        "train.lr": 0.03,
        "train.adam_lr": 4e-3,
        "train.kfac_damping": 1e-4,
        "train.weight_decay": 0.01,
    },
}


def get_suite(scale: str) -> Suite:
    return Suite(
        config=f"configs/{scale}.py",
        common={"train.steps": 500, "train.min_lr": 0.0, "train.eval_every": 20, "train.sample_every": 0},
        arms={name: Arm(changes) for name, changes in ARMS.items()},
        seeds=(11, 12, 13),
        baseline="adamw",
        measures=("step_s",),
    )
