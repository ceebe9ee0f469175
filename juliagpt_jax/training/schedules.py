"""Numbers that change with the step alone: the learning rate, the weight decay, the average of the weights."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from juliagpt_jax.ground import config


def learning_rate(settings: config.Config) -> optax.Schedule:
    """step -> rate: linear from lr / warm-up over the first `warmup_steps`, then `SCHEDULES[train.schedule]`, which
    would end at step `steps`, one after the last."""
    train, warmup = settings.train, settings.warmup_steps
    after = SCHEDULES[train.schedule](train, train.steps - warmup)
    if warmup == 0:
        return after
    return optax.join_schedules([optax.linear_schedule(train.lr / warmup, train.lr, warmup), after], [warmup])


def _cosine(train: config.Train, steps: int) -> optax.Schedule:
    return optax.cosine_decay_schedule(train.lr, steps, alpha=train.min_lr / train.lr)


def _linear(train: config.Train, steps: int) -> optax.Schedule:
    return optax.linear_schedule(train.lr, train.min_lr, steps)


def _trapezoid(train: config.Train, steps: int) -> optax.Schedule:
    """Warm-up, stable, decay (Hu et al. 2024, arXiv 2404.06395, section 4), the decay linear."""
    decay = config.decay_steps(train)
    return optax.linear_schedule(train.lr, train.min_lr, decay, transition_begin=steps - decay)


def _constant(train: config.Train, steps: int) -> optax.Schedule:
    return optax.constant_schedule(train.lr)


def weight_decay(train: config.Train, step: jax.Array, lr: jax.Array) -> jax.Array:
    """The share of a parameter that the step's decay takes, were its rate the schedule's own."""
    return train.weight_decay * WEIGHT_DECAYS[train.weight_decay_schedule](train, step, lr)


def averaging(train: config.Train) -> Callable[[jax.Array], jax.Array | float]:
    """step -> w in average <- average + w (parameters - average) after that step.

    With `train.ema` a constant. With `train.tail` the average is the parameters themselves up to the first step of the
    tail and their uniform mean from there on (Polyak & Juditsky 1992): w = 1, then 1/2, 1/3, ...
    """
    if train.ema:
        return lambda step: 1 - train.ema
    first = train.steps - max(1, round(train.tail * train.steps))
    return lambda step: 1.0 / (jnp.maximum(step - first, 0) + 1)


# `SCHEDULES[word](train, steps)` is the learning rate of the `steps` steps after the warm-up.
SCHEDULES = {"cosine": _cosine, "linear": _linear, "trapezoid": _trapezoid, "constant": _constant}

# What a decay is multiplied with at a step, the learning rate itself being one of the factors or not: as in AdamW's
# usual code; the same at every step; and down to zero beside the learning rate (nanochat).
WEIGHT_DECAYS = {
    "learning_rate": lambda train, step, lr: lr,
    "constant": lambda train, step, lr: train.lr,
    "linear": lambda train, step, lr: lr * (1 - step / train.steps),
}
WORDS = {"train.schedule": SCHEDULES, "train.weight_decay_schedule": WEIGHT_DECAYS}
