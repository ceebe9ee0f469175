"""A batch in parts: the rows of each device, one micro-batch at a time, and their sums."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from juliagpt_jax.data.batch import Batch
from juliagpt_jax.ground import config, devices
from juliagpt_jax.models.interface import Model
from juliagpt_jax.objectives.objective import Objective
from juliagpt_jax.training.mesh import WHOLE, batch_sharding, cuts, diffrax_loops, shardings
from juliagpt_jax.training.state import Frozen

Merge = Callable[[Any, Any], Any]  # merge(trained, base) -> all parameters of the model


class Fixed(NamedTuple):
    """Everything that a step is compiled for."""

    config: config.Config
    model: Model
    mesh: jax.sharding.Mesh
    objective: Objective
    merge: Merge


class Same(NamedTuple):
    """Values that all rows of a batch share."""

    trained: Any
    frozen: Frozen
    whole: Any  # of the memo
    key: jax.Array
    scale: jax.Array  # what sums are multiplied by before they are differentiated


class Rows(NamedTuple):
    """Arrays that are cut and spread by rows."""

    batch: Batch
    memo: Any  # its rows
    draws: Any = ()  # (B, 2) uint32 a random key for each, where labels are drawn


class Sums(NamedTuple):
    """Sums over rows."""

    grads: Any  # a tree like the trained parameters, cut over devices as they are, or ()
    whole: Any  # any other tree
    rows: Any  # not summed: a tree by row


def in_parts(sums: Callable[..., Sums], like: bool, fixed: Fixed, model: Model, same: Same, rows: Rows) -> Sums:
    """Return the sums of one model, one micro-batch at a time.

    Every device runs its own rows through its own micro-batches, and the devices add up their sums once, at the end.
    Left to the compiler they would meet after each micro-batch. Parameters that are cut over the "fsdp" axis come
    together in each layer, and their gradients are added up there.

    Args:
        sums: sums(fixed, model, same, rows) of some rows.
        like: it gives gradients.
    """
    cut = cuts((same.trained, same.frozen.base), fixed.mesh)
    if fixed.config.train.accumulate == 1 and cut is None:
        return sums(fixed, model, same, rows)
    rows_alone = fixed.mesh.size == fixed.mesh.shape["model"] > 1  # no device has rows of its own
    if rows_alone or diffrax_loops(fixed.config.model):  # which fail inside shard_map; there is one device
        return one_by_one(sums, like, fixed, model, same, rows)
    if cut is not None:
        own = tuple((path.partition("/")[2], axis) for path, axis in cut.axes)  # 0 trained, 1 frozen
        model = model.clone(cuts=cut._replace(axes=own), parent=None)
    by_row = batch_sharding(fixed.mesh).spec
    cut_over = lambda tree: jax.tree.map(lambda place: _over(place.spec, "fsdp"), shardings(tree, fixed.mesh))
    trained = cut_over(same.trained)
    each = Same._make((trained, Frozen(cut_over(same.frozen.base), WHOLE), WHOLE, WHOLE, WHOLE))
    outcome = Sums(trained if like else WHOLE, WHOLE, by_row)
    on_each = functools.partial(on_device, sums, like, fixed, model, each)
    axes = {*devices.BATCH} if fixed.mesh.shape["model"] > 1 else {*devices.AXES}  # the others are the compiler's
    spread = jax.shard_map(on_each, mesh=fixed.mesh, in_specs=(each, by_row), out_specs=outcome, axis_names=axes)
    return spread(same, rows)


def _over(spec: PartitionSpec, axis: str) -> PartitionSpec:
    """Return what a sharding says of one axis of the mesh."""
    return PartitionSpec(*(name if name == axis else None for name in spec))


def on_device(
    sums: Callable[..., Sums], like: bool, fixed: Fixed, model: Model, specs: Same, same: Same, rows: Rows
) -> Sums:
    """Return the sums over all devices from what one of them sees, and its own rows.

    Args:
        specs: along which axes what it is given is cut; gradients by parts are added up over these already.
    """
    alone = lambda leaf, spec=WHOLE: jax.lax.pcast(leaf, _others(spec), to="varying")
    base = jax.tree.map(alone, same.frozen.base, specs.frozen.base)
    rest = jax.tree.map(alone, same._replace(trained=(), frozen=same.frozen._replace(base=())))
    key = jax.random.fold_in(rest.key, jax.lax.axis_index(devices.BATCH))
    frozen = rest.frozen._replace(base=base)
    same = rest._replace(trained=jax.tree.map(alone, same.trained, specs.trained), frozen=frozen, key=key)
    found = one_by_one(sums, like, fixed, model, same, rows)
    add = lambda leaf, spec=WHOLE: jax.lax.psum(leaf, _others(spec))
    grads = jax.tree.map(add, found.grads, specs.trained) if like else ()
    return Sums(grads, jax.tree.map(add, found.whole), found.rows)


def _others(spec: PartitionSpec) -> tuple[str, ...]:
    """Return the axes of BATCH over which an array is not cut."""
    return tuple(axis for axis in devices.BATCH if axis not in spec)


def one_by_one(sums: Callable[..., Sums], like: bool, fixed: Fixed, model: Model, same: Same, rows: Rows) -> Sums:
    """Return the sums over micro-batches, added up in turn, and their rows together again."""
    parts = fixed.config.train.accumulate
    micro = jax.tree.map(lambda a: a.reshape(parts, -1, *a.shape[1:]), rows), jnp.arange(parts)
    one = functools.partial(_one_part, sums, fixed, model, same)
    shapes = jax.eval_shape(one, *jax.tree.map(lambda a: a[0], micro))
    zeros = jax.tree.map(lambda s: jnp.zeros_like(same.scale, s.dtype, s.shape), shapes.whole)
    # ... of gradients such as vary over devices as the parameters do
    empty = jax.tree.map(jnp.zeros_like, same.trained) if like else ()

    def add(total: Any, micro: Any) -> tuple[Any, Any]:
        found = one(*micro)
        return jax.tree.map(jnp.add, total, (found.grads, found.whole)), found.rows

    (grads, whole), kept = jax.lax.scan(add, (empty, zeros), micro)
    return Sums(grads, whole, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), kept))


def _one_part(sums: Callable[..., Sums], fixed: Fixed, model: Model, same: Same, rows: Rows, i: jax.Array) -> Sums:
    return sums(fixed, model, same._replace(key=jax.random.fold_in(same.key, i)), rows)
