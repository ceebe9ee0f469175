"""How many steps, and how many seconds, does an optimizer take to tuned AdamW's final loss?

python -m juliagpt_jax.ablate --suite=experiments/optimizers/suites/steps.py \
    --out=experiments/optimizers/results/steps [--jobs=2]

Each with the learning rates that were best in tuning.py, on other seeds; the same steps, batch and schedule for all.
AdamW has a second rate for what is no matrix, as the others have; "one rate" is the usual AdamW. The table has steps
and seconds to the loss that the tuned AdamW ends with; cost.py times the steps beside each other.
"""

from juliagpt_jax.study.suite import Arm, Suite

# What was best on seed 7, in tuning.py.
ARMS = {
    "adamw": {"train.lr": 4e-3, "train.adam_lr": 8e-2, "train.beta2": 0.995},
    "adamw, one rate": {"train.lr": 4e-3},
    "muon": {"train.optimizer": "muon", "train.lr": 0.02, "train.adam_lr": 4e-2},
    "soap": {"train.optimizer": "soap", "train.lr": 8e-3, "train.adam_lr": 4e-2},
    "kfac": {
        "train.optimizer": "kfac",
        "train.lr": 0.03,
        "train.adam_lr": 1e-2,
        "train.kfac.damping": 1e-4,
        "train.weight_decay": 0.01,
    },
}
COMMON = {"train.steps": 500, "train.min_lr": 0.0, "train.eval_every": 20, "train.sample_every": 0}


def get_suite(scale: str) -> Suite:
    return Suite(
        config=f"configs/{scale}.py",
        common=COMMON,
        arms={name: Arm(changes) for name, changes in ARMS.items()},
        seeds=(11, 12, 13),
        baseline="adamw",
        measures=("step_s",),
    )
