"""What do 1.58 bits a weight cost: the perplexity of ternary models beside that of dense ones, at equal steps?

python -m juliagpt_jax.ablate --suite=experiments/ternary/suites/bits.py \
    --out=experiments/ternary/results/bits [--jobs=2]

The control has the norms of ternary Linears and dense weights. The model of twice the width has four times the weights
in matrices: at 1.6 bits 0.4 times the bytes that the control has in float16.
"""

from tuning import BUDGET, arms

from juliagpt_jax.study.suite import Arm, Suite

# What was best on seed 7, in tuning.py.
RATES = {"dense": 4e-3, "subln": 4e-3, "ternary": 8e-3, "16-to-1.58": 4e-3, "ternary, twice as wide": 2e-3}


def get_suite(scale: str) -> Suite:
    return Suite(
        config=f"configs/{scale}.py",
        common=BUDGET,
        arms={name: Arm(arm | {"train.lr": RATES[name]}) for name, arm in arms(scale).items()},
        seeds=(11, 12, 13),
        baseline="subln",
        measures=("step_s",),
    )
