"""A workdir that a run writes in: the lock on it, and the config that it is held to."""

import fcntl
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.files import check_name, write_text
from juliagpt_jax.ground.knobs.model import OF_TRAINING
from juliagpt_jax.ground.knobs.names import modern
from juliagpt_jax.ground.sealed import write_json
from juliagpt_jax.store.machine import commit

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
    "train.init",  # where it lies; below adapters what it says is held to the checkpoint
    "train.wandb",
    "train.remat",
    "train.steps_per_call",
}
# These change how the masks of dropout are drawn, so they are free only without it.
FREE_WITHOUT_DROPOUT = {"train.accumulate", "mesh.data", "mesh.model", "mesh.fsdp"}


def free(wanted: config.Config) -> set[str]:
    """Return the keys in which a resumed run may differ from what it was."""
    return FREE if wanted.drops else FREE | FREE_WITHOUT_DROPOUT


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
