"""From a config file and the command line to the frozen dataclasses of `knobs.py`, checked.

A config file holds `get_config() -> ml_collections.ConfigDict`. Errors are `UserError`s of one line.
"""

import ast
import dataclasses
import difflib
import inspect
import json
import math
import runpy
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs import Config, decay_steps
from juliagpt_jax.ground.knobs import (
    Data as Data,  # named here too: who reads knobs knows the groups as config.Model, ...
)
from juliagpt_jax.ground.knobs import Mesh as Mesh
from juliagpt_jax.ground.knobs import Model as Model
from juliagpt_jax.ground.knobs import Train as Train


def build(values: Mapping[str, Any]) -> Config:
    """Check a ConfigDict, or the dict read from a workdir's config.json, and freeze it.

    Raises:
        UserError: a key is unknown or missing, a value has the wrong type, is out of range, or does not go with
            another.
    """
    config = _build(Config, values, "")
    m, t = config.model, config.train
    kv_heads = m.kv_heads or m.heads
    for good, key, why in [
        (m.width % m.heads == 0, "model.heads", f"{m.heads} heads do not divide model.width={m.width}"),
        (
            m.positions != "rotary" or m.width // m.heads % 2 == 0,
            "model.heads",
            f"{m.width}/{m.heads} channels a head is odd; rotary needs pairs",
        ),
        (m.heads % kv_heads == 0, "model.kv_heads", f"{kv_heads} do not divide model.heads={m.heads}"),
        (
            1 <= m.ffn_mult * m.width + 0.5 < 2**31,
            "model.ffn_mult",
            f"{m.ffn_mult} x width {m.width} is no hidden width",
        ),
        (m.ode_min_steps <= m.ode_steps, "model.ode_min_steps", f"{m.ode_min_steps} is above ode_steps={m.ode_steps}"),
        (
            not (m.ode_min_steps and (m.ode_rtol or m.ode_adjoint in ("backsolve", "reversible"))),
            "model.ode_min_steps",
            "a random number of steps goes with ode_rtol=0 and the recursive or direct adjoint",
        ),
        (
            not (m.ode_rtol and m.ode_solver == "euler"),
            "model.ode_rtol",
            "euler has no error estimate to hold to a tolerance; midpoint and the other solvers have",
        ),
        (
            not (m.ode_rtol and m.ode_adjoint == "reversible"),
            "model.ode_rtol",
            "the reversible adjoint needs equal steps (ode_rtol=0)",
        ),
        (m.filter_fast <= m.filter_slow, "model.filter_fast", f"{m.filter_fast} is above filter_slow={m.filter_slow}"),
        (
            t.batch_size % (t.accumulate or 1) == 0,
            "train.accumulate",
            f"{t.accumulate} does not divide batch_size={t.batch_size}",
        ),
        (
            not (t.optimizer == "kfac" and m.ode_adjoint == "backsolve" and "ode" in m.depth.split()),
            "train.optimizer",
            "kfac needs the gradients of an ODE's steps, which ode_adjoint=backsolve does not compute",
        ),
        (t.min_lr <= t.lr, "train.min_lr", f"{t.min_lr} is above train.lr={t.lr}"),
        (t.warmup_tokens or t.warmup < t.steps, "train.warmup", f"{t.warmup} is not below train.steps={t.steps}"),
        (
            not t.warmup_tokens or config.warmup_steps < t.steps,
            "train.warmup_tokens",
            f"{t.warmup_tokens:,} are {config.warmup_steps:,} steps, not below train.steps={t.steps}",
        ),
        (
            t.schedule != "trapezoid" or config.warmup_steps + decay_steps(t) <= t.steps,
            "train.decay_share",
            f"{t.decay_share:g} of {t.steps} steps and a warm-up of {config.warmup_steps} are more than all",
        ),
        (not (t.ema and t.tail), "train.tail", "the weights are averaged in one way: ema=0 or tail=0"),
        (
            not (t.ternary_from and m.linear != "ternary"),
            "train.ternary_from",
            f"says when model.linear=ternary begins, and model.linear={m.linear}",
        ),
    ]:
        if not good:
            raise UserError(f"config.{key}: {why}")
    return config


def _build(cls: type, values: Mapping[str, Any], prefix: str) -> Any:
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            raise UserError(f"config.{prefix}{key}: no such key{near(key, fields)}")
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
        raise UserError(f"config.{key}: needs {_words[wanted]}, not {value!r}")
    if wanted is float and not math.isfinite(value):
        raise UserError(f"config.{key}: {value} is not a finite number")
    if wanted is int and value >= 2**32:
        raise UserError(f"config.{key}: {str(value)[:20]} is too large")
    if not field.metadata["test"](value):
        raise UserError(f"config.{key}: {field.metadata['says']}, not {value!r}")
    return value


_words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def near(name: str, names: Iterable[str]) -> str:
    """'; did you mean ...?' with the nearest names, or '; there are: ...' when none is near. For error messages."""
    matches = difflib.get_close_matches(name, list(names), n=3)
    if matches:
        return f"; did you mean {' or '.join(matches)}?"
    return f"; there are: {', '.join(sorted(names))}"


