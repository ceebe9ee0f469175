"""Which token comes next, given the logits."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from juliagpt_jax.ground.errors import UserError


@dataclasses.dataclass(frozen=True)
class Rule:
    """How a token is drawn from softmax(logits / temperature), restricted first to the top k, then to the nucleus.

    Attributes:
        temperature: above 0.
        top_k: keep the k most likely tokens; 0 keeps all. Ties at the k-th place are kept.
        top_p: keep the smallest set of most likely tokens whose probability is at least p (Holtzman et al. 2020, arXiv
            1904.09751, section 3.1); 1 keeps all.
        greedy: take the most likely token; the other fields are then without effect.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    greedy: bool = False

    def __post_init__(self):
        if not 0 < self.temperature < float("inf"):
            raise UserError(
                f"temperature must be above 0, not {self.temperature}; --greedy takes the most likely token"
            )
        if self.top_k < 0:
            raise UserError(f"top_k must be at least 0, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p must be in (0, 1], not {self.top_p}")


def distribution(rule: Rule, logits: jax.Array) -> jax.Array:
    """Probabilities (..., V), float32, of the next token."""
    logits = logits.astype(jnp.float32)
    if rule.greedy:
        return jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1])
    # Shifted first, so that a very low temperature gives 0 and -inf, not inf - inf.
    logits = (logits - jnp.max(logits, axis=-1, keepdims=True)) / max(rule.temperature, 1e-30)
    if rule.top_k and rule.top_k < logits.shape[-1]:
        kth = jax.lax.top_k(logits, rule.top_k)[0][..., -1:]
        logits = jnp.where(logits < kth, -jnp.inf, logits)
    probabilities = jax.nn.softmax(logits, axis=-1)
    return nucleus(probabilities, rule.top_p) if rule.top_p < 1 else probabilities


def nucleus(probabilities: jax.Array, top_p: Any) -> jax.Array:
    """Probabilities (..., V) with all but the smallest set of most likely tokens that make up `top_p`, a number or
    (..., 1), set to 0 and the rest made to add up to 1; ties at its border are kept."""
    ordered = jnp.sort(probabilities, axis=-1)[..., ::-1]
    before = jnp.cumsum(ordered, axis=-1) - ordered  # probability of everything more likely
    least = jnp.min(jnp.where(before < top_p, ordered, jnp.inf), axis=-1, keepdims=True)
    kept = jnp.where(probabilities < least, 0.0, probabilities)
    return kept / jnp.sum(kept, axis=-1, keepdims=True)


def draw(rule: Rule, logits: jax.Array, uniform: jax.Array) -> jax.Array:
    """The next token (B,) int32: the inverse of the cumulative distribution at `uniform` (B,), each in [0, 1).

    One uniform number a token, made outside the loop, is cheaper than the V Gumbel numbers of `jax.random.categorical`.
    """
    if rule.greedy:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    return pick(distribution(rule, logits), uniform)


def pick(weights: jax.Array, uniform: jax.Array) -> jax.Array:
    """The token (B,) int32 at which the cumulative sum of weights (B, V), none negative, passes the share `uniform`
    (B,) of their total."""
    # A sum in parallel may round differently at a token of weight zero: such a token is never the first above.
    cumulative = jnp.where(weights > 0, jnp.cumsum(weights, axis=-1), 0.0)
    threshold = uniform[:, None] * jnp.max(cumulative, axis=-1, keepdims=True)
    return jnp.argmax(cumulative > threshold, axis=-1).astype(jnp.int32)
