"""What makes one trained ODE good at other numbers of steps, and at a tolerance, than those it was trained with?

python -m juliagpt_jax.ablate --suite=experiments/neural_ode/bend.py --out=experiments/neural_ode/bend --keep
python experiments/neural_ode/sweep.py --out=experiments/neural_ode/bend/sweep "4 steps=FOLDER" ... (of the cells)

One block of width 96, the same parameters and the same 400 updates in every arm. A random number of steps is drawn anew
for each update, so these arms cost the mean of their range: the table's FLOPs say how much more than "4 steps" that is.
"8 steps" is the control for compute.
"""

from juliagpt_jax.study.suite import Arm, Suite

RANDOM = {"model.ode_steps": 8, "model.ode_min_steps": 2}


def get_suite(scale: str) -> Suite:
    return Suite(
        config=f"configs/{scale}.py",
        common={
            "model.depth": "ode",
            "model.layers": 1,
            "model.ode_steps": 4,
            "model.ode_speed": 4.0,
            "train.steps": 400,
            "train.eval_every": 200,
            "train.sample_every": 0,
        },
        arms={
            "4 steps": Arm(),
            "8 steps": Arm({"model.ode_steps": 8}),
            "2 to 8 steps": Arm(RANDOM),
            "1 to 16 steps": Arm({"model.ode_steps": 16, "model.ode_min_steps": 1}),
            "2 to 8 steps, midpoint": Arm(RANDOM | {"model.ode_solver": "midpoint"}),
            "2 to 8 steps, energy 0.001": Arm(RANDOM | {"train.ode_energy": 0.001}),
            "2 to 8 steps, energy 0.01": Arm(RANDOM | {"train.ode_energy": 0.01}),
            "4 steps, energy 0.01": Arm({"train.ode_energy": 0.01}),
            "tolerance 0.1, bosh3": Arm({"model.ode_solver": "bosh3", "model.ode_rtol": 0.1, "mesh.data": 1}),
        },
        seeds=(1, 2, 3),
        baseline="4 steps",
    )
