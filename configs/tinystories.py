"""TinyStories: short stories in the words of a small child, by a model of 1.1M parameters.

Command:   python -m juliagpt_jax.prepare --source=tinystories --out=data/tinystories
           python -m juliagpt_jax.main --config=configs/tinystories.py --workdir=runs/tinystories
Hardware:  two cores, or a GPU
Time:      not measured yet
Result:    not measured yet

The recipe is that of wikitext2_muon.py: little text, read often.
"""

import ml_collections
from base import get_config as base_config


def get_config() -> ml_collections.ConfigDict:
    config = base_config()
    config.data.path = "data/tinystories"
    config.data.tokenizer = "bpe"
    config.data.vocab = 2_048
    config.data.windows = "documents"
    config.model.width = 128
    config.model.layers = 4
    config.model.heads = 2
    config.model.context = 256
    config.model.ffn_mult = 8 / 3
    config.model.dropout = 0.1
    config.model.qk_norm = True
    config.model.x0_skip = True
    config.model.value_embedding = "x0"
    config.model.head_gate = True
    config.train.steps = 1_500
    config.train.batch_size = 16
    config.train.optimizer = "muon"
    config.train.lr = 0.02
    config.train.adam_lr = 0.01
    config.train.min_lr = 0.0
    config.train.warmup = 75
    config.train.schedule = "trapezoid"
    config.train.decay_share = 0.6
    config.train.decay_tau = 0.5
    config.train.ema_half_life = 0.4
    config.train.checkpoint_every = 250
    config.train.eval_every = 250
    return config
