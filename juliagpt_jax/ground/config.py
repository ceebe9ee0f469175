"""The one object that says what a run is: built from values, saved as JSON, compared key by key.

`Config` and its groups are frozen dataclasses that the rest of the package can trust (`ground/knobs/`). Errors are
`UserError`s of one line.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from juliagpt_jax.ground import constraints, sealed
from juliagpt_jax.ground.errors import UserError, about
from juliagpt_jax.ground.knobs.adapter import Adapter as Adapter
from juliagpt_jax.ground.knobs.data import LEARNED as LEARNED
from juliagpt_jax.ground.knobs.data import Data as Data  # named here too: readers know the groups as config.Model, ...
from juliagpt_jax.ground.knobs.model import Model as Model
from juliagpt_jax.ground.knobs.names import MOVED, modern
from juliagpt_jax.ground.knobs.train import Train as Train
from juliagpt_jax.ground.knobs.whole import Config as Config
from juliagpt_jax.ground.knobs.whole import Mesh as Mesh
from juliagpt_jax.ground.knobs.whole import cycle_bounds as cycle_bounds
from juliagpt_jax.ground.knobs.whole import decay_steps as decay_steps
from juliagpt_jax.ground.words import near

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def build(values: Mapping[str, Any]) -> Config:
    """Check a ConfigDict, or the dict read from a workdir's config.json, and freeze it.

    Raises:
        UserError: a key is unknown or missing, a value has the wrong type, is out of range, or does not go with
            another.
    """
    config = _build(Config, values, "")
    constraints.check(config)
    return config


def _build(cls: type, values: Mapping[str, Any], prefix: str) -> Any:
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            moved = MOVED.get(f"{prefix}{key}")
            why = f"has moved: it is config.{moved} now" if moved else f"no such key{near(key, fields)}"
            raise UserError(f"config.{prefix}{key}: {why}")
    built = {}
    for name, field in fields.items():
        key = prefix + name
        if name not in values:
            raise UserError(f"config.{key}: missing from the config file")
        value = values[name]
        if dataclasses.is_dataclass(field.type):
            if not isinstance(value, Mapping) and not hasattr(value, "items"):
                raise UserError(f"config.{key}: is a group of keys, not the value {value!r}")
            built[name] = _build(field.type, value, key + ".")  # pyright: ignore[reportArgumentType]
        else:
            built[name] = _checked(key, value, field)
    return cls(**built)


def _checked(key: str, value: Any, field: dataclasses.Field) -> Any:
    wanted: Any = field.type
    if wanted is float and type(value) is int and abs(value) < 2**63:
        value = float(value)
    if type(value) is not wanted:
        raise UserError(f"config.{key}: needs {KINDS[wanted]}, not {value!r}")
    if wanted is float and not math.isfinite(value):
        raise UserError(f"config.{key}: {value} is not a finite number")
    if wanted is int and value >= 2**32:
        raise UserError(f"config.{key}: {str(value)[:20]} is too large")
    if not field.metadata["test"](value):
        raise UserError(f"config.{key}: {field.metadata['says']}, not {value!r}")
    return value


def refuse_puzzles(config: Config, flag: str = "--config") -> None:
    """Raise a UserError where a config is of a model that solves puzzles, for commands about models of texts."""
    if config.model.kind == "recursive":
        raise UserError(f"{flag}: of a model that solves puzzles; this command is about models of texts")


def refuse_answers(config: Config, flag: str = "--config") -> None:
    """Raise a UserError where a config is of a model that reads a prompt apart from its answer, for commands about
    models of one text."""
    if config.model.kind == "t5":
        raise UserError(f"{flag}: of a T5, which answers prompts; this command is about models that write texts")


def to_dict(config: Any) -> dict[str, Any]:
    """The plain nested dict that `build` takes back."""
    return dataclasses.asdict(config)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train": {"steps": 1}} -> {"train.steps": 1}."""
    flat = {}
    for key, value in values.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return flat


def changes(old: Mapping[str, Any], new: Mapping[str, Any], free: Iterable[str] = ()) -> dict[str, tuple[Any, Any]]:
    """Return {"train.lr": (0.1, 0.2)}, the values before and after, of what differs between two nested dicts, the keys
    in `free` aside; "(absent)" stands for a value that one of them lacks."""
    before, after = flatten(old), flatten(new)
    both = {key: (before.get(key, "(absent)"), after.get(key, "(absent)")) for key in {**before, **after}}
    return {key: (a, b) for key, (a, b) in both.items() if a != b and key not in free}


def differences(old: Mapping[str, Any], new: Mapping[str, Any], free: Iterable[str] = ()) -> list[str]:
    """Return `changes` as lines for a message: "train.lr: 0.1 -> 0.2"."""
    return [f"{key}: {a!r} -> {b!r}" for key, (a, b) in changes(old, new, free).items()]


def of_dict(values: Any) -> Config:
    """Build a config that this or an older version saved as a dict; the commit of the source, which a workdir's
    config.json names beside it, is no part of it.

    Raises:
        UserError: as `build`.
        AttributeError, TypeError, ValueError: what is given is no dict of dicts.
    """
    return build(modern({key: value for key, value in dict(values).items() if key != "commit"}))


def read(path: Path) -> Config:
    """The config saved in a workdir; or, where the workdir is a file, in that packed model (store/packed.py).

    Raises:
        UserError: the file is missing, was changed since it was written, or is not a config of this version.
    """
    try:
        return _moved(of_dict(sealed.read_json(path)), path.parent)
    except NotADirectoryError:
        return _of_file(path.parent)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: {path.parent} is not the workdir of a run") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: {path.parent} is not the workdir of a run") from error
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not a config: {error}") from error


def _moved(config: Config, workdir: Path) -> Config:
    """Return the config with the tokenizer that lies in its workdir, where the one that it names is no longer there:
    the workdir has another name now."""
    own = workdir / "tokenizer.json"
    if config.data.tokenizer in LEARNED or Path(config.data.tokenizer).exists() or not own.exists():
        return config
    return dataclasses.replace(config, data=dataclasses.replace(config.data, tokenizer=str(own)))


def _of_file(path: Path) -> Config:
    """The config in the metadata of a packed model, of which nothing else is read."""
    import safetensors

    try:
        with safetensors.safe_open(path, "numpy") as file:
            values = json.loads((file.metadata() or {})["config"])
        with about(path):
            return of_dict(values)
    except UserError:
        raise
    except Exception as error:  # whatever a file that is something else raises
        way = "; import_model makes a workdir of it" if path.suffix.lower() == ".gguf" else ""
        raise UserError(
            f"{path} is not the workdir of a run, and no packed model either: {error}"[:300] + way
        ) from error
