"""Does one block, used as the field of an ODE, do the work of several? At equal compute and at equal parameters.

python -m juliagpt_jax.ablate --suite=experiments/neural_ode/suite.py --out=experiments/neural_ode/results --jobs=2

micro: blocks of width 96. "2 blocks" is the baseline; "4 blocks" has the compute, in evaluations of a block, of every
ODE arm but the wide one, which has the baseline's parameters in one block of width 136.
"""

from juliagpt_jax.study.suite import Arm, Suite

ODE = {"model.depth": "ode", "model.layers": 1, "model.ode_steps": 4, "model.ode_speed": 4.0}


def get_suite(scale: str) -> Suite:
    return Suite(
        config=f"configs/{scale}.py",
        common={"train.steps": 600, "train.eval_every": 200, "train.sample_every": 0},
        arms={
            "2 blocks": Arm(),
            "4 blocks": Arm({"model.layers": 4}),
            "ode, 4 Euler steps": Arm(ODE),
            "ode, time does not enter": Arm(ODE | {"model.ode_time": "none"}),
            "ode, 2 midpoint steps": Arm(ODE | {"model.ode_solver": "midpoint", "model.ode_steps": 2}),
            "ode, width 136": Arm(ODE | {"model.width": 136, "model.heads": 4}),
            "two odes, 2 steps each": Arm(ODE | {"model.layers": 2, "model.ode_steps": 2, "model.ode_speed": 2.0}),
            "block, ode of 2, block": Arm(
                ODE | {"model.depth": "stack ode stack", "model.layers": 3, "model.ode_steps": 2, "model.ode_speed": 2.0}
            ),
        },
        seeds=(1, 2, 3),
        baseline="2 blocks",
    )
