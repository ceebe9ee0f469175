"""Two rules for parameters of recursive models: steps by the angle of Adam's ratio, and by signs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class Atan2State(NamedTuple):
    """Steps done, and the means of the gradients and of their squares."""

    done: jax.Array
    mean: Any
    square: Any


def scale_by_adam_atan2(b1: float, b2: float) -> optax.GradientTransformation:
    """atan2(m, sqrt(v / (1 - b2^t))) / (1 - b1^t), with m and v as Adam's: there is no epsilon, and the scale of the
    gradients does not matter.

    So it is in the code that recursive models are trained with. Everett et al. 2024 (arXiv 2407.05872, section 4.3)
    correct m inside the arc tangent, and multiply its sides by constants.
    """

    def init(params: Any) -> Atan2State:
        zeros = lambda: jax.tree.map(jnp.zeros_like, params)
        return Atan2State(jnp.zeros((), jnp.int32), zeros(), zeros())

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Atan2State]:
        count = state.done + 1
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mean, updates)
        square = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.square, updates)
        short, wide = 1 - b1**count, 1 - b2**count
        angle = lambda m, v: jnp.arctan2(m, jnp.sqrt(v) / jnp.sqrt(wide).astype(v.dtype)) / short.astype(v.dtype)
        return jax.tree.map(angle, mean, square), Atan2State(count, mean, square)

    return optax.GradientTransformation(init, update)


def signs_of_rows(decay: float) -> optax.GradientTransformation:
    """SignSGD (Bernstein et al. 2018, arXiv 1802.04434) on tables of which a step sees some rows: the sign of the
    gradient, and `decay` times the parameter, for rows that have a gradient; nothing for the others."""

    def one(g: jax.Array, p: jax.Array) -> jax.Array:
        seen = jnp.any(g != 0, axis=-1, keepdims=True)
        return jnp.where(seen, jnp.sign(g) + decay * p, 0)

    return optax.stateless(lambda updates, params: jax.tree.map(one, updates, params))
