"""The way from a config file and the command line to a `Config`.

A config file is Python that is run; it holds `get_config() -> ml_collections.ConfigDict`. Errors are `UserError`s of
one line.
"""

import ast
import inspect
import os
import runpy
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from juliagpt_jax.ground.config import KINDS, build, read, to_dict
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs.names import MOVED
from juliagpt_jax.ground.knobs.whole import Config
from juliagpt_jax.ground.words import near


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
    """Return the name that a run has by its config file: "tiny", "dial-depth=6"."""
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
    if key in MOVED:
        raise UserError(f"--config.{key} has moved: it is --config.{MOVED[key]} now")
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
        return os.path.expanduser(text) if text.startswith("~/") else text
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
    raise UserError(f"{what}: needs {KINDS.get(wanted, wanted.__name__)}, not {text!r}")
