"""The devices that share a step, and the place of every array on them."""

import dataclasses
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from juliagpt_jax.ground import config, devices
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs import whole as knobs
from juliagpt_jax.models import mixers, roles
from juliagpt_jax.models.gathered import Cuts
from juliagpt_jax.models.parameters import by_path, paths


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
    if config.mesh.fsdp > 1 and config.model.kind == "recursive":
        raise UserError(
            "config.mesh.fsdp: a recursive model goes through the same layers again and again, and would fetch them "
            "each time; config.mesh.data and .model share its work"
        )
    if diffrax_loops(config.model):
        alone = "an ODE with a tolerance, or with the backsolve adjoint, trains on one device"
    elif jax.default_backend() == "cpu" and config.model.kind == "recursive":
        alone = "a recursive model, a loop of cycles, trains on one device of a CPU"
    elif jax.default_backend() == "cpu" and mixers.loops(config.model):
        looping = [word for word, mixer in mixers.MIXERS.items() if getattr(mixer, "loops", False)]
        alone = f"{' and '.join(looping)} train on one device of a CPU"
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
    return devices.make_mesh(knobs.Mesh(data=1, model=1, fsdp=1), 1)


def batch_sharding(mesh: jax.sharding.Mesh, steps: bool = False) -> NamedSharding:
    """Return where the rows of a batch live: spread over the axes `devices.BATCH`; those of the batches of several
    steps, which lie along a first axis, too."""
    return NamedSharding(mesh, PartitionSpec(*[None] * steps, devices.BATCH))
