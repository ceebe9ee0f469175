"""The folder a run leaves behind: who may write in it, and how the other commands open it."""

import contextlib
import dataclasses
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import StorageError, UserError
from juliagpt_jax.ground.files import check_name, write_text
from juliagpt_jax.ground.knobs.model import OF_TRAINING
from juliagpt_jax.ground.knobs.names import modern
from juliagpt_jax.ground.sealed import Changed, read_json, write_json
from juliagpt_jax.store.machine import commit
from juliagpt_jax.store.manifest import Damaged, read_meta, steps, without_average
from juliagpt_jax.store.run import Run, refuse_packed

# What may differ when a run is resumed: it changes what is written or how fast, never a bit of the parameters' path in
# exact arithmetic. (Another mesh or accumulation rounds differently: equal to about 1e-4, not to the bit.)
FREE = {
    "data.path",  # where it lies; its hash is held to the checkpoint
    "data.tokenizer",  # where it lies; what it says is held to the checkpoint
    "data.max_leak",
    "data.examples.written",
    "train.log_every",
    "train.eval_every",
    "train.eval_windows",
    "train.final_windows",
    "train.report_share",
    "train.checkpoint_every",
    "train.keep",
    "train.sample_every",
    "train.sample_tokens",
    "train.max_bad_steps",
    "train.doremi.reference",  # where it lies; what it says is held to the checkpoint
    "train.distil.teacher",  # the same
    "train.wandb",
    "train.remat",
    "train.steps_per_call",
}
# What a model is, by its kind, and where it can be used, for a command that cannot use it.
READS = {
    "recursive": "a model that solves puzzles: the command solve reads it",
    "decoder": "a model of texts",
    "t5": "a T5, which answers prompts: generate (without --chat and --draft), evaluate --every and export read it",
}
# These change how the masks of dropout are drawn, so they are free only without it.
FREE_WITHOUT_DROPOUT = {"train.accumulate", "mesh.data", "mesh.model", "mesh.fsdp"}


def free(wanted: config.Config) -> set[str]:
    """Return the keys in which a resumed run may differ from what it was."""
    return FREE if wanted.model.dropout else FREE | FREE_WITHOUT_DROPOUT


def held(old: Mapping[str, Any], wanted: config.Config, trained: bool) -> list[str]:
    """Return what a run that goes on would change and must not: "train.lr: 0.1 -> 0.2".

    Args:
        old: the values of the config that it was begun with, as this or an older version saved them.
        trained: false of a model from outside, of which only the model is settled, not how it will train.
    """
    settled = lambda key: trained or (key.startswith("model.") and key not in OF_TRAINING)
    changed = config.changes(modern(old), config.to_dict(wanted), free(wanted))
    return [f"{key}: {a!r} -> {b!r}" for key, (a, b) in changed.items() if settled(key)]


