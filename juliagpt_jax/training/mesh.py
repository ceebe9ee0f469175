"""The devices that share a step, and the place of every array on them."""

import dataclasses
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from juliagpt_jax.ground import config, devices
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models import mixers, roles
from juliagpt_jax.models.parameters import by_path


def make_mesh(config: config.Config) -> jax.sharding.Mesh:
    """The devices that share a micro-batch, `config.mesh`; one where diffrax's loops are in the train step, and on a
    CPU where a mixer's are.

    The steps of diffrax's depend on sums over the whole batch, so on many devices they would meet several times a step,
    and XLA's CPU devices, which may meet in another order each, then wait for each other for ever (seen on jax 0.10.2).
    So did a run of kda on two of them, a few steps after it began; three runs of 150 steps of attention, with its
    layers in a loop (`model.scan_layers`), did not.

    Raises:
        UserError: the config asks for more.
    """
    rows = config.train.batch_size // config.train.accumulate
    if diffrax_loops(config.model):
        alone = "an ODE with a tolerance, or with the backsolve adjoint, trains on one device"
    elif jax.default_backend() == "cpu" and config.model.kind == "recursive":
        alone = "a recursive model, a loop of cycles, trains on one device of a CPU"
    elif jax.default_backend() == "cpu" and mixers.loops(config.model):
        looping = [word for word, mixer in mixers.MIXERS.items() if getattr(mixer, "loops", False)]
        alone = f"{' and '.join(looping)} train on one device of a CPU"
    else:
        return devices.make_mesh(config.mesh, rows)
    if config.mesh.data > 1 or config.mesh.model > 1:
        raise UserError(f"config.mesh: {alone} (mesh.data=1)")
    return devices.make_mesh(dataclasses.replace(config.mesh, data=1), rows)


def diffrax_loops(model: config.Model) -> bool:
    """An ODE layer is solved by diffrax in training; all others run on our own loop."""
    return model.has_ode and (model.ode.rtol > 0 or model.ode.adjoint == "backsolve")


def shardings(state: Any, mesh: jax.sharding.Mesh) -> Any:
    """Return where each array of a state lives: cut over the "model" axis of the mesh as its role says
    (`roles.cut`), by default along its longest axis that this divides, else whole."""

    def sharding(path, leaf):
        spec: list[str | None] = [None] * leaf.ndim
        axis = roles.cut(path, leaf.shape, mesh.shape["model"])
        if axis is not None:
            spec[axis] = "model"
        return NamedSharding(mesh, PartitionSpec(*spec))

    return by_path(state, sharding)


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    """The rows of a batch are spread over all devices."""
    return NamedSharding(mesh, PartitionSpec(("data", "model")))
