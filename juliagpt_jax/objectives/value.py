"""A verifier: a model learns how likely an answer is right, from answers of a generator that are marked (Cobbe et al.
2021, arXiv 2110.14168, section 4.2).

A finished run, the generator, writes several answers to each question; the task's verifier marks them. That is done
once, and kept in the cache by the hash of the examples and of the generator. The model judges behind each token of an
answer, or behind the last (`inference/judging.py` says what its verdict is). Where an answer can be right in one form
alone, as a sum, it can also learn behind each token whether all is right up to there (Lightman et al. 2023, arXiv
2305.20050, whose steps are tokens here): where the first mistake is, and not only that there is one.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from juliagpt_jax.data.batch import IGNORED, Batch
from juliagpt_jax.data.examples.rows import MULTIPLE, Encoded, Rows
from juliagpt_jax.ground import config
from juliagpt_jax.inference.judging import ends, reliability, verdicts
from juliagpt_jax.inference.scoring import token_losses
from juliagpt_jax.models.interface import Model
from juliagpt_jax.objectives import experts, penalties
from juliagpt_jax.objectives.objective import Apply, Chosen, Memo, Objective, Terms
from juliagpt_jax.objectives.samples import known_by, marked
from juliagpt_jax.objectives.written import hold
from juliagpt_jax.store import init

NEEDS = (
    "a verifier learns from answers that a model wrote; give its workdir, or begin with one by config.train.init, "
    "which is then the one"
)


@dataclasses.dataclass(frozen=True, eq=False)
class Marked(Rows):
    """Answers that are marked, one a row: a row's inputs are all its ids, and its targets 1 where an answer stands that
    is right, 0 where one stands that is wrong.

    Attributes:
        right: (N,) bool.
        last: judge behind the last id alone.
        begun: (N,) int, so many of the first ids are those of the right answer; None: not asked for.
    """

    right: np.ndarray
    last: bool
    begun: np.ndarray | None = None

    def take(self, which: Any) -> Batch:
        """Return some rows, as NumPy arrays."""
        inputs = np.zeros((len(which), self.length), np.int32)
        targets = np.full_like(inputs, IGNORED)
        for row, number in enumerate(which):
            ids, learned = self.examples[number]
            inputs[row, : len(ids)] = ids
            places = np.arange(len(ids))
            judged = places == len(ids) - 1 if self.last else learned
            true = np.full(len(ids), self.right[number])
            if self.begun is not None:
                true[:-1] |= places[:-1] < self.begun[number]
            targets[row, : len(ids)] = np.where(judged, true, IGNORED)
        return Batch(inputs, targets)


def _begun(answers: Sequence[Encoded], wanted: Sequence[Encoded], samples: int) -> np.ndarray:
    """Return how many of the first ids of each answer are those of the right one, `samples` to each question."""
    found = []
    for number, answer in enumerate(answers):
        ids, right = answer.ids, wanted[number // samples].ids
        same = ids[: len(right)] == right[: len(ids)]
        found.append(len(same) if same.all() else int(np.argmin(same)))
    return np.array(found)


class Value(Objective):
    """The mean over answers of the cross entropy of the verdict, which is a mean over an answer's tokens; and
    `train.value.text` times the loss of the right tokens themselves, so that the model does not forget how to write
    them (Cobbe et al., section 4.2, where both are learned together).

    Metrics: `accuracy`, the share of tokens behind which the verdict is true.
    """

    answers: ClassVar[bool] = False
    curved: ClassVar[bool] = False
    sampled: Any = None

    def __init__(self, config: config.Config, model: Model, chosen: Chosen | None = None):
        super().__init__(config, model, chosen)
        chosen = hold(config, chosen)
        self.found = init.named(config, "train.value.generator", config.train.value.generator, NEEDS)
        level, samples, context = config.train.value.level, config.train.value.samples, config.model.context
        sides = marked(chosen, self.found, samples, context)
        size = max(len(own.ids) for encoded, _ in sides for own in encoded)  # what ends an answer is read, too
        self.length = min(-(-size // MULTIPLE) * MULTIPLE, context)
        laid = []
        for (encoded, right), wanted in zip(sides, (chosen.encoded, chosen.measured), strict=True):
            begun = _begun(encoded, wanted, samples) if level == "prefix" else None
            each = [[i] for i in range(len(encoded))]
            laid.append(Marked(encoded, each, self.length, False, right, level == "solution", begun))
        self.rows, self.dev_rows = laid
        self.penalties = penalties.make(config, model, chosen)

    def facts(self) -> dict[str, Any]:
        return {"generator": known_by(self.found)}

    def laid(self) -> Marked:
        return self.rows

    def count(self, batch: Batch) -> jax.Array:
        return jnp.float32(batch.rows)

    def loss(self, apply: Apply, trained: Any, frozen: Any, memo: Memo, batch: Batch, key: jax.Array) -> Terms:
        logits, _, aux = apply(trained, *batch.given, key=key)
        even = batch._replace(weights=1 / jnp.maximum(jnp.sum(batch.scored, axis=1, keepdims=True), 1))
        odds, labels = verdicts(logits), (batch.targets > 0).astype(jnp.float32)
        losses = jnp.where(batch.scored, optax.sigmoid_binary_cross_entropy(odds, labels), 0.0)
        true = batch.scored & ((odds > 0) == (labels > 0))
        total = loss = jnp.sum(even.weighed(losses))
        if self.config.train.value.text:
            true_next = jnp.where(batch.targets[:, 1:] > 0, batch.inputs[:, 1:], IGNORED)
            written = jnp.pad(token_losses(logits[:, :-1], true_next), ((0, 0), (1, 0)))
            total += self.config.train.value.text * jnp.sum(even.weighed(written))
        for penalty in self.penalties:
            total += penalty(logits, aux, even)
        sums = {"loss": loss, "accuracy": jnp.sum(even.weighed(true.astype(jnp.float32)))}
        return Terms(total, sums | experts.told(self.config.model, aux, even))

    def on_dev(self, model: Model, params: Any, which: Any, batch: int, place: Any) -> dict[str, Any]:
        """Return the cross entropy and the reliability of the verdicts behind answers to dev examples."""
        samples = self.config.train.value.samples
        rows = (np.asarray(which)[:, None] * samples + np.arange(samples)).reshape(-1)
        odds = ends(model, params, [self.dev_rows.examples[i].ids for i in rows.tolist()], self.length, batch)
        right = self.dev_rows.right[rows]
        loss = float(np.mean(np.logaddexp(0, np.where(right, -odds, odds))))
        return {"loss": loss} | reliability(1 / (1 + np.exp(-odds.astype(float))), right)
