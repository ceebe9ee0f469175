"""The most that five minutes of a laptop teach: 3 x 192, byte-level BPE, Muon; what the README's first command trains.

Command:   python -m juliagpt_jax.main --config=configs/laptop.py --workdir=runs/laptop
Hardware:  two cores of an AMD EPYC
Time:      222 to 232 s in all
Result:    0.623 ± 0.002 bits per character of validation text, three seeds; configs/tiny.py, the textbook's way: 1.372
"""

import ml_collections
from tiny import get_config as tiny_config


def get_config() -> ml_collections.ConfigDict:
    config = tiny_config()
    config.data.tokenizer = "bpe"  # 3.5 characters a token: three times as much text in the same time
    config.data.vocab = 2_048
    config.model.context = 64  # tokens: longer than nearly all passages
    config.model.qk_norm = True
    config.model.zero_init = True
    config.train.steps = 850
    config.train.warmup = 50
    config.train.batch_size = 16
    config.train.optimizer = "muon"
    config.train.lr = 0.02  # of matrices, nanochat's
    config.train.adam_lr = 0.008  # of the embedding, nanochat's
    config.train.schedule = "trapezoid"
    config.train.decay_share = 0.65
    config.train.min_lr = 0.0
    config.train.weight_decay_schedule = "linear"
    config.train.cautious = True
    config.train.checkpoint_every = 500
    return config
