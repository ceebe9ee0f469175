"""Draw the next token, given the logits."""

from typing import Any

import jax
import jax.numpy as jnp

from juliagpt_jax.inference.rule import Rule as Rule


def distribution(rule: Rule, logits: jax.Array) -> jax.Array:
    """Return probabilities (..., V), float32, of the next token."""
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
    """Return probabilities (..., V) with all but the smallest set of most likely tokens that make up `top_p`, a number
    or (..., 1), set to 0 and the rest made to add up to 1; ties at its border are kept."""
    ordered = jnp.sort(probabilities, axis=-1)[..., ::-1]
    before = jnp.cumsum(ordered, axis=-1) - ordered  # probability of everything more likely
    least = jnp.min(jnp.where(before < top_p, ordered, jnp.inf), axis=-1, keepdims=True)
    kept = jnp.where(probabilities < least, 0.0, probabilities)
    return kept / jnp.sum(kept, axis=-1, keepdims=True)


def draw(rule: Rule, logits: jax.Array, uniform: jax.Array) -> jax.Array:
    """Return the next token (B,) int32: the inverse of the cumulative distribution at `uniform` (B,), each in [0, 1).

    One uniform number a token, made outside the loop, is cheaper than the V Gumbel numbers of `jax.random.categorical`.
    """
    if rule.greedy:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    return pick(distribution(rule, logits), uniform)


def pick(weights: jax.Array, uniform: jax.Array) -> jax.Array:
    """Return the token (B,) int32 at which the cumulative sum of weights (B, V), none negative, passes the share
    `uniform` (B,) of their total."""
    # A sum in parallel may round differently at a token of weight zero: such a token is never the first above.
    cumulative = jnp.where(weights > 0, jnp.cumsum(weights, axis=-1), 0.0)
    threshold = uniform[:, None] * jnp.max(cumulative, axis=-1, keepdims=True)
    return jnp.argmax(cumulative > threshold, axis=-1).astype(jnp.int32)
