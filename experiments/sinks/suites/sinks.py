"""Does a learnt sink help a small model, and do heads use one? None, a logit in each head's softmax, a token before
every window.

python -m juliagpt_jax.ablate --suite=experiments/sinks/suites/sinks.py --out=experiments/sinks/results/sinks --keep

data/classics is what `prepare --source=classics` writes. The workdirs are kept for `experiments/sinks/run.py`.
"""

from juliagpt_jax.study.suite import Arm, Suite

STEPS = {"micro": 2_000, "base": 5_000}


def get_suite(scale: str) -> Suite:
    common = {"data.path": "data/classics", "train.steps": STEPS[scale], "train.sample_every": 0, "train.keep": 1}
    if scale == "micro":
        common |= {"model.layers": 4, "train.eval_every": 250, "train.final_windows": 1_000, "mesh.data": 1}
    arms = {"none": Arm(), "logit": Arm({"model.sink": "logit"}), "token": Arm({"model.sink": "token"})}
    return Suite(f"configs/{scale}.py", arms, (1, 2, 3), "none", common)
