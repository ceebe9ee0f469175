"""A pipeline on sums: trainings that build on each other, then search, one table of what each stage gains.

Command:   python -m juliagpt_jax.pipeline --config=configs/pipeline_sums.py --out=runs/pipeline_sums --scale=addition
           (or --scale=chains, --scale=taught, --scale=base)
Hardware:  meant for one core
Time:      not measured on an idle machine; addition 45 minutes of a shared core, chains 25, taught 20
Result:    the calculator takes chained sums from 5% to 96% right, the verifier addition from 32% to 89%; see
           experiments/pipeline. base: not measured yet

Scale "addition": sums of three-digit numbers with a model of 1.3M parameters (4 x 144), which has no training before.
Muon learns them at a rate that stays high between steps 75 and 125 (seed 0), AdamW had not in 450; with a cosine that
ends at 120 seed 0 is right in 6% of its answers, with one that ends at 170 seed 1 in about 1%. 240 such steps leave
nothing to do (93% right), 140 end at 85, 25 and 70% for seeds 0 to 2. "more" is as much supervised training again as
DPO has, on as many rows at the same rate: what DPO has to be held to. The preferences are a right and a wrong answer of
the model's own to each question of the train part. The verifier learns for each token whether the answer is right up to
there, and to write right answers beside it; told of whole answers alone it had learned nothing in 800 steps.

Scale "chains": chained sums with the same model, without and with a calculator.

Scale "taught": the model of addition learns from one that had 240 steps, on the examples and on its own answers.

Scale "base": sums in the schoolroom's words, with configs/tiny.py's model (3 x 192) after its training on the
schoolroom.
"""

import ml_collections
from tiny import get_config as tiny_config

from juliagpt_jax.study.pipeline import Pipeline
from juliagpt_jax.study.suite import Arm, Suite

SEEDS = (0, 1, 2)
SHORT = {"train.warmup": 20, "train.eval_every": 100, "train.sample_every": 0, "data.examples.written": 100}
MUON = {"train.optimizer": "muon", "train.lr": 0.02, "train.adam_lr": 0.008, "train.min_lr": 0.0}
MUON |= {"train.schedule": "trapezoid", "train.decay_share": 0.3}  # a rate that falls early delays the sums
MILLION = SHORT | {"model.width": 144, "model.layers": 4, "model.heads": 4}
MILLION |= {"model.qk_norm": True, "model.zero_init": True}
SHORT_OF_SUMS = Arm(MUON | {"data.task": "addition", "train.steps": 130})
AFTER = {"train.init": "{run[sft]}", "train.steps": 60, "train.lr": 3e-4, "train.min_lr": 3e-5}


def get_config() -> ml_collections.ConfigDict:
    return tiny_config()


def get_pipeline(scale: str) -> Pipeline:
    return {"addition": addition, "chains": chains, "taught": taught}.get(scale, base)()


def addition() -> Pipeline:
    arms = {
        "sft": SHORT_OF_SUMS,
        "more": Arm(AFTER | {"data.task": "addition"}),
        "dpo": preferences("addition", 2_000, AFTER),
        "verifier": verifier("addition", 2_000, MUON | {"train.value.level": "prefix", "train.value.text": 1.0}),
    }
    suite = Suite("configs/sums_sft.py", arms, SEEDS, "sft", common=MILLION)
    return Pipeline(suite, "addition", ("sft", "more", "dpo"), "verifier", examples=300)


def taught() -> Pipeline:
    teacher = AFTER | {"data.task": "addition", "train.distil.teacher": "{run[teacher]}"}
    arms = {
        "teacher": Arm(MUON | {"data.task": "addition", "train.steps": 240}),
        "sft": SHORT_OF_SUMS,
        "more": Arm(AFTER | {"data.task": "addition"}),
        "distil": Arm(teacher | {"train.objective": "distil"}),
        "on_policy": Arm(teacher | {"train.objective": "on_policy"}),
    }
    suite = Suite("configs/sums_sft.py", arms, SEEDS, "sft", common=MILLION)
    return Pipeline(suite, "addition", ("sft", "more", "distil", "on_policy", "teacher"), examples=300, samples=4)


def chains() -> Pipeline:
    sft = MUON | {"data.task": "chains", "train.steps": 240, "model.context": 80}
    suite = Suite("configs/sums_sft.py", {"sft": Arm(sft)}, SEEDS, "sft", common=MILLION)
    return Pipeline(suite, "chains", ("sft",), examples=200, samples=4, calculator=True)


def base() -> Pipeline:
    after = {"train.init": "{run[sft]}", "train.steps": 200, "train.lr": 1e-4, "train.min_lr": 1e-5}
    arms = {
        "base": Arm(),
        "sft": Arm(
            {**SHORT, "data.task": "sums", "train.init": "{run[base]}", "train.steps": 6_000, "train.batch_size": 32}
        ),
        "dpo": preferences("sums", 6_000, {**SHORT, **after}),
        "verifier": verifier("sums", 2_000, SHORT | {"train.lr": 1e-3, "train.min_lr": 1e-4}),
    }
    suite = Suite("configs/tiny.py", arms, SEEDS, "base")
    return Pipeline(suite, "sums", ("base", "sft", "dpo"), "verifier", examples=300)


def preferences(task: str, questions: int, after: dict) -> Arm:
    """DPO on pairs of the supervised model's own answers to so many questions."""
    pairs = f"juliagpt_jax.answer --workdir={{run[sft]}} --task={task} --split=train --show=0 --seed={{seed}}"
    pairs += f" --examples={questions} --samples=4 --rows=256 --pairs={{cell}}/pairs.jsonl"
    dpo = {"data.task": "jsonl", "data.path": "{cell}/pairs.jsonl", "train.objective": "dpo", "train.batch_size": 32}
    return Arm({**after, **dpo, "train.preference.sft": 1.0}, before=(pairs,))


def verifier(task: str, steps: int, how: dict) -> Arm:
    """A model that judges the answers of the one that search builds on, which it begins with."""
    value = {"data.task": task, "train.init": "{run[dpo]}", "train.objective": "value", "train.steps": steps}
    return Arm({**how, **value, "train.batch_size": 64, "train.value.samples": 4})
