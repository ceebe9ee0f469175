"""A pipeline on sums: trainings that build on each other, then search, one table of what each stage gains.

Command:   python -m juliagpt_jax.pipeline --config=configs/pipeline_sums.py --out=runs/pipeline_sums [--scale=small]
Hardware:  two cores of an Intel Xeon with AVX-512, shared
Time:      not measured on an idle machine
Result:    scale small: experiments/pipeline; scale base: not measured yet

Scale "base": sums in the schoolroom's words, with configs/tiny.py's model (3 x 192) after its training on the
schoolroom. Scale "small": chained sums in digits, 2 x 96, without a training before, and with a calculator.
"""

from dataclasses import replace

import ml_collections
from tiny import get_config as tiny_config

from juliagpt_jax.study.pipeline import Pipeline
from juliagpt_jax.study.suite import Arm, Suite

FILE, SEEDS = "configs/pipeline_sums.py", (0, 1, 2)
SMALL = {
    "model.width": 96,
    "model.layers": 2,
    "model.context": 96,
    "train.lr": 3e-3,
    "train.min_lr": 3e-4,
    "train.steps": 900,
}
EXAMPLES = {"train.batch_size": 32, "train.eval_every": 500, "train.sample_every": 0, "data.examples.written": 100}
# A right and a wrong answer of the model itself to each question of the train part that has both.
DPO = {
    "train.init": "{run[sft]}",
    "data.task": "jsonl",
    "data.path": "{cell}/pairs.jsonl",
    "train.objective": "dpo",
    "train.lr": 1e-4,
    "train.min_lr": 1e-5,
    "train.steps": 200,
    "train.warmup": 20,
}
# Answers of the last writer to the train part, each marked by the task; it begins with what that model knows.
VERIFIER = {
    "train.init": "{run[dpo]}",
    "data.task": "jsonl",
    "data.path": "{cell}/labels.jsonl",
    "train.lr": 1e-3,
    "train.min_lr": 1e-4,
    "train.steps": 600,
    "train.warmup": 20,
}


def get_config() -> ml_collections.ConfigDict:
    return tiny_config()


def get_pipeline(scale: str) -> Pipeline:
    small = scale == "small"
    task = "chains" if small else "sums"
    ask = f"juliagpt_jax.answer --task={task} --split=train --show=0 --seed={{seed}}"
    ask += " --examples=500 --samples=4" if small else " --examples=4000 --samples=8"
    sft = {"data.task": task, **EXAMPLES}
    arms = {
        "sft": Arm(sft if small else {"train.init": "{run[base]}", **sft, "train.steps": 6_000}),
        "dpo": Arm({**EXAMPLES, **DPO}, before=(f"{ask} --workdir={{run[sft]}} --pairs={{cell}}/pairs.jsonl",)),
        "verifier": Arm(
            {**EXAMPLES, **VERIFIER},
            before=(
                f"{ask} --workdir={{run[dpo]}} --labels={{cell}}/labels.jsonl" + (" --calculator" if small else ""),
            ),
        ),
    }
    if small:
        few = {"dpo": 100, "verifier": 300}
        arms |= {name: replace(arms[name], changes={**arms[name].changes, "train.steps": n}) for name, n in few.items()}
        suite = Suite(FILE, arms, SEEDS, "sft", common=SMALL)
        return Pipeline(suite, task, ("sft", "dpo"), "verifier", examples=200, samples=8, calculator=True)
    suite = Suite(FILE, {"base": Arm(), **arms}, SEEDS, "base")
    return Pipeline(suite, task, ("base", "sft", "dpo"), "verifier", examples=300)
