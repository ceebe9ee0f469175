"""Measure trained models on a text: what `evaluate` reports of each."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from juliagpt_jax.data import corpus as corpora
from juliagpt_jax.data import folding, selection
from juliagpt_jax.evaluation import cost, protocol, reading, report, routing, yardsticks
from juliagpt_jax.ground import devices
from juliagpt_jax.ground.errors import NumericalError, UserError
from juliagpt_jax.inference import schedule, scoring
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.opened import Opened
from juliagpt_jax.models import parameters
from juliagpt_jax.models.interface import Model
from juliagpt_jax.store.run import Run


class Asked(NamedTuple):
    """A measurement as it is asked for.

    Attributes:
        source: the file or folder that is scored; "" for the validation part of the run's own text.
        passages, documents: what was read of it.
        stride: tokens that each window scores anew; 0: half the context.
        unknown: what becomes of characters that the tokenizer lacks: error, skip or fold.
        seed: of what the model writes.
        adaptive: score with steps of ODE layers that adapt to each batch.
        written: tokens of text that the model writes, whose diversity and speed are told; 0: none.
    """

    source: str = ""
    passages: Sequence[str] = ()
    documents: bool = False
    stride: int = 0
    unknown: str = "error"
    seed: int = 0
    adaptive: bool = False
    written: int = report.GENERATED_TOKENS


class Scored(NamedTuple):
    """A model's losses: the network that has them, one for each token that was scored, and a function that makes a
    score of such losses."""

    model: Model
    losses: np.ndarray
    summed: Callable[..., scoring.Score]
    score: scoring.Score


class Text:
    """A text in the tokens of a run, on which its weights are measured, of one checkpoint or of many.

    Attributes:
        tokens: what is scored.
        corpus: the run's own, where it is needed; else None.
        source: what the tokens are, for a reader.
    """

    def __init__(self, run: Run, asked: Asked, note: Callable[[str], Any], corpus: bool = False):
        """Load and encode the text.

        Args:
            note: is told what a reader of the numbers must know.
            corpus: the run's own text is needed as well, in the run's tokens.

        Raises:
            UserError: it is not there, the tokenizer lacks characters of it, or nothing is in it.
        """
        self.asked, self.tokenizer, settings = asked, run.tokenizer, run.config
        self.parts, self.left_out, self.corpus = {}, 0, None
        self.source, self.entropy, self.counted = asked.source, math.nan, {}
        passages, documents = list(asked.passages), asked.documents
        if not asked.source or corpus:
            self.corpus = run.corpus(note)
        same = self.corpus is not None and self.corpus.tokenizer.to_dict() == self.tokenizer.to_dict()
        if corpus and not same:
            raise UserError(
                f"{settings.data.path} is not in the tokens of {run.workdir}: no n-grams, no gradients of it"
            )
        if self.corpus is not None and not asked.source:
            own = self.corpus
            self.source = f"validation part of {settings.data.path}"
            self.entropy, self.counted = own.entropy, yardsticks.of(own)
            passages = corpora.texts(own.tokenizer, own.val, own.val_chunks.lengths)
            documents, passages = own.documents, passages if own.documents else ["".join(passages)]
        if self.corpus is not None and not asked.source and same:
            self.tokens = self.corpus.val
            self.parts = selection.parts(self.corpus.val_chunks, settings.data.weights_by)
        else:
            if asked.unknown == "fold":
                passages = [folding.fold(self.tokenizer, passage)[0] for passage in passages]
            encode = lambda passage: folding.encode(self.tokenizer, passage, asked.unknown)
            self.tokens, _ = corpora.joined(self.tokenizer, passages, documents, encode)
            text = "".join(passages)
            self.left_out = sum(map(text.count, self.tokenizer.unknown(text)))
        if len(self.tokens) == 0:
            raise UserError(f"{self.source}: no text to score")
        self._generator: Generator | None = None

    def score(self, opened: Opened) -> Scored:
        """Score the whole text with a model.

        Raises:
            NumericalError: the loss is not finite.
        """
        context = opened.run.config.model.context
        stride = self.asked.stride or context // 2
        model = (opened.adaptive if self.asked.adaptive else None) or opened.model
        losses, places = scoring.in_order(model, opened.params, self.tokens, self.tokenizer.lead, stride)

        def summed(losses: np.ndarray, parts: dict[str, np.ndarray] | None = None) -> scoring.Score:
            return scoring.summed(losses, places, self.tokens, context, stride, self.tokenizer, parts)

        score = summed(losses, self.parts)
        if not math.isfinite(score.loss):
            raise NumericalError(f"{opened.run.workdir}: the loss is not finite: {schedule.why(model)}")
        return Scored(model, losses, summed, score)

    def measure(self, opened: Opened, scored: Scored, workdir: str) -> dict[str, Any]:
        """Return all that is to be known of a model whose losses are known, with a text that it writes."""
        run, model, weights, tokenizer = opened.run, opened.model, opened.params, self.tokenizer
        settings, score = run.config, scored.score
        own = self._write(opened) if self.asked.written else {"compilations": {}}
        trained = run.step * settings.train.batch_size * settings.model.context
        used = cost.multiplied(settings.model, run.params)
        spread = scoring.spread(self.tokens, settings.model.context, 8, tokenizer.lead)[0]
        values = {
            "workdir": workdir,
            "data": self.source,
            "step": run.step,
            **score.to_dict(),
            "unit": tokenizer.unit,
            "protocol": protocol.line(score, self.tokens, tokenizer, self.source),
            "left_out": self.left_out,
            "entropy": self.entropy,
            "params": parameters.count(run.params),
            "active_params": parameters.active(run.params, settings.model),
            "tokens": trained,
            "flops": trained * cost.train_flops_per_token(settings.model, used, tokenizer.vocab_size),
            **schedule.describe(model, scored.model, weights, spread),
            **routing.measure(model, weights, self.tokens, tokenizer.lead),
            "checkpoint_bytes": _size(run.folder),
            "params_bytes": _size(run.folder / "params" if run.folder.is_dir() else run.folder),
            "peak_memory_bytes": devices.peak_memory_bytes(),
            **own,
            "compilations": {"eval": scoring.compilations()} | own["compilations"],
            "counted": self.counted,
        }
        return values | {"words": reading.read(score.bpc, self.entropy, self.counted, tokenizer.unit)}

    def _write(self, opened: Opened) -> dict[str, Any]:
        """Return how fast a model writes, and what is to be known of the text."""
        model, weights, schoolroom = opened.model, opened.params, opened.run.config.data.path == "schoolroom"
        if self._generator is None or self._generator.model != model:
            self._generator = Generator(model, weights)
        self._generator.load(weights)
        texts, chars_per_s = report.write(self._generator, self.tokenizer, self.asked.seed, self.asked.written)
        about = {"written": sum(map(len, texts)), "chars_per_s": chars_per_s}
        return about | report.judge(texts, schoolroom) | {"compilations": self._generator.compilations}


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(f.stat().st_size for f in (path.rglob("*") if path.is_dir() else [path]) if f.is_file())
