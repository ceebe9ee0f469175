"""Preferences: of two answers to a question the chosen one becomes more likely than the rejected one.

`dpo` is direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290, equation 7), `ipo` its squared form
(Azar et al. 2023, arXiv 2310.12036, equation 17), with means over an answer's tokens as its authors measure it, `orpo`
the odds ratio beside next tokens (Hong et al. 2024, arXiv 2403.07691, equations 6 and 7), which has no reference.

An answer's reward is beta times how much likelier it has become than under the reference. What the reference says of
all answers is computed once, and kept in the cache by the hash of the examples and of the reference. With
`train.preference.samples` the rejected answers are mistakes that the reference itself makes.
"""

import functools
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.data.batch import Batch
from juliagpt_jax.data.examples.build import Examples
from juliagpt_jax.data.examples.rows import Rows, lay
from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.opened import Opened, open_model
from juliagpt_jax.inference.scoring import losses_of, token_losses
from juliagpt_jax.models.interface import Model
from juliagpt_jax.objectives import experts, penalties
from juliagpt_jax.objectives.beforehand import Arrays, in_parts
from juliagpt_jax.objectives.objective import Apply, Chosen, Memo, Objective, Terms
from juliagpt_jax.objectives.samples import known_by, marked
from juliagpt_jax.objectives.written import hold
from juliagpt_jax.store import init
from juliagpt_jax.store.workdir import Found

ROWS = 32  # that the reference scores at once
PART = 8 * ROWS  # that are kept together
SIDES = ("chosen", "rejected")
ALL = ("chosen", "rejected", "dev-chosen", "dev-rejected")

NEEDS = (
    "rewards are measured from a model; give its workdir, or begin with one by config.train.init, which is then "
    "the reference"
)


class Pair(NamedTuple):
    """`Batch.extra` of pairs: the rejected answers' inputs and targets (B, T) int32, and the log-probabilities (B, 2)
    float32 of the chosen and of the rejected answer under the reference."""

    inputs: Any
    targets: Any
    reference: Any


