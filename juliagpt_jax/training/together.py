"""Several runs that differ in their seed alone, each in a workdir of its own, computed as one vmapped train step.

On an accelerator n small models cost little more than one. Each keeps its own data order, metrics, checkpoints and
report, as if it had run alone; what is rounded otherwise says `step.make_joint_step`.
"""

import contextlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.ground import hosts
from juliagpt_jax.ground.config import differences, to_dict
from juliagpt_jax.ground.errors import NumericalError, Stopped, StorageError, UserError
from juliagpt_jax.training.loop import Trainer
from juliagpt_jax.training.signals import StopRequest
from juliagpt_jax.training.step import make_joint_step


def run(trainers: Sequence[Trainer]) -> list[Exception | None]:
    """Train all to their last step; for each what ended it before that, a NumericalError or StorageError, or None.

    What a run computes does not depend on the others: they may resume from different steps, and one that is done or
    gave up is computed along and not moved.

    Raises:
        Stopped: a signal; everything is saved.
        UserError: the runs differ in more than the seed, or train on several devices.
    """
    check(trainers)
    first = trainers[0]
    ended: list[Exception | None] = [None] * len(trainers)
    stopped: Stopped | None = None
    with StopRequest() as stop, contextlib.ExitStack() as last:
        runs = [last.enter_context(contextlib.closing(trainer.steps(stop))) for trainer in trainers]
        asked = [next(steps) for steps in runs]
        first.events.say("compiling the training step")
        begun = time.perf_counter()
        joint = make_joint_step(
            first.settled, first.model, first.mesh, [t.config.seed for t in trainers], first.objective
        )
        joint = joint.lower(*zip(*asked, strict=True), first.frozen).compile()
        for trainer in trainers:
            trainer.compiled(joint, time.perf_counter() - begun, len(trainers))
        going = set(range(len(runs)))
        answers: dict[int, Any] = dict.fromkeys(going)
        while going:
            for i, answer in answers.items():
                try:
                    asked[i] = runs[i].send(answer)
                    trainers[i].checkpoints.wait()  # Orbax mixes up saves that run at the same time in one process
                    continue
                except StopIteration:
                    pass
                except (NumericalError, StorageError) as error:
                    ended[i] = error
                except Stopped as request:
                    stopped = request
                going.remove(i)
                asked[i] = trainers[i].state, asked[i][1]
            if going:  # the step uses up the states that it is given, so one that stays is copied
                given = [(s if i in going else jax.tree.map(jnp.copy, s), b) for i, (s, b) in enumerate(asked)]
                out = joint(*zip(*given, strict=True), first.frozen)
                answers = {i: out[i] for i in going}
    if stopped:
        raise stopped
    return ended


def check(trainers: Sequence[Trainer]) -> None:
    """Raises UserError when runs cannot share a step."""
    one = to_dict(trainers[0].config)
    for trainer in trainers:
        differ = differences(one, to_dict(trainer.config), {"seed"})
        if differ:
            raise UserError(f"runs that train together differ in more than the seed: {'; '.join(differ)}")
        if hosts.several():
            raise UserError("--seeds: runs train together in one process, not on several hosts")
        if trainer.config.train.steps_per_call > 1:
            raise UserError("config.train.steps_per_call: runs that train together do one step a call")
        if trainer.mesh.size > 1:
            raise UserError(f"runs train together on one device, not on {trainer.mesh.size}: --config.mesh.data=1")
        if trainer.config.train.ngram.weight and not np.array_equal(trainer.chosen.tokens, trainers[0].chosen.tokens):
            raise UserError("config.train.ngram.weight: runs that train together need the same training text")
        if trainer.settled.train != trainers[0].settled.train:
            raise UserError("config.train.decay_tau, .ema_half_life: of runs that train together each has other epochs")
        if trainer.meta["base"] != trainers[0].meta["base"]:
            raise UserError("config.train.init: runs that train together have the same weights below their adapters")
        if trainer.objective.facts() != trainers[0].objective.facts():
            raise UserError("config.train.objective: runs that train together need the same of what it reads")
