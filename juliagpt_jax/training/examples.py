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
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.answering import answers
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.models import mixers, parameters
from juliagpt_jax.objectives.build import build_objective
from juliagpt_jax.objectives.objective import Objective
from juliagpt_jax.training import metrics
from juliagpt_jax.training.events import Events
from juliagpt_jax.training.loop import Trainer
from juliagpt_jax.training.mesh import batch_sharding, put
from juliagpt_jax.training.state import TrainState

SAMPLES = 3  # dev examples that a sample answers


class ExampleEvents(Events):
    """Measure on dev examples where a text would be scored, and answer some where it would be written."""

    objective: Objective

    def _prepare(self) -> None:
        self.examples: Examples = self.corpus  # pyright: ignore[reportAttributeAccessIssue]
        self._few = spread(len(self.examples.dev), self.config.train.eval_windows)
        self.row_tokens = self.examples.length

    def _typical(self, count: int) -> np.ndarray:
        rows = self.examples.dev_rows
        return np.asarray(rows.take(spread(len(rows), count)).inputs)

    def losses(self, params: Any, step: int, which: Any) -> tuple[dict[str, float], dict[str, float]]:
        """Measure weights on dev examples: their answers, and what else the objective measures."""
        model, how = self.fixed(params, step), (self.eval_batch, self.place)
        answers = measured.losses(model, params, self.examples, which, *how) if self.objective.answers else {}
        return answers, self.objective.on_dev(model, params, which, *how)

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """Return the loss of the answers of some dev examples, in nats a token, and what else the objective measures of
        them: of the raw weights and, if there are any, of the averaged ones."""
        kinds = {"val_": self.whole(state.params)}
        if state.averaged != ():
            kinds["averaged_val_"] = self.whole(state.averaged)
        values = {}
        for kind, params in kinds.items():
            answers, own = self.losses(params, int(state.step), self._few)
            told = {"loss": answers["loss"]} if answers else {}
            if "loss" in own and answers:
                own |= {"answer_loss": answers["loss"]}
            values |= {kind + name: value for name, value in (told | own).items() if isinstance(value, float)}
        return values

    def sample(self, state: TrainState) -> str:
        """Answer some dev examples, into `samples/STEP.txt` and for the terminal."""
        if not self.objective.answers:
            return ""
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
        self.rows = self.objective.laid()
        train = self.config.train
        if self.objective.writes and train.steps_per_call > 1:
            raise UserError(f"config.train.steps_per_call: {train.objective} writes answers before each step: 1")
        self._each = train.batch_size // (train.written.group if self.objective.writes else 1)
        self.epoch_steps = len(self.rows) / self._each
        scored = sum(int(own.learned[1:].sum()) for own in examples.encoded)
        self.notes = [
            f"{len(examples.train):,} examples, {len(self.rows):,} rows; a row has {self.row_tokens} tokens, and an "
            f"answer {scored / len(examples.train):.3g} on average"
        ]
        return None

    @property
    def row_tokens(self) -> int:
        """Tokens of a row of a step."""
        return getattr(self.objective, "length", self.examples.length)

    def _watch(self) -> Events:
        model, params, base = self.config.model, self.state.params, self.frozen.base
        if isinstance(self.rows, Pairs):
            sizes = self.rows.source_length, self.rows.length - self.rows.source_length
            flops = cost.train_flops_per_pair(model, params, self.model.vocab, *sizes) / self.rows.length
        else:
            used, still = cost.multiplied(model, params), cost.multiplied(model, base)
            flops = cost.train_flops_per_token(model, used + still, self.model.vocab, frozen=still)
        packed = self.config.data.examples.pack
        plain = self.model.clone(packed=False, parent=None) if packed else self.model
        given = self.config, plain, self.corpus, self.workdir, self.checkpoints, self.mesh, flops, params, base
        events = ExampleEvents(*given)  # pyright: ignore[reportArgumentType]
        events.objective, events.row_tokens = self.objective, self.row_tokens
        return events

    def batch(self, step: int) -> Batch:
        """Return the rows of a step: a pure function of seed and step, and of the weights where these write them."""
        return put(self._taken(step), self._batch_place)

    def batches(self, first: int, count: int) -> Batch:
        each = [self._taken(step) for step in range(first, first + count)]
        together = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
        return put(together, batch_sharding(self.mesh, steps=True))

    def _taken(self, step: int) -> Batch:
        drawn = self.rows.drawn(self.config.seed, step, self._each)
        if self.objective.writes:
            return self.objective.written(self._writer(step), drawn)  # pyright: ignore[reportAttributeAccessIssue]
        batch = self.rows.take(drawn)
        return batch._replace(extra=self.objective.extra(drawn)) if batch.extra == () else batch

    def _writer(self, step: int) -> Any:
        """Return the function that writes answers with the weights of now, the state after so many steps."""
        generator, own = self.events.generator(self.state), self.config.train.written
        seed = int(np.random.SeedSequence([self.config.seed, step]).generate_state(1)[0])
        rule, ended = Rule(temperature=own.temperature), self.examples.form.ended
        return lambda prompts, most: answers(generator, prompts, most, ended, rule, seed, len(prompts))

    def plot(self, report: dict[str, Any]) -> None:
        metrics.plot(self.workdir, math.nan, unit="bits per token of an answer")

    def _losses(self, events: ExampleEvents, params: Any) -> dict[str, Any]:
        """Measure weights on all dev examples."""
        answers, own = events.losses(params, int(self.state.step), np.arange(len(self.examples.dev)))
        return answers | ({self.config.train.objective: own} if own else {})

    def _measured(self) -> dict[str, Any]:
        state, events, train, examples = self.state, self.events, self.config.train, self.examples
        assert isinstance(events, ExampleEvents)
        events.say(f"reporting: scoring {len(examples.dev):,} dev examples")
        values: dict[str, Any] = {"workdir": str(self.workdir), "step": train.steps}
        params, averaged = events.whole(state.params), events.whole(state.averaged) if state.averaged != () else ()
        values |= self._losses(events, params) | {"answers": []}
        if averaged != ():
            values["averaged"] = self._losses(events, averaged)
        asked = examples.spread(self.config.data.examples.written if self.objective.answers else 0)
        if asked:
            events.say(f"reporting: answering {len(asked):,} dev examples")
            generator = events.generator(state)
            values |= measured.judge(examples, asked, measured.write(generator, examples, asked))
            if averaged != ():
                generator.load(averaged)
                written = measured.write(generator, examples, asked)
                values["averaged"] |= measured.judge(examples, asked, written)
        tokens = train.steps * train.batch_size * self.row_tokens
        return values | {
            "task": self.config.data.task,
            "entropy": float("nan"),
            "passages": [],
            "train_examples": len(examples.train),
            "dev_examples": len(examples.dev),
            "epochs": train.steps / self.epoch_steps,
            "params": parameters.count(params),
            "trained_params": parameters.count(state.params),
            "tokens": tokens,
            "flops": events.token_flops * tokens,
            "tokenizer_sha256": tokenizer.digest(examples.tokenizer),
            "peak_memory_bytes": devices.peak_memory_bytes(),
            "skipped_steps": int(state.skipped),
            "notes": [*examples.notes, *self.notes],
        }