class Lock:
    """An exclusive hold on a folder, made if missing, until the end of a `with`; SIGKILL frees it too.

    Args:
        flag: the command line's name for the folder, for messages.

    Raises:
        UserError: the folder cannot be made or written, or another process holds it; the text names that process.
    """

    def __init__(self, workdir: Path, flag: str = "--workdir"):
        check_name(workdir, flag)
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            self._file = open(workdir / ".lock", "a+", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{flag}={workdir}: cannot write there: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            with self._file:
                self._file.seek(0)
                holder = self._file.read().strip() or "another process"
            raise UserError(f"{flag}={workdir} is in use by {holder}") from error
        except OSError as error:
            self._file.close()
            raise UserError(f"{flag}={workdir}: cannot be locked there: {error.strerror}") from error
        self._file.truncate(0)
        self._file.write(
            f"process {os.getpid()} on {socket.gethostname()}, started {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
        )
        self._file.flush()

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def check(workdir: Path, wanted: config.Config) -> None:
    """Refuse at once what `Lock` and `settle_config` would refuse, and begin nothing.

    Raises:
        UserError: another process holds the workdir, or it holds a run with another config.
    """
    if workdir.exists():
        with Lock(workdir):
            _refuse_other_config(workdir, wanted)


def settle_config(workdir: Path, wanted: config.Config) -> None:
    """Write config.json and config.yaml; once there is a checkpoint, hold the config to the one that is there.

    Before that, a run that ended on a mistake may be started again with the mistake put right.

    Raises:
        UserError: a key that is not `free` differs; the text lists old -> new, key by key.
    """
    _refuse_other_config(workdir, wanted)
    write_config(workdir, wanted)


def write_config(workdir: Path, settings: config.Config) -> None:
    """Write a run's config, and the commit of the source that it begins or goes on with: config.json, which is read
    again, and config.yaml, for readers."""
    values = config.to_dict(settings)
    write_json(workdir / "config.json", values | {"commit": commit()})
    write_text(workdir / "config.yaml", yaml.safe_dump({"commit": commit()} | values, sort_keys=False))


def _refuse_other_config(workdir: Path, wanted: config.Config) -> None:
    path = workdir / "config.json"
    begun = (workdir / "DONE").exists() or any((workdir / "checkpoints").glob("[0-9]*"))
    if path.exists() and begun:
        trained = not (workdir / "checkpoints" / "0").exists() or any((workdir / "checkpoints").glob("[1-9]*"))
        changed = held(config.to_dict(config.read(path)), wanted, trained)
        if changed:
            raise UserError(
                f"{workdir} holds a run with another config ({'; '.join(changed)}); "
                f"give the old values back, or train in another --workdir{_to_train_on(workdir)}"
            )


def _to_train_on(workdir: Path) -> str:
    """Say how a finished model learns more: its schedule has ended, so it begins another run."""
    if not (workdir / "DONE").exists():
        return ""
    out = workdir.with_name(f"{workdir.name}.safetensors")
    return (
        f". This run is done; its model trains on in a run of its own: export --workdir={workdir} --format=safetensors "
        f"--out={out}, then import_model --source={out} --workdir=NEW --config=FILE, then the line that this prints"
    )


@dataclasses.dataclass(frozen=True)
class Found:
    """A trained model on the disk that was looked at and not loaded: what can be refused without JAX has been.

    Attributes:
        workdir: the folder or packed file.
        tokenizer: None of a packed file, whose tokenizer is read with its weights.
        folders: the checkpoints to try, one after the other; none of a packed file.
        ode: knobs of `config.model.ode` to compute with in place of the model's own: {"steps": 4}, {"rtol": 0.01}.
    """

    workdir: Path
    config: config.Config
    tokenizer: Tokenizer | None
    checkpoint: str
    averaged: bool
    folders: tuple[Path, ...]
    ode: Mapping[str, Any]

    def refuse_packed(self) -> None:
        """Raise a UserError where this is a packed file, whose weights have no gradients."""
        if not self.folders:
            refuse_packed(self.workdir)


def find(
    workdir: Path,
    checkpoint: str = "newest",
    averaged: bool = False,
    ode: Mapping[str, Any] = MappingProxyType({}),
    kind: str = "decoder",
) -> Found:
    """Look for a model in a workdir, or in a packed file. Imports no JAX, so that a mistake is answered at once.

    Args:
        checkpoint: "newest", "best" (lowest validation loss) or a step.
        averaged: take the average of the weights, if training kept one, instead of the raw ones.
        ode: see `Found`.
        kind: of the models that the caller can use, words of `model.kind`.

    Raises:
        UserError: not a workdir, or one of another kind of model, or one whose config or tokenizer is not that of its
            checkpoint; no checkpoint yet, no such checkpoint, no average, or no ODE layer.
    """
    check_name(workdir, "--workdir")
    settings = _settings(workdir)
    if settings.model.kind not in kind.split():
        raise UserError(f"--workdir={workdir}: {READS[settings.model.kind]}")
    if ode and not settings.model.has_ode:
        flag, depth = f"--ode_{next(iter(ode))}", settings.model.depth
        raise UserError(f"{flag}: no layer of this model is an ODE (model.depth={depth})")
    if workdir.is_file():
        if checkpoint != "newest" or averaged:
            raise UserError(f"--checkpoint and --averaged choose from a workdir; {workdir} holds one model")
        return Found(workdir, settings, None, checkpoint, averaged, (), ode)
    tokenizer = tokenizers.load(workdir / "tokenizer.json")
    folders = _checkpoints(workdir, checkpoint, steps(workdir / "checkpoints"))
    meta = _newest_meta(folders)
    if meta and "tokenizer" in meta and meta["tokenizer"] != tokenizer.to_dict():
        raise UserError(
            f"{workdir / 'tokenizer.json'} is not the tokenizer that its checkpoints were trained with; put a sound "
            "copy back, or remove it: the run's own command (main) writes it anew"
        )
    if averaged and not settings.train.averages:
        raise without_average(workdir)
    return Found(workdir, settings, tokenizer, checkpoint, averaged, tuple(folders), ode)


def open_run(model: Path | Found, checkpoint: str = "newest", averaged: bool = False) -> Run:
    """Open a workdir, or a packed model, for reading. It may be in use by a training process; nothing is changed.

    Args:
        model: where it is, or what `find` found there with a checkpoint that was chosen.
        checkpoint, averaged: as `find`.

    Raises:
        UserError: as `find`, or the checkpoint does not fit the config.
        StorageError: no sound checkpoint.
    """
    import jax

    from juliagpt_jax.models import build
    from juliagpt_jax.store import checkpoint as checkpoints
    from juliagpt_jax.store import packed

    found = model if isinstance(model, Found) else find(model, checkpoint, averaged)
    if found.tokenizer is None:
        return packed.read(found.workdir)
    settings = found.config
    build.check(settings)
    decoder = build.build_model(settings, found.tokenizer.vocab_size)
    shapes = jax.eval_shape(lambda: decoder.init(jax.random.key(0), jax.numpy.zeros((1, 2), int))["params"])
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=device), shapes)
    for folder in found.folders:
        try:
            params = checkpoints.load_params(folder, target, found.averaged)
            meta = read_meta(folder)
            trained = build.at_step(settings, decoder, meta["step"])
            return Run(settings, found.tokenizer, trained, params, meta["step"], meta, folder, found.averaged)
        except (StorageError, Damaged) as error:
            if found.checkpoint == "newest" and not folder.exists():  # replaced by a newer one while it was read
                return open_run(found.workdir, found.checkpoint, found.averaged)
            if folder == found.folders[-1]:
                raise StorageError(str(error)) from error
            print(f"warning: {error}; taking an older checkpoint", file=sys.stderr)
    raise AssertionError("unreachable: there is at least one folder")


