"""The gated delta rule in chunks: what a chunk of tokens does to the state that it finds, in few large products, for
devices that are fast at those (Kimi Team 2025, arXiv 2510.26692, section 3.2; UT transform of Yang et al. 2024, arXiv
2406.06484).

With A[i, j] = beta_i (k_i' k_j, faded from j to i) for j < i, the tokens of a chunk write (I + A)^-1 of what each would
write if the others were not there: a triangular system. Every product of faded keys comes from `faded`, which only ever
takes the exponential of sums of decays, numbers of at most 0: no strength of decay overflows.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.models.delta_tokens import product

BLOCK = 8  # tokens of a block of `faded`, all pairs of which are one product: smaller blocks make a longer program


class _Chunk(NamedTuple):
    """Effect of a chunk of C tokens on the state that it finds."""

    written: jax.Array  # (..., C, V), what its tokens write beside an empty state
    held: jax.Array  # (..., C, K), times the state: what they do not write because it is there
    read: jax.Array  # (..., C, K), times the state: what their queries see of it
    seen: jax.Array  # (..., C, C), times what they write: what their queries see of each other
    keys: jax.Array  # (..., C, K), as far as they have not faded at the chunk's end
    kept: jax.Array  # (..., K or 1, 1), what is left of the state there


def by_chunk(
    C: int,
    delta: bool,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    decay: jax.Array,
    beta: jax.Array,
    state: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Return o and the last state of texts of whole chunks of C tokens, a power of 2: arguments as of `by_token`."""
    B, _, HV, V = v.shape

    def cut(x: jax.Array) -> jax.Array:  # (B, T, HV, X) -> (chunks, B * HV, C, X)
        x = x.reshape(B, -1, C, HV, x.shape[-1]).transpose(1, 0, 3, 2, 4)
        return x.reshape(-1, B * HV, *x.shape[3:])

    parts = _prepare(cut(q), cut(k), cut(v), cut(decay), cut(beta), delta)
    last, o = jax.lax.scan(_advance, state.reshape(-1, *state.shape[2:]), parts)
    o = o.reshape(-1, B, HV, C, V).transpose(1, 0, 3, 2, 4).reshape(v.shape)
    return o, last.reshape(state.shape)


def _prepare(q: jax.Array, k: jax.Array, v: jax.Array, decay: jax.Array, beta: jax.Array, delta: bool) -> _Chunk:
    """All that can be known of chunks without their states: each argument (..., C, its channels)."""
    batch = k.shape[:-2]
    q, k, v, decay, beta = (x.reshape(-1, *x.shape[-2:]) for x in (q, k, v, decay, beta))
    rows = jnp.stack([beta * k, q], axis=2) if delta else q[:, :, None]
    products, read, keys, kept = faded(rows, k, decay)
    written, held = beta * v, jnp.zeros_like(k)
    if delta:
        solved = _inverse(products[:, :, 0])
        written, held = product(solved, written), product(solved, read[:, :, 0])
    made = _Chunk(written, held, read[:, :, -1], products[:, :, -1], keys, kept[..., None])
    return jax.tree.map(lambda x: x.reshape(*batch, *x.shape[1:]), made)


def _advance(state: jax.Array, part: _Chunk) -> tuple[jax.Array, jax.Array]:
    """Return the state behind a chunk and its o (..., C, V)."""
    new = part.written - product(part.held, state)
    o = product(part.read, state) + product(part.seen, new)
    return part.kept * state + product(part.keys.mT, new), o


@jax.custom_vjp
def _inverse(below: jax.Array) -> jax.Array:
    """(I + below)^-1 of what lies below the diagonal of matrices (..., C, C); the rest of them is not looked at."""
    one = jnp.broadcast_to(jnp.eye(below.shape[-1], dtype=below.dtype), below.shape)
    return jax.lax.linalg.triangular_solve(below, one, left_side=True, lower=True, unit_diagonal=True)


def _inverse_forward(below: jax.Array) -> tuple[jax.Array, jax.Array]:
    inverse = _inverse(below)
    return inverse, inverse


