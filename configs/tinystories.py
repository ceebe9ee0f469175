"""TinyStories: short stories in the words of a small child, by a model of 1.1M parameters.

Command:   python -m juliagpt_jax.prepare --source=tinystories --out=data/tinystories
           python -m juliagpt_jax.main --config=configs/tinystories.py --workdir=runs/tinystories
Hardware:  one core of an Intel Xeon
Time:      23 minutes, others at work beside it
Result:    0.912 bits a byte, 21.5 a word with averaged weights (seed 42); experiments/words has stories that it wrote

The recipe is that of wikitext2_muon.py: little text, read often.
"""

import ml_collections
from wikitext2_muon import get_config as recipe


def get_config() -> ml_collections.ConfigDict:
    config = recipe()
    config.data.path = "data/tinystories"
    config.data.tokenizer = "bpe"
    config.model.width = 128
    config.model.layers = 4
    config.model.heads = 2
    config.model.context = 256
    config.model.dropout = 0.1
    config.train.steps = 1_500
    config.train.batch_size = 16
    config.train.warmup = 75
    config.train.beta2 = 0.99
    config.train.weight_decay = 0.1
    config.train.checkpoint_every = 250
    config.train.eval_every = 250
    return config
