"""The training loop: dispatch step n, then read the metrics of step n - 1; what else is due lies in events.py."""

import contextlib
import signal
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
from juliagpt_jax.data.mixture import Stage
from juliagpt_jax.data.prefetch import Prefetch
from juliagpt_jax.evaluation import cost
from juliagpt_jax.ground import hosts
from juliagpt_jax.ground.config import Config, to_dict
from juliagpt_jax.ground.errors import Stopped, StorageError, UserError
from juliagpt_jax.models import adapters
from juliagpt_jax.models.build import build_model
from juliagpt_jax.objectives.build import build_objective
from juliagpt_jax.store import init
from juliagpt_jax.store.checkpoint import Checkpoints
from juliagpt_jax.store.claim import held
from juliagpt_jax.training import footprint, metrics, report, schedules, start
from juliagpt_jax.training.events import Events
from juliagpt_jax.training.mesh import WHOLE, at_home, batch_sharding, from_leader, make_mesh, put, shardings
from juliagpt_jax.training.signals import StopRequest
from juliagpt_jax.training.state import Frozen, TrainState, from_items, initial_state, items, places
from juliagpt_jax.training.step import make_train_step

DEVICE_TOKENS = 2**30  # a token array up to this many bytes lives on the device; a larger one stays memory-mapped


