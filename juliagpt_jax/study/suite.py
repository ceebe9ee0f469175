"""A suite: named changes to one config, the same seeds and the same budget for each.

A suite file, `experiments/NAME/suites/SUITE.py`, defines `get_suite(scale: str) -> Suite`. It is Python and runs as
such.
"""

import dataclasses
import functools
import hashlib
import math
import re
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from juliagpt_jax.ground import config, config_file
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs.names import modern_names
from juliagpt_jax.ground.words import near

# What every cell has unless its suite says otherwise: rows are compared, so each scores and writes all that it can.
COMMON = {"train.report_share": 0.0}
Made = TypeVar("Made")
# Seconds of a training step, of an arm by name, its config file and overrides, and all knobs as they are and as the
# file has them.
Pace = Callable[[str, str, Sequence[str], Mapping[str, Any], Mapping[str, Any]], float]


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to train.

    Args:
        changes: {"data.order": "easy_first", ...}, put over the suite's common values.
        before: commands run before training, each a module of the package and its flags, in one text:
            "juliagpt_jax.score --workdir={run[baseline]} --out={cell}/scores.npz".
        averaged: what is compared is the average of its weights, which its changes must ask for; its row has the raw
            weights' numbers as "raw".

    In `before` and in texts of `changes`, {cell} is the cell's own folder, {seed} its seed, and {run[NAME]} the workdir
    of arm NAME with the same seed, which is then run first and kept.
    """

    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    before: tuple[str, ...] = ()
    averaged: bool = False


@dataclasses.dataclass(frozen=True)
class Suite:
    """Arms to compare.

    Args:
        config: the config file every cell starts from.
        arms: by name; the names stand in the tables.
        seeds: of every arm. Do not tune on them.
        baseline: the arm the others are compared with.
        common: changes for every arm: the budget, the data.
        measures: dotted keys of report.json that become further columns: "phases.trivium.perplexity".
        budget: ("tokens", 1e6), ("flops", 1e12) or ("seconds", 60), the same for every arm: sets `train.steps` of each,
            to the nearest step. Seconds are those of training steps, without compilation and evaluation, at the pace
            that an arm has on this machine (study/pace.py); it must train without its `before`. Without a budget the
            arms have the steps that their configs say.
    """

    config: str
    arms: Mapping[str, Arm]
    seeds: tuple[int, ...]
    baseline: str
    common: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    measures: tuple[str, ...] = ()
    budget: tuple[str, float] | None = None


@dataclasses.dataclass(frozen=True)
class Cell:
    """One arm with one seed.

    `config` is all of its config, {"train.steps": 1000, ...}, and `defaults` what the suite's config file says without
    the changes. In texts of `config` and in `commands`, {folder} stands for the folder of all cells. `needs` are the
    arms whose workdirs it reads.
    """

    arm: str
    seed: int
    config: Mapping[str, Any]
    commands: tuple[str, ...]
    defaults: Mapping[str, Any]
    needs: tuple[str, ...]
    folder: Path
    overrides: tuple[str, ...]
    before: tuple[str, ...]
    averaged: bool = False

    @property
    def run(self) -> Path:
        """Its workdir."""
        return self.folder / "run"

    @property
    def recipe(self) -> dict[str, Any]:
        """Everything that decides its result; a row of results holds it."""
        recipe = {"arm": self.arm, "seed": self.seed, "config": dict(self.config), "before": list(self.commands)}
        return recipe | ({"weights": "averaged"} if self.averaged else {})

    def made_by(self, recipe: Mapping[str, Any]) -> bool:
        """True where what was made by a recipe is this cell's: all that the recipe names is as it is here. A knob that
        it does not know is newer than it, and must stand at its default, which is what the code did before."""
        own = {"weights": None} | self.recipe
        same = all(recipe.get(key) == value for key, value in own.items() if key != "config")
        return same and same_config(self.config, recipe.get("config", {}), self.defaults)


def same_config(config: Mapping[str, Any], old: Mapping[str, Any], defaults: Mapping[str, Any]) -> bool:
    """True where a config, all knobs by dotted name, is what an older version of the code knew as `old`."""
    old = modern_names(old)
    return all(key in config and config[key] == value for key, value in old.items()) and all(
        key in old or value == defaults[key] for key, value in config.items()
    )


class _Recorder(dict):
    """Stands for {run[NAME]} and remembers the names."""

    def __init__(self, folders: Mapping[str, Path]):
        super().__init__({name: str(folder / "run") for name, folder in folders.items()})
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.used.add(name)
        return super().__getitem__(name)


def load(path: str, scale: str) -> Suite:
    """Return the suite that the file at `path` defines for a scale.

    Raises:
        UserError: as `defined`, or the suite lacks its baseline or seeds.
    """
    suite = defined(path, "get_suite", scale, Suite)
    if suite.baseline not in suite.arms:
        raise UserError(f"{path}: the baseline is {suite.baseline!r}{near(suite.baseline, suite.arms)}")
    if not suite.seeds or len(set(suite.seeds)) < len(suite.seeds):
        raise UserError(f"{path}: seeds must be different numbers, at least one, not {suite.seeds}")
    return suite


def defined(path: str, function: str, scale: str, kind: type[Made]) -> Made:
    """Run a Python file, and return what a function of it gives for a scale.

    Raises:
        UserError: the file is missing, fails, or gives another kind of thing.
    """
    if not Path(path).is_file():
        raise UserError(f"{path} does not exist")
    sys.path.insert(0, str(Path(path).resolve().parent))  # so that one file can start from another
    try:
        made = runpy.run_path(path)[function](scale)
    except KeyError as error:
        raise UserError(f"{path}: no {error} in it; it must define {function}(scale)") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (Exception, SystemExit) as error:  # whatever the user's file raises is the user's to see, in one line
        raise UserError(f"{path}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    if not isinstance(made, kind):
        raise UserError(f"{path}: {function}({scale!r}) gives {type(made).__name__}, not a {kind.__name__}")
    return made


def cells(suite: Suite, folder: Path, pace: Pace | None = None) -> list[Cell]:
    """Every cell, seed by seed, with a cell after those it needs. Each arm's config is checked.

    Args:
        folder: of all cells.
        pace: seconds of an arm's step, for a budget in seconds.

    Raises:
        UserError: a change that config.py refuses, a placeholder that does not exist, arms that need each other.
    """
    defaults = config.flatten(config.to_dict(config_file.load(suite.config)))
    made = [_cell(suite, arm, seed, folder, defaults, pace) for seed in suite.seeds for arm in suite.arms]
    return _in_order(made)


def _cell(suite: Suite, name: str, seed: int, folder: Path, defaults: Mapping[str, Any], pace: Pace | None) -> Cell:
    arm = suite.arms[name]
    home = lambda other: folder / slug(other) / str(seed)
    runs = _Recorder({other: home(other) for other in suite.arms})
    values = {"cell": str(home(name)), "seed": seed, "run": runs}
    changes = {**COMMON, **suite.common, **arm.changes, "seed": seed}
    try:
        overrides = tuple(f"{key}={_text(value).format_map(values)}" for key, value in changes.items())
        before = tuple(command.format_map(values) for command in arm.before)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise UserError(
            f"arm {name!r}: placeholders are {{cell}}, {{seed}} and {{run[ARM]}}: {type(error).__name__}: {error}"
        ) from error
    try:
        settings = config_file.load(suite.config, overrides)
        config.refuse_puzzles(settings, suite.config)
        if suite.budget:
            knobs = lambda: config.flatten(config.to_dict(settings))
            timed = lambda: pace(name, suite.config, overrides, knobs(), defaults) if pace else math.nan
            overrides += (f"train.steps={steps_for(settings, *suite.budget, timed)}",)
            settings = config_file.load(suite.config, overrides)
    except UserError as error:
        raise UserError(f"arm {name!r}: {error}") from error
    if arm.averaged and not settings.train.averages:
        raise UserError(f"arm {name!r}: it is compared by averaged weights, and its config averages none")
    anywhere = lambda value: value.replace(str(folder), "{folder}") if isinstance(value, str) else value
    values = {key: anywhere(value) for key, value in config.flatten(config.to_dict(settings)).items()}
    commands = tuple(map(anywhere, before))
    return Cell(
        name, seed, values, commands, defaults, tuple(sorted(runs.used)), home(name), overrides, before, arm.averaged
    )


def steps_for(settings: config.Config, unit: str, amount: float, step_s: Callable[[], float]) -> int:
    """The steps in which a config spends a budget of "tokens", of training "flops" (evaluation/cost.py), or of
    "seconds", at `step_s()` for a step.

    Raises:
        UserError: another unit; a config whose FLOPs follow a tolerance; less than one step.
    """
    tokens = settings.train.batch_size * settings.model.context
    spent = {"tokens": lambda: tokens, "flops": lambda: tokens * _flops_per_token(settings), "seconds": step_s}
    if unit not in spent:
        raise UserError(f"budget: no unit is called {unit!r}{near(unit, spent)}")
    steps = amount / spent[unit]()
    if not 0.5 <= steps < 1e9:  # nan too
        raise UserError(f"budget: {amount:g} {unit} are {steps:.3g} steps of {tokens:,} tokens")
    return round(steps)


@functools.cache  # the cells of a suite mostly share their text
def _vocabulary(data: config.Data, context: int) -> int:
    from juliagpt_jax.data import corpus

    return corpus.load(data, context).tokenizer.vocab_size


def _flops_per_token(settings: config.Config) -> float:
    return _flops_of(settings.model, _vocabulary(settings.data, settings.model.context))


@functools.cache  # the seeds of an arm have one model
def _flops_of(model: config.Model, vocab: int) -> float:
    import jax
    import jax.numpy as jnp

    from juliagpt_jax.evaluation import cost
    from juliagpt_jax.models import build

    tokens = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    params = jax.eval_shape(build.make(model, vocab).init, jax.random.key(0), tokens)["params"]
    return cost.train_flops_per_token(model, cost.multiplied(model, params), vocab)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _in_order(made: list[Cell]) -> list[Cell]:
    ordered: list[Cell] = []
    done: set[tuple[str, int]] = set()
    while len(ordered) < len(made):
        ready = [c for c in made if (c.arm, c.seed) not in done and all((n, c.seed) in done for n in c.needs)]
        if not ready:
            waiting = sorted({c.arm for c in made if (c.arm, c.seed) not in done})
            raise UserError(f"arms need each other in a circle: {', '.join(waiting)}")
        done.add((ready[0].arm, ready[0].seed))
        ordered.append(ready[0])
    return ordered


def slug(name: str) -> str:
    """A folder name for an arm: letters, digits and dashes; a few characters of a hash where that loses something."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:4]}"
