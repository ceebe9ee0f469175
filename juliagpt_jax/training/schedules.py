"""Numbers that change with the step alone: the learning rate, the weight decay, the average of the weights."""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from juliagpt_jax.data.mixture import Stage
from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError


def settled(settings: config.Config, epoch_steps: float, stages: Sequence[Stage] = ()) -> config.Config:
    """Return the config with what it gives in epochs as it is in steps: `train.weight_decay` as `decay_tau` asks, and
    `train.ema` as `ema_half_life` does; and with the rates of a mixture's stages as `train.stages`. A step is compiled
    for that.

    Args:
        epoch_steps: steps in which the text is read once.
        stages: of the mixture.

    Raises:
        UserError: the stages and the knobs of the schedule contradict each other.
    """
    train = settings.train
    if stages and not math.isnan(stages[0].lr):
        if train.schedule != "stages":
            raise UserError("config.train.schedule: the mixture's stages have learning rates; stages follows them")
        said = " ".join(f"{stage.steps}:{stage.lr!r}>{stage.min_lr!r}" for stage in stages)
        train = dataclasses.replace(train, stages=said)
    if train.schedule == "stages":
        rates = parse_stages(train)
        if not math.isclose(high := max(lr for _, lr, _ in rates), train.lr):
            raise UserError(
                f"config.train.lr: {train.lr:g}, and the highest rate of the stages is {high:g}; give the same, by "
                "which weight decay and other rates are measured"
            )
    if train.decay_tau:
        train = dataclasses.replace(train, weight_decay=1 / (train.lr * train.decay_tau * epoch_steps))
    if train.ema_half_life:
        train = dataclasses.replace(train, ema=0.5 ** (1 / (train.ema_half_life * epoch_steps)))
    return dataclasses.replace(settings, train=train)


def learning_rate(settings: config.Config) -> optax.Schedule:
    """step -> rate: linear from lr / warm-up over the first `warmup_steps`, then `SCHEDULES[train.schedule]`, which
    would end at step `steps`, one after the last."""
    train, warmup = settings.train, settings.warmup_steps
    after = SCHEDULES[train.schedule](train, train.steps - warmup)
    if warmup == 0:
        return after
    first = parse_stages(train)[0][1] if train.schedule == "stages" else train.lr
    return optax.join_schedules([optax.linear_schedule(first / warmup, first, warmup), after], [warmup])


def _cosine(train: config.Train, steps: int) -> optax.Schedule:
    return optax.cosine_decay_schedule(train.lr, steps, alpha=train.min_lr / train.lr)


def _linear(train: config.Train, steps: int) -> optax.Schedule:
    return optax.linear_schedule(train.lr, train.min_lr, steps)


def _trapezoid(train: config.Train, steps: int) -> optax.Schedule:
    """Warm-up, stable, decay (Hu et al. 2024, arXiv 2404.06395, section 4), the decay linear."""
    decay = config.decay_steps(train)
    return optax.linear_schedule(train.lr, train.min_lr, decay, transition_begin=steps - decay)


def _cycles(train: config.Train, steps: int) -> optax.Schedule:
    """Cosine cycles that end the run, each from cycles.peak * lr to min_lr (Huang et al. 2017, arXiv 1704.00109,
    section 3); before them a cosine from lr to where they begin."""
    bounds = jnp.array(config.cycle_bounds(train)) - (train.steps - steps)
    peak = train.cycles.peak * train.lr
    fall = lambda high, low, done: low + (high - low) * (1 + jnp.cos(jnp.pi * done)) / 2

    def rate(step: Any) -> Any:
        i = jnp.clip(jnp.searchsorted(bounds, step, side="right") - 1, 0, train.cycles.count - 1)
        cycle = fall(peak, train.min_lr, (step - bounds[i]) / (bounds[i + 1] - bounds[i]))
        return jnp.where(step < bounds[0], fall(train.lr, peak, step / jnp.maximum(bounds[0], 1)), cycle)

    return rate


