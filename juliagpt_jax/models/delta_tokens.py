"""The gated delta rule a token at a time, with a gradient of its own: what a processor does in least time, where a step
reads and writes a state that lies near at hand.

Arguments are wide: queries scaled, keys and queries of as many heads as values, all in one floating type, beta with an
axis of one behind its heads.
"""

import jax
import jax.numpy as jnp


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    """a @ b, not in TF32 on a GPU, which would round what adds up over the whole text."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def token(
    q: jax.Array, k: jax.Array, v: jax.Array, decay: jax.Array, beta: jax.Array, state: jax.Array, delta: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return o (..., V), the state behind one token, and what the faded state did not hold of its value (..., V).

    The old state is read by one product, for what it holds of the key and of the query alike, and then written once.
    """
    kept = jnp.exp(decay)
    held = product(jnp.stack([k * kept, q * kept], axis=-2), state)  # (..., 2, V)
    missing = v - held[..., 0, :] if delta else v
    new = beta * missing
    o = held[..., 1, :] + _dot(q, k) * new
    return o, kept[..., None] * state + k[..., None] * new[..., None, :], missing


def _by_token(
    delta: bool, q: jax.Array, k: jax.Array, v: jax.Array, decay: jax.Array, beta: jax.Array, state: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return o (B, T, HV, V) and the last state. For the gradient the states before all tokens are kept."""

    def one(state: jax.Array, now: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        q, k, v, decay, beta = now
        o, state, _ = token(q, k, v, decay, beta, state, delta)
        return state, o

    last, o = jax.lax.scan(one, state, _by_time(q, k, v, decay, beta))
    return _by_text(o), last


def _forward(delta: bool, *given: jax.Array):
    def one(state: jax.Array, now: tuple[jax.Array, ...]):
        q, k, v, decay, beta = now
        o, after, missing = token(q, k, v, decay, beta, state, delta)
        return after, (o, state, missing)

    by_time = _by_time(*given[:-1])
    last, (o, states, missing) = jax.lax.scan(one, given[-1], by_time)
    return (_by_text(o), last), (by_time, states, missing)


def _backward(delta: bool, kept: tuple, gradients: tuple[jax.Array, jax.Array]):
    """Go back from the gradient of each state to that of the state before it.

    A sum over the channels of values is a product with ones, since compilers do not add along the last axis in several
    lanes; it takes half the time.
    """

    def one(d_state: jax.Array, now: tuple):
        (q, k, _, decay, beta), state, missing, d_o = now
        kept, new = jnp.exp(decay), beta * missing
        d_new = product(k[..., None, :], d_state)[..., 0, :] + _dot(q, k) * d_o
        d_v = beta * d_new
        d_held = -d_v if delta else jnp.zeros_like(d_v)
        seen = kept[..., None] * product(state, jnp.stack([d_o, d_held], axis=-1))  # (..., K, 2)
        by_q, by_k = seen[..., 0], seen[..., 1]
        d_q = by_q + k * _dot(new, d_o)
        d_k = by_k + q * _dot(new, d_o) + product(d_state, new[..., None])[..., 0]
        ones = jnp.ones((state.shape[-1], 1), state.dtype)
        d_decay = kept * product(d_state * state, ones)[..., 0] + q * by_q + k * by_k
        if decay.shape[-1] == 1:  # one rate for all channels of a head
            d_decay = jnp.sum(d_decay, axis=-1, keepdims=True)
        d_state = d_state + q[..., None] * d_o[..., None, :] + k[..., None] * d_held[..., None, :]
        return kept[..., None] * d_state, (d_q, d_k, d_v, d_decay, _dot(d_new, missing))

    by_time, states, missing = kept
    d_o, d_last = gradients
    begun, given = jax.lax.scan(one, d_last, (by_time, states, missing, *_by_time(d_o)), reverse=True)
    return *map(_by_text, given), begun


by_token = jax.custom_vjp(_by_token, nondiff_argnums=(0,))
by_token.defvjp(_forward, _backward)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.sum(a * b, axis=-1, keepdims=True)


def _by_time(*given: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(jnp.moveaxis(x, 1, 0) for x in given)


def _by_text(x: jax.Array) -> jax.Array:
    return jnp.moveaxis(x, 0, 1)
