"""One block used recursively, as an ODE, and as often as a stack has blocks of their own, on text at equal FLOPs.

python -m juliagpt_jax.ablate --suite=experiments/recursion/suites/language.py \
    --out=experiments/recursion/results/language

Each arm is evaluated six times a token and takes the steps that its FLOPs pay for; "2 blocks" is the plain model of
configs/micro.py with its own number of steps.
"""

from juliagpt_jax.study.suite import Arm, Suite

ONE = {"model.layers": 1}


def recursive(inner: int, outer: int) -> Arm:
    return Arm(ONE | {"model.depth": "recursive", "model.recursive.inner": inner, "model.recursive.outer": outer})


def get_suite(scale: str) -> Suite:
    return Suite(
        config=f"configs/{scale}.py",
        common={"train.eval_every": 100, "train.sample_every": 0},
        arms={
            "2 blocks": Arm(),
            "6 blocks": Arm({"model.layers": 6}),
            "recursive, n = 2, T = 2": recursive(2, 2),
            "recursive, n = 5, T = 1": recursive(5, 1),
            "the block six times": recursive(0, 6),
            "ode, midpoint": Arm(ONE | {"model.depth": "ode", "model.ode.solver": "midpoint", "model.ode.steps": 3}),
        },
        seeds=(1, 2, 3),
        baseline="2 blocks",
        budget=("flops", 2.0e12),
    )
