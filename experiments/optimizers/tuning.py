"""Learning rates for suite.py, on other seeds than it reports.

python -m juliagpt_jax.ablate --suite=experiments/optimizers/tuning.py --out=experiments/optimizers/tuning [--jobs=2]
"""

from juliagpt_jax.study.suite import Arm, Suite

# (lr, adam_lr) of each optimizer. A pilot of 500 steps on seed 7, one run each, adam_lr 4e-3, ended at (nats): adamw
# 1.684, 1.627, 1.695 at 2e-3, 4e-3, 8e-3; muon 1.505, 1.423, 1.466 at 0.01, 0.02, 0.04; soap 1.484, 1.349 at 2e-3, 4e-3
GRID = {
    "adamw": [(lr, 0.0) for lr in (2e-3, 4e-3, 8e-3)],
    "muon": [(lr, adam) for lr in (0.01, 0.02, 0.04) for adam in (4e-3, 1e-2)],
    "soap": [(lr, adam) for lr in (2e-3, 4e-3, 8e-3) for adam in (4e-3, 1e-2)],
    # "kfac": the grid of K-FAC's branch goes here
}

BUDGET = {
    "train.min_lr": 0.0,
    "train.eval_every": 20,
    "train.sample_every": 0,
    "train.final_windows": 400,
}


def get_suite(scale: str) -> Suite:
    arms = {}
    for name, pairs in GRID.items():
        for lr, adam_lr in pairs:
            changes = {"train.optimizer": name, "train.lr": lr, "train.adam_lr": adam_lr}
            arms[f"{name}, lr {lr:g}" + (f", adam_lr {adam_lr:g}" if adam_lr else "")] = Arm(changes)
    return Suite(
        config=f"configs/{scale}.py",
        common=BUDGET,
        arms=arms,
        seeds=(5, 6),
        baseline="adamw, lr 0.004",
    )
