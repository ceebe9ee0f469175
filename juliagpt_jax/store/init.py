"""The run that another one begins with (`train.init`): its tokenizer, its model and its weights."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from juliagpt_jax.ground import config, files
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs.model import OF_TRAINING
from juliagpt_jax.store.manifest import MANIFEST, steps
from juliagpt_jax.store.workdir import Found, find, open_run

ROUNDED = {"subln", "ternary"}  # kinds of Linears that have the same parameters


def settle(settings: config.Config, workdir: Path) -> config.Config:
    """Return the config with the tokenizer of the run that it begins with, where it names one and would else learn its
    own. A run that has begun has all in its own workdir, and does not ask for the other any more.

    Raises:
        UserError: there is no such run, or its model or tokenizer is another.
    """
    if settings.train.init == "none":
        return settings
    own = workdir / "tokenizer.json"
    if own.exists() and steps(workdir / "checkpoints"):
        return _with(settings, own)
    found = look(settings)
    theirs = found.workdir / "tokenizer.json"
    if settings.data.tokenizer not in config.LEARNED and not _alike(Path(settings.data.tokenizer), theirs):
        raise UserError(
            f"config.data.tokenizer={settings.data.tokenizer}: not the tokenizer of {found.workdir}, whose weights "
            "config.train.init names; without it that one is taken"
        )
    return _with(settings, theirs)


def look(settings: config.Config) -> Found:
    """Find the run of `train.init`, and hold the model of a config to it; no weight is read.

    Raises:
        UserError: as `settle`.
    """
    from juliagpt_jax.models import mixers  # heavy

    key = f"config.train.init={settings.train.init}"
    try:
        found = find(Path(settings.train.init), kind=settings.model.kind)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    found.refuse_packed()
    theirs, own = ({"model": config.to_dict(each)["model"]} for each in (found.config, settings))
    changed = config.changes(theirs, own, OF_TRAINING)
    old, new = changed.get("model.context", (0, 0))
    if new < old and mixers.read_less(settings.model):
        del changed["model.context"]
    if {*changed.get("model.linear", ())} == ROUNDED:
        del changed["model.linear"]
    if changed:
        rows = "; ".join(f"{name}: {a!r} -> {b!r}" for name, (a, b) in changed.items())
        raise UserError(f"{key}: its model is another than this config's ({rows})"[:500])
    return found


def named(settings: config.Config, knob: str, name: str, why: str) -> Found:
    """Find the run that a knob names; where it names none, the one of `train.init`.

    Args:
        knob: "train.value.generator"; `name` is what it says.
        why: what the run is needed for, where neither names one.

    Raises:
        UserError: there is none.
    """
    key, given = knob, name
    if name == "none":
        key, given = "train.init", settings.train.init
    if given == "none":
        raise UserError(f"config.{knob}=none: {why}")
    try:
        return find(Path(given))
    except UserError as error:
        raise UserError(f"config.{key}={given}: {error}") from error


def weights(settings: config.Config) -> tuple[Any, str]:
    """Return the weights of the run that a config begins with, and the SHA-256 that they are known by.

    Raises:
        UserError, StorageError: as `look` and `open_run`.
    """
    run = open_run(look(settings))
    return run.params, files.sha256(run.folder / MANIFEST)


def _alike(one: Path, other: Path) -> bool:
    """Tell whether two tokenizer files say the same."""
    try:
        return json.loads(one.read_bytes()) == json.loads(other.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False  # the one that reads it says why


def _with(settings: config.Config, tokenizer: Path) -> config.Config:
    return dataclasses.replace(settings, data=dataclasses.replace(settings.data, tokenizer=str(tokenizer)))
