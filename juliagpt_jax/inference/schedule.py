"""The steps on which an ODE model is evaluated and decodes: as trained, as many equal ones as asked for, or a schedule.

A schedule is what a tolerance asks for, measured beforehand: the adaptive controller runs on windows of the training
text, and the steps that it took are kept. Evaluation and decoding use them for every text, so nothing looks ahead.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import NumericalError, UserError
from juliagpt_jax.ground.sealed import read_json, write_json
from juliagpt_jax.inference.scoring import spread
from juliagpt_jax.models import build
from juliagpt_jax.models.depth import ODE, adaptive, evaluations, layers
from juliagpt_jax.models.interface import Model
from juliagpt_jax.store.run import Run

WINDOWS = 8  # of training text, solved together: one step size for all
Schedule = tuple[tuple[float, ...], ...]


def with_ode(decoder: Model, **changes: Any) -> Model:
    """Return the network with other knobs of `config.model.ode`, without its schedule."""
    return decoder.clone(config=_changed(decoder.config, **changes), schedule=(), parent=None)


def _changed(model: config.Model, **changes: Any) -> config.Model:
    return dataclasses.replace(model, ode=dataclasses.replace(model.ode, **changes))


def calibrate(decoder: Model, params: Any, windows: np.ndarray) -> Schedule:
    """Return the times of the steps that a decoder with `ode_rtol` takes on windows (n, context); () for a plain layer.

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
    """Say what a decoder whose numbers are not finite suffers from, as far as its settings tell."""
    model = decoder.config
    if not adaptive(model, decoder.schedule):
        return "the weights or the field are not finite"
    return (
        f"{model.ode.solver} did not arrive at t = 1 in ode.max_steps={model.ode.max_steps} steps at a tolerance of "
        f"{model.ode.rtol:g}; a larger tolerance or more steps help"
    )


def leak(decoder: Model, params: Any, inputs: np.ndarray) -> dict[str, float]:
    """Measure how far a logit of inputs (B, T) moves when it must not: `leak_future` when all later tokens are changed,
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


def training_windows(run: Run) -> np.ndarray:
    """Return the windows (n, context) of a run's training text that a schedule is calibrated on.

    Raises:
        UserError: the text is another one by now.
    """

    def other(why: str) -> NoReturn:
        raise UserError(f"a schedule is calibrated on the training text, and {why}: put it back")

    corpus = run.corpus(other)
    return spread(corpus.train, run.config.model.context, WINDOWS, corpus.tokenizer.lead)[0]


def describe(decoder: Model, scored: Model, params: Any, inputs: np.ndarray) -> dict[str, Any]:
    """Return what a report says of an ODE model: evaluations of blocks and the schedule on which it decodes, and the
    leak of the decoder that was scored. Nothing for a stack."""
    if not decoder.config.has_ode:
        return {}
    return {
        "evaluations": sum(evaluations(decoder.config, decoder.schedule)),
        "schedule": decoder.schedule or f"{decoder.config.ode.steps} equal steps",
        "adaptive": adaptive(scored.config, scored.schedule),
        **leak(scored, params, inputs),
    }


def choose(run: Run, ode: Mapping[str, Any] = MappingProxyType({})) -> tuple[Model, Model | None]:
    """Return a run's decoder on the steps that are asked for, and beside it the adaptive one that its schedule stands
    for, None without a tolerance.

    A schedule is looked for in the checkpoint and in the workdir (schedules.json, by step, solver and tolerance), else
    calibrated on training text, which is read only then, and kept in the workdir.

    Args:
        ode: knobs of `config.model.ode` to change: steps, or rtol; max_steps, solver. Without any it is as trained.

    Raises:
        UserError: the knobs don't go with each other or with the model.
        NumericalError: as `calibrate`.
    """
    decoder, model = run.model, run.config.model
    if not model.has_ode:
        return decoder, None
    asked = {**ode, "min_steps": 0}
    if "steps" in ode:
        asked["rtol"] = 0.0
    if asked.get("rtol", model.ode.rtol):
        asked["adjoint"] = "recursive"
    settled = dataclasses.replace(run.config, model=_changed(model, **asked))
    settled = config.build(config.to_dict(settled))
    build.check(settled)
    found = decoder.clone(config=settled.model, schedule=(), parent=None)
    if not adaptive(found.config):
        return with_ode(found, adjoint=model.ode.adjoint), None
    if not ode and not run.averaged and run.meta.get("schedule"):
        schedule = _checked(run.meta["schedule"], model.layers)
    else:
        schedule = _stored(run, found)
    return with_ode(found, rtol=0.0).clone(schedule=schedule, parent=None), found


def as_trained(run: Run) -> Model:
    """Return the decoder on the steps that the run was trained with."""
    return choose(run)[0]


def _stored(run: Run, found: Model) -> Schedule:
    if run.workdir.is_file():  # a packed model has no folder of its own to keep it in
        return calibrate(found, run.params, training_windows(run))
    path = run.workdir / "schedules.json"
    key = f"step {run.step}{' averaged' if run.averaged else ''}, {found.config.ode.solver}, {found.config.ode.rtol:g}"
    try:
        known = read_json(path) if path.exists() else {}
        if key in known:
            return _checked(known[key], found.config.layers)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged ({error}); remove it, and the schedules are calibrated anew") from error
    schedule = calibrate(found, run.params, training_windows(run))
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
