"""The training loop: dispatch step n, then read the metrics of step n - 1; what else is due lies in events.py."""

import contextlib
import time
from collections import abc
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from juliagpt_jax.data import sampler, selection
from juliagpt_jax.data.batch import Batch, gather_on_device, gather_places_on_device
from juliagpt_jax.data.corpus import Corpus
from juliagpt_jax.evaluation import cost
from juliagpt_jax.ground.config import Config, to_dict
from juliagpt_jax.ground.errors import Stopped, StorageError, UserError
from juliagpt_jax.models.build import build_model
from juliagpt_jax.objectives.build import build_objective
from juliagpt_jax.store.checkpoint import Checkpoints
from juliagpt_jax.store.claim import held
from juliagpt_jax.training import metrics, report, schedules, start
from juliagpt_jax.training.events import Events
from juliagpt_jax.training.mesh import batch_sharding, make_mesh, shardings
from juliagpt_jax.training.signals import StopRequest
from juliagpt_jax.training.state import Frozen, TrainState, from_items, initial_state, items, places
from juliagpt_jax.training.step import make_train_step

DEVICE_TOKENS = 2**30  # a token array up to this many bytes lives on the device; a larger one stays memory-mapped


class Trainer:
    """One run in one workdir, from its newest checkpoint or from nothing to its last step.

    HELD names what a run that goes on must find as it was, beside the config. `epoch_steps` is the number of steps in
    which the text is read once, `settled` the config with what it gives in epochs as it is in steps, for which the step
    is compiled. `compile_s` is the time that takes, 0 before `run`.
    """

    HELD = MappingProxyType(
        {
            "data": "the training data",
            "tokenizer": "the tokenizer",
            "selection": "what config.data.scores or .phase_weights read",
            "objective": "what config.train.objective reads",
        }
    )

    def __init__(self, config: Config, corpus: Corpus, workdir: Path, facts: dict[str, Any]):
        self.config, self.corpus, self.workdir = config, corpus, workdir
        self.mesh = make_mesh(config)
        self.model = build_model(config, corpus.tokenizer.vocab_size)
        selected = self._choose()
        self.settled = schedules.settled(config, self.epoch_steps)
        base, digest = start.below(config, corpus.tokenizer) if config.adapter.rank else ((), None)
        self.meta = facts | {
            "config": to_dict(config),
            "data": corpus.fingerprint,
            "selection": selected,
            "tokenizer": corpus.tokenizer.to_dict(),
            "objective": self.objective.facts(),
            "base": digest,
        }
        self.checkpoints = Checkpoints(workdir / "checkpoints", config.train.keep)
        self.state = self._restore_or_start()
        frozen = Frozen(base, self.objective.frozen())
        self.frozen = jax.device_put(frozen, shardings(frozen, self.mesh))
        self._batch_place = batch_sharding(self.mesh)
        self.events = self._watch()
        self.compile_s = 0.0
        self.train_flops_step = self.step_memory_bytes = float("nan")

    def _choose(self) -> Any:
        """Settle the objective and what of the text each step trains on; return the fingerprint of that."""
        config, train, model = self.config, self.config.train, self.config.model
        self.chosen = selection.select(self.corpus, config.data, config.seed, model.context)
        self.objective = build_objective(config, self.model, self.chosen)
        self.plan = selection.plan(self.chosen, config.data, model.context, train.batch_size, train.steps, config.seed)
        self.epoch_steps = self.plan.epoch_windows / train.batch_size
        self.notes = self.chosen.notes
        return self.chosen.fingerprint

    def _watch(self) -> Events:
        """Put the text where batches are made, and return what is to be done between steps."""
        config, model = self.config, self.config.model
        self._tokens = None
        if self.chosen.tokens.nbytes <= DEVICE_TOKENS:
            whole = jax.sharding.NamedSharding(self.mesh, jax.sharding.PartitionSpec())
            self._tokens = jax.device_put(np.asarray(self.chosen.tokens), whole)
        multiplied = cost.multiplied(model, self.state.params)
        frozen = cost.multiplied(model, self.frozen.base)
        flops = cost.train_flops_per_token(model, multiplied + frozen, self.model.vocab, frozen=frozen)
        given = (self.model, self.corpus, self.workdir, self.checkpoints, self.mesh, flops, self.state.params)
        return Events(config, *given, self.frozen.base)

    def _first_state(self) -> TrainState:
        return initial_state(self.config, self.model, memo=self.objective.memo())

    def _restore_or_start(self) -> TrainState:
        make = self._first_state
        shapes = jax.eval_shape(make)
        placed = places(shapes, self.mesh)
        target = jax.tree.map(lambda s, p: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=p), shapes, placed)
        restored = self.checkpoints.restore(items(target))
        if restored is None:
            if self.config.train.init == "none" or self.config.adapter.rank:
                return jax.jit(make, out_shardings=placed)()
            begin = lambda weights: initial_state(self.config, self.model, weights, self.objective.memo())
            given = jax.device_put(start.weights(self.config, self.corpus.tokenizer), placed.params)
            return jax.jit(begin, out_shardings=placed, donate_argnums=0)(given)
        trees, meta = restored
        trained = meta["data"] is not None  # else it is a model from outside
        changed = held(meta["config"], self.config, trained)
        if changed:
            raise UserError(f"{self.workdir}: its checkpoint is of a run with another config ({'; '.join(changed)})")
        for key, name in self.HELD.items():
            was = meta.get(key)  # one of before there were objectives says nothing of them
            if was != self.meta[key] and (trained or was is not None):
                raise UserError(
                    f"{self.workdir} was trained with other data: {name} is not what it was "
                    f"({_short(was)} -> {_short(self.meta[key])}); "
                    "put the old text back, or train in another --workdir"
                )
        if meta.get("base") != self.meta["base"]:
            raise UserError(
                f"{self.workdir}: its adapters were trained beside other weights than those of config.train.init="
                f"{self.config.train.init}; put the old ones back, or train in another --workdir"
            )
        return from_items(target, trees)

    def batch(self, step: int) -> Batch:
        """The batch of a step, on the devices."""
        drawn = sampler.windows(self.plan, step)
        extra = jax.device_put(self.objective.extra(drawn), self._batch_place)
        if self._tokens is None:
            whole = sampler.batch(self.chosen.tokens, self.plan, step)
            return jax.device_put(whole, self._batch_place)._replace(extra=extra)
        put = lambda columns: jax.device_put(tuple(c.astype(np.int32) for c in columns), self._batch_place)
        if self.plan.documents is None:
            whole = gather_on_device(self._tokens, *put(drawn), self.plan.context)
        else:
            whole = gather_places_on_device(self._tokens, *put((sampler.places(self.plan, step), drawn.lengths)))
        return whole._replace(extra=extra)

    def share(self, other: "Trainer") -> None:
        """Hold the frozen weights of another run, whose hash is the same, in place of one's own."""
        self.frozen, self.events.base = other.frozen, other.frozen.base

    def run(self) -> None:
        """Train to the last step.

        Raises:
            Stopped: a signal; everything is saved.
            NumericalError: too many non-finite steps in a row.
            StorageError: the last checkpoint could not be written.
        """
        with StopRequest() as stop, contextlib.closing(self.steps(stop)) as steps:
            self.events.say("compiling the training step")
            begun = time.perf_counter()
            # Also where no step is left to do: the report gives the compiler's count, and the cache has the program.
            train_step = make_train_step(self.settled, self.model, self.mesh, self.objective, self.state, self.frozen)
            step_function = train_step.lower(*next(steps), self.frozen).compile()
            self.compiled(step_function, time.perf_counter() - begun)
            asked = next(steps, None)
            while asked is not None:
                try:
                    asked = steps.send(step_function(*asked, self.frozen))
                except StopIteration:
                    asked = None

    def compiled(self, step_function: Any, seconds: float, replicas: int = 1) -> None:
        """Note what compiling the step took, its FLOPs and memory: of `replicas` that it computes at once, one's
        share."""
        self.compile_s = seconds
        flops = cost.compiled_flops(step_function, self.config.train.accumulate, self.model.config)
        self.train_flops_step = flops * self.mesh.size / replicas
        self.step_memory_bytes = cost.memory_bytes(step_function) / replicas

    def steps(self, stop: StopRequest) -> abc.Generator[tuple[TrainState, Any], Any, None]:
        """The run as a generator: it yields (state, batch) for each step to do and is sent (new state, metrics). A
        first pair, to compile for, is answered with None. Raises as `run`.

        So whoever drives it decides how a step is computed: for one run (`run`) or for several (`together.py`).
        """
        train, events, first = self.config.train, self.events, int(self.state.step)
        with events.opened(first):
            batch = self.batch(first)
            yield self.state, batch
            events.begin(first)
            pending: tuple[int, dict[str, jax.Array]] | None = None
            for done in range(first + 1, train.steps + 1):
                self.state, fresh = yield self.state, batch
                batch = self.batch(done)  # of the next step, while this one runs
                if pending is not None:
                    events.note(*pending)
                pending = (done, fresh)
                stopping = bool(stop.signal)
                if events.due(done) or stopping:
                    events.note(*pending)
                    pending = None
                    events.act(done, self.state, self.meta, stopping)
                self.checkpoints.poll()
                if stopping:
                    break
            if not self.checkpoints.wait():
                raise StorageError(f"the last checkpoint could not be written: {self.checkpoints.failed}")
            if stop.signal:
                raise Stopped(
                    f"stopped after step {int(self.state.step)} of {train.steps}; the same command goes on",
                    128 + stop.signal,
                )

    def plot(self, report: dict[str, Any]) -> None:
        """Draw the course of training."""
        metrics.plot(self.workdir, report["entropy"], self.corpus.characters_per_token)

    def report(self) -> dict[str, Any]:
        """Return what is to be known of the run that has ended (`training/report.py`)."""
        applied = self.config.train.steps - int(self.state.skipped)
        own = self.objective.report(jax.device_get(self.state.memo), applied)
        return (
            self._measured()
            | own
            | {
                "compiler_flops": self.train_flops_step * self.config.train.steps,
                "step_memory_bytes": self.step_memory_bytes,
                "compile_s": self.compile_s,
            }
        )

    def _measured(self) -> dict[str, Any]:
        return report.make(self.state, self.events, self.chosen)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."
