"""At equal seconds, which optimizer ends lower? A better step is worth its time only here.

python -m juliagpt_jax.ablate --suite=experiments/optimizers/suites/seconds.py \
    --out=experiments/optimizers/results/seconds

The arms of steps.py, with the steps that each does in as many seconds on this machine, measured at the start; the
schedule ends with them. What was measured is in pace.json.
"""

import dataclasses

from steps import get_suite as at_equal_steps

from juliagpt_jax.study.suite import Suite

SECONDS = {"micro": 20.0, "base": 600.0}


def get_suite(scale: str) -> Suite:
    suite = at_equal_steps(scale)
    common = {key: value for key, value in suite.common.items() if key != "train.steps"}
    return dataclasses.replace(suite, common=common, seeds=(31, 32, 33), budget=("seconds", SECONDS[scale]))