class Preference(Objective):
    """The mean over pairs of `of`, a function of the two answers' log-probabilities.

    Metrics, named as in the library TRL: `rewards/chosen`, `rewards/rejected`, `rewards/margins`, their difference,
    `rewards/accuracies`, the share of pairs whose chosen answer has the higher reward, `logps/chosen`,
    `logps/rejected`.
    """

    paired: ClassVar[bool] = True
    sampled: Any = None
    curved: ClassVar[bool] = False
    refers: ClassVar[bool] = True  # to a reference model

    def __init__(self, config: config.Config, model: Model, chosen: Chosen | None = None):
        super().__init__(config, model, chosen)
        chosen = hold(config, chosen)
        self.examples, self.penalties = chosen, penalties.make(config, model, chosen)
        wanted = self.refers or config.train.preference.samples
        name = config.train.preference.reference
        self.found = init.named(config, "train.preference.reference", name, NEEDS) if wanted else None
        self.pairs, self.dev = chosen.pairs, np.arange(len(chosen.dev))
        if self.found is not None and config.train.preference.samples:
            self.pairs, self.dev = _own_mistakes(config, chosen, self.found)
        if self.found is None or not self.refers:
            self.reference = tuple(np.zeros((len(own), 2), np.float32) for own in self.pairs[::2])
        else:
            self.reference = _reference(config, chosen, self.found, self.pairs)

    def facts(self) -> dict[str, Any] | None:
        return None if self.found is None else {"reference": known_by(self.found)}

    def laid(self) -> Rows:
        return self.pairs[0]

    def extra(self, drawn: Any) -> Pair:
        other = self.pairs[1].take(drawn)
        return Pair(other.inputs, other.targets, self.reference[0][drawn])

    def count(self, batch: Batch) -> jax.Array:
        return jnp.float32(batch.rows)

    def loss(self, apply: Apply, trained: Any, frozen: Any, memo: Memo, batch: Batch, key: jax.Array) -> Terms:
        other: Pair = batch.extra
        inputs = jnp.concatenate([batch.inputs, other.inputs])
        targets = jnp.concatenate([batch.targets, other.targets])
        logits, _, aux = apply(trained, inputs, key=key)
        logs = jnp.stack(jnp.split(-jnp.sum(token_losses(logits, targets), axis=1), 2), axis=1)  # (B, 2)
        both = Batch(inputs, targets)
        lengths = jnp.sum(both.scored, axis=1)
        losses, rewards = self.both(logs, other.reference, jnp.stack(jnp.split(lengths, 2), axis=1))
        # A pair counts once, so both its answers' targets together weigh 1 in what is said by target.
        weighed = both._replace(weights=(0.5 / jnp.maximum(lengths, 1))[:, None])
        total = jnp.sum(losses)
        for penalty in self.penalties:
            total += penalty(logits, aux, weighed)
        sums = {name: jnp.sum(values) for name, values in _told(losses, rewards, logs).items()}
        return Terms(total, sums | experts.told(self.config.model, aux, weighed))

    def both(self, logs: Any, reference: Any, lengths: Any) -> tuple[Any, Any]:
        """Return the losses and rewards of pairs, with `train.preference.sft` times the chosen answer's loss a token
        (Pang et al. 2024, arXiv 2404.19733, equation 1)."""
        losses, rewards = self.of(logs, reference, lengths)
        return losses - self.config.train.preference.sft * logs[:, 0] / jnp.maximum(lengths[:, 0], 1), rewards

    def of(self, logs: Any, reference: Any, lengths: Any) -> tuple[Any, Any]:
        """Return the losses (B,) and rewards (B, 2) of pairs, each array (B, 2): log-probabilities under the model and
        under the reference, and the numbers of learned tokens."""
        raise NotImplementedError

    def on_dev(self, model: Model, params: Any, which: Any, batch: int, place: Any) -> dict[str, Any]:
        """Return the loss of dev pairs, and their mean rewards and log-probabilities."""
        rows, own = self.pairs[2:], np.flatnonzero(np.isin(self.dev, which))
        if not len(own):
            return {}
        logs = np.stack([_logs(model, params, each, own, batch, place) for each in rows], axis=1)
        lengths = np.stack([(each.take(own).targets >= 0).sum(1) for each in rows], axis=1)
        losses, rewards = self.both(logs, self.reference[1][own], lengths)
        return {name: float(np.mean(values)) for name, values in _told(losses, rewards, logs).items()}


def _told(losses: Any, rewards: Any, logs: Any) -> dict[str, Any]:
    """Return by name what is logged of each pair."""
    sides = {f"rewards/{side}": rewards[:, i] for i, side in enumerate(SIDES)}
    sides |= {f"logps/{side}": logs[:, i] for i, side in enumerate(SIDES)}
    margins = rewards[:, 0] - rewards[:, 1]
    right = (margins > 0).astype(np.float32)
    return {"loss": losses} | sides | {"rewards/margins": margins, "rewards/accuracies": right}


class DPO(Preference):
    """-log sigmoid of the difference of the rewards."""

    def of(self, logs: Any, reference: Any, lengths: Any) -> tuple[Any, Any]:
        rewards = self.config.train.preference.beta * (logs - reference)
        return -jax.nn.log_sigmoid(rewards[:, 0] - rewards[:, 1]), rewards


class IPO(Preference):
    """(difference of the mean log-ratios a token - 1 / (2 beta))^2; beta is the paper's tau."""

    def of(self, logs: Any, reference: Any, lengths: Any) -> tuple[Any, Any]:
        beta = self.config.train.preference.beta
        means = (logs - reference) / jnp.maximum(lengths, 1)
        return (means[:, 0] - means[:, 1] - 1 / (2 * beta)) ** 2, beta * (logs - reference)


class ORPO(Preference):
    """The chosen answer's loss a token, and -beta log sigmoid of the log odds ratio; beta is the paper's lambda. An
    answer's probability is the geometric mean of its tokens'."""

    refers: ClassVar[bool] = False

    def of(self, logs: Any, reference: Any, lengths: Any) -> tuple[Any, Any]:
        beta = self.config.train.preference.beta
        means = jnp.minimum(logs / jnp.maximum(lengths, 1), -1e-6)  # a probability of 1 has no odds
        odds = means - jnp.log(-jnp.expm1(means))
        return -means[:, 0] - beta * jax.nn.log_sigmoid(odds[:, 0] - odds[:, 1]), beta * means


