"""The folder a run leaves behind, as the other commands open it."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import StorageError, UserError
from juliagpt_jax.ground.files import check_name
from juliagpt_jax.ground.knobs.names import modern
from juliagpt_jax.ground.sealed import Changed, read_json
from juliagpt_jax.store.claim import FREE_WITHOUT_DROPOUT, held
from juliagpt_jax.store.manifest import Damaged, read_meta, steps, without_average
from juliagpt_jax.store.run import Run, refuse_packed

if TYPE_CHECKING:
    from juliagpt_jax.store.adapters import Given

# What a model is, by its kind, and where it can be used, for a command that cannot use it.
READS = {
    "recursive": "a model that solves puzzles: the command solve reads it",
    "decoder": "a model of texts",
    "t5": "a T5, which answers prompts: generate (without --chat and --draft), evaluate --every and export read it",
}


@dataclasses.dataclass(frozen=True)
class Found:
    """A trained model on the disk that was looked at and not loaded: what can be refused without JAX has been.

    Attributes:
        workdir: the folder or packed file.
        tokenizer: None of a packed file, whose tokenizer is read with its weights.
        folders: the checkpoints to try, one after the other; none of a packed file.
        ode: knobs of `config.model.ode` to compute with in place of the model's own: {"steps": 4}, {"rtol": 0.01}.
        adapter: a workdir or folder of adapters to lay on it.
    """

    workdir: Path
    config: config.Config
    tokenizer: Tokenizer | None
    checkpoint: str
    averaged: bool
    folders: tuple[Path, ...]
    ode: Mapping[str, Any]
    adapter: Path | None = None

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
    adapter: str | None = None,
) -> Found:
    """Look for a model in a workdir, or in a packed file. Imports no JAX, so that a mistake is answered at once.

    Args:
        checkpoint: "newest", "best" (lowest validation loss) or a step.
        averaged: take the average of the weights, if training kept one, instead of the raw ones.
        ode: see `Found`.
        kind: of the models that the caller can use, words of `model.kind`.
        adapter: a workdir or folder of adapters to lay on it (`store/adapters.py`).

    Raises:
        UserError: not a workdir, or one of another kind of model, or one whose config or tokenizer is not that of its
            checkpoint; no checkpoint yet, no such checkpoint, no average, or no ODE layer.
    """
    check_name(workdir, "--workdir")
    settings = _settings(workdir)
    if adapter and not Path(adapter).is_dir():
        raise UserError(f"--adapter={adapter}: no such folder")
    laid = Path(adapter) if adapter else None
    if settings.model.kind not in kind.split():
        raise UserError(f"--workdir={workdir}: {READS[settings.model.kind]}")
    if ode and not settings.model.has_ode:
        flag, depth = f"--ode_{next(iter(ode))}", settings.model.depth
        raise UserError(f"{flag}: no layer of this model is an ODE (model.depth={depth})")
    if workdir.is_file():
        if checkpoint != "newest" or averaged:
            raise UserError(f"--checkpoint and --averaged choose from a workdir; {workdir} holds one model")
        return Found(workdir, settings, None, checkpoint, averaged, (), ode, laid)
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
    return Found(workdir, settings, tokenizer, checkpoint, averaged, tuple(folders), ode, laid)


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
    from juliagpt_jax.store import adapters, packed

    found = model if isinstance(model, Found) else find(model, checkpoint, averaged)
    settings = found.config
    if found.tokenizer is None:
        run = packed.read(found.workdir)
    elif settings.adapter.rank:
        run = _open_adapted(found)
    else:
        build.check(settings)
        decoder = build.build_model(settings, found.tokenizer.vocab_size)
        shapes = jax.eval_shape(lambda: decoder.init(jax.random.key(0), jax.numpy.zeros((1, 2), int))["params"])
        params, meta, folder = _load(found, shapes)
        trained = build.at_step(settings, decoder, meta["step"])
        run = Run(settings, found.tokenizer, trained, params, meta["step"], meta, folder, found.averaged)
    return adapters.lay(run, read_adapters(found.adapter, run)) if found.adapter else run


def load_adapters(found: Found) -> tuple[Any, dict[str, Any], Path]:
    """Return the parameters of the adapters that a run trained, what their checkpoint says, and its folder; what they
    lie beside is not read.

    Raises:
        UserError: the checkpoint does not fit the config.
        StorageError: no sound checkpoint.
    """
    import jax

    from juliagpt_jax.models import build
    from juliagpt_jax.models.adapters import adapters, split

    assert found.tokenizer is not None
    build.check(found.config)
    decoder = build.build_model(found.config, found.tokenizer.vocab_size)
    shapes = jax.eval_shape(lambda: decoder.init(jax.random.key(0), jax.numpy.zeros((1, 2), int))["params"])
    return _load(found, split(shapes, adapters)[0])


def read_adapters(source: Path, run: Run) -> "Given":
    """Read adapters for the model of a run: of the newest checkpoint of a workdir, or of a folder in peft's form.

    Raises:
        UserError: there are none, or they are of another model or of other weights.
        StorageError: no sound checkpoint.
    """
    from juliagpt_jax.store import adapters, peft

    run.refuse_packed("no adapters can be laid on; give")
    if (source / peft.SETTINGS).exists():
        given = adapters.in_peft(source, run)
    else:
        found = find(source)
        if not found.config.adapter.rank:
            raise UserError(
                f"{source} has no adapters: it is neither the workdir of a run with config.adapter.rank above 0 nor a "
                f"folder with {peft.SETTINGS}"
            )
        params, meta, _ = load_adapters(found)
        given = adapters.of_run(params, meta, found.config.adapter)
    adapters.check(source, given, run)
    return given


def _open_adapted(found: Found) -> Run:
    """Return the model of a run that trained adapters: its base with these folded in."""
    from juliagpt_jax.store import adapters

    params, meta, folder = load_adapters(found)
    settings = found.config
    try:
        below = open_run(find(Path(settings.train.init)))
    except UserError as error:
        raise UserError(
            f"{found.workdir} has adapters beside the weights of {settings.train.init} ({error}); where these are "
            f"elsewhere: --workdir=THEM --adapter={found.workdir}"
        ) from error
    given = adapters.of_run(params, meta, settings.adapter)
    adapters.check(found.workdir, given, below)
    settings = dataclasses.replace(settings, adapter=dataclasses.replace(settings.adapter, rank=0, base="float"))
    model = below.model.clone(config=settings.model, precision=settings.train.precision, parent=None)
    laid = adapters.lay(below, given).params
    assert found.tokenizer is not None
    return Run(settings, found.tokenizer, model, laid, meta["step"], meta, folder, found.averaged)


def _load(found: Found, shapes: Any) -> tuple[Any, dict[str, Any], Path]:
    """Return parameters of these shapes from the first sound checkpoint of those that were found, its meta, and its
    folder."""
    import jax

    from juliagpt_jax.store import checkpoint as checkpoints

    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=device), shapes)
    for folder in found.folders:
        try:
            return checkpoints.load_params(folder, target, found.averaged), read_meta(folder), folder
        except (StorageError, Damaged) as error:
            if found.checkpoint == "newest" and not folder.exists():  # replaced by a newer one while it was read
                return _load(find(found.workdir, found.checkpoint, found.averaged), shapes)
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
