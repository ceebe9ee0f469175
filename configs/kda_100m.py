"""A hybrid of about 100M parameters: three layers of Kimi Delta Attention to one of attention, 12 x 768, context 1024.

Command:   python -m juliagpt_jax.main --config=configs/kda_100m.py --workdir=runs/kda_100m \
               --config.data.path=data/mine --config.data.tokenizer=TOKENIZER.json
Hardware:  meant for a GPU
Time:      not measured yet
Result:    not measured yet

The 100M are with 16,384 tokens of byte-level BPE and a tied head; as characters it has 12.5M fewer.
"""

import ml_collections
from base import get_config as base_config


def get_config() -> ml_collections.ConfigDict:
    config = base_config()
    config.model.width = 768
    config.model.layers = 12
    config.model.heads = 6  # of 128 channels, as in the paper
    config.model.context = 1024
    config.model.ffn_mult = 8 / 3
    config.model.mixer = "kda kda kda attention"  # the paper's best ratio of 0, 1, 3, 7 and 15 to 1
    config.model.positions = "none"  # of attention, as in the paper: the delta rule knows the order of the text
    config.model.scan_layers = True  # the twelve layers compile as four
    config.train.batch_size = 32
    config.train.lr = 6e-4
    config.train.precision = "bf16"
    config.train.remat = True
    return config