# The reference.


def _own_mistakes(
    settings: config.Config, examples: Examples, found: Found
) -> tuple[tuple[Rows, Rows, Rows, Rows], np.ndarray]:
    """Return pairs whose rejected answer is one that the reference wrote and that is wrong, and which dev examples have
    one; questions to which it wrote none are left out.

    Raises:
        UserError: it makes no mistakes, or as `samples.marked`.
    """
    count, pairs, dev = settings.train.preference.samples, [], np.zeros(0, int)
    sides = zip((examples.encoded, examples.measured), marked(examples, found, count, examples.length), strict=True)
    for encoded, (written, right) in sides:
        wrong = ~right.reshape(-1, count)
        dev = np.flatnonzero(wrong.any(axis=1))
        if not len(dev):
            raise UserError(f"config.train.preference.samples={count}: {found.workdir} makes no mistakes to learn from")
        first = dev * count + wrong[dev].argmax(axis=1)
        for own in ([encoded[i] for i in dev.tolist()], [written[i] for i in first.tolist()]):
            pairs.append(lay(own, examples.length, False))
    return tuple(pairs), dev  # pyright: ignore[reportReturnType]


def _reference(
    settings: config.Config, examples: Examples, found: Found, pairs: Sequence[Rows]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the log-probabilities (N, 2) of the answers to train on, and of those to measure with, under the
    reference: those of the cache, if it has them."""
    if found.tokenizer is not None and found.tokenizer.to_dict() != examples.tokenizer.to_dict():
        raise UserError(
            f"config.train.preference.reference={found.workdir}: its tokenizer is not this run's: the probability of a "
            "token of one says nothing of those of the other"
        )
    if found.config.model.context < examples.length:
        raise UserError(
            f"config.train.preference.reference={found.workdir}: it reads {found.config.model.context} tokens at most, "
            f"and a row of these examples has {examples.length}"
        )
    sampled = settings.train.preference.samples
    named = [known_by(found), examples.fingerprint, settings.train.precision, str(examples.length), str(sampled)]
    sizes: dict[str, int] = dict(zip(ALL, map(len, pairs), strict=True))
    parts = {f"{name}-{i}": (name, i) for name, size in sizes.items() for i in range(-(-size // PART))}

    @functools.cache
    def reference() -> Opened:
        print(f"scoring {sum(sizes.values()):,} answers with the reference {found.workdir}", flush=True)
        opened = open_model(found, settings.train.precision)
        if opened.tokenizer.to_dict() != examples.tokenizer.to_dict():  # of a packed file it is known only now
            raise UserError(f"config.train.preference.reference={found.workdir}: its tokenizer is not this run's")
        return opened

    def which(name: str) -> np.ndarray:
        side, i = parts[name]
        return np.arange(i * PART, min((i + 1) * PART, sizes[side]))

    def make(name: str) -> Arrays:
        rows = pairs[ALL.index(parts[name][0])]
        return {"logs": _logs(reference().model, reference().params, rows, which(name))}

    sound = lambda name, arrays: set(arrays) == {"logs"} and arrays["logs"].shape == which(name).shape
    kept = in_parts("references", named, parts, make, sound)
    of = [side for side, _ in parts.values()]
    side = lambda name: np.concatenate([own["logs"] for own, at in zip(kept, of, strict=True) if at == name])
    logs = [side(name) for name in ALL]
    return np.stack(logs[:2], axis=1), np.stack(logs[2:], axis=1)


def _logs(model: Model, params: Any, rows: Rows, which: Any = None, batch: int = ROWS, place: Any = None) -> np.ndarray:
    """Return the log-probability (N,) float32 of the answer of each row, or of those that are asked for."""
    parts, which = [], np.arange(len(rows)) if which is None else np.asarray(which)
    for first in range(0, len(which), 64 * batch):  # so that not all rows lie in memory at once
        own = rows.take(which[first : first + 64 * batch])
        parts.append(-losses_of(model, params, own.inputs, own.targets, batch, place).sum(axis=1))
    return np.concatenate(parts).astype(np.float32)
