"""Sentiment of film reviews from scratch, on 6,920 whole sentences: the model writes the label behind them.

Command:   python -m juliagpt_jax.prepare --source=sst2 --out=data/sst2
           python -m juliagpt_jax.main --config=configs/sst2.py --workdir=runs/sst2
           python -m juliagpt_jax.evaluate --workdir=runs/sst2 --averaged --task=sst2 --task_data=data/sst2
Hardware:  one core of an Intel Xeon
Time:      5 minutes
Result:    77.5% of dev, 77.8% of test (three seeds; 77.3 and 79.0% at twice the rate), no more behind WikiText-2.
           Small CNNs and LSTMs get 77 to 81% from these sentences without word vectors

--config.train.init=runs/words begins with a model that has read a text of its own tokens, and learns the labels from
there: a run of configs/wikitext2.py or configs/tinystories.py with the shape below.
"""

import ml_collections
from base import get_config as base_config


def get_config() -> ml_collections.ConfigDict:
    config = base_config()
    config.data.path = "data/sst2"
    config.data.task = "sst2"
    config.data.tokenizer = "bpe"
    config.data.vocab = 4_096
    config.data.unknown = "skip"
    config.data.examples.too_long = "cut"
    config.data.examples.pack = True
    config.data.examples.written = 0  # evaluate compares the two labels
    config.model.width = 128
    config.model.layers = 2
    config.model.heads = 2
    config.model.context = 96
    config.model.dropout = 0.4  # 6,920 labels are little to learn from
    config.train.steps = 600  # about 6 epochs
    config.train.batch_size = 24  # rows of two or three sentences
    config.train.accumulate = 1
    config.train.lr = 1e-3
    config.train.min_lr = 0.0
    config.train.warmup = 60
    config.train.weight_decay = 0.3
    config.train.ema = 0.99
    config.train.eval_every = 100
    config.train.checkpoint_every = 250
    config.train.sample_every = 500
    return config
