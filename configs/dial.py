"""One number, the depth, sets the size, the tokens, the batch and the learning rates: `dial.py:depth=6` is 6 x 384.

Command:   python -m juliagpt_jax.main --config=configs/dial.py:depth=6 --workdir=runs/dial6
           (any knob that is given stays as it is, and what depends on it follows: --config.train.batch_size=64)
Hardware:  meant for a GPU; the run prints its plan first
Time:      not measured yet
Result:    not measured yet

The rules are nanochat's, which were found at depth 12 to 26, with a vocabulary of 32,768 and another block; it warns
that hyper-parameters of small models did not transfer to large ones. `derive` runs after the command line's overrides.
"""

import math
from collections.abc import Callable

import ml_collections
from base import get_config as base_config

TOKENS = 10.5  # a parameter of the matrices and the head: compute-optimal there
REFERENCE_DEPTH = 12  # where the values below were tuned
REFERENCE_BATCH = 2**19  # tokens
VOCAB = 64  # to count the head: the corpus, which has the true number, is not read yet
LR, ADAM_LR, WEIGHT_DECAY = 0.02, 0.008, 0.28  # of Muon; of its head, which is our tied embedding; of the matrices


def get_config(depth: int = 6) -> ml_collections.ConfigDict:
    if not 1 <= depth <= 100:
        raise ValueError(f"depth must be in 1 .. 100, not {depth}")
    config = base_config()
    config.model.layers = depth
    config.train.optimizer = "muon"
    config.train.schedule = "trapezoid"
    config.train.decay_share = 0.65
    config.train.weight_decay_schedule = "linear"
    config.train.cautious = True
    return config


def derive(config: ml_collections.ConfigDict, given: set[str]) -> None:
    """Fill in what follows from the rest, but for the keys in `given`."""
    model, train = config.model, config.train

    def fill(group: ml_collections.ConfigDict, name: str, value: Callable[[], float]) -> None:
        if f"{'model' if group is model else 'train'}.{name}" not in given:
            group[name] = value()

    fill(model, "width", lambda: 64 * model.layers)
    if min(model.layers, model.width, model.context, model.ffn_mult) <= 0:
        return  # each of them is refused by name
    fill(model, "heads", lambda: heads(model.width))
    wanted = TOKENS * scaling_parameters(model.layers, model.width, model.ffn_mult)
    there = TOKENS * scaling_parameters(REFERENCE_DEPTH, 64 * REFERENCE_DEPTH, model.ffn_mult)
    # McCandlish et al. 2018; the exponent is of Bergsma et al. 2025, arXiv 2505.13738
    tokens = 2 ** round(math.log2(REFERENCE_BATCH * (wanted / there) ** 0.383))
    fill(train, "batch_size", lambda: max(1, round(tokens / model.context)))
    batch = train.batch_size * model.context
    if batch < 1:
        return  # so is this
    fill(train, "steps", lambda: max(1, round(wanted / batch)))
    if train.optimizer != "muon" and "train.lr" not in given:
        raise ValueError(f"the dial knows rates for muon; for {train.optimizer} give --config.train.lr")
    root = (batch / REFERENCE_BATCH) ** 0.5
    fill(train, "lr", lambda: LR * root)
    fill(train, "min_lr", lambda: 0.05 * train.lr)
    if train.optimizer != "adamw":
        fill(train, "adam_lr", lambda: ADAM_LR * root * (model.width / 768) ** -0.5)
    # keeps the time in which the weights forget, in epochs (Wang & Aitchison 2024, arXiv 2405.13698)
    fill(train, "weight_decay", lambda: WEIGHT_DECAY * root * there / wanted)
    fill(train, "warmup", lambda: min(40, train.steps // 10))  # 40, but a small model's run is not much longer


def scaling_parameters(layers: int, width: int, ffn_mult: float) -> int:
    """Of the matrices of the dense decoder, whatever parts are trained in its place, and of the head."""
    return layers * (4 * width**2 + 3 * width * round(ffn_mult * width)) + VOCAB * width


def heads(width: int) -> int:
    """The number that comes nearest to 128 channels a head, an even number of them."""
    fitting = [n for n in range(1, 513) if width % (2 * n) == 0]
    return min(fitting, key=lambda n: abs(math.log(width / n / 128)), default=1)
