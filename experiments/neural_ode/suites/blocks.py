"""Does one block, used as the field of an ODE, do the work of several? At equal compute and at equal parameters.

python -m juliagpt_jax.ablate --suite=experiments/neural_ode/suites/blocks.py \
    --out=experiments/neural_ode/results/blocks --jobs=2

micro: blocks of width 96, Euler. "2 blocks" is the baseline; "4 blocks" has the compute of the ODE arms, four
evaluations of a block, and four times their blocks' parameters; the ODE of width 136 has the baseline's parameters in
one block, and twice the compute of "4 blocks". Without time in the field an ODE is one block applied four times.
"""

from juliagpt_jax.study.suite import Arm, Suite

ODE = {"model.depth": "ode", "model.layers": 1, "model.ode.steps": 4, "model.ode.speed": 4.0}


def get_suite(scale: str) -> Suite:
    return Suite(
        config=f"configs/{scale}.py",
        common={"train.steps": 400, "train.eval_every": 200, "train.sample_every": 0},
        arms={
            "2 blocks": Arm(),
            "ode, 4 steps": Arm(ODE),
            "4 blocks": Arm({"model.layers": 4}),
            "ode, 4 steps, width 136": Arm(ODE | {"model.width": 136, "model.heads": 4}),
            "ode, 4 steps, generated weights": Arm(ODE | {"model.ode.time": "generated"}),
            "4 x the same block": Arm(ODE | {"model.ode.time": "none"}),
        },
        seeds=(1, 2, 3),
        baseline="2 blocks",
    )
