"""A pipeline on sums: trainings that build on each other, then search, one table of what each stage gains.

Command:   python -m juliagpt_jax.pipeline --config=configs/pipeline_sums.py --out=runs/pipeline_sums [--scale=small]
Hardware:  two cores of an AMD EPYC, shared with much else
Time:      not measured on an idle machine
Result:    scale small: experiments/pipeline; scale base: not measured yet

Scale "base": sums in the schoolroom's words, with configs/tiny.py's model (3 x 192) after its training on the
schoolroom. Scale "small": sums of three-digit numbers with configs/sums_sft.py's model (3 x 96), which has no
training before: 600 steps, since 400 leave it 1% right and 900 about nine in ten. The preferences are a right and a
wrong answer of the model's own to each question of the train part.
"""

import ml_collections
from tiny import get_config as tiny_config

from juliagpt_jax.study.pipeline import Pipeline
from juliagpt_jax.study.suite import Arm, Suite

SEEDS = (0, 1, 2)
SHORT = {"train.warmup": 20, "train.eval_every": 100, "train.sample_every": 0, "data.examples.written": 100}


def get_config() -> ml_collections.ConfigDict:
    return tiny_config()


def get_pipeline(scale: str) -> Pipeline:
    small = scale == "small"
    task = "addition" if small else "sums"
    pairs = f"juliagpt_jax.answer --workdir={{run[sft]}} --task={task} --split=train --show=0 --seed={{seed}}"
    pairs += f" --examples={1_000 if small else 6_000} --samples=4 --rows=256 --pairs={{cell}}/pairs.jsonl"
    dpo = {
        "data.task": "jsonl",
        "data.path": "{cell}/pairs.jsonl",
        "train.init": "{run[sft]}",
        "train.objective": "dpo",
        "train.steps": 100 if small else 200,
        "train.batch_size": 32,
        "train.lr": 1e-4,
        "train.min_lr": 1e-5,
    }
    value = {
        "data.task": task,
        "train.init": "{run[dpo]}",
        "train.objective": "value",
        "train.steps": 200 if small else 2_000,
        "train.batch_size": 64,
        "train.lr": 1e-3,
        "train.min_lr": 1e-4,
    }
    after = {"dpo": Arm({**SHORT, **dpo}, before=(pairs,)), "verifier": Arm({**SHORT, **value})}
    if small:
        sft = {**SHORT, "data.task": task, "train.steps": 600}
        suite = Suite("configs/sums_sft.py", {"sft": Arm(sft), **after}, SEEDS, "sft")
        return Pipeline(suite, task, ("sft", "dpo"), "verifier", examples=200)
    sft = {**SHORT, "data.task": task, "train.init": "{run[base]}", "train.steps": 6_000, "train.batch_size": 32}
    suite = Suite("configs/tiny.py", {"base": Arm(), "sft": Arm(sft), **after}, SEEDS, "base")
    return Pipeline(suite, task, ("base", "sft", "dpo"), "verifier", examples=300)
