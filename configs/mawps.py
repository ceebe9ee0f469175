"""Word problems of MAWPS: the model writes an equation over the numbers' names, and a calculator reckons.

Command:   python -m juliagpt_jax.prepare --source=mawps --out=data/mawps
           python -m juliagpt_jax.main --config=configs/mawps.py --workdir=runs/mawps
           python -m juliagpt_jax.evaluate --workdir=runs/mawps --task=mawps --task_data=data/mawps --split=test
Hardware:  one core of an Intel Xeon
Time:      9 minutes, others at work beside it
Result:    78.0% of the 384 of the first fold (78.9, 78.4, 76.8; seeds 11, 22, 33); attention alone 74.2%. Published,
           five folds: a transformer from scratch 85.6% (LYH-YF/MWPToolkit), GPT-2 75.9%

For SVAMP: --config.data.task=svamp --config.data.path=data/svamp --config.train.steps=800, 18.2% of the 1,000 (16.9,
19.6; seeds 11, 22). Published: a transformer from scratch 20.7%, GPT-2 25.7%.
"""

import ml_collections
from base import get_config as base_config


def get_config() -> ml_collections.ConfigDict:
    config = base_config()
    config.data.path = "data/mawps"
    config.data.task = "mawps"
    config.data.tokenizer = "bpe"  # "number0" and common words become a token each
    config.data.vocab = 2_048
    config.data.unknown = "skip"
    config.data.examples.too_long = "skip"  # of training and dev alone: evaluate asks every question
    config.data.examples.pack = True  # a question has 45 tokens, the longest 152
    config.model.width = 128
    config.model.layers = 4
    config.model.heads = 4
    config.model.context = 160
    config.model.mixer = "gated_deltanet gated_deltanet gated_deltanet attention"
    config.model.dropout = 0.2
    config.model.word_dropout = 0.15
    config.model.qk_norm = True
    config.train.steps = 600  # about 22 epochs
    config.train.batch_size = 16  # rows of three or four questions
    config.train.accumulate = 1
    config.train.optimizer = "muon"
    config.train.lr = 0.02
    config.train.adam_lr = 0.008
    config.train.min_lr = 0.0
    config.train.schedule = "trapezoid"
    config.train.decay_share = 0.6
    config.train.warmup = 30
    config.train.ema = 0.995
    config.train.eval_every = 200
    config.train.checkpoint_every = 400
    config.train.sample_every = 400
    return config
