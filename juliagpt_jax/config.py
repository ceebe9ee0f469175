"""From a config file and the command line to frozen dataclasses that the rest of the package can trust.

A config file holds `get_config() -> ml_collections.ConfigDict`; `configs/base.py` names every knob. Nothing here has a
default value: values, and what follows from them, live in the config files; types and limits live here. Errors are
`UserError`s of one line.
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

from juliagpt_jax.errors import UserError


def _knob(test: Callable[[Any], bool], says: str) -> Any:
    return dataclasses.field(metadata={"test": test, "says": says})


def _at_least(low: float) -> Any:
    return _knob(lambda v: v >= low, f"must be at least {low}")


def _one_of(*names: str) -> Any:
    return _knob(lambda v: v in names, f"must be one of {', '.join(names)}")


def _any() -> Any:
    return _knob(lambda v: True, "")


def _share() -> Any:
    return _knob(lambda v: 0 <= v <= 1, "must be in [0, 1]")


def _text() -> Any:
    return _knob(lambda v: v.strip() != "", "must not be empty")


@dataclasses.dataclass(frozen=True)
class Data:
    path: str = _text()
    tokenizer: str = _text()
    errors: str = _one_of("strict", "replace")
    unknown: str = _one_of("error", "skip")
    on_bad: str = _one_of("error", "skip")
    max_bad: float = _share()
    max_leak: float = _share()
    scores: str = _any()
    filter: str = _any()
    keep: str = _any()
    phase_weights: str = _any()
    weights_by: str = _text()
    order: str = _text()
    order_by: str = _text()
    order_after: float = _at_least(0)
    order_epochs: float = _at_least(0)
    order_parts: int = _at_least(1)
    pacing: str = _text()
    pacing_start: float = _share()


@dataclasses.dataclass(frozen=True)
class Model:
    width: int = _at_least(2)
    layers: int = _at_least(1)
    heads: int = _at_least(1)
    kv_heads: int = _at_least(0)
    context: int = _at_least(2)
    ffn_mult: float = _knob(lambda v: v > 0, "must be above 0")
    dropout: float = _knob(lambda v: 0 <= v < 1, "must be in [0, 1)")
    tie: bool = _any()
    norm: str = _text()
    norm_eps: float = _knob(lambda v: 0 < v < 1, "must be above 0 and below 1")
    bias: bool = _any()
    positions: str = _one_of("rotary", "learned")
    rope_base: float = _knob(lambda v: v > 1, "must be above 1")
    qk_norm: bool = _any()
    zero_init: bool = _any()
    x0_skip: bool = _any()
    softcap: float = _at_least(0)
    mixer: str = _text()
    channel: str = _text()
    depth: str = _text()
    linear: str = _text()
    ode_solver: str = _text()
    ode_steps: int = _knob(lambda v: 1 <= v <= 1024, "must be in 1 .. 1024")
    ode_min_steps: int = _at_least(0)
    ode_rtol: float = _knob(lambda v: 0 <= v < 1, "must be above 0, or 0 for ode_steps equal steps, and below 1")
    ode_max_steps: int = _knob(lambda v: 1 <= v <= 4096, "must be in 1 .. 4096")
    ode_speed: float = _knob(lambda v: v > 0, "must be above 0")
    ode_time: str = _text()
    ode_modes: int = _at_least(1)
    ode_rank: int = _at_least(1)
    ode_adjoint: str = _text()
    monarch_blocks: int = _at_least(1)
    conv_width: int = _at_least(1)
    filter_order: int = _at_least(1)
    filter_bands: int = _at_least(1)
    filter_sine: float = _knob(lambda v: v > 0, "must be above 0")
    filter_fast: float = _knob(lambda v: v > 0, "must be above 0")
    filter_slow: float = _knob(lambda v: v > 0, "must be above 0")

    @property
    def hidden(self) -> int:
        """F, the hidden width of the channel mixer."""
        return round(self.ffn_mult * self.width)


@dataclasses.dataclass(frozen=True)
class Train:
    steps: int = _at_least(1)
    batch_size: int = _at_least(1)
    accumulate: int = _at_least(0)
    optimizer: str = _text()
    lr: float = _knob(lambda v: v > 0, "must be above 0")
    adam_lr: float = _at_least(0)
    min_lr: float = _at_least(0)
    schedule: str = _text()
    warmup: int = _at_least(0)
    warmup_tokens: int = _at_least(0)
    decay_share: float = _share()
    beta1: float = _knob(lambda v: 0 <= v < 1, "must be in [0, 1)")
    beta2: float = _knob(lambda v: 0 <= v < 1, "must be in [0, 1)")
    muon_momentum: float = _knob(lambda v: 0 <= v < 1, "must be in [0, 1)")
    muon_polar: str = _text()
    soap_every: int = _at_least(1)
    soap_max_side: int = _at_least(1)
    weight_decay: float = _at_least(0)
    weight_decay_schedule: str = _text()
    cautious: bool = _any()
    clip: float = _knob(lambda v: v > 0, "must be above 0")
    kfac_fisher: str = _one_of("sampled", "empirical")
    kfac_sharing: str = _one_of("expand", "reduce")
    kfac_damping: float = _knob(lambda v: v > 0, "must be above 0")
    kfac_kl: float = _at_least(0)
    kfac_ema: float = _knob(lambda v: 0 <= v < 1, "must be in [0, 1)")
    kfac_factors_every: int = _at_least(1)
    kfac_inverse_every: int = _at_least(1)
    ternary_from: float = _knob(lambda v: 0 <= v < 1, "must be in [0, 1)")
    precision: str = _one_of("f32", "bf16", "f16")
    remat: bool = _any()
    ema: float = _knob(lambda v: 0 <= v < 1, "must be in [0, 1)")
    tail: float = _share()
    ode_energy: float = _at_least(0)
    ngram: str = _text()
    ngram_weight: float = _at_least(0)
    max_bad_steps: int = _at_least(1)
    log_every: int = _at_least(1)
    eval_every: int = _at_least(1)
    eval_windows: int = _at_least(1)
    final_windows: int = _at_least(0)
    checkpoint_every: int = _at_least(1)
    keep: int = _at_least(1)
    sample_every: int = _at_least(0)
    sample_tokens: int = _at_least(1)


@dataclasses.dataclass(frozen=True)
class Mesh:
    data: int = _at_least(0)
    model: int = _at_least(1)


@dataclasses.dataclass(frozen=True)
class Config:
    data: Data
    model: Model
    train: Train
    mesh: Mesh
    seed: int = _knob(lambda v: 0 <= v < 2**32, "must be in [0, 2^32)")

    @property
    def warmup_steps(self) -> int:
        """Steps until the learning rate is at its highest: those of `train.warmup_tokens`, else `train.warmup`."""
        tokens = self.train.batch_size * self.model.context
        return -(-self.train.warmup_tokens // tokens) if self.train.warmup_tokens else self.train.warmup

    @property
    def ternary_step(self) -> int:
        """Steps done when model.linear=ternary begins to round; 0: it does from the start."""
        return min(round(self.train.ternary_from * self.train.steps), self.train.steps - 1)


def decay_steps(train: Train) -> int:
    """The last steps, in which the trapezoid comes down."""
    return max(1, round(train.decay_share * train.steps))


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
    """The config saved in a workdir; or, where the workdir is a file, in that packed model (inference/packed.py).

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
