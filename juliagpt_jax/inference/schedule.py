"""On which steps an ODE model is evaluated and decodes: as trained, as many equal ones as asked for, or a schedule.

A schedule is what a tolerance asks for, measured beforehand: the adaptive controller runs on windows of the training
text, and the steps that it took are kept. Evaluation and decoding use them for every text, so nothing looks ahead.
"""

import dataclasses
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.data import corpus as corpora
from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import NumericalError, UserError
from juliagpt_jax.ground.files import write_json
from juliagpt_jax.inference.scoring import lead_token, spread
from juliagpt_jax.models import build
from juliagpt_jax.models.depth import ODE, adaptive, evaluations, layers
from juliagpt_jax.models.interface import Model

WINDOWS = 8  # of training text, solved together: one step size for all
FLAGS = ("ode_solver", "ode_steps", "ode_rtol", "ode_max_steps")
Schedule = tuple[tuple[float, ...], ...]


def with_ode(decoder: Model, **changes: Any) -> Model:
    """Return the network with other knobs of `config.model.ode`, without its schedule."""
    return decoder.clone(config=_changed(decoder.config, **changes), schedule=(), parent=None)


def _changed(model: config.Model, **changes: Any) -> config.Model:
    return dataclasses.replace(model, ode=dataclasses.replace(model.ode, **changes))


def calibrate(decoder: Model, params: Any, windows: np.ndarray) -> Schedule:
    """The times of the steps that a decoder with `ode_rtol` takes on windows (n, context); () for a plain layer.

    Raises:
        NumericalError: it doesn't arrive: too many steps, or numbers that are not finite.
    """
    decoder = with_ode(decoder, adjoint="recursive")  # the one that can say where its steps were
    *_, aux = jax.jit(decoder.apply)({"params": params}, jnp.asarray(windows))
    left, schedule = list(jax.device_get(aux["ode"])), []
    for layer, kind in enumerate(layers(decoder.config)):
        if not isinstance(kind, ODE):
            schedule.append(())
            continue
        solve = left.pop(0)
        if not solve.ok:
            raise NumericalError(_why(decoder, params, windows, layer))
        times = [float(t) for t in solve.times if np.isfinite(t)]
        schedule.append((*times[:-1], 1.0))
    return tuple(schedule)


def _why(decoder: Model, params: Any, windows: np.ndarray, layer: int) -> str:
    one_step = with_ode(decoder, rtol=0.0, solver="euler", steps=1, min_steps=0)
    if not np.isfinite(jax.jit(one_step.apply)({"params": params}, jnp.asarray(windows))[0]).all():
        return f"layer {layer}: the field of the ODE is not finite"
    return f"layer {layer}: {why(decoder)}"


def why(decoder: Model) -> str:
    """What a decoder whose numbers are not finite suffers from, as far as its settings tell."""
    model = decoder.config
    if not adaptive(model, decoder.schedule):
        return "the weights or the field are not finite"
    return (
        f"{model.ode.solver} did not arrive at t = 1 in ode.max_steps={model.ode.max_steps} steps at a tolerance of "
        f"{model.ode.rtol:g}; a larger tolerance or more steps help"
    )


def leak(decoder: Model, params: Any, inputs: np.ndarray) -> dict[str, float]:
    """How far a logit of inputs (B, T) moves when it must not: `leak_future` when all later tokens are changed,
    `leak_rows` when all other rows are. Exactly 0 on a schedule."""
    run = jax.jit(lambda tokens: decoder.apply({"params": params}, tokens)[0])
    half = inputs.shape[1] // 2
    later, others = inputs.copy(), inputs.copy()
    later[:, half:] = (later[:, half:] + 1) % decoder.vocab
    others[1:] = (others[1:] + 1) % decoder.vocab
    logits, after_later, after_others = (np.asarray(run(jnp.asarray(tokens))) for tokens in (inputs, later, others))
    return {
        "leak_future": float(np.abs(logits - after_later)[:, :half].max()),
        "leak_rows": float(np.abs(logits - after_others)[0].max()),
    }


