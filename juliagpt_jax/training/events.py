"""Log, measure on validation text, write a sample and save: all that a run does between its steps."""

import contextlib
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from juliagpt_jax.data import counts
from juliagpt_jax.data.corpus import Corpus
from juliagpt_jax.evaluation import cost
from juliagpt_jax.ground import hosts
from juliagpt_jax.ground.command import duration
from juliagpt_jax.ground.config import Config
from juliagpt_jax.ground.errors import NumericalError
from juliagpt_jax.ground.files import write_text
from juliagpt_jax.inference import schedule, scoring
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.models import adapters, parameters
from juliagpt_jax.models.build import at_step
from juliagpt_jax.models.depth import adaptive
from juliagpt_jax.models.interface import Model
from juliagpt_jax.store.checkpoint import Checkpoints
from juliagpt_jax.training import metrics as log
from juliagpt_jax.training.mesh import batch_sharding, own
from juliagpt_jax.training.state import TrainState, items
from juliagpt_jax.training.tracking import Tracker

EVAL_BATCH = 32  # rows, rounded up to a multiple of the devices
SILENCE = 5.0  # seconds after which a word on how far the run is
SAMPLE_RULE = Rule(temperature=0.8)


class Events:
    """Do what is due after a step of one run, and give the model as measurements and samples see it.

    Attributes:
        eval_batch: rows of a batch that is scored.
        place: the sharding of these rows over the devices.
        row_tokens: of a row of a training step.

    Args:
        token_flops: FLOPs of training on a token, by formula.
        params: those that are trained, for their names alone.
        base: the model's frozen parameters beside these; () for none.
    """

    def __init__(
        self,
        config: Config,
        model: Model,
        corpus: Corpus,
        workdir: Path,
        checkpoints: Checkpoints,
        mesh: jax.sharding.Mesh,
        token_flops: float,
        params: Any,
        base: Any = (),
    ):
        self.config, self.model, self.corpus, self.workdir = config, model, corpus, workdir
        self.checkpoints, self.base = checkpoints, base
        here = own(mesh)
        self.eval_batch = -(-EVAL_BATCH // here.size) * here.size
        self.place = batch_sharding(here)
        self.lead = corpus.tokenizer.lead
        self.row_tokens = config.model.context
        self._prepare()
        self.token_flops, self._names = token_flops, list(parameters.paths(params))
        self._peak_flops = cost.peak_flops(jax.devices()[0].device_kind, config.train.precision) * mesh.size
        self._generator: Generator | None = None
        self._said: set[str] = set()

    def _prepare(self) -> None:
        """Choose what is measured on while the run trains."""
        corpus, settings = self.corpus, self.config
        self._eval_windows = scoring.spread(corpus.val, settings.model.context, settings.train.eval_windows, self.lead)
        self._eval_counts = self._counted() if corpus.unit == "token" else None

    @contextlib.contextmanager
    def opened(self, first: int) -> Iterator[None]:
        """Hold metrics.jsonl, the checkpoints and the progress bar open for the steps after step `first`."""
        tracker = Tracker(self.workdir, self.config) if self.config.train.wandb and hosts.leads() else None
        metrics = log.Metrics(self.workdir, first, tracker)
        tqdm.monitor_interval = 0  # a thread that a bar which moves at every step has no use for
        bar = tqdm(
            total=self.config.train.steps,
            initial=first,
            unit="step",
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
            smoothing=0.1,
        )
        with bar:
            self._metrics, self._bar = metrics, bar
            try:
                yield
            finally:
                self.checkpoints.wait()
                self.checkpoints.close()
                metrics.close()

    def begin(self, step: int) -> None:
        """Take the time from here: the first step after step `step` begins."""
        self._mark = self._begun = (time.perf_counter(), step)
        self._read = self._mark[0]  # when metrics were read last
        self._next_word = self._read + SILENCE

    def note(self, step: int, fresh: dict[str, jax.Array]) -> None:
        """Read the metrics of a step, or of those up to it that one call made, along a first axis (this waits for
        them), log them where they are due, and give up when they are bad.

        Raises:
            NumericalError: `train.max_bad_steps` steps in a row were not finite.
        """
        host = {name: values.reshape(-1) for name, values in jax.device_get(fresh).items()}
        count, before, now = len(host["loss"]), self._read, time.perf_counter()
        self._read = now
        for i in range(count):
            values = {name: column[i].item() for name, column in host.items()}
            self._note(step - count + 1 + i, values, now - (now - before) * (count - 1 - i) / count)

    def _note(self, step: int, values: dict[str, float], now: float) -> None:
        """Log a step that ended at a time by the clock."""
        train = self.config.train
        bad_leaf = int(values.pop("bad_leaf"))
        self._bar.update(1)
        if step % train.log_every == 0 or step == train.steps:
            then, since = self._mark
            step_s = (now - then) / max(1, step - since)
            self._mark = (now, step)
            tokens_per_s = train.batch_size * self.row_tokens / step_s
            mfu = tokens_per_s * self.token_flops / self._peak_flops
            timing = {"tokens_per_s": tokens_per_s, "step_s": step_s, "mfu": mfu}
            self._metrics.write({"step": step} | values | self._read_off(values) | timing)
            self._bar.set_postfix_str(f"{self._now(values)}, {tokens_per_s:,.0f} tokens/s")
        self._progress(step, values)
        if values["bad_in_row"] >= train.max_bad_steps:
            raise NumericalError(self._why_bad(step, int(values["bad_in_row"]), bad_leaf))

    def _read_off(self, values: dict[str, float]) -> dict[str, float]:
        """Return what follows from a step's metrics and is logged with them."""
        perplexity = math.exp(min(values["loss"], 700.0)) if math.isfinite(values["loss"]) else float("nan")
        return {"perplexity": perplexity, "bpc": values["loss"] / math.log(2) / self.corpus.characters_per_token[0]}

    def _now(self, values: dict[str, float]) -> str:
        """Say where training is, in a few numbers."""
        return f"loss {values['loss']:.3f}, {self._read_off(values)['bpc']:.3f} bpc"

    def _why_bad(self, step: int, in_row: int, bad_leaf: int) -> str:
        culprit = (
            f"the gradient of {self._names[bad_leaf]}" if bad_leaf >= 0 else "the loss, or the norm of the gradient,"
        )
        helps = "A lower --config.train.lr helps, or --config.train.precision=f32"
        if self.config.train.optimizer == "kfac":
            helps += ". Where K-FAC's step is what is not finite, so does a larger --config.train.kfac.damping"
        if adaptive(self.model.config):
            helps += f". Or {schedule.why(self.model)}"
        return f"step {step}: {culprit} is not finite, for the {in_row}th step in a row; none was applied. {helps}"

    def due(self, step: int) -> bool:
        """Return true where `act` has something to do after a step."""
        return self._evaluates(step) or self._samples(step) or self._saves(step)

    def next_due(self, step: int) -> int:
        """Return the first step after one after which `act` has something to do."""
        train = self.config.train
        every = [n for n in (train.checkpoint_every, train.eval_every, train.sample_every) if n]
        return min(train.steps, *((step // n + 1) * n for n in every))

    def _saves(self, step: int) -> bool:
        return step == self.config.train.steps or step % self.config.train.checkpoint_every == 0

    def _evaluates(self, step: int) -> bool:
        # "best" compares checkpoints, so each one due is evaluated.
        return self._saves(step) or step % self.config.train.eval_every == 0

    def _samples(self, step: int) -> bool:
        train = self.config.train
        return bool(train.sample_every) and step != train.steps and step % train.sample_every == 0

    def act(self, step: int, state: TrainState, meta: dict[str, Any], stopping: bool) -> None:
        """Measure, write a sample and save, each where it is due; save too where the run is `stopping`.

        Args:
            meta: what a checkpoint says of the run, beside what is added here.
        """
        val_loss = None
        if self._evaluates(step):
            self._once("measuring on validation text; the first time it is compiled")
            measured = self.evaluate(state)
            self._metrics.write({"step": step} | measured)
            self.say(f"step {step}: " + ", ".join(f"{k} {v:.4f}" for k, v in measured.items()))
            # Of no use for "best" before it is the model that was asked for.
            final = step > self.config.ternary_step or not self.config.ternary_step
            val_loss = measured["val_loss"] if final else None
        if self._samples(step):
            self._once("writing a sample; the first time that is compiled")
            self.say(self.sample(state))
        if self._saves(step) or stopping:  # comes last: a run that resumes here writes nothing of this step again
            own = {"val_loss": val_loss, "metrics": self._metrics.fingerprint()}
            self.checkpoints.save(step, items(state), meta | own | self._schedule_of(state))
        self._read = time.perf_counter()
        self._mark = (self._read, step)

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """Return the loss on the fixed validation windows, of the raw weights and, if there are any, of the averaged
        ones, in nats a token; where that is no character also bits per byte and the perplexity of a word."""
        kinds = {"val_loss": self.whole(state.params)}
        if state.averaged != ():
            kinds["averaged_val_loss"] = self.whole(state.averaged)
        inputs, targets = self._eval_windows
        measured = {}
        for name, params in kinds.items():
            model = self.fixed(params, int(state.step))
            losses = scoring.losses_of(model, params, inputs, targets, self.eval_batch, self.place)
            loss = measured[name] = scoring.mean_loss(losses, targets)
            if self._eval_counts:
                score = scoring.Score(loss, targets.size, targets.shape[1], targets.shape[1], self._eval_counts)
                kind = name.removesuffix("loss")
                measured |= {f"{kind}bpb": score.bpb, f"{kind}word_perplexity": score.word_perplexity}
        return measured

    def _counted(self) -> counts.TextCounts:
        """Count what the targets of the validation windows stand for."""
        tokens, settings = self.corpus.val, self.config
        total = np.zeros(3, np.int64)
        for places in scoring.spread_places(len(tokens), settings.model.context, settings.train.eval_windows):
            begin = max(0, places[0] - counts.BACK)  # a window and what is beside it: the whole text may be long
            near = tokens[begin : places[-1] + 1 + counts.BACK]
            chosen = np.zeros(len(near), bool)
            chosen[places - begin] = True
            total += counts.of_tokens(self.corpus.tokenizer, near, chosen)
        return counts.TextCounts(*total.tolist())

    def fixed(self, params: Any, step: int) -> Model:
        """Return the model as it is evaluated and decodes after a step: dense before `train.ternary_from`. Where
        training follows a tolerance that is on the schedule for these weights: the steps of training look ahead."""
        model = at_step(self.config, self.model, step)
        if not adaptive(model.config):
            return model
        times = schedule.calibrate(model, params, self._typical(schedule.WINDOWS))
        return schedule.with_ode(model, rtol=0.0).clone(schedule=times, parent=None)

    def _typical(self, count: int) -> np.ndarray:
        """Return so many windows of what the run trains on, (n, T), on which the steps of an ODE are chosen."""
        return scoring.spread(self.corpus.train, self.config.model.context, count, self.lead)[0]

    def _schedule_of(self, state: TrainState) -> dict[str, Any]:
        """Return what a checkpoint keeps so that decoding starts from the workdir alone."""
        if not adaptive(self.model.config):
            return {}
        return {"schedule": self.fixed(self.whole(state.params), int(state.step)).schedule}

    def whole(self, trained: Any) -> Any:
        """Return all parameters of the model, of those that are trained."""
        return adapters.merge(trained, self.base)

    def generator(self, state: TrainState) -> Generator:
        """Return the generator with the weights, and on the schedule, of a state."""
        params = self.whole(state.params)
        model = self.fixed(params, int(state.step))
        if self._generator is None or self._generator.model != model:
            self._generator = Generator(model, params)
        self._generator.load(params)
        return self._generator

    def sample(self, state: TrainState) -> str:
        """Write a sample to `samples/STEP.txt`, and return it for the terminal."""
        step, prompt = int(state.step), np.array([self.lead])
        tokens = self.generator(state).generate(
            [prompt], self.config.train.sample_tokens, SAMPLE_RULE, self.config.seed
        )
        return self._keep(step, self.corpus.tokenizer.decode(tokens[0]))

    def _keep(self, step: int, text: str) -> str:
        """Write what the model wrote to `samples/STEP.txt`, and return it for the terminal."""
        folder = self.workdir / "samples"
        folder.mkdir(exist_ok=True)
        write_text(folder / f"{step}.txt", text + "\n")
        return f"--- sample at step {step}\n{text.strip()}\n---"

    def _once(self, text: str) -> None:
        """Say what takes longer the first time, as it is compiled then."""
        if text not in self._said:
            self._said.add(text)
            self.say(text)

    def _progress(self, step: int, values: dict[str, float]) -> None:
        """Say how far the run is where no bar shows it: every SILENCE seconds, later every twentieth of the time."""
        now = time.perf_counter()
        if not self._bar.disable or now < self._next_word:
            return
        begun, first = self._begun
        self._next_word = now + max(SILENCE, 0.05 * (now - begun))
        left = (self.config.train.steps - step) * (now - begun) / max(1, step - first)
        self.say(
            f"step {step:,} of {self.config.train.steps:,}: {self._now(values)}; {duration(left)} left, then the report"
        )

    @staticmethod
    def say(text: str) -> None:
        """Print a line, or some, above any progress bar."""
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()
