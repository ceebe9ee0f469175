"""SmolLM2-135M-Instruct on word problems: LoRA on instructions made from the tasks, a calculator, votes, a verifier.

Command:   python -m juliagpt_jax.pipeline --config=configs/pipeline_smollm2.py --out=runs/pipeline_smollm2
           (docs/howto/adapters.md says how runs/smollm2 is made, experiments/pipeline how data/slices is)
Hardware:  one core of an AMD EPYC
Time:      under two hours: 44 minutes of supervised training, 35 of writing answers for the verifier, 10 of its
           training, 20 of measuring
Result:    SVAMP 4.6% right, 22.1% with the calculator, 27.9% by a vote of 4; the verifier has learned nothing

As a config for `main` it is the supervised training alone. Everything is said in the model's chat template.
"""

import ml_collections
from sst2_smollm2_lora import get_config as sst2_config

from juliagpt_jax.study.pipeline import Pipeline
from juliagpt_jax.study.suite import Arm, Suite


def get_config() -> ml_collections.ConfigDict:
    config = sst2_config()
    config.data.path = "data/slices/instructions"
    config.data.task = "jsonl"
    config.data.examples.too_long = "skip"
    config.model.context = 256
    config.train.steps = 150  # an epoch
    config.train.batch_size = 4  # rows of about three conversations
    config.train.warmup = 10
    config.train.eval_every = 75
    config.train.checkpoint_every = 50
    config.train.sample_every = 0
    return config


def get_pipeline(scale: str) -> Pipeline:
    value = {
        "train.init": "{run[sft]}",
        "train.objective": "value",
        "train.value.text": 1.0,
        "data.task": "svamp_text",
        "data.path": "data/slices/svamp",
        "data.examples.chat": True,
        "data.examples.pack": False,
        "train.batch_size": 8,
        "train.steps": 40,  # of 8 answers, of which there are four to each of 250 questions
    }
    arms = {"sft": Arm(), "verifier": Arm(value)}
    suite = Suite("configs/pipeline_smollm2.py", arms, (0,), "sft")
    how = {"examples": 60, "samples": 4, "rounds": 0, "calculator": True, "chat": True}
    return Pipeline(suite, "svamp_text", ("sft",), "verifier", path="data/svamp", **how)
