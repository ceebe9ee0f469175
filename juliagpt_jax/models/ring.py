"""The newest keys and values of a text in a ring: so many slots, each written again when the ring has gone round.

The first `first` tokens of a text lie elsewhere; the token at position p of the text, p >= first, lies in slot
(p - first) mod m of a ring of m.
"""

import jax
import jax.numpy as jnp


def write(ring: jax.Array, new: jax.Array, positions: jax.Array, real: jax.Array, first: int) -> jax.Array:
    """Return a ring (B, K, m, C) with new tokens (B, K, T, C) in it; of more than m of a row, the last m.

    Args:
        positions: (B, T), in the text, consecutive in each row.
        real: (B, T), False for pads.
    """
    (B, K, m, _), last = ring.shape, jnp.max(jnp.where(real, positions, -1), axis=1, keepdims=True)
    newest = real & (positions >= first) & (positions > last - m)  # else two would be written to one slot
    slots = jnp.where(newest, (positions - first) % m, m)
    return ring.at[at(B, K, slots)].set(new, mode="drop")


def at(batch: int, heads: int, slots: jax.Array) -> tuple[jax.Array, ...]:
    """Return the index of slots (B, T) in (B, K, slots, C)."""
    return jnp.arange(batch)[:, None, None], jnp.arange(heads)[None, :, None], slots[:, None, :]


def held(newest: jax.Array, slots: jax.Array, first: int, size: int) -> jax.Array:
    """Return the position in the text of what lies in slots (n,) of a ring of `size` whose newest token stands at
    `newest` (B, 1): (B, n), below `first` where nothing lies yet."""
    newest = newest - first
    return first + newest - (newest - slots[None]) % size
