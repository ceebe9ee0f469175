"""The devices that share a step, and the place of every array on them."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from juliagpt_jax.ground import config, devices, hosts
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models import roles
from juliagpt_jax.models.gathered import Cuts
from juliagpt_jax.models.parameters import by_path, paths

WHOLE = PartitionSpec()  # of an array that every device has


def make_mesh(config: config.Config) -> jax.sharding.Mesh:
    """The devices that share a micro-batch, `config.mesh`; one where diffrax's loops are in the train step, and on a
    CPU where a recursive model's are.

    The steps of diffrax's depend on sums over the whole batch, so on many devices they would meet several times a step,
    and XLA's CPU devices, which may meet in another order each, then wait for each other for ever (seen on jax 0.10.2).
    Three runs of 150 steps of attention, with its layers in a loop (`model.scan_layers`), did not.

    Raises:
        UserError: the config asks for more.
    """
    rows = config.train.batch_size // config.train.accumulate
    if config.mesh.fsdp > 1 and config.model.kind == "recursive":
        raise UserError(
            "config.mesh.fsdp: a recursive model goes through the same layers again and again, and would fetch them "
            "each time; config.mesh.data and .model share its work"
        )
    if config.mesh.fsdp > 1 and config.model.kind == "t5":
        raise UserError("config.mesh.fsdp: a T5 keeps its parameters whole; config.mesh.data and .model share its work")
    if diffrax_loops(config.model):
        alone = "an ODE with a tolerance, or with the backsolve adjoint, trains on one device"
    elif jax.default_backend() == "cpu" and config.model.kind == "recursive":
        alone = "a recursive model, a loop of cycles, trains on one device of a CPU"
    else:
        return devices.make_mesh(config.mesh, rows)
    if config.mesh.data > 1 or config.mesh.shared > 1:
        raise UserError(f"config.mesh: {alone} (mesh.data=1)")
    return devices.make_mesh(dataclasses.replace(config.mesh, data=1), rows)


def diffrax_loops(model: config.Model) -> bool:
    """An ODE layer is solved by diffrax in training; all others run on our own loop."""
    return model.has_ode and (model.ode.rtol > 0 or model.ode.adjoint == "backsolve")


def shardings(state: Any, mesh: jax.sharding.Mesh) -> Any:
    """Return where each array of a state lives: cut over the "model" axis of the mesh as its role says
    (`roles.tensor_cut`), over the "fsdp" axis along another one (`roles.cut`), and else whole."""

    def sharding(path, leaf):
        spec: list[str | None] = [None] * leaf.ndim
        axis = roles.tensor_cut(path, leaf.shape, mesh.shape["model"])
        for name, at in (("model", axis), ("fsdp", roles.cut(path, leaf.shape, mesh.shape["fsdp"], axis))):
            if at is not None:
                spec[at] = name
        return NamedSharding(mesh, PartitionSpec(*spec))

    return by_path(state, sharding)


def cuts(params: Any, mesh: jax.sharding.Mesh) -> Cuts | None:
    """Return where parameters are cut that come together in a step; None where none are."""
    if mesh.shape["fsdp"] == 1:
        return None
    specs = {path: place.spec for path, place in paths(shardings(params, mesh)).items()}
    return Cuts("fsdp", tuple((path, spec.index("fsdp")) for path, spec in specs.items() if "fsdp" in spec))


def one_device() -> jax.sharding.Mesh:
    """Return the mesh of the first device alone."""
    return devices.grid((1, 1, 1), jax.devices())


def batch_sharding(mesh: jax.sharding.Mesh, steps: bool = False) -> NamedSharding:
    """Return where the rows of a batch live: spread over the axes `devices.BATCH`; those of the batches of several
    steps, which lie along a first axis, too."""
    return NamedSharding(mesh, PartitionSpec(*[None] * steps, devices.BATCH))


def put(tree: Any, place: Any) -> Any:
    """Put arrays that every process has, on its own memory, where they live on the devices of all.

    Args:
        place: a sharding, or a tree of them.
    """
    places = jax.tree.map(lambda _: place, tree) if isinstance(place, NamedSharding) else place
    if all(one.is_fully_addressable for one in jax.tree.leaves(places)):
        return jax.device_put(tree, place)

    def one(leaf: Any, place: NamedSharding) -> jax.Array:
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, place, lambda index: array[index])

    return jax.tree.map(one, tree, places)


def own(mesh: jax.sharding.Mesh) -> jax.sharding.Mesh:
    """Return the mesh of this process's devices, which share rows: the mesh itself where it is the only one."""
    if not hosts.several():
        return mesh
    return devices.grid((len(jax.local_devices()), 1, 1), jax.local_devices())


def at_home(tree: Any, mesh: jax.sharding.Mesh) -> Any:
    """Return arrays of all devices as this process has them whole on its own; all processes ask for it at once. Where
    there is one they stay as they are."""
    if not hosts.several():
        return tree
    whole = NamedSharding(mesh, WHOLE)
    together = jax.jit(lambda tree: tree, out_shardings=whole)(tree)
    return jax.device_put(
        jax.tree.map(lambda leaf: leaf.addressable_data(0), together), NamedSharding(own(mesh), WHOLE)
    )


def from_leader(tree: Any, placed: Any) -> Any:
    """Return arrays that the leader has, and of which the others know the shapes, where they live on all devices."""
    from jax.experimental import multihost_utils

    given = jax.tree.map(np.asarray if hosts.leads() else lambda leaf: np.zeros(leaf.shape, leaf.dtype), tree)
    return put(multihost_utils.broadcast_one_to_all(given), placed)
