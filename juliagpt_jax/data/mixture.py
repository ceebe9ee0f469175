"""Several folders of shards as one text, and the stages in which their shares change: what a mixture.toml says.

    [sources]
    web = "shards/web"                                          # a folder of shards, from the file's own folder
    code = {path = "shards/code", snapshot = "5f3c..."}         # held to a snapshot (the command `snapshot`)

    [[stages]]
    steps = 8_000
    lr = 6e-4                                                   # from here to min_lr in a straight line, or constant
    weights = {web = 70, code = 30}

    [[stages]]
    steps = 2_000
    lr = 6e-4
    min_lr = 6e-5
    weights = {web = 40, code = 60}

Nothing is copied: windows are read from the folders themselves.
"""

import hashlib
import math
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from juliagpt_jax.ground import texts
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.words import near

SUFFIX = ".toml"


class Source(NamedTuple):
    """A folder of shards, and the hash of the snapshot that it must be; "" for none."""

    folder: Path
    snapshot: str


class Stage(NamedTuple):
    """Steps, the share of the draws of each source in their order, and the learning rate at its begin and its end; nan
    where the mixture has none."""

    steps: int
    weights: tuple[float, ...]
    lr: float
    min_lr: float


class Mixture(NamedTuple):
    """Name what a run draws from.

    Attributes:
        sources: by name.
        stages: in their order; one of 0 steps for the whole of any run.
        fingerprint: SHA-256 of what the stages say.
    """

    sources: dict[str, Source]
    stages: tuple[Stage, ...]
    fingerprint: str


def alone(folder: Path) -> Mixture:
    """Return a folder of shards as the only source."""
    return Mixture({folder.name: Source(folder, "")}, (Stage(0, (1.0,), math.nan, math.nan),), "")


def read(path: Path) -> Mixture:
    """Read a mixture.toml.

    Raises:
        UserError: it is missing or no TOML, or a key is unknown, missing or of the wrong kind; the text names it.
    """
    try:
        values = tomllib.loads(texts.decode(str(path), texts.read_bytes(path)).text)
    except RecursionError as error:
        raise UserError(f"{path}: not TOML that a program can read: nested too deeply") from error
    except ValueError as error:  # TOMLDecodeError is one; so is what Python says of a number of 5,000 digits
        raise UserError(f"{path}: not TOML: {error}") from error
    _keys(values, {"sources", "stages"}, set(), f"{path}")
    sources = _table(values["sources"], f"{path}: sources")
    found = {name: _source(path, name, value) for name, value in sources.items()}
    stages = values["stages"]
    if not isinstance(stages, list) or not stages:
        raise UserError(f"{path}: stages: write one [[stages]] or more")
    made = tuple(_stage(stage, [*found], f"{path}: stage {i}") for i, stage in enumerate(stages, 1))
    if any(math.isnan(stage.lr) for stage in made) and not all(math.isnan(stage.lr) for stage in made):
        raise UserError(f"{path}: some stages have a learning rate and some have none; give each one, or none")
    return Mixture(found, made, hashlib.sha256(repr(made).encode()).hexdigest())


def _source(path: Path, name: str, value: Any) -> Source:
    where = f"{path}: sources.{name}"
    given = {"path": value} if isinstance(value, str) else _table(value, where)
    _keys(given, {"path"}, {"snapshot"}, where)
    for key, text in given.items():
        if not isinstance(text, str) or not text:
            raise UserError(f"{where}.{key}: needs a text, not {_shown(text)}")
    return Source(path.parent / texts.path(given["path"]), given.get("snapshot", ""))


def _stage(value: Any, names: list[str], where: str) -> Stage:
    given = _table(value, where)
    _keys(given, {"steps", "weights"}, {"lr", "min_lr"}, where)
    steps, weights = given["steps"], _table(given["weights"], f"{where}: weights")
    if type(steps) is not int or steps < 1:
        raise UserError(f"{where}: steps needs a whole number above 0, not {_shown(steps)}")
    _keys(weights, set(names), set(), f"{where}: weights", "; 0 leaves a source out")
    shares = [_number(weights[name], f"{where}: weights.{name}", 0) for name in names]
    total = sum(shares)
    if not any(math.isclose(total, whole, abs_tol=1e-6) for whole in (1, 100)):
        raise UserError(f"{where}: weights add up to {total:g}, not to 1 or 100")
    lr = _number(given["lr"], f"{where}: lr", 0) if "lr" in given else math.nan
    low = _number(given["min_lr"], f"{where}: min_lr", 0) if "min_lr" in given else lr
    if lr == 0 or ("min_lr" in given and not low <= lr):
        raise UserError(f"{where}: lr must be above 0, and min_lr at most lr")
    return Stage(steps, tuple(share / total for share in shares), lr, low)


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not value:
        raise UserError(f"{where}: needs a table of names and values, not {_shown(value)}")
    return value


def _keys(values: Mapping[str, Any], needed: set[str], more: set[str], where: str, hint: str = "") -> None:
    for key in values:
        if key not in needed | more:
            raise UserError(f"{where}: no key is called {key!r}{near(key, needed | more)}")
    for key in sorted(needed - set(values)):
        raise UserError(f"{where}: {key} is missing{hint}")


def _shown(value: Any) -> str:
    try:
        return repr(value)[:80]
    except ValueError:  # Python writes no number of 5,000 digits, and TOML may have one as 0xfff...
        return "a number of thousands of digits"


def _number(value: Any, where: str, low: float) -> float:
    if type(value) not in (int, float) or not low <= value <= sys.float_info.max:
        raise UserError(f"{where}: needs a number of at least {low}, not {_shown(value)}")
    return float(value)
