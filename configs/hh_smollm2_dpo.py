"""Preferences of people (HH-RLHF) by DPO: SmolLM2-135M-Instruct with LoRA; 1.8% of its weights learn.

Command:   python -m juliagpt_jax.main --config=configs/hh_smollm2_dpo.py --workdir=runs/hh_dpo
           (docs/howto/adapters.md says how runs/smollm2 is made, experiments/pipeline how data/slices is)
Hardware:  one core of an AMD EPYC
Time:      30 minutes, the reference's reading (20) aside
Result:    rewards/accuracies 0.516 of 188 held-out pairs (95%: 0.445 to 0.586): no effect; the aim is 0.60

600 pairs of short conversations, half about help and half about harm: the reference reads each pair once, before the
first step. Read once, too, in training.
"""

import ml_collections
from sst2_smollm2_lora import get_config as sst2_config


def get_config() -> ml_collections.ConfigDict:
    config = sst2_config()
    config.data.path = "data/slices/hh"
    config.data.task = "jsonl"
    config.data.examples.too_long = "skip"
    config.data.examples.pack = False
    config.train.objective = "dpo"
    config.train.steps = 75
    config.train.batch_size = 8  # pairs
    config.train.lr = 5e-4  # at 1e-4 the loss of its own pairs had not moved in 37 steps
    config.train.warmup = 8
    config.train.eval_every = 75
    config.train.checkpoint_every = 75
    config.train.sample_every = 0
    return config
