"""Learn from one's own answers: the model writes some to each question, and a verifier says which are right.

`grpo` (Shao et al. 2024, arXiv 2402.03300, section 4.1, with one update for each batch of answers, in which the ratio
of the probabilities is 1, and without a penalty on the distance to a reference): an answer's advantage is its reward
less the mean of its group, over their standard deviation. `expert_iteration` (Anthony et al. 2017, arXiv 1705.08439,
with a verifier in place of a search) learns the right answers alone.

Answers are written before the step, on the host, by the parameters that it begins with: what they are depends on these,
the seed and the number of the step alone, so that a run that goes on writes the same.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.data.batch import Batch
from juliagpt_jax.data.examples.build import Examples
from juliagpt_jax.data.examples.rows import Encoded, lay
from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.scoring import token_losses
from juliagpt_jax.models.interface import Model
from juliagpt_jax.objectives import experts, penalties
from juliagpt_jax.objectives.objective import Apply, Chosen, Memo, Objective, Terms

SPARE = 8  # tokens that an answer may have beyond the longest one of the examples
# write(prompts, most) -> the ids (n,) that the model writes behind each prompt, with what ends them.
Write = Callable[[Sequence[np.ndarray], int], list[np.ndarray]]


class Group:
    """Questions with several answers each that a model has written to them, as rows of a batch.

    Args:
        examples: the questions, as a run has them.
        own: how many answers, and how long.

    Attributes:
        size: answers to a question.
        length: inputs of a row, which holds the longest question with an answer of `most` tokens.

    Raises:
        UserError: as `hold`; the rows of a batch are no whole groups, or no answer has room.
    """

    def __init__(self, settings: config.Config, examples: Any):
        own, examples = settings.train.written, hold(settings, examples)
        if settings.train.batch_size % own.group:
            raise UserError(
                f"config.train.written.group={own.group} does not divide train.batch_size={settings.train.batch_size}"
            )
        self.examples, self.size = examples, own.group
        self.asked = [examples.form.asked(example) for example in examples.train]
        self.most = own.most or examples.longest_answer + SPARE
        longest, context = max(map(len, self.asked)), settings.model.context
        self.length = min(-(-(longest + self.most) // 8) * 8, context)
        if longest >= self.length:
            raise UserError(f"config.model.context={context}: no room for an answer to a question of {longest} tokens")

    def write(self, write: Write, drawn: np.ndarray) -> tuple[Batch, list[Example], list[np.ndarray]]:
        """Return the rows of answers to the examples drawn, group by group, and of each row the example and the ids
        that were written."""
        chosen = np.repeat(drawn, self.size).tolist()
        asked = [self.asked[i] for i in chosen]
        room = self.length + 1 - max(map(len, asked))
        answers = write(asked, min(self.most, room))
        rows = [
            Encoded(np.concatenate([a, b]).astype(np.int32), np.repeat([False, True], [len(a), len(b)]))
            for a, b in zip(asked, answers, strict=True)
        ]
        return lay(rows, self.length, False).take(range(len(rows))), [self.examples.train[i] for i in chosen], answers


def hold(settings: config.Config, chosen: Any) -> Examples:
    """Return the examples of a run whose rows hold one answer each, behind its question.

    Raises:
        UserError: it trains on a text, packs its rows, or weighs n-grams; or its model reads questions apart.
    """
    name = settings.train.objective
    if not isinstance(chosen, Examples):
        raise UserError(f"config.train.objective={name}: it learns from examples: --config.data.task=...")
    if chosen.pack:
        raise UserError(f"config.data.examples.pack: a row of {name} holds one answer")
    if settings.model.kind != "decoder":
        raise UserError(f"config.model.kind={settings.model.kind}: {name} is for models that go on from a question")
    if settings.train.ngram.weight:
        raise UserError(f"config.train.ngram.weight: {name} learns no text that n-grams could be counted in")
    return chosen


class Graded(NamedTuple):
    """`Batch.extra` of answers: what each row's mean log-probability is multiplied by, and its reward; (B,) float32."""

    advantages: Any
    rewards: Any


class GRPO(Objective):
    """The mean over answers of minus the advantage times the mean log-probability of a token.

    Metrics: `reward`, the share of right answers; `surprise`, the mean of -log p of a token that was written;
    `mixed`, the share of answers whose group has right and wrong ones: the others teach nothing.
    """

    writes: ClassVar[bool] = True
    curved: ClassVar[bool] = False
    sampled: Any = None

    def __init__(self, config: config.Config, model: Model, chosen: Chosen | None = None):
        super().__init__(config, model, chosen)
        self.group = Group(config, chosen)
        self.length, self.penalties = self.group.length, penalties.make(config, model, chosen)

    def written(self, write: Write, drawn: np.ndarray) -> Batch:
        batch, examples, answers = self.group.write(write, drawn)
        form, verify = self.group.examples.form, self.group.examples.verify
        right = [
            form.ended(ids) is not None and verify(example, form.answered(ids))
            for example, ids in zip(examples, answers, strict=True)
        ]
        rewards = np.array(right, np.float32)
        advantages = self.advantages(rewards.reshape(-1, self.group.size)).astype(np.float32)
        return batch._replace(extra=Graded(advantages.reshape(-1), rewards))

    def advantages(self, rewards: np.ndarray) -> np.ndarray:
        """Return the advantages of groups of answers from their rewards, (P, G) each."""
        return (rewards - rewards.mean(axis=1, keepdims=True)) / (rewards.std(axis=1, keepdims=True) + 1e-4)

    def count(self, batch: Batch) -> jax.Array:
        return jnp.float32(batch.rows)

    def loss(self, apply: Apply, trained: Any, frozen: Any, memo: Memo, batch: Batch, key: jax.Array) -> Terms:
        own: Graded = batch.extra
        logits, _, aux = apply(trained, *batch.given, key=key)
        lengths = jnp.maximum(jnp.sum(batch.scored, axis=1), 1)
        surprise = jnp.sum(token_losses(logits, batch.targets), axis=1) / lengths
        total = loss = jnp.sum(own.advantages * surprise)
        even = batch._replace(weights=(1 / lengths)[:, None])
        for penalty in self.penalties:
            total += penalty(logits, aux, even)
        sums = {"loss": loss, "reward": jnp.sum(own.rewards), "surprise": jnp.sum(surprise)}
        sums["mixed"] = jnp.sum((own.advantages != 0).astype(jnp.float32))
        return Terms(total, sums | experts.told(self.config.model, aux, even))


class ExpertIteration(GRPO):
    """The mean over answers of -log p a token, of the right ones alone."""

    def advantages(self, rewards: np.ndarray) -> np.ndarray:
        return rewards
