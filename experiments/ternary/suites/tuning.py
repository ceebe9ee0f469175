"""Learning rates for bits.py: the same budget, on a seed that it does not report.

python -m juliagpt_jax.ablate --suite=experiments/ternary/suites/tuning.py \
    --out=experiments/ternary/results/tuning [--jobs=2]
"""

from juliagpt_jax.ground import config_file
from juliagpt_jax.study.suite import Arm, Suite

BUDGET = {"train.steps": 1_000, "train.min_lr": 0.0, "train.sample_every": 0}
RATES = (2e-3, 4e-3, 8e-3)  # BitNet's authors train ternary weights at higher rates than dense ones


def arms(scale: str) -> dict[str, dict[str, object]]:
    """What is compared: the dense model, the same with the norms that ternary Linears have, and ternary ones from the
    start, from half-way (16-to-1.58), and of twice the width."""
    model = config_file.load(f"configs/{scale}.py").model
    ternary = {"model.linear": "ternary"}
    return {
        "dense": {},
        "subln": {"model.linear": "subln"},
        "ternary": ternary,
        "16-to-1.58": ternary | {"train.ternary_from": 0.5},
        "ternary, twice as wide": ternary | {"model.width": 2 * model.width, "model.heads": 2 * model.heads},
    }


def get_suite(scale: str) -> Suite:
    return Suite(
        config=f"configs/{scale}.py",
        common=BUDGET | {"train.final_windows": 400},
        arms={f"{name}, lr {lr:g}": Arm(arm | {"train.lr": lr}) for name, arm in arms(scale).items() for lr in RATES},
        seeds=(7,),
        baseline="subln, lr 0.002",
    )