def load(path: str, overrides: Iterable[str] = ()) -> Config:
    """Run the config file at `path`, or read a workdir's config.json, apply overrides of the form "train.steps=300",
    and build.

    A path may end in arguments of the file's get_config: "configs/dial.py:depth=6". What a file derives from other
    values it does after the overrides, in `derive(values, given)`: `given` are the keys that were overridden,
    which it leaves alone.

    Raises:
        UserError: the file is missing or fails, an argument or override names nothing or has the wrong type, or `build`
            refuses.
    """
    file, text = _file_and_arguments(path)
    if not Path(file).is_file():
        raise UserError(f"config file {file} does not exist{_near_files(file)}")
    if Path(file).suffix == ".json":
        values = to_dict(read(Path(file)))
        for override in overrides:
            _override(values, override)
        return build(values)

    def run(function: Callable[..., Any], *given: Any, **named: Any) -> Any:
        try:
            return function(*given, **named)
        except (Exception, SystemExit) as error:  # whatever the user's file raises is the user's to see, in one line
            raise UserError(f"config file {path}: {type(error).__name__}: {error}") from error

    sys.path.insert(0, str(Path(file).resolve().parent))  # so that one config can start from another
    try:
        module = run(runpy.run_path, file)
        if "get_config" not in module:
            raise UserError(f"config file {path}: no 'get_config' in it; it must define get_config()")
        arguments = _arguments(path, text, run(inspect.signature, module["get_config"]).parameters)
        values = run(module["get_config"], **arguments)
        if not hasattr(values, "keys"):
            raise UserError(f"config file {path}: get_config() gives {values!r}, not a ConfigDict")
        for override in overrides:
            _override(values, override)
        if "derive" in module:
            run(module["derive"], values, {override.partition("=")[0] for override in overrides})
    finally:
        sys.path.pop(0)
    return build(values)


def run_name(path: str) -> str:
    """What a run is called by its config file: "tiny", "dial-depth=6"."""
    file, text = _file_and_arguments(path)
    return "-".join([Path(file).stem, *filter(None, text.split(","))])


def _file_and_arguments(path: str) -> tuple[str, str]:
    file, _, text = (path, "", "") if Path(path).is_file() else path.partition(":")
    return file, text


def _arguments(path: str, text: str, known: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """{"depth": 6} for "depth=6", by the types that get_config names."""
    found = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in known:
            there = near(name, known) if known else ": this file takes none"
            raise UserError(f"--config={path}: no argument is called {name!r}{there}")
        found[name] = _parse(f"--config={path}: {name}", value, known[name].annotation)
    return found


def _near_files(path: str) -> str:
    return near(Path(path).name, [p.name for p in Path(path).parent.glob("*.py")]) if Path(path).parent.is_dir() else ""


def _override(values: Any, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise UserError(f"--config.{key} needs a value: --config.{key}=VALUE")
    *groups, name = key.split(".")
    group = values
    for part in groups:
        group = _member(group, part, key)
    old = _member(group, name, key)
    if hasattr(old, "keys"):
        raise UserError(f"--config.{key}: is a group of keys: {', '.join(old.keys())}")
    group[name] = _parse(f"--config.{key}", text, type(old))


def _member(group: Any, name: str, key: str) -> Any:
    names = list(group.keys()) if hasattr(group, "keys") else []
    if name not in names:
        raise UserError(f"--config.{key}: no such key{near(name, names)}")
    return group[name]


def _parse(what: str, text: str, wanted: type) -> Any:
    if wanted is str:
        return text
    if wanted is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if wanted is float:
        try:
            return float(text)  # takes nan and inf, which build refuses by name
        except ValueError:
            pass
    if wanted is int:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = None
        if type(value) is int:
            return value
    raise UserError(f"{what}: needs {_words.get(wanted, wanted.__name__)}, not {text!r}")


def to_dict(config: Any) -> dict[str, Any]:
    """The plain nested dict that `build` takes back."""
    return dataclasses.asdict(config)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train": {"steps": 1}} -> {"train.steps": 1}."""
    flat = {}
    for key, value in values.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any], free: Iterable[str] = ()) -> list[str]:
    """Field by field, "train.lr: 0.1 -> 0.2", what differs between two nested dicts, the keys in `free` aside."""
    before, after = flatten(old), flatten(new)
    rows = []
    for key in [*before, *(k for k in after if k not in before)]:
        a, b = before[key] if key in before else "(absent)", after[key] if key in after else "(absent)"
        if a != b and key not in free:
            rows.append(f"{key}: {a!r} -> {b!r}")
    return rows


def read(path: Path) -> Config:
    """The config saved in a workdir; or, where the workdir is a file, in that packed model (store/packed.py).

    Raises:
        UserError: the file is missing or not a config of this version.
    """
    try:
        return build(json.loads(path.read_text(encoding="utf-8")))
    except NotADirectoryError:
        return _of_file(path.parent)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: {path.parent} is not the workdir of a run") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: {path.parent} is not the workdir of a run") from error
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: not a config: {error}") from error


def _of_file(path: Path) -> Config:
    """The config in the metadata of a packed model, of which nothing else is read."""
    import safetensors

    try:
        with safetensors.safe_open(path, "numpy") as file:
            return build(json.loads((file.metadata() or {})["config"]))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # whatever a file that is something else raises
        raise UserError(f"{path} is not the workdir of a run, and no packed model either: {error}"[:300]) from error