def parse_stages(train: config.Train) -> list[tuple[int, float, float]]:
    """Return steps, rate at the begin and rate at the end of each stage of `train.stages`; "" is one from `train.lr` to
    `train.min_lr`.

    Raises:
        UserError: the form is wrong, or the stages are not as long as the run.
    """
    stages = []
    for part in (train.stages or f"{train.steps}:{train.lr!r}>{train.min_lr!r}").split():
        found = re.fullmatch(r"(\d{1,9}):([0-9.e+-]+)(?:>([0-9.e+-]+))?", part)
        try:
            steps, lr = int(found[1]), float(found[2])  # pyright: ignore[reportOptionalSubscript]
            low = float(found[3]) if found and found[3] else lr
        except (TypeError, ValueError):
            steps, lr, low = 0, 0.0, 0.0
        if not (steps and 0 < lr < math.inf and 0 <= low <= lr):
            raise UserError(f"config.train.stages: {part!r} is no stage; write STEPS:RATE or STEPS:RATE>LOWER")
        stages.append((steps, lr, low))
    if sum(steps for steps, _, _ in stages) != train.steps:
        total = sum(steps for steps, _, _ in stages)
        raise UserError(f"config.train.stages: {total:,} steps in all, and train.steps={train.steps:,}")
    return stages


def _stages(train: config.Train, steps: int) -> optax.Schedule:
    """Stages of a run one after the other, each constant or a straight line; the warm-up lies inside the first."""
    found = parse_stages(train)
    begins = jnp.array([0, *itertools.accumulate(length for length, _, _ in found)][:-1])
    lengths, high, low = (jnp.array(column) for column in zip(*found, strict=True))

    def rate(step: Any) -> Any:
        at = step + train.steps - steps
        i = jnp.clip(jnp.searchsorted(begins, at, side="right") - 1, 0, len(found) - 1)
        return high[i] + (low[i] - high[i]) * (at - begins[i]) / lengths[i]

    return rate


def _constant(train: config.Train, steps: int) -> optax.Schedule:
    return optax.constant_schedule(train.lr)


def weight_decay(train: config.Train, step: jax.Array, lr: jax.Array) -> jax.Array:
    """The share of a parameter that the step's decay takes, were its rate the schedule's own."""
    return train.weight_decay * WEIGHT_DECAYS[train.weight_decay_schedule](train, step, lr)


def averaging(train: config.Train) -> Callable[[jax.Array], jax.Array | float]:
    """step -> w in average <- average + w (parameters - average) after that step.

    With `train.ema` a constant. With `train.tail` the average is the parameters themselves up to the first step of the
    tail and their uniform mean from there on (Polyak & Juditsky 1992): w = 1, then 1/2, 1/3, ... With neither, but
    with cycles, it is the parameters up to the end of the first cycle, and from there on the mean of those at the ends
    of cycles (SWA: Izmailov et al. 2018, arXiv 1803.05407, algorithm 1): w = 0 between them.
    """
    if train.ema:
        return lambda step: 1 - train.ema
    if not train.tail and train.schedule == "cycles":
        ends = jnp.array(config.cycle_bounds(train)[1:])  # after the step before each of these

        def at_ends(step: jax.Array) -> jax.Array:
            cycles = jnp.searchsorted(ends, step + 1, side="right")  # those that have ended
            return jnp.where(cycles == 0, 1.0, jnp.where(jnp.any(ends == step + 1), 1 / jnp.maximum(cycles, 1), 0.0))

        return at_ends
    first = train.steps - max(1, round(train.tail * train.steps))
    return lambda step: 1.0 / (jnp.maximum(step - first, 0) + 1)


# `SCHEDULES[word](train, steps)` is the learning rate of the `steps` steps after the warm-up.
SCHEDULES = {
    "cosine": _cosine,
    "linear": _linear,
    "trapezoid": _trapezoid,
    "cycles": _cycles,
    "constant": _constant,
    "stages": _stages,
}

# What a decay is multiplied with at a step, the learning rate itself being one of the factors or not: as in AdamW's
# usual code; the same at every step; down to zero beside the learning rate (nanochat); and beside it as it is for an
# eighth of the run, down to an eighth at its middle, up to 25/16 at its end (slowrun's tiny track, of 16 epochs).
VALLEY = ((0, 1 / 8, 1 / 2, 1), (1, 1, 1 / 8, 25 / 16))
WEIGHT_DECAYS = {
    "learning_rate": lambda train, step, lr: lr,
    "constant": lambda train, step, lr: train.lr,
    "linear": lambda train, step, lr: lr * (1 - step / train.steps),
    "valley": lambda train, step, lr: lr * jnp.interp(step / train.steps, *map(jnp.array, VALLEY)),
}
WORDS = {"train.schedule": SCHEDULES, "train.weight_decay_schedule": WEIGHT_DECAYS}
