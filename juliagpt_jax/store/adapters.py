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

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.files import new_folder
from juliagpt_jax.models import adapters, frozen, roles
from juliagpt_jax.store import peft
from juliagpt_jax.store.run import Run
from juliagpt_jax.store.workdir import find, load_adapters, open_run


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


def read(source: Path, run: Run) -> Given:
    """Read adapters for the model of a run: of the newest checkpoint of a workdir, or of a folder in peft's form.

    Raises:
        UserError: there are none, or they are of another model or of other weights.
        StorageError: no sound checkpoint.
    """
    run.refuse_packed("no adapters can be laid on; give")
    if (source / peft.SETTINGS).exists():
        given = Given(*peft.read(source, run.config.model))
    else:
        found = find(source)
        if not found.config.adapter.rank:
            raise UserError(
                f"{source} has no adapters: it is neither the workdir of a run with config.adapter.rank above 0 nor a "
                f"folder with {peft.SETTINGS}"
            )
        params, meta, _ = load_adapters(found)
        given = _of_run(params, meta, found.config.adapter)
    _check(source, given, run)
    return given


def _of_run(params: Any, meta: Mapping[str, Any], knobs: Any) -> Given:
    scaled = {
        path: leaf * knobs.scale if path.endswith("/b") else leaf
        for path, leaf in flatten_dict(params, sep="/").items()
    }
    return Given(scaled, meta["base"], knobs.base)


def _check(source: Path, given: Given, run: Run) -> None:
    """Hold adapters to the weights that they are to lie beside."""
    below = flatten_dict(run.params, sep="/")
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


def open_adapted(found: Any) -> Run:
    """Return the model of a run that trained adapters: its base with these folded in.

    Args:
        found: by `workdir.find`.

    Raises:
        UserError, StorageError: as `read`.
    """
    params, meta, folder = load_adapters(found)
    settings = found.config
    try:
        below = open_run(find(Path(settings.train.init)))
    except UserError as error:
        raise UserError(
            f"{found.workdir} has adapters beside the weights of {settings.train.init} ({error}); where these are "
            f"elsewhere: --workdir=THEM --adapter={found.workdir}"
        ) from error
    given = _of_run(params, meta, settings.adapter)
    _check(found.workdir, given, below)
    laid = lay(below, given)
    settings = dataclasses.replace(settings, adapter=dataclasses.replace(settings.adapter, rank=0, base="float"))
    model = below.model.clone(config=settings.model, precision=settings.train.precision, parent=None)
    return Run(settings, found.tokenizer, model, laid.params, meta["step"], meta, folder, found.averaged)


def export(found: Any, out: Path, precision: str) -> int:
    """Write the adapters of a run in peft's form to the folder `out`, and return their step. The base is not read.

    Raises:
        UserError: the run has none, something is at `out`, or no model of transformers has this form.
        StorageError: no sound checkpoint.
    """
    knobs = found.config.adapter
    if not knobs.rank:
        raise UserError(f"--format=peft: {found.workdir} has no adapters (config.adapter.rank=0)")
    params, meta, _ = load_adapters(found)
    named = {path: np.asarray(leaf) for path, leaf in flatten_dict(params, sep="/").items()}
    with new_folder(out, "--out") as folder:
        peft.write(folder, named, knobs, found.config.model, meta["base"], found.config.train.init, precision)
    return meta["step"]
