"""Cross entropy under the stable-max, which takes the place of the softmax in recursive models."""

import jax
import jax.numpy as jnp

from juliagpt_jax.data.batch import IGNORED


def log_stablemax(logits: jax.Array) -> jax.Array:
    """Return log(s / sum s) over the last axis, s(x) = x + 1 from 0 on and 1 / (1 - x) below: a softmax whose gradient
    does not vanish when it is sure (Prieto et al. 2025, arXiv 2501.04697, section 4)."""
    x = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    # Each branch is given what it is for alone: the other's infinite slope would become NaN in the gradient.
    scores = jnp.where(x < 0, 1 / (1 - jnp.minimum(x, 0)), jnp.maximum(x, 0) + 1)
    return jnp.log(scores) - jnp.log(jnp.sum(scores, axis=-1, keepdims=True))


def stablemax_losses(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Return the cross entropy of each target (B, T) under the stable-max of logits (B, T, V); 0 where it is
    IGNORED."""
    scored = targets != IGNORED
    picked = jnp.take_along_axis(log_stablemax(logits), jnp.where(scored, targets, 0)[..., None], axis=-1)[..., 0]
    return jnp.where(scored, -picked, 0)
