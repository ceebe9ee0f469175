"""The training loop: dispatch step n, then read the metrics of step n - 1; log, evaluate, save, sample, stop."""

import contextlib
import math
import sys
import time
from collections import abc
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from juliagpt_jax.data import sampler, selection
from juliagpt_jax.data.corpus import Corpus
from juliagpt_jax.evaluation import cost, report
from juliagpt_jax.ground import devices
from juliagpt_jax.ground.config import Config, to_dict
from juliagpt_jax.ground.errors import NumericalError, Stopped, StorageError, UserError
from juliagpt_jax.ground.files import write_text
from juliagpt_jax.inference import schedule, scoring
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.models import parameters
from juliagpt_jax.models.build import at_step, build_model
from juliagpt_jax.models.depth import adaptive
from juliagpt_jax.models.interface import Model
from juliagpt_jax.objectives import ngrams
from juliagpt_jax.store import packed
from juliagpt_jax.store.checkpoint import Checkpoints
from juliagpt_jax.store.workdir import held
from juliagpt_jax.training import metrics as log
from juliagpt_jax.training.mesh import batch_sharding, make_mesh, shardings
from juliagpt_jax.training.signals import StopRequest
from juliagpt_jax.training.state import TrainState, from_items, initial_state, items
from juliagpt_jax.training.step import make_train_step

DEVICE_TOKENS = 2**30  # a token array up to this many bytes lives on the device; a larger one stays memory-mapped
EVAL_BATCH = 32  # rows, rounded up to a multiple of the devices
SAMPLE_RULE = Rule(temperature=0.8)


