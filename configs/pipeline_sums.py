"""A pipeline on sums: trainings that build on each other, then search, one table of what each stage gains.

Command:   python -m juliagpt_jax.pipeline --config=configs/pipeline_sums.py --out=runs/pipeline_sums [--scale=small]
Hardware:  small: one core of an Intel Xeon with AVX-512
Time:      not measured on an idle machine
Result:    not measured yet; the small one is in experiments/pipeline

Scale "base": sums in the schoolroom's words, with configs/tiny.py's model (3 x 192) after its training on the
schoolroom. Scale "small": chained sums in digits, 2 x 96, without a training before, and with a calculator.
"""

import ml_collections
from tiny import get_config as tiny_config

from juliagpt_jax.study.pipeline import Pipeline
from juliagpt_jax.study.suite import Arm, Suite

SMALL = {
    "model.width": 96,
    "model.layers": 2,
    "model.context": 96,
    "train.lr": 3e-3,
    "train.min_lr": 3e-4,
    "train.steps": 1_200,
}
EXAMPLES = {"train.batch_size": 32, "train.eval_every": 500, "train.sample_every": 0, "data.examples.written": 100}


def get_config() -> ml_collections.ConfigDict:
    return tiny_config()


def get_pipeline(scale: str) -> Pipeline:
    file, seeds = "configs/pipeline_sums.py", (0, 1, 2)
    if scale == "small":
        arms = {"sft": Arm({"data.task": "chains", **EXAMPLES})}
        suite = Suite(file, arms, seeds, "sft", common=SMALL)
        return Pipeline(suite, "chains", ("sft",), examples=200, samples=8, calculator=True)
    sums = {"data.task": "sums", **EXAMPLES, "train.steps": 6_000}
    arms = {"base": Arm(), "sft": Arm({"train.init": "{run[base]}", **sums})}
    return Pipeline(Suite(file, arms, seeds, "base"), "sums", ("base", "sft"), examples=300)
