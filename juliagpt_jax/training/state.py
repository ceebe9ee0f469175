"""The state that a training step changes, and its beginning."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from juliagpt_jax.ground import config
from juliagpt_jax.models import adapters
from juliagpt_jax.models.interface import Model
from juliagpt_jax.objectives.objective import Memo
from juliagpt_jax.training.mesh import batch_sharding, shardings
from juliagpt_jax.training.optimizers import OPTIMIZERS

INITIAL_SCALE = 2.0**15


class TrainState(NamedTuple):
    """Everything a step changes. Scalars are arrays of shape ()."""

    params: Any  # those that are trained
    opt_state: Any
    averaged: Any  # the averaged weights, or () without averaging
    step: jax.Array  # int32, steps done, applied or not
    scale: jax.Array  # float32 loss scale; 1 unless the precision is f16
    good: jax.Array  # int32 finite steps since the scale last changed
    bad_in_row: jax.Array  # int32 non-finite steps since the last finite one
    skipped: jax.Array  # int32 non-finite steps so far
    memo: Memo = Memo()  # of the objective; empty for most


class Frozen(NamedTuple):
    """Trees that a step reads and never changes: they are not donated, and no checkpoint keeps them."""

    base: Any = ()  # the model's parameters that are not trained, such as those below adapters
    own: Any = ()  # of the objective, such as the parameters of a reference model


def initial_state(config: config.Config, model: Model, params: Any = None, memo: Memo | None = None) -> TrainState:
    """Given parameters, or fresh ones from the seed, of a model with adapters these alone; the optimizer's empty state,
    and an objective's memo, if it has one. Pure: may be jitted or only shaped."""
    if params is None:
        params = model.init(jax.random.key(config.seed), jnp.zeros((1, 2), jnp.int32))["params"]
        if config.adapter.rank:
            params, _ = adapters.split(params, adapters.adapters)
    zero = lambda: jnp.zeros((), jnp.int32)
    return TrainState(
        params=params,
        opt_state=OPTIMIZERS[config.train.optimizer](config.train, params).init(params),
        averaged=jax.tree.map(jnp.copy, params) if config.train.averages else (),
        step=zero(),
        scale=jnp.float32(INITIAL_SCALE if config.train.precision == "f16" else 1.0),
        good=zero(),
        bad_in_row=zero(),
        skipped=zero(),
        memo=memo or Memo(),
    )


def places(state: TrainState, mesh: jax.sharding.Mesh) -> TrainState:
    """Return where each array of a state lives: a memo's rows with the rows of the batch, what all rows share on every
    device, and all else as `shardings` says."""
    rows = jax.tree.map(lambda _: batch_sharding(mesh), state.memo.rows)
    whole = jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec()), state.memo.whole)
    return shardings(state._replace(memo=Memo()), mesh)._replace(memo=Memo(rows, whole))


SOMETIMES = ("averaged", "memo")  # parts of a state that a run may do without
SCALARS = ("step", "scale", "good", "bad_in_row", "skipped")


def items(state: TrainState) -> dict[str, Any]:
    """The state as a checkpoint keeps it: a tree for each name."""
    trees = {"params": state.params, "opt_state": state.opt_state}
    trees["train"] = {name: getattr(state, name) for name in SCALARS}
    return trees | {name: getattr(state, name) for name in SOMETIMES if jax.tree.leaves(getattr(state, name))}


def from_items(state: TrainState, trees: dict[str, Any]) -> TrainState:
    """The state with what `items` gave of another in it."""
    own = {name: tree for name, tree in trees.items() if name != "train"}
    return state._replace(**own, **trees["train"])
