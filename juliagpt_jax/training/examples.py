"""A run that learns from examples: what it does otherwise than one on a text."""

import math
from typing import Any

import jax
import numpy as np

from juliagpt_jax.data import tokenizer
from juliagpt_jax.data.batch import Batch
from juliagpt_jax.data.examples.build import Examples, spread
from juliagpt_jax.data.examples.pairs import Pairs
from juliagpt_jax.evaluation import cost
from juliagpt_jax.evaluation import examples as measured
from juliagpt_jax.ground import devices
from juliagpt_jax.models import mixers, parameters
from juliagpt_jax.objectives.build import build_objective
from juliagpt_jax.training import metrics
from juliagpt_jax.training.events import Events
from juliagpt_jax.training.loop import Trainer
from juliagpt_jax.training.state import TrainState

SAMPLES = 3  # dev examples that a sample answers


class ExampleEvents(Events):
    """Measure on dev examples where a text would be scored, and answer some where it would be written."""

    def _prepare(self) -> None:
        self.examples: Examples = self.corpus  # pyright: ignore[reportAttributeAccessIssue]
        self._few = spread(len(self.examples.dev), self.config.train.eval_windows)
        self.row_tokens = self.examples.length

    def _typical(self, count: int) -> np.ndarray:
        rows = self.examples.dev_rows
        return np.asarray(rows.take(spread(len(rows), count)).inputs)

    def losses(self, params: Any, step: int, which: Any) -> dict[str, float]:
        """Measure weights on dev examples."""
        given = self.fixed(params, step), params, self.examples, which, self.eval_batch, self.place
        return measured.losses(*given)

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """Return the loss of the answers of some dev examples, in nats a token: of the raw weights and, if there are
        any, of the averaged ones."""
        kinds = {"val_loss": state.params}
        if state.averaged != ():
            kinds["averaged_val_loss"] = state.averaged
        return {name: self.losses(params, int(state.step), self._few)["loss"] for name, params in kinds.items()}

    def sample(self, state: TrainState) -> str:
        """Answer some dev examples, into `samples/STEP.txt` and for the terminal."""
        asked = self.examples.spread(SAMPLES)
        written = measured.write(self.generator(state), self.examples, asked)
        pairs = zip((own.prompt for own in asked), written, strict=True)
        lines = [" -> ".join(map(measured.shown, pair)) for pair in pairs]
        return self._keep(int(state.step), "\n".join(lines))

    def _read_off(self, values: dict[str, float]) -> dict[str, float]:
        finite = math.isfinite(values["loss"])
        return {"perplexity": math.exp(min(values["loss"], 700.0)) if finite else float("nan")}

    def _now(self, values: dict[str, float]) -> str:
        return f"loss {values['loss']:.3f}"


class ExampleTrainer(Trainer):
    """`Trainer` on examples: `corpus` is an `Examples`."""

    def _choose(self) -> Any:
        examples: Examples = self.corpus  # pyright: ignore[reportAssignmentType]
        self.examples = examples
        if self.config.data.examples.pack:
            mixers.check_packed(self.config.model, "config.data.examples.pack")
            self.model = self.model.clone(packed=True, parent=None)
        self.objective = build_objective(self.config, self.model, examples)
        self.rows = examples.rows
        self.epoch_steps = len(self.rows) / self.config.train.batch_size
        scored = sum(int(own.learned[1:].sum()) for own in examples.encoded)
        places = len(self.rows) * examples.length
        self.notes = [
            f"{len(examples.train):,} examples in {len(self.rows):,} rows of {examples.length} tokens; "
            f"{scored / places:.0%} of the places are learned from"
        ]
        return None

    @property
    def row_tokens(self) -> int:
        """Tokens of a row of a step."""
        return self.examples.length

    def _watch(self) -> Events:
        model, params = self.config.model, self.state.params
        if isinstance(self.rows, Pairs):
            sizes = self.rows.source_length, self.rows.length - self.rows.source_length
            flops = cost.train_flops_per_pair(model, params, self.model.vocab, *sizes) / self.rows.length
        else:
            flops = cost.train_flops_per_token(model, cost.multiplied(model, params), self.model.vocab)
        packed = self.config.data.examples.pack
        plain = self.model.clone(packed=False, parent=None) if packed else self.model
        return ExampleEvents(self.config, plain, self.corpus, self.workdir, self.checkpoints, self.mesh, flops, params)

    def batch(self, step: int) -> Batch:
        """Return the rows of a step: a pure function of seed and step."""
        drawn = self.rows.drawn(self.config.seed, step, self.config.train.batch_size)
        batch = self.rows.take(drawn)._replace(extra=self.objective.extra(drawn))
        return jax.device_put(batch, self._batch_place)

    def plot(self, report: dict[str, Any]) -> None:
        metrics.plot(self.workdir, math.nan, unit="bits per token of an answer")

    def _measured(self) -> dict[str, Any]:
        state, events, train, examples = self.state, self.events, self.config.train, self.examples
        assert isinstance(events, ExampleEvents)
        every = range(len(examples.dev))
        events.say(f"reporting: scoring {len(examples.dev):,} dev examples")
        values: dict[str, Any] = {"workdir": str(self.workdir), "step": train.steps}
        values |= events.losses(state.params, int(state.step), every)
        values |= {"answers": []}
        if state.averaged != ():
            values["averaged"] = events.losses(state.averaged, int(state.step), every)
        asked = examples.spread(self.config.data.examples.written)
        if asked:
            events.say(f"reporting: answering {len(asked):,} dev examples")
            generator = events.generator(state)
            values |= measured.judge(examples, asked, measured.write(generator, examples, asked))
            if state.averaged != ():
                generator.load(state.averaged)
                written = measured.write(generator, examples, asked)
                values["averaged"] |= measured.judge(examples, asked, written)
        tokens = train.steps * train.batch_size * examples.length
        return values | {
            "task": self.config.data.task,
            "entropy": float("nan"),
            "passages": [],
            "train_examples": len(examples.train),
            "dev_examples": len(examples.dev),
            "epochs": train.steps / self.epoch_steps,
            "params": parameters.count(state.params),
            "tokens": tokens,
            "flops": events.token_flops * tokens,
            "tokenizer_sha256": tokenizer.digest(examples.tokenizer),
            "peak_memory_bytes": devices.peak_memory_bytes(),
            "skipped_steps": int(state.skipped),
            "notes": [*examples.notes, *self.notes],
        }