def _inverse_backward(inverse: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    """Two products, where the gradient of a solved system would be another one to solve."""
    return (jnp.tril(-product(product(inverse.mT, gradient), inverse.mT), -1),)


_inverse.defvjp(_inverse_forward, _inverse_backward)


def faded(rows: jax.Array, keys: jax.Array, decay: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return the products of rows with earlier keys that have faded in between.

        products[i, r, j] = sum_k rows[i, r, k] keys[j, k] exp(sum of decay[l, k] over j < l <= i), 0 where j > i

    exp(sum up to i) / exp(sum up to j) would overflow under strong decay, and the difference of the two sums lose the
    digits of a weak one. But each pair of tokens has one border between them that halves the smallest block of 2, 4, 8
    .. C tokens that they share, and the key carries the decay from its token to the border, the row that from there to
    itself: numbers of at most 1. The levels within blocks of BLOCK tokens are computed at once, with pairs of other
    levels masked; from there on a block's numbers are carried on to the next level by a product.

    Args:
        rows: (N, C, R, K), C a power of 2.
        keys: (N, C, K).
        decay: (N, C, K or 1).

    Returns:
        the products (N, C, R, C); the rows, faded from the first token on, itself included; the keys, faded behind
        their token to the last; and what is left of anything over all of them, (N, K or 1).
    """
    N, C, R, K = rows.shape
    c = min(BLOCK, C)
    summed, masks = _levels(c)
    blocks, levels = C // c, len(masks)
    summed = jnp.broadcast_to(jnp.asarray(summed.reshape(1, -1, c), decay.dtype), (N * blocks, summed.size // c, c))
    fades = jnp.exp(product(summed, decay.reshape(N * blocks, c, -1)))
    fades = fades.reshape(N, blocks, levels + 1, 2, c, 1, -1)
    r = rows.reshape(N, blocks, 1, c, R, K) * fades[:, :, :, 0]
    k = keys.reshape(N, blocks, 1, c, K) * fades[:, :, :, 1, :, 0]
    within = product(r[:, :, :levels].reshape(N, blocks, levels, c * R, K), k[:, :, :levels].mT)
    within = within.reshape(N, blocks, levels, c, R, c) * jnp.asarray(masks[None, None, :, :, None], keys.dtype)
    own = jnp.sum(rows * keys[:, :, None], axis=-1).reshape(N, blocks, c, R, 1)
    products = jnp.sum(within, axis=2) + own * np.eye(c, dtype=keys.dtype).reshape(1, 1, c, 1, c)
    rows, keys, kept = r[:, :, levels].reshape(rows.shape), k[:, :, levels].reshape(keys.shape), fades[:, :, -1, 0, -1]

    while c < C:
        blocks //= 2
        r, k = rows.reshape(N, blocks, 2, c * R, K), keys.reshape(N, blocks, 2, c, K)
        kept, both = kept.reshape(N, blocks, 2, 1, -1), products.reshape(N, blocks, 2, c, R, c)
        across = product(r[:, :, 1], k[:, :, 0].mT).reshape(N, blocks, c, R, c)
        earlier = jnp.pad(both[:, :, 0], ((0, 0),) * 4 + ((0, c),))
        products = jnp.concatenate([earlier, jnp.concatenate([across, both[:, :, 1]], axis=-1)], axis=2)
        one = jnp.ones_like(kept[:, :, :1])
        rows = (r * jnp.concatenate([one, kept[:, :, :1]], axis=2)).reshape(rows.shape)
        keys = (k * jnp.concatenate([kept[:, :, 1:], one], axis=2)).reshape(keys.shape)
        kept, c = kept[:, :, 0] * kept[:, :, 1], 2 * c
    return products.reshape(N, C, R, C), rows, keys, kept.reshape(N, -1)


def _levels(c: int) -> tuple[np.ndarray, np.ndarray]:
    """Return of which tokens of a block of c the decays add up to what a row, and what a key, has faded by, (levels +
    1, 2, c, c) bool: to the border of a level, and last from the block's start and to its end. And which pairs (row,
    key) meet at the border of each level, (levels, c, c) bool."""
    i, j = np.ogrid[:c, :c]
    sums, masks, half = [], [], 1
    while half < c:
        later, border = i // half % 2 == 1, i // half * half  # in the later half of its block; where that half begins
        sums.append((later & (border <= j) & (j <= i), ~later & (i < j) & (j < border + half)))
        masks.append(later & (i // half == j // half + 1))
        half *= 2
    sums.append((j <= i, j > i))
    return np.array(sums), np.array(masks).reshape(-1, c, c)
