"""What makes one trained ODE good at other numbers of steps than those it was trained with?

python -m juliagpt_jax.ablate --suite=experiments/neural_ode/suites/bend.py \
    \
    --out=experiments/neural_ode/results/bend --keep
python experiments/neural_ode/sweep.py \
    --out=experiments/neural_ode/results/sweep/bend "4 steps=FOLDER" ... (of the cells)

One block of width 96, the same parameters and the same 400 updates in every arm. A random number of steps is drawn anew
for each update, so "2 to 8 steps" costs the mean of its range, 5; "8 steps" is the control for compute. Which of the
candidates are here was chosen by bend_search.py, on seed 1, which is one of these seeds.
"""

from juliagpt_jax.study.suite import Arm, Suite

COMMON = {
    "model.depth": "ode",
    "model.layers": 1,
    "model.ode.steps": 4,
    "model.ode.speed": 4.0,
    "train.steps": 400,
    "train.eval_every": 200,
    "train.sample_every": 0,
}
RANDOM = {"model.ode.steps": 8, "model.ode.min_steps": 2}


def get_suite(scale: str) -> Suite:
    return Suite(
        config=f"configs/{scale}.py",
        common=COMMON,
        arms={
            "4 steps": Arm(),
            "8 steps": Arm({"model.ode.steps": 8}),
            "2 to 8 steps": Arm(RANDOM),
            "4 steps, energy 0.01": Arm({"train.ode_energy": 0.01}),
            "2 to 8 steps, energy 0.01": Arm(RANDOM | {"train.ode_energy": 0.01}),
        },
        seeds=(1, 2, 3),
        baseline="4 steps",
    )