def training_windows(run: Any, corpus: Any) -> np.ndarray:
    """The windows of a run's training text that a schedule is calibrated on.

    Raises:
        UserError: the text is another one by now.
    """
    if corpus.fingerprint != run.meta["data"]:
        path = run.config.data.path
        raise UserError(f"a schedule is calibrated on the training text, and {path} is not what it was: put it back")
    return spread(corpus.train, run.config.model.context, WINDOWS, lead_token(corpus.tokenizer))[0]


def describe(decoder: Model, scored: Model, params: Any, inputs: np.ndarray) -> dict[str, Any]:
    """What a report says of an ODE model: evaluations of blocks and the schedule on which it decodes, and the leak of
    the decoder that was scored. Nothing for a stack."""
    if not decoder.config.has_ode:
        return {}
    return {
        "evaluations": sum(evaluations(decoder.config, decoder.schedule)),
        "schedule": decoder.schedule or f"{decoder.config.ode.steps} equal steps",
        "adaptive": adaptive(scored.config, scored.schedule),
        **leak(scored, params, inputs),
    }


def choose(run: Any, workdir: Path, options: Any) -> tuple[Model, Model | None]:
    """The decoder that the --ode_ flags ask for, and beside it the adaptive one that its schedule stands for.

    A schedule is looked for in the workdir (schedules.json, by step, solver and tolerance), else calibrated on
    training text, which is read only then, and kept there. The second is None without a tolerance.

    Raises:
        UserError: the flags don't go with each other or with the model.
        NumericalError: as `calibrate`.
    """
    decoder, model = run.model, run.config.model
    asked = {name.removeprefix("ode_"): getattr(options, name) for name in FLAGS if getattr(options, name) is not None}
    if not model.has_ode:
        if asked:
            raise UserError(f"--ode_{next(iter(asked))}: no layer of this model is an ODE (model.depth={model.depth})")
        return decoder, None
    flags = bool(asked)
    if "steps" in asked:
        asked["rtol"] = 0.0
    asked["min_steps"] = 0
    if asked.get("rtol", model.ode.rtol):
        asked["adjoint"] = "recursive"
    settled = dataclasses.replace(run.config, model=_changed(model, **asked))
    settled = config.build(config.to_dict(settled))
    build.check(settled)
    found = decoder.clone(config=settled.model, schedule=(), parent=None)
    if not adaptive(found.config):
        return with_ode(found, adjoint=model.ode.adjoint), None
    if not flags and not options.averaged and run.meta.get("schedule"):
        schedule = _checked(run.meta["schedule"], model.layers)
    else:
        schedule = _stored(run, workdir, options.averaged, found)
    return with_ode(found, rtol=0.0).clone(schedule=schedule, parent=None), found


def as_trained(run: Any, workdir: Path, averaged: bool = False) -> Model:
    """What `choose` gives where no flag is set: the decoder on the steps that the run was trained with.

    Args:
        averaged: whether the run's weights are its averaged ones, which have a schedule of their own.
    """
    return choose(run, workdir, SimpleNamespace(**dict.fromkeys(FLAGS), averaged=averaged))[0]


def _stored(run: Any, workdir: Path, averaged: bool, found: Model) -> Schedule:
    path = workdir / "schedules.json"
    key = f"step {run.step}{' averaged' if averaged else ''}, {found.config.ode.solver}, {found.config.ode.rtol:g}"
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if key in known:
            return _checked(known[key], found.config.layers)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged ({error}); remove it, and the schedules are calibrated anew") from error
    corpus = corpora.load(run.config.data, run.config.model.context)
    schedule = calibrate(found, run.params, training_windows(run, corpus))
    write_json(path, known | {key: schedule})
    return schedule


def _checked(values: Any, layers: int) -> Schedule:
    schedule = tuple(tuple(float(t) for t in times) for times in values)
    for times in schedule:
        rises = all(a < b for a, b in itertools.pairwise(times))
        if times and not (rises and times[0] == 0 and times[-1] == 1):
            raise ValueError(f"{times} does not rise from 0 to 1")
    if len(schedule) != layers:
        raise ValueError(f"{len(schedule)} schedules for {layers} layers")
    return schedule
