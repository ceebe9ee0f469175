"""Adapters on the disk: of a run that trained them, or in peft's form; and a model with them laid on it."""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.files import new_folder
from juliagpt_jax.ground.knobs.adapter import Adapter
from juliagpt_jax.models import adapters, frozen, roles
from juliagpt_jax.store import peft
from juliagpt_jax.store.run import Run


class Given(NamedTuple):
    """Adapters that were read.

    Attributes:
        params: by path, "block_0/mixer/query/lora/a"; the scale is in b.
        base: the hash of the weights that they were trained beside; "" where that is not known.
        form: a word of `adapter.base`: that in which the kernels below were kept.
    """

    params: Mapping[str, Any]
    base: str
    form: str


def in_peft(source: Path, run: Run) -> Given:
    """Read a folder in peft's form, for the model of a run. Raises a UserError as `peft.read`."""
    return Given(*peft.read(source, run.config.model))


def of_run(params: Any, meta: Mapping[str, Any], knobs: Adapter) -> Given:
    """Return the adapters of a checkpoint."""
    leaves: dict[str, Any] = dict(flatten_dict(params, sep="/"))
    scaled = {path: leaf * knobs.scale if path.endswith("/b") else leaf for path, leaf in leaves.items()}
    return Given(scaled, meta["base"], knobs.base)


def check(source: Path, given: Given, run: Run) -> None:
    """Hold adapters to the weights of the run that they are to lie beside.

    Raises:
        UserError: they are of another model, or of other weights.
    """
    below: dict[str, Any] = dict(flatten_dict(run.params, sep="/"))
    for path, leaf in given.params.items():
        kernel = below.get(path.rpartition("/lora/")[0] + "/kernel")
        side = -2 if path.endswith("/a") else -1
        if kernel is None or kernel.ndim != leaf.ndim or kernel.shape[side] != leaf.shape[side]:
            has = "no such kernel" if kernel is None else f"a kernel of {' x '.join(map(str, kernel.shape))}"
            shape = " x ".join(map(str, leaf.shape))
            raise UserError(f"{source}: {path} of {shape}, and {run.workdir} has {has}: adapters of another model")
    if not given.base:
        print(f"note: {source} does not say which weights it was trained beside", file=sys.stderr)
    elif given.base != adapters.digest(run.params):
        raise UserError(f"{source}: its adapters were trained beside other weights than those of {run.workdir}")


def lay(run: Run, given: Given) -> Run:
    """Return a run with adapters folded into its weights, which are then as they were in training."""
    leaves = dict(flatten_dict(run.params, sep="/"))
    rounded = jax.jit(frozen.rounded, static_argnums=1)
    if given.form != "float":
        leaves = {
            path: rounded(leaf, given.form) if roles.of(path).kind == "kernel" else leaf
            for path, leaf in leaves.items()
        }
    leaves |= {path: jnp.asarray(leaf) for path, leaf in given.params.items()}
    return dataclasses.replace(run, params=adapters.fold(unflatten_dict(leaves, sep="/"), 1.0))


def write(out: Path, params: Any, meta: Mapping[str, Any], settings: config.Config, precision: str) -> None:
    """Write the adapters of a run in peft's form to the folder `out`.

    Raises:
        UserError: something is at `out`, or no model of transformers has the form of theirs.
    """
    named = {path: np.asarray(leaf) for path, leaf in flatten_dict(params, sep="/").items()}
    with new_folder(out, "--out") as folder:
        peft.write(folder, named, settings.adapter, settings.model, meta["base"], settings.train.init, precision)