def _settings(workdir: Path) -> config.Config:
    """Return the config of a workdir, held to what its checkpoint was trained with.

    Raises:
        UserError: as `config.read`, or a key that decides what the model is differs; the text lists them.
    """
    path = workdir / "config.json"
    changed: Changed | None = None
    try:
        settings = config.read(path)
    except Changed as error:
        changed = error
        try:
            settings = config.of_dict(read_json(path, checked=False))
        except (ValueError, AttributeError, TypeError, UserError):
            raise changed from None
    if workdir.is_file():
        return settings
    meta = _newest_meta([workdir / "checkpoints" / str(step) for step in reversed(steps(workdir / "checkpoints"))])
    rows = differs(meta, settings) if meta else []
    if rows:
        raise UserError(
            f"{path} is not the config that its checkpoints were trained with ({'; '.join(rows)}); put the old values "
            "back, or remove it: the run's own command (main) writes it anew"
        )
    if changed:
        raise changed
    return settings


def differs(meta: Mapping[str, Any], settings: config.Config) -> list[str]:
    """Return what a checkpoint was trained with and a config has otherwise: "model.heads: 3 -> 2"."""
    rounding = config.to_dict(settings)
    trained = meta["data"] is not None  # else it is a model from outside
    old = modern(meta["config"])
    for key in FREE_WITHOUT_DROPOUT:  # the trainer settles them for the devices that it finds
        group, name = key.split(".")
        rounding[group][name] = old[group][name]
    return held(old, config.build(rounding), trained)


def _newest_meta(folders: Iterable[Path]) -> dict[str, Any] | None:
    """Return what the first of some checkpoints with a sound meta.json says; None where none has."""
    for folder in folders:
        with contextlib.suppress(Damaged):
            return read_meta(folder)
    return None


def _checkpoints(workdir: Path, wanted: str, steps: list[int]) -> list[Path]:
    folder = workdir / "checkpoints"
    if not steps:
        raise UserError(f"{workdir} has no checkpoint yet")
    if wanted == "newest":
        return [folder / str(step) for step in reversed(steps)]
    if wanted == "best":
        link = folder / "best"
        wanted = os.readlink(link) if link.is_symlink() else "none"
        if wanted not in map(str, steps):
            raise UserError(f"{workdir} has no best checkpoint: none was evaluated yet, or it was set aside as damaged")
    if wanted in map(str, steps):
        return [folder / wanted]
    raise UserError(f"--checkpoint={wanted}: it is newest, best, or one of {', '.join(map(str, steps))}")