class Trainer:
    """One run in one workdir, from its newest checkpoint or from nothing to its last step.

    HELD names what a run that goes on must find as it was, beside the config. `epoch_steps` is the number of steps in
    which the text is read once, `settled` the config with what it gives in epochs as it is in steps, for which the step
    is compiled. `compile_s` is the time that takes, 0 before `run`; `waited_s` is the time, of the `steps_s` of
    all steps, in which a device may have waited for its batch: the host had asked for it, and when it came the step
    before was done.
    """

    stages: tuple[Stage, ...] = ()  # of a mixture of texts
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
        self.settled = schedules.settled(config, self.epoch_steps, self.stages)
        base, digest = start.below(config) if config.adapter.rank else ((), None)
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
        self.frozen = put(frozen, shardings(frozen, self.mesh))
        self._batch_place = batch_sharding(self.mesh)
        self._ahead = Prefetch(self._read)
        self.events = self._watch()
        self.compile_s = self.waited_s = self.steps_s = 0.0
        self.train_flops_step = self.step_memory_bytes = float("nan")

    def _choose(self) -> Any:
        """Settle the objective and what of the text each step trains on; return the fingerprint of that."""
        config, train, model = self.config, self.config.train, self.config.model
        self.chosen = selection.select(self.corpus, config.data, config.seed, model.context)
        self.objective = build_objective(config, self.model, self.chosen)
        self.plan = selection.plan(self.chosen, config.data, model.context, train.batch_size, train.steps, config.seed)
        self.epoch_steps = self.plan.epoch_windows / train.batch_size
        self.notes, self.stages = self.chosen.notes, self.chosen.stages
        return self.chosen.fingerprint

    def _watch(self) -> Events:
        """Put the text where batches are made, and return what is to be done between steps."""
        config, model = self.config, self.config.model
        self._tokens = None
        if self.chosen.tokens.nbytes <= DEVICE_TOKENS:
            self._tokens = put(np.asarray(self.chosen.tokens), jax.sharding.NamedSharding(self.mesh, WHOLE))
        multiplied = cost.multiplied(model, self.state.params)
        frozen = cost.multiplied(model, self.frozen.base)
        flops = cost.train_flops_per_token(model, multiplied + frozen, self.model.vocab, frozen=frozen)
        given = (self.model, self.corpus, self.workdir, self.checkpoints, self.mesh, flops, self.state.params)
        return Events(config, *given, self.frozen.base)

    @property
    def row_tokens(self) -> int:
        """Tokens of a row of a step."""
        return self.config.model.context

    def _first_state(self, params: Any = None) -> TrainState:
        return initial_state(self.config, self.model, params, self.objective.memo())

    def _start(self, placed: TrainState) -> TrainState:
        """Begin with weights from the seed, or with those of the run that `train.init` names."""
        if self.config.train.init == "none":
            return jax.jit(self._first_state, out_shardings=placed)()
        if self.config.adapter.rank:
            params = adapters.begin(jax.eval_shape(self._first_state).params, self.config.seed)
        else:
            params, self.meta["init"] = init.weights(self.config)
        return jax.jit(self._first_state, out_shardings=placed)(put(params, placed.params))

    def _restore_or_start(self) -> TrainState:
        shapes = jax.eval_shape(self._first_state)
        placed = places(shapes, self.mesh)
        if hosts.several():
            target = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
        else:
            target = jax.tree.map(lambda s, p: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=p), shapes, placed)
        restored = self.checkpoints.restore(items(target))
        if not hosts.told(restored is not None):
            return self._start(placed)
        if restored is None:
            return from_leader(shapes, placed)
        trees, meta = restored
        self.meta |= {"init": meta["init"]} if "init" in meta else {}
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
        state = from_items(target, trees)
        return from_leader(state, placed) if hosts.several() else state

    def batch(self, step: int) -> Batch:
        """The batch of a step, on the devices."""
        if self._tokens is None:
            drawn, read = self._ahead(step)
            return put(read._replace(extra=self.objective.extra(drawn)), self._batch_place)
        drawn = sampler.windows(self.plan, step)
        extra = put(self.objective.extra(drawn), self._batch_place)
        where = None if self.plan.documents is None else sampler.places(self.plan, step)
        return self._gathered(drawn, where, self._batch_place)._replace(extra=extra)

    def _read(self, step: int) -> tuple[sampler.Windows, Batch]:
        """The windows of a step and its batch, on the host, both in the threads that read ahead."""
        return sampler.windows(self.plan, step), sampler.batch(self.chosen.tokens, self.plan, step)

    def batches(self, first: int, count: int) -> Batch:
        """The batches of the `count` steps from one on, along a first axis, on the devices."""
        place, steps = batch_sharding(self.mesh, steps=True), range(first, first + count)
        together = lambda trees: jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
        if self._tokens is None:
            made = [self._ahead(step) for step in steps]
            return put(together([read._replace(extra=self.objective.extra(drawn)) for drawn, read in made]), place)
        drawn = [sampler.windows(self.plan, step) for step in steps]
        extra = put(together([self.objective.extra(one) for one in drawn]), place)
        where = None
        if self.plan.documents is not None:
            where = np.stack([sampler.places(self.plan, step) for step in steps])
        return self._gathered(together(drawn), where, place)._replace(extra=extra)

    def _gathered(self, drawn: sampler.Windows, where: np.ndarray | None, place: Any) -> Batch:
        """Gather windows from the text on the devices; `where` their tokens lie if not one behind the other."""
        columns = tuple(drawn) if where is None else (where, drawn.lengths)
        columns = put(tuple(column.astype(np.int32) for column in columns), place)
        if where is None:
            return gather_on_device(self._tokens, *columns, self.plan.context)
        return gather_places_on_device(self._tokens, *columns)

    def call(self, done: int) -> int:
        """Return how many steps the call after step `done` makes: `train.steps_per_call`, but one at a time where
        less are left before something is due."""
        count = self.config.train.steps_per_call
        return count if done >= self.config.train.steps or done + count <= self.events.next_due(done) else 1

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
        functions: dict[int, Any] = {}

        def function(state: TrainState, batch: Batch) -> Any:
            """Return the program for a call of as many steps as the batch has."""
            count = len(batch.targets) if batch.targets.ndim > 2 else 1
            if count not in functions:
                self.events.say("compiling the training step")
                begun = time.perf_counter()
                given = self.settled, self.model, self.mesh, self.objective, self.state, self.frozen
                traced = make_train_step(*given, steps=count).trace(state, batch, self.frozen)
                if not functions:
                    needs = footprint.of(traced.jaxpr.jaxpr, state, batch, self.frozen, self.mesh)
                    self.events.say(footprint.says(needs, self.config, self.mesh, footprint.room()))
                functions[count] = traced.lower().compile()
                self.compiled(functions[count], time.perf_counter() - begun)
                hosts.meet()
            return functions[count]

        with StopRequest() as stop, contextlib.closing(self.steps(stop)) as steps:
            # Also where no step is left to do: the report gives the compiler's count, and the cache has the program.
            function(*next(steps))
            asked = next(steps, None)
            while asked is not None:
                try:
                    asked = steps.send(function(*asked)(*asked, self.frozen))
                except StopIteration:
                    asked = None

    def compiled(self, step_function: Any, seconds: float, replicas: int = 1) -> None:
        """Note what compiling the step took, its FLOPs and memory: of `replicas` that it computes at once, one's
        share."""
        self.compile_s += seconds
        flops = cost.compiled_flops(step_function, self.config.train.accumulate, self.model.config)
        self.train_flops_step = flops * self.mesh.size / replicas
        self.step_memory_bytes = float(np.fmax(self.step_memory_bytes, cost.memory_bytes(step_function) / replicas))

    def steps(self, stop: StopRequest) -> abc.Generator[tuple[TrainState, Any], Any, None]:
        """The run as a generator: it yields (state, batch) for each step to do and is sent (new state, metrics); with
        `train.steps_per_call`, for as many steps, with their batches and metrics along a first axis. A first pair, to
        compile for, is answered with None. Raises as `run`.

        So whoever drives it decides how a step is computed: for one run (`run`) or for several (`together.py`).
        """
        train, events, first = self.config.train, self.events, int(self.state.step)
        with events.opened(first), contextlib.closing(self._ahead):
            done, calls, (count, batch) = first, 0, self._next(first)
            yield self.state, batch
            events.begin(first)
            begun, self.waited_s = time.perf_counter(), 0.0
            pending: tuple[int, dict[str, jax.Array]] | None = None
            stopping = False
            while done < train.steps:
                self.state, fresh = yield self.state, batch
                asked = time.perf_counter()
                done += count
                count, batch = self._next(done)  # of the next call, while this one runs
                if all(leaf.is_ready() for leaf in fresh.values()):
                    self.waited_s += time.perf_counter() - asked
                if pending is not None:
                    events.note(*pending)
                pending = (done, fresh)
                calls += 1
                stopping = hosts.stops(bool(stop.signal), calls)
                if events.due(done) or stopping:
                    events.note(*pending)
                    pending = None
                    state = at_home(self.state, self.mesh)
                    if hosts.leads():
                        events.act(done, state, self.meta, stopping)
                    hosts.meet()
                self.checkpoints.poll()
                if stopping:
                    break
            self.steps_s = time.perf_counter() - begun
            self.state = at_home(self.state, self.mesh)
            if not self.checkpoints.wait():
                raise StorageError(f"the last checkpoint could not be written: {self.checkpoints.failed}")
            if stopping or stop.signal:
                raise Stopped(
                    f"stopped after step {int(self.state.step)} of {train.steps}; the same command goes on",
                    128 + (stop.signal or signal.SIGTERM),
                )

    def _next(self, done: int) -> tuple[int, Batch]:
        """Return how many steps the call after a step makes, and their batch."""
        count = self.call(done)
        return count, self.batch(done) if count == 1 else self.batches(done, count)

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
                "data_wait_share": self.waited_s / self.steps_s if self.steps_s else float("nan"),
            }
        )

    def _measured(self) -> dict[str, Any]:
        return report.make(self.state, self.events, self.chosen)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."
