"""What counting characters says about a text, as a term beside the loss: knowledge that needs no gradient step.

A model spends its first steps learning frequencies that a table of counts holds exactly. A prior pulls its predictions
towards that table, with a weight that falls linearly to zero over `train.prior_steps` steps (0: it stays). Each is a
sum over scored tokens that knows one row at a time, so micro-batches and devices do not change it, and none looks
ahead: the tables are those of the training text, fixed before training.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax import config
from juliagpt_jax.data.sampler import IGNORED
from juliagpt_jax.errors import UserError

OFF = "none"
LARGEST_VOCABULARY = 4096  # the table of pairs is its square


@dataclasses.dataclass(frozen=True)
class Counts:
    """Frequencies of a text of V different tokens, smoothed so that none is zero.

    unigram: (V,), (n(v) + 1) / (N + V). bigram: (V, V), row c is (n(cv) + u(v)) / (n(c) + 1), u the unigram.
    bound: the entropy of the bigram, nats a token: no source that has these pair counts has a higher entropy rate.
    """

    unigram: np.ndarray
    bigram: np.ndarray
    bound: float


def count(tokens: np.ndarray, vocab: int) -> Counts:
    """Count a text.

    Raises:
        UserError: the vocabulary is too large for a table of pairs.
    """
    if vocab > LARGEST_VOCABULARY:
        raise UserError(f"config.train.prior: a table of pairs of {vocab} tokens is too large; use {OFF}")
    singles = np.bincount(tokens, minlength=vocab).astype(float)
    pairs = np.zeros(vocab * vocab)
    for at in range(0, len(tokens) - 1, 2**24):  # a memory-mapped text is read piece by piece
        part = np.asarray(tokens[at : at + 2**24 + 1], np.int64)
        pairs += np.bincount(part[:-1] * vocab + part[1:], minlength=vocab * vocab)
    unigram = (singles + 1) / (singles.sum() + vocab)
    pairs = pairs.reshape(vocab, vocab)
    before = pairs.sum(1, keepdims=True)
    bigram = (pairs + unigram) / (before + 1)
    bound = -np.sum(before[:, 0] / before.sum() * np.sum(bigram * np.log(bigram), 1))
    return Counts(unigram, bigram, float(bound))


def _kl(q: jax.Array, log_p: jax.Array) -> jax.Array:
    """KL(q || p) in nats over the last axis."""
    return jnp.sum(q * (jnp.log(q) - log_p), axis=-1)


def unigram(counts: Counts, log_p: jax.Array, inputs: jax.Array, scored: jax.Array) -> jax.Array:
    """Each prediction is pulled to the frequencies: label smoothing whose noise is the unigram."""
    return jnp.sum(jnp.where(scored, _kl(jnp.asarray(counts.unigram, jnp.float32)[None, None], log_p), 0))


def bigram(counts: Counts, log_p: jax.Array, inputs: jax.Array, scored: jax.Array) -> jax.Array:
    """Each prediction is pulled to what follows its last token in the text."""
    return jnp.sum(jnp.where(scored, _kl(jnp.asarray(counts.bigram, jnp.float32)[inputs], log_p), 0))


def zipf(counts: Counts, log_p: jax.Array, inputs: jax.Array, scored: jax.Array) -> jax.Array:
    """The mean prediction over a window is pulled to the frequencies, KL(mean p || unigram) times its scored tokens: a
    law of ranks speaks of the whole, not of each place."""
    weight = scored.astype(jnp.float32)
    size = jnp.sum(weight, -1)
    mean = jnp.sum(jnp.exp(log_p) * weight[..., None], -2) / jnp.maximum(size, 1)[:, None]
    gap = _kl(jnp.maximum(mean, 1e-20), jnp.log(jnp.asarray(counts.unigram, jnp.float32))[None])
    return jnp.sum(gap * size)


def entropy(counts: Counts, log_p: jax.Array, inputs: jax.Array, scored: jax.Array) -> jax.Array:
    """The mean entropy of a window's predictions above the bigram's bound is a fault: the text is known to be surer
    than that. Nothing below the bound."""
    weight = scored.astype(jnp.float32)
    total = jnp.sum(-jnp.sum(jnp.exp(log_p) * log_p, -1) * weight, -1)
    return jnp.sum(jax.nn.relu(total - counts.bound * jnp.sum(weight, -1)))


PRIORS: dict[str, Callable[[Counts, jax.Array, jax.Array, jax.Array], jax.Array]] = {
    "unigram": unigram,
    "bigram": bigram,
    "zipf": zipf,
    "entropy": entropy,
}


def check_name(train: config.Train) -> None:
    """Raises:
    UserError: `train.prior` names no prior, or has no weight, or a weight without a name.
    """
    if train.prior not in (OFF, *PRIORS):
        near = config.near(train.prior, (OFF, *PRIORS))
        raise UserError(f"config.train.prior: no prior is called {train.prior!r}{near}")
    if (train.prior == OFF) != (train.prior_weight == 0):
        raise UserError(
            f"config.train.prior={train.prior} and config.train.prior_weight={train.prior_weight:g}: a prior needs a "
            f"weight above 0, and {OFF} a weight of 0"
        )


def counts_for(train: config.Train, tokens: np.ndarray, vocab: int) -> Counts | None:
    """The counts of the training text, if the config asks for a prior."""
    return None if train.prior == OFF else count(tokens, vocab)


def penalty(train: config.Train, counts: Counts, logits: jax.Array, inputs: jax.Array, targets: jax.Array) -> jax.Array:
    """The prior's sum over the scored tokens of a batch, in nats, without its weight. logits (B, T, V)."""
    return PRIORS[train.prior](counts, jax.nn.log_softmax(logits), inputs, targets != IGNORED)


def weight(train: config.Train, step: jax.Array) -> jax.Array:
    """The weight at a step: `prior_weight`, falling linearly to 0 at `prior_steps` if that is set."""
    left = 1 - step / train.prior_steps if train.prior_steps else jnp.float32(1)
    return jnp.float32(train.prior_weight) * jnp.maximum(left, 0.0)
