"""Softmax attention as three pure functions: products, weights, averages. For the shape letters see `gpt.py`, whose
`attend` says what makes them fast."""

from typing import Any

import jax
import jax.numpy as jnp


def products(q: jax.Array, k: jax.Array) -> jax.Array:
    """Return q k' / sqrt(C), (B, K, G, T, S) float32, of q (B, H, T, C) and k (B, K, S, C)."""
    B, H, T, C = q.shape
    K = k.shape[1]
    q = (q * C**-0.5).reshape(B, K, H // K * T, C)
    return jnp.einsum("bkmc,bksc->bkms", q, k, preferred_element_type=jnp.float32).reshape(B, K, H // K, T, -1)


def weigh(scores: jax.Array, visible: jax.Array, sink: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Return what each query weighs the values with, (B, K, G, T, S) float32, before the division by its sum
    (B, K, G, T), to which a learnt sink adds its own share; the largest of a query's weights and that share is 1.

    Args:
        visible: (B or 1, T, S).
        sink: a logit of each head (K, G); None: there is none.
    """
    scores = jnp.where(visible[:, None, None], scores, jnp.finfo(jnp.float32).min)
    top = jnp.max(scores, axis=-1, keepdims=True)
    if sink is None:
        weights = jnp.exp(scores - jax.lax.stop_gradient(top))
        return weights, jnp.sum(weights, axis=-1)
    own = sink[None, :, :, None, None]
    top = jax.lax.stop_gradient(jnp.maximum(top, own))
    weights = jnp.exp(scores - top)
    return weights, jnp.sum(weights, axis=-1) + jnp.exp(own - top)[..., 0]


def rows(sums: jax.Array, total: jax.Array, dtype: Any) -> jax.Array:
    """Return what each token has of all heads side by side, (B, T, H * C), from the sums of `averages` and the sums of
    weights (B, K, G, T) that divide them."""
    B, K, G, T = total.shape
    y = (sums / total.reshape(B, K, -1, 1)).astype(dtype)
    return y.reshape(B, K * G, T, -1).swapaxes(1, 2).reshape(B, T, -1)


def averages(weights: jax.Array, v: jax.Array) -> jax.Array:
    """Return the sums of values v (B, K, S, C) by weights (B, K, G, T, S), (B, K, G * T, C) float32."""
    B, K, G, T, S = weights.shape
    weights = weights.astype(v.dtype).reshape(B, K, G * T, S)
    return jnp.einsum("bkms,bksc->bkmc", weights, v, preferred_element_type=jnp.float32)
