"""The knobs by their dotted names, and what older versions called them.

A config that a run saved may be older than the code that reads it: a knob may have moved into a group since, or may
not have existed. `modern` makes it one of today, so that a new knob never makes an old run unreadable.
"""

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs.whole import Config


def walk(group: type = Config, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field]]:
    """Yield ("model.ode.steps", its field) for every knob, in the order of the dataclasses."""
    for field in dataclasses.fields(group):
        if dataclasses.is_dataclass(field.type):
            yield from walk(field.type, f"{prefix}{field.name}.")  # pyright: ignore[reportArgumentType]
        else:
            yield prefix + field.name, field


def moved(knobs: Mapping[str, dataclasses.Field]) -> dict[str, str]:
    """Return {"model.ode_steps": "model.ode.steps"} of every knob that moved."""
    was = lambda key, field: ".".join([*key.split(".")[:-2], field.metadata["was"]])
    return {was(key, field): key for key, field in knobs.items() if field.metadata["was"]}


def before(knobs: Mapping[str, dataclasses.Field]) -> dict[str, Any]:
    """Return {name: what every run had before the knob existed} of every knob newer than the first version."""
    return {key: field.metadata["before"] for key, field in knobs.items() if "before" in field.metadata}


KNOBS = dict(walk())
MOVED = moved(KNOBS)
BEFORE = before(KNOBS)


def modern(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested values of a config that some version saved under the names of today, with what it had of
    knobs that are newer than it.

    Raises:
        UserError: a knob is there under its old and its new name.
    """
    result: Any = copy.deepcopy(dict(values))
    for old, new in MOVED.items():
        group = _group(result, old)
        name = old.split(".")[-1]
        if group is None or name not in group or isinstance(group[name], Mapping):
            continue
        value = group.pop(name)
        if _group(result, new) is not None and new.split(".")[-1] in _group(result, new):  # pyright: ignore
            raise UserError(f"config.{old}: the same knob as config.{new}, which is there too")
        _put(result, new, value)
    for key, value in BEFORE.items():
        group = _group(result, key)
        if group is None or key.split(".")[-1] not in group:
            _put(result, key, value)
    return result


def modern_names(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same for values by dotted name, {"model.ode_steps": 6}, as rows of results have them."""
    return BEFORE | {MOVED.get(key, key): value for key, value in flat.items()}


def first_names(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `modern_names`: values by the names that knobs first had, without knobs that are newer and stand at what
    every run had before them. A hash of these outlives knobs that move or are added."""
    moved_from = {new: old for old, new in MOVED.items()}
    as_before = lambda key, value: key in BEFORE and BEFORE[key] == value
    return {moved_from.get(key, key): value for key, value in flat.items() if not as_before(key, value)}


def _group(values: Any, key: str) -> dict[str, Any] | None:
    """The dict that a knob's last name is looked up in; None where there is none."""
    for name in key.split(".")[:-1]:
        values = values.get(name) if isinstance(values, dict) else None
    return values if isinstance(values, dict) else None


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a knob, making the groups that it is in; a group that is something else stays, for `build` to refuse."""
    *groups, name = key.split(".")
    for group in groups:
        values = values.setdefault(group, {})
        if not isinstance(values, dict):
            return
    values[name] = value
