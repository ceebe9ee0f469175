"""Penalties for predictions that contradict the n-grams of the corpus: `train.ngram.kind` names one of them.

Counting n-grams takes a second and holds for any model, so it may help one that has seen little. A penalty is a sum
over windows of one number each, times the targets of the window: so it is the same however a batch is cut.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.data.batch import IGNORED
from juliagpt_jax.ground.errors import UserError

LARGEST_TABLE = 2**24  # numbers in a table of n-grams
# penalty(logits (B, T, V), inputs (B, T), targets (B, T)) -> nats, summed over the targets that are not IGNORED.
Penalty = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def unigrams(tokens: np.ndarray, vocab: int) -> np.ndarray:
    """(V,) shares of the tokens."""
    return np.bincount(tokens, minlength=vocab) / len(tokens)


def bigrams(tokens: np.ndarray, vocab: int) -> np.ndarray:
    """(V, V) shares of each token after each; the unigrams' after one that nothing follows.

    Raises:
        UserError: a vocabulary too large for such a table.
    """
    _hold(vocab, 2)
    pairs = tokens[:-1].astype(np.int64) * vocab + tokens[1:]
    counts = np.bincount(pairs, minlength=vocab**2).reshape(vocab, vocab)
    totals = counts.sum(axis=1, keepdims=True)
    return np.where(totals > 0, counts / np.maximum(totals, 1), unigrams(tokens, vocab)[None])


def trigram_entropy(tokens: np.ndarray, vocab: int) -> float:
    """H(X3 | X1 X2) in nats: a model that sees two tokens or more and is right about its doubts doubts less, on
    average, since conditions lower entropy.

    Raises:
        UserError: a vocabulary too large to count its trigrams.
    """
    _hold(vocab, 3)
    wide = tokens.astype(np.int64)

    def entropy(counts: np.ndarray) -> float:
        shares = counts[counts > 0] / counts.sum()
        return -float(np.sum(shares * np.log(shares)))

    triples = np.bincount((wide[:-2] * vocab + wide[1:-1]) * vocab + wide[2:], minlength=vocab**3)
    return entropy(triples) - entropy(triples.reshape(-1, vocab).sum(axis=1))


def zipf_mandelbrot(shares: np.ndarray) -> np.ndarray:
    """The law f(rank) ~ (rank + b)^-a nearest to shares (V,), by the likelihood, put back on the tokens (Mandelbrot
    1953). Tokens that never occur get the tail."""
    from scipy import optimize

    order = np.argsort(-shares, kind="stable")
    ranks, observed = np.arange(1, len(shares) + 1), shares[order]

    def law(point: np.ndarray) -> np.ndarray:
        logs = -np.exp(point[0]) * np.log(ranks + np.exp(point[1]))
        weights = np.exp(logs - logs.max())
        return weights / weights.sum()

    found = optimize.minimize(lambda p: -np.sum(observed * np.log(law(p) + 1e-300)), [0.0, 0.0], method="Nelder-Mead")
    fitted = np.zeros(len(shares))
    fitted[order] = law(found.x)
    return fitted


def _hold(vocab: int, n: int) -> None:
    if vocab**n > LARGEST_TABLE:
        raise UserError(
            f"config.train.ngram.kind: {n}-grams of {vocab} different tokens are too many to count; "
            "zipf counts single tokens"
        )


def _zipf(tokens: np.ndarray, vocab: int) -> Penalty:
    """KL(law || mean prediction of a window): what a window is expected to use follows the corpus's Zipf law."""
    law = jnp.asarray(zipf_mandelbrot(unigrams(tokens, vocab)), jnp.float32)

    def penalty(logits, inputs, targets):
        valid = (targets != IGNORED).astype(jnp.float32)
        count = valid.sum(axis=1)
        mean = jnp.einsum("bt,btv->bv", valid, jax.nn.softmax(logits)) / jnp.maximum(count, 1)[:, None]
        divergence = jnp.sum(law[None] * (jnp.log(law + 1e-20)[None] - jnp.log(mean + 1e-20)), axis=1)
        return jnp.sum(divergence * count)

    return penalty


def _bigram(tokens: np.ndarray, vocab: int) -> Penalty:
    """KL(bigram || prediction) at each target: the regulariser that n-gram smoothing amounts to (Malagutti et al.
    2024, arXiv 2403.17240)."""
    table = bigrams(tokens, vocab)
    entropies = -np.sum(table * np.log(np.where(table > 0, table, 1)), axis=1)
    shares, doubts = jnp.asarray(table, jnp.float32), jnp.asarray(entropies, jnp.float32)

    def penalty(logits, inputs, targets):
        cross = -jnp.sum(shares[inputs] * jax.nn.log_softmax(logits), axis=-1)
        return jnp.sum(jnp.where(targets != IGNORED, cross - doubts[inputs], 0.0))

    return penalty


def _entropy(tokens: np.ndarray, vocab: int) -> Penalty:
    """Penalise windows whose predictions are, on average, more uncertain than the corpus's trigrams."""
    bound = trigram_entropy(tokens, vocab)

    def penalty(logits, inputs, targets):
        valid = (targets != IGNORED).astype(jnp.float32)
        logs = jax.nn.log_softmax(logits)
        entropies = -jnp.sum(jnp.exp(logs) * logs, axis=-1)
        count = valid.sum(axis=1)
        mean = jnp.sum(entropies * valid, axis=1) / jnp.maximum(count, 1)
        return jnp.sum(jnp.maximum(mean - bound, 0.0) * count)

    return penalty


PENALTIES = {"zipf": _zipf, "bigram": _bigram, "entropy": _entropy}
WORDS = {"train.ngram.kind": PENALTIES}
