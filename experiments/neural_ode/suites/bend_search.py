"""One seed of more ways to train an ODE for other numbers of steps, and at a tolerance: see bend.py.

python -m juliagpt_jax.ablate --suite=experiments/neural_ode/suites/bend_search.py \
    --out=experiments/neural_ode/results/bend_search
"""

from bend import COMMON, RANDOM

from juliagpt_jax.study.suite import Arm, Suite


def get_suite(scale: str) -> Suite:
    return Suite(
        config=f"configs/{scale}.py",
        common=COMMON,
        arms={
            "4 steps": Arm(),
            "2 to 8 steps": Arm(RANDOM),
            "1 to 16 steps": Arm({"model.ode.steps": 16, "model.ode.min_steps": 1}),
            "2 to 8 steps, midpoint": Arm(RANDOM | {"model.ode.solver": "midpoint"}),
            "2 to 8 steps, energy 0.001": Arm(RANDOM | {"train.ode_energy": 0.001}),
            "2 to 8 steps, energy 0.01": Arm(RANDOM | {"train.ode_energy": 0.01}),
            "4 steps, energy 0.01": Arm({"train.ode_energy": 0.01}),
            "4 steps, energy 0.03": Arm({"train.ode_energy": 0.03}),
            "tolerance 0.1, bosh3": Arm({"model.ode.solver": "bosh3", "model.ode.rtol": 0.1, "mesh.data": 1}),
        },
        seeds=(1,),
        baseline="4 steps",
    )
