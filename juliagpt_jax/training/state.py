"""What a training step changes, and how it begins."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from juliagpt_jax.ground import config
from juliagpt_jax.models.interface import Model
from juliagpt_jax.training.optimizers import OPTIMIZERS

INITIAL_SCALE = 2.0**15


class TrainState(NamedTuple):
    """Everything a step changes. Scalars are arrays of shape ()."""

    params: Any
    opt_state: Any
    averaged: Any  # the averaged weights, or () without averaging
    step: jax.Array  # int32, steps done, applied or not
    scale: jax.Array  # float32 loss scale; 1 unless the precision is f16
    good: jax.Array  # int32 finite steps since the scale last changed
    bad_in_row: jax.Array  # int32 non-finite steps since the last finite one
    skipped: jax.Array  # int32 non-finite steps so far
    mixture: Any = ()  # DoReMi's weights of domains (training/doremi.py), or () elsewhere


def initial_state(config: config.Config, model: Model, params: Any = None) -> TrainState:
    """Given parameters, or fresh ones from the seed, and the optimizer's empty state. Pure: may be jitted or only
    shaped."""
    if params is None:
        params = model.init(jax.random.key(config.seed), jnp.zeros((1, 2), jnp.int32))["params"]
    zero = lambda: jnp.zeros((), jnp.int32)
    return TrainState(
        params=params,
        opt_state=OPTIMIZERS[config.train.optimizer](config.train, params).init(params),
        averaged=jax.tree.map(jnp.copy, params) if config.train.ema or config.train.tail else (),
        step=zero(),
        scale=jnp.float32(INITIAL_SCALE if config.train.precision == "f16" else 1.0),
        good=zero(),
        bad_in_row=zero(),
        skipped=zero(),
    )


SOMETIMES = ("averaged", "mixture")  # parts of a state that a run may do without
SCALARS = ("step", "scale", "good", "bad_in_row", "skipped")


def items(state: TrainState) -> dict[str, Any]:
    """The state as a checkpoint keeps it: a tree for each name."""
    trees = {"params": state.params, "opt_state": state.opt_state}
    trees["train"] = {name: getattr(state, name) for name in SCALARS}
    return trees | {name: getattr(state, name) for name in SOMETIMES if getattr(state, name) != ()}


def from_items(state: TrainState, trees: dict[str, Any]) -> TrainState:
    """The state with what `items` gave of another in it."""
    own = {name: tree for name, tree in trees.items() if name != "train"}
    return state._replace(**own, **trees["train"])
