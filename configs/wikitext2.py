"""WikiText-2 by a textbook recipe: 6 x 384, 6 heads, context 512, 16,000 tokens.

Command:   python -m juliagpt_jax.prepare --source=wikitext2 --out=data/wikitext2
           python -m juliagpt_jax.tokenize --source=data/wikitext2 --vocab=16000 --unk --out=data/wikitext2_16k
           python -m juliagpt_jax.main --config=configs/wikitext2.py --workdir=runs/wikitext2
Hardware:  meant for a GPU, not run on one yet; on processors --config.train.precision=f32 is faster than f16
Time:      not measured yet
Result:    not measured yet
"""

import ml_collections
from base import get_config as base_config


def get_config() -> ml_collections.ConfigDict:
    config = base_config()
    config.data.path = "data/wikitext2"
    config.data.tokenizer = "data/wikitext2_16k/tokenizer.json"
    config.model.width = 384
    config.model.layers = 6
    config.model.heads = 6
    config.model.context = 512
    config.model.ffn_mult = 8 / 3  # SwiGLU as large as the usual MLP of 4 widths: 16.8M parameters in all
    config.model.dropout = 0.1
    config.model.init = "xavier"
    config.model.scan_layers = True  # without, a processor gains no memory by train.remat
    config.train.steps = 6_000  # about 40 epochs of 16,384 tokens a step
    config.train.batch_size = 32
    config.train.accumulate = 4  # 8 windows at a time
    config.train.lr = 3e-4
    config.train.min_lr = 3e-5
    config.train.warmup = 800
    config.train.beta1 = 0.9
    config.train.beta2 = 0.95
    config.train.weight_decay = 0.01
    config.train.precision = "f16"
    config.train.remat = True
    config.train.checkpoint_every = 1_000
    config.train.keep = 3
    return config
