"""Learning rates for suite.py: the same budget, on a seed that it does not report.

python -m juliagpt_jax.ablate --suite=experiments/optimizers/tuning.py --out=experiments/optimizers/tuning [--jobs=2]
"""

from juliagpt_jax.study.suite import Arm, Suite

BUDGET = {"train.steps": 500, "train.min_lr": 0.0, "train.eval_every": 20, "train.sample_every": 0}
# lr, adam_lr and for K-FAC damping and trust region; a grid is around what first trials on this seed found
GRID = {
    "adamw": [(2e-3,), (4e-3,), (8e-3,)],
    "muon": [(0.01, 4e-3), (0.02, 4e-3), (0.04, 4e-3), (0.02, 1e-2)],
    "soap": [(2e-3, 4e-3), (4e-3, 4e-3), (8e-3, 4e-3), (4e-3, 1e-2)],
    "kfac": [
        (0.1, 4e-3, 1e-3, 1e-3),
        (0.1, 4e-3, 1e-4, 1e-3),
        (0.03, 4e-3, 1e-4, 1e-3),
        (0.03, 4e-3, 1e-5, 1e-3),
        (0.1, 4e-3, 1e-3, 1e-2),
        (0.1, 4e-3, 1e-4, 1e-2),
    ],
}
KNOBS = ("train.lr", "train.adam_lr", "train.kfac_damping", "train.kfac_kl")


def changes(name: str, values: tuple[float, ...]) -> dict[str, object]:
    """The config of an optimizer. Decay is lr x weight_decay a step, so K-FAC's large lr wants a small one."""
    slow = {"train.weight_decay": 0.01} if name == "kfac" else {}
    return {"train.optimizer": name, **dict(zip(KNOBS, values, strict=False)), **slow}


def get_suite(scale: str) -> Suite:
    label = lambda values: ", ".join(
        f"{knob.removeprefix('train.')} {value:g}" for knob, value in zip(KNOBS, values, strict=False)
    )
    arms = {f"{name}, {label(values)}": Arm(changes(name, values)) for name in GRID for values in GRID[name]}
    return Suite(
        config=f"configs/{scale}.py",
        common=BUDGET | {"train.final_windows": 400},
        arms=arms,
        seeds=(7,),
        baseline="adamw, lr 0.004",
    )
