"""At equal seconds, which optimizer ends lower? A better step is worth its time only here.

python -m juliagpt_jax.ablate --suite=experiments/optimizers/seconds.py --out=experiments/optimizers/seconds

The arms of suite.py, with the steps that each does in as many seconds on this machine, measured at the start; the
schedule ends with them. What was measured is in pace.json.
"""

from suite import ARMS, COMMON

from juliagpt_jax.study.suite import Arm, Suite

SECONDS = {"micro": 20.0, "base": 600.0}


def get_suite(scale: str) -> Suite:
    common = {key: value for key, value in COMMON.items() if key != "train.steps"}
    return Suite(
        config=f"configs/{scale}.py",
        common=common,
        arms={name: Arm(changes) for name, changes in ARMS.items()},
        seeds=(31, 32, 33),
        baseline="adamw",
        measures=("step_s",),
        budget=("seconds", SECONDS[scale]),
    )