class Trainer:
    """One run in one workdir, from its newest checkpoint or from nothing to its last step.

    HELD names what a run that goes on must find as it was, beside the config. `compile_s` is the time to compile the
    train step, 0 before `run`.
    """

    HELD = MappingProxyType(
        {
            "data": "the training data",
            "tokenizer": "the tokenizer",
            "selection": "what config.data.scores or .phase_weights read",
        }
    )

    def __init__(self, config: Config, corpus: Corpus, workdir: Path, facts: dict[str, Any]):
        self.config, self.corpus, self.workdir = config, corpus, workdir
        train, model = config.train, config.model
        self.mesh = make_mesh(config)
        self.model = build_model(config, corpus.tokenizer.vocab_size)
        self.chosen = selection.select(corpus, config.data, config.seed, model.context)
        self.plan = selection.plan(self.chosen, config.data, model.context, train.batch_size, train.steps, config.seed)
        self.meta = facts | {
            "config": to_dict(config),
            "data": corpus.fingerprint,
            "selection": self.chosen.fingerprint,
            "tokenizer": corpus.tokenizer.to_dict(),
            **self.extra_meta,
        }
        self.checkpoints = Checkpoints(workdir / "checkpoints", train.keep)
        self.state = self._restore_or_start()
        self.params_count = parameters.count(self.state.params)
        self.multiplied = cost.multiplied(model, self.state.params)
        self._batch_place = batch_sharding(self.mesh)
        self._tokens = None
        if self.chosen.tokens.nbytes <= DEVICE_TOKENS:
            whole = jax.sharding.NamedSharding(self.mesh, jax.sharding.PartitionSpec())
            self._tokens = jax.device_put(np.asarray(self.chosen.tokens), whole)
        self._eval_batch = -(-EVAL_BATCH // self.mesh.size) * self.mesh.size
        self._eval_windows = scoring.spread(corpus.val, model.context, train.eval_windows, self._lead)
        self._generator: Generator | None = None
        self.compile_s = 0.0
        self.train_flops_step = self.step_memory_bytes = float("nan")
        self.evaluations: dict[str, float] = {}

    @property
    def _lead(self) -> int:
        return scoring.lead_token(self.corpus.tokenizer)

    @property
    def extra_meta(self) -> dict[str, Any]:
        """What checkpoints of another kind of run say beside the usual."""
        return {}

    def _first_state(self) -> TrainState:
        return initial_state(self.config, self.model)

    def _make_step(self) -> Any:
        """The jitted step: (state, what `batch` gives) -> (state, metrics)."""
        return make_train_step(self.config, self.model, self.mesh, self.penalty())

    def penalty(self) -> ngrams.Penalty | None:
        return ngrams.make(self.config.train, self.chosen.tokens, self.model.vocab)

    def _restore_or_start(self) -> TrainState:
        make = self._first_state
        shapes = jax.eval_shape(make)
        places = shardings(shapes, self.mesh)
        target = jax.tree.map(lambda s, p: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=p), shapes, places)
        restored = self.checkpoints.restore(items(target))
        if restored is None:
            return jax.jit(make, out_shardings=places)()
        trees, meta = restored
        trained = meta["data"] is not None  # else it is a model from outside
        changed = held(meta["config"], self.config, trained)
        if changed:
            raise UserError(f"{self.workdir}: its checkpoint is of a run with another config ({'; '.join(changed)})")
        for key, name in self.HELD.items():
            if meta[key] != self.meta[key] and (trained or meta[key] is not None):
                raise UserError(
                    f"{self.workdir} was trained with other data: {name} is not what it was "
                    f"({_short(meta[key])} -> {_short(self.meta[key])}); "
                    "put the old text back, or train in another --workdir"
                )
        return from_items(target, trees)

    def batch(self, step: int) -> tuple[jax.Array, jax.Array]:
        """Inputs and targets of a step, on the devices."""
        drawn = sampler.windows(self.plan, step)
        if self._tokens is None:
            return jax.device_put(
                sampler.gather(self.chosen.tokens, *drawn, self.plan.context), (self._batch_place,) * 2
            )
        place = jax.device_put(tuple(column.astype(np.int32) for column in drawn), self._batch_place)
        return sampler.gather_on_device(self._tokens, *place, self.plan.context)

    def run(self) -> None:
        """Train to the last step.

        Raises:
            Stopped: a signal; everything is saved.
            NumericalError: too many non-finite steps in a row.
            StorageError: the last checkpoint could not be written.
        """
        with StopRequest() as stop, contextlib.closing(self.steps(stop)) as steps:
            begun = time.perf_counter()
            # Also where no step is left to do: the report gives the compiler's count, and the cache has the program.
            step_function = self._make_step().lower(*next(steps)).compile()
            self.compiled(step_function, time.perf_counter() - begun)
            asked = next(steps, None)
            while asked is not None:
                try:
                    asked = steps.send(step_function(*asked))
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
        train = self.config.train
        first = int(self.state.step)
        metrics = log.Metrics(self.workdir, first)
        bar = tqdm(
            total=train.steps,
            initial=first,
            unit="step",
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
            smoothing=0.1,
        )
        with bar:
            try:
                yield from self._loop(first, metrics, bar, stop)
            finally:
                self.checkpoints.wait()
                self.checkpoints.close()
                metrics.close()

    def _loop(
        self, first: int, metrics: log.Metrics, bar: tqdm, stop: StopRequest
    ) -> abc.Generator[tuple[TrainState, Any], Any, None]:
        train = self.config.train
        batch = self.batch(first)
        yield self.state, batch
        pending: tuple[int, dict[str, jax.Array]] | None = None
        self._mark = (time.perf_counter(), first)
        for done in range(first + 1, train.steps + 1):
            self.state, fresh = yield self.state, batch
            batch = self.batch(done)  # of the next step, while this one runs
            if pending is not None:
                self._note(*pending, metrics, bar)
            pending = (done, fresh)
            last, stopping = done == train.steps, bool(stop.signal)
            due = last or done % train.checkpoint_every == 0
            evaluate = due or done % train.eval_every == 0  # "best" compares checkpoints, so each one due is evaluated
            save = due or stopping
            sample = train.sample_every and not last and done % train.sample_every == 0
            if evaluate or save or sample:
                self._note(*pending, metrics, bar)
                pending = None
                if evaluate:
                    metrics.write({"step": done} | self._evaluate())
                    self._say(bar, f"step {done}: " + ", ".join(f"{k} {v:.4f}" for k, v in self.evaluations.items()))
                if sample:
                    self._say(bar, self._sample(done))
                if save:  # comes last: a run that resumes here writes nothing of this step again
                    # Of no use for "best" before it is the model that was asked for.
                    final = done > self.config.ternary_step or not self.config.ternary_step
                    val_loss = self.evaluations["val_loss"] if evaluate and final else None
                    self.checkpoints.save(
                        done, items(self.state), self.meta | {"val_loss": val_loss} | self._schedule_of_now()
                    )
                self._mark = (time.perf_counter(), done)
            self.checkpoints.poll()
            if stopping:
                break
        self._end_save()
        if stop.signal:
            raise Stopped(
                f"stopped after step {int(self.state.step)} of {train.steps}; the same command goes on",
                128 + stop.signal,
            )

    def _note(self, step: int, fresh: dict[str, jax.Array], metrics: log.Metrics, bar: tqdm) -> None:
        """Read a step's metrics (this waits for the step), log them if they are due, and give up when they are bad."""
        train = self.config.train
        values = {k: v.item() for k, v in jax.device_get(fresh).items()}
        bad_leaf = values.pop("bad_leaf")
        bar.update(1)
        if step % train.log_every == 0 or step == train.steps:
            now, (then, since) = time.perf_counter(), self._mark
            step_s = (now - then) / max(1, step - since)
            self._mark = (now, step)
            tokens_per_s = train.batch_size * self.config.model.context / step_s
            flops = cost.train_flops_per_token(self.config.model, self.multiplied, self.model.vocab)
            peak = cost.peak_flops(jax.devices()[0].device_kind, train.precision) * self.mesh.size
            bpc = values["loss"] / math.log(2) / self.corpus.characters_per_token[0]
            perplexity = math.exp(min(values["loss"], 700.0)) if math.isfinite(values["loss"]) else float("nan")
            timing = {"tokens_per_s": tokens_per_s, "step_s": step_s, "mfu": tokens_per_s * flops / peak}
            metrics.write({"step": step} | values | {"perplexity": perplexity, "bpc": bpc} | timing)
            bar.set_postfix_str(f"loss {values['loss']:.3f}, {bpc:.3f} bpc, {tokens_per_s:,.0f} tokens/s")
        if values["bad_in_row"] >= train.max_bad_steps:
            names = list(parameters.paths(self.state.params))
            culprit = (
                f"the gradient of {names[bad_leaf]}" if bad_leaf >= 0 else "the loss, or the norm of the gradient,"
            )
            helps = "A lower --config.train.lr helps, or --config.train.precision=f32"
            if train.optimizer == "kfac":
                helps += ". Where K-FAC's step is what is not finite, so does a larger --config.train.kfac.damping"
            if adaptive(self.model.config):
                helps += f". Or {schedule.why(self.model)}"
            raise NumericalError(
                f"step {step}: {culprit} is not finite, for the {values['bad_in_row']}th step in a row; none was "
                f"applied. {helps}"
            )

    def _evaluate(self) -> dict[str, float]:
        """Loss on the fixed validation windows, of the raw weights and, if there are any, of the averaged ones."""
        kinds = {"val_loss": self.state.params}
        if self.state.averaged != ():
            kinds["averaged_val_loss"] = self.state.averaged
        inputs, targets = self._eval_windows
        for name, params in kinds.items():
            losses = scoring.losses_of(
                self._fixed(params), params, inputs, targets, self._eval_batch, self._batch_place
            )
            self.evaluations[name] = scoring.mean_loss(losses, targets)
        return self.evaluations

    def _fixed(self, params: Any) -> Model:
        """The model as it is evaluated and decodes: dense before `train.ternary_from`. Where training follows a
        tolerance that is on the schedule for these weights: the steps of training look ahead."""
        model = at_step(self.config, self.model, int(self.state.step))
        if not adaptive(model.config):
            return model
        windows, _ = scoring.spread(self.corpus.train, model.config.context, schedule.WINDOWS, self._lead)
        times = schedule.calibrate(model, params, windows)
        return schedule.with_ode(model, rtol=0.0).clone(schedule=times, parent=None)

    def _schedule_of_now(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that decoding starts from the workdir alone."""
        return {"schedule": self._fixed(self.state.params).schedule} if adaptive(self.model.config) else {}

    def _load_generator(self) -> Generator:
        """The generator with the weights, and on the schedule, of now."""
        model = self._fixed(self.state.params)
        if self._generator is None or self._generator.model != model:
            self._generator = Generator(model, self.state.params)
        self._generator.load(self.state.params)
        return self._generator

    def _end_save(self) -> None:
        if not self.checkpoints.wait():
            raise StorageError(f"the last checkpoint could not be written: {self.checkpoints.failed}")

    def _sample(self, step: int) -> str:
        generator = self._load_generator()
        prompt = np.array([self._lead])
        tokens = generator.generate([prompt], self.config.train.sample_tokens, SAMPLE_RULE, self.config.seed)
        text = self.corpus.tokenizer.decode(tokens[0])
        folder = self.workdir / "samples"
        folder.mkdir(exist_ok=True)
        write_text(folder / f"{step}.txt", text + "\n")
        return f"--- sample at step {step}\n{text.strip()}\n---"

    def report(self) -> dict[str, Any]:
        """Score the validation text, or `train.final_windows` of it, and generate from the final weights; see
        `evaluation/report.py`."""
        train, tokenizer = self.config.train, self.corpus.tokenizer
        parts = selection.parts(self.corpus.val_chunks, self.config.data.weights_by)
        measure = lambda params: scoring.score_text(
            self._fixed(params),
            params,
            self.corpus.val,
            self._lead,
            batch=self._eval_batch,
            place=self._batch_place,
            parts=parts,
            windows=train.final_windows,
            characters_per_token=self.corpus.characters_per_token[1],
        ).to_dict()
        values: dict[str, Any] = {"workdir": str(self.workdir), "step": train.steps} | measure(self.state.params)
        if self.state.averaged != ():
            values["averaged"] = measure(self.state.averaged)
        generator = self._load_generator()
        texts, chars_per_s = report.write(generator, tokenizer, self.config.seed)
        tokens = train.steps * train.batch_size * self.config.model.context
        flops = cost.train_flops_per_token(self.config.model, self.multiplied, self.model.vocab)
        newest = self.workdir / "checkpoints" / str(train.steps)
        return (
            values
            | report.judge(texts, self.config.data.path == "schoolroom")
            | {
                "entropy": self.corpus.entropy,
                "passages": report.passages(texts),
                "params": self.params_count,
                "tokens": tokens,
                "flops": flops * tokens,
                "compiler_flops": self.train_flops_step * train.steps,
                "checkpoint_bytes": sum(f.stat().st_size for f in newest.rglob("*") if f.is_file()),
                "model_bytes": packed.size(generator.model, self.state.params),
                "step_memory_bytes": self.step_memory_bytes,
                "peak_memory_bytes": devices.peak_memory_bytes(),
                "chars_per_s": chars_per_s,
                "skipped_steps": int(self.state.skipped),
                "compile_s": self.compile_s,
                "compilations": {"train": 1, "eval": scoring.compilations()} | generator.compilations,
                "notes": [*self.corpus.notes, *self.chosen.notes],
                "training_characters": round(len(self.chosen.tokens) * self.corpus.characters_per_token[0]),
            }
        )

    @staticmethod
    def _say(bar: tqdm, text: str) -> None:
        bar.write(text, file=sys.stdout)
        sys.stdout.flush()


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."
