"""The gated delta rule: each head keeps a matrix of values by key, lets it fade, and corrects what it holds of a key.

For each token, with q scaled by K^-1/2 (Kimi Delta Attention: Kimi Team 2025, arXiv 2510.26692, section 3):

    state <- exp(decay) * state                     each key channel at its own rate
    state <- state + beta k (v - state' k)'         write what the faded state does not hold of the key yet
    o = state' q                                    read the written state

One rate for all channels of a head is Gated DeltaNet (Yang et al. 2024, arXiv 2412.06464), no decay DeltaNet (Schlag et
al. 2021, arXiv 2102.11174). With beta up to 2 the state's transition has eigenvalues down to -1, which is what parity
and other state tracking need (Grazzi et al. 2024, arXiv 2411.12537). Without `delta` the value is written as it is:
linear attention that fades.

`step` is a token, `recurrence` the sum by its definition, `chunked` the same in few large products. Shapes: H heads of
queries and keys; HV of values, decays and states, a multiple of H: value head n reads the queries and keys of head
n // (HV / H).

    q, k (B, T, H, K)   v (B, T, HV, V)   decay (B, T, HV, K or 1), at most 0   beta (B, T, HV)   state (B, HV, K, V)

All of it is computed in float32, or in float64 where that is given. A token of beta 0 and decay 0 leaves the state as
it is, to the bit: a pad.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

CHUNK = 64  # tokens of `chunked`: the products within a chunk cost about as much as those with a state of 64 x 64
BLOCK = 8  # tokens of a block of `faded`: as many exponentials a channel within it as there are borders in a chunk


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """a @ b, not in TF32 on a GPU, which would round what adds up over the whole text."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def step(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    decay: jax.Array,
    beta: jax.Array,
    state: jax.Array,
    delta: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """Return o (B, HV, V) and the state behind one token: arguments as above without their T.

    The old state is read by one product, for what it holds of the key and of the query alike, and then written once.
    """
    q, k, v, decay, beta, state = _wide(q, k, v, decay, beta, state)
    kept = jnp.exp(decay)
    held = _product(jnp.stack([k * kept, q * kept], axis=-2), state)  # (B, HV, 2, V)
    new = beta[..., None] * (v - held[..., 0, :] if delta else v)
    o = held[..., 1, :] + jnp.sum(q * k, axis=-1, keepdims=True) * new
    return o, kept[..., None] * state + k[..., None] * new[..., None, :]


def recurrence(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    decay: jax.Array,
    beta: jax.Array,
    state: jax.Array | None = None,
    delta: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """Return o (B, T, HV, V) and the last state, token by token: what the other two are held to."""
    state = _begun(state, q, k, v, decay, beta)
    by_time = tuple(jnp.moveaxis(jnp.asarray(x), 1, 0) for x in (q, k, v, decay, beta))

    def one(state, token):
        q, k, v, decay, beta = token
        o, state = step(q, k, v, decay, beta, state, delta)
        return state, o

    state, o = jax.lax.scan(one, state, by_time)
    return jnp.moveaxis(o, 0, 1), state


class _Chunk(NamedTuple):
    """Effect of a chunk of C tokens on the state that it finds."""

    written: jax.Array  # (..., C, V), what its tokens write beside an empty state
    held: jax.Array  # (..., C, K), times the state: what they do not write because it is there
    read: jax.Array  # (..., C, K), times the state: what their queries see of it
    seen: jax.Array  # (..., C, C), times what they write: what their queries see of each other
    keys: jax.Array  # (..., C, K), as far as they have not faded at the chunk's end
    kept: jax.Array  # (..., K or 1, 1), what is left of the state there


def chunked(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    decay: jax.Array,
    beta: jax.Array,
    state: jax.Array | None = None,
    delta: bool = True,
    chunk: int = CHUNK,
) -> tuple[jax.Array, jax.Array]:
    """Return what `recurrence` does, `chunk` tokens at once (arXiv 2510.26692, section 3.2; UT transform of Yang et
    al. 2024, arXiv 2406.06484).

    With A[i, j] = beta_i (k_i' k_j, faded from j to i) for j < i, the tokens of a chunk write (I + A)^-1 of what each
    would write if the others were not there: a triangular system. Every product of faded keys comes from `faded`, which
    only ever takes the exponential of sums of decays, numbers of at most 0: no strength of decay overflows.

    Args:
        chunk: a power of 2. A text's last tokens are a whole chunk too, with tokens that change nothing behind them.

    Raises:
        ValueError: chunk is no power of 2.
    """
    if chunk < 1 or chunk & (chunk - 1):
        raise ValueError(f"chunk={chunk} is no power of 2")
    state = _begun(state, q, k, v, decay, beta)
    T = v.shape[1]
    size = min(chunk, 1 << (T - 1).bit_length())
    q, k, v, decay, beta, state = _wide(q, k, v, decay, beta[..., None], state)

    def by_chunk(x: jax.Array) -> jax.Array:  # (B, T, HV, X) -> (chunks, B * HV, C, X)
        x = jnp.pad(x, ((0, 0), (0, -T % size), (0, 0), (0, 0)))
        x = x.reshape(x.shape[0], -1, size, *x.shape[2:]).transpose(1, 0, 3, 2, 4)
        return x.reshape(x.shape[0], -1, *x.shape[3:])

    def one(state, part):
        o, state = _advance(state, part)
        return state, o

    parts = _prepare(by_chunk(q), by_chunk(k), by_chunk(v), by_chunk(decay), by_chunk(beta), delta)
    last, o = jax.lax.scan(one, state.reshape(-1, *state.shape[2:]), parts)
    B, HV, _, V = state.shape
    o = o.reshape(-1, B, HV, size, V).transpose(1, 0, 3, 2, 4).reshape(B, -1, HV, V)
    return o[:, :T], last.reshape(state.shape)


def _prepare(q: jax.Array, k: jax.Array, v: jax.Array, decay: jax.Array, beta: jax.Array, delta: bool) -> _Chunk:
    """All that can be known of chunks without their states: each argument (..., C, its channels)."""
    batch = k.shape[:-2]
    # Of few axes: XLA's CPU backend (jax 0.10.2) made programs that crashed of the gradient of arrays with seven.
    flat = [x.reshape(-1, *x.shape[-2:]) for x in (q, k, v, decay, beta)]
    q, k, v, decay, beta = flat
    (held_by, seen_by), since, until = faded((k, q), k, decay)
    written, held = beta * v, jnp.zeros_like(k)
    since = jnp.exp(since)
    if delta:
        both = beta * jnp.concatenate([v, k * since], axis=-1)
        below = beta * jnp.tril(held_by, -1)
        both = jax.lax.linalg.triangular_solve(below, both, left_side=True, lower=True, unit_diagonal=True)
        written, held = both[..., : v.shape[-1]], both[..., v.shape[-1] :]
    kept = since[..., -1, :, None]
    made = _Chunk(written, held, q * since, seen_by, k * jnp.exp(until), kept)
    return jax.tree.map(lambda x: x.reshape(*batch, *x.shape[1:]), made)


def _advance(state: jax.Array, part: _Chunk) -> tuple[jax.Array, jax.Array]:
    """Return o (..., C, V) of a chunk and the state behind it."""
    new = part.written - _product(part.held, state)
    o = _product(part.read, state) + _product(part.seen, new)
    return o, part.kept * state + _product(part.keys.mT, new)


def faded(rows: Sequence[jax.Array], keys: jax.Array, decay: jax.Array) -> tuple[list[jax.Array], jax.Array, jax.Array]:
    """Return the products of rows with earlier keys that have faded in between.

        products[i, j] = sum_k rows[i, k] keys[j, k] exp(sum of decay[l, k] over j < l <= i), 0 where j > i

    exp(sum up to i) / exp(sum up to j) would overflow under strong decay, and the difference of the two sums lose the
    digits of a weak one. So the tokens lie in blocks of BLOCK. Within a block each pair has its own exponential. From
    an earlier block the key carries the decay from its token to the border before the row's block, the row that from
    there to itself: sums of decays, numbers of at most 0. What is to be 0 has the exponent -inf.

    Args:
        rows: several of (..., C, K), C a power of 2; each has its own products.
        keys: (..., C, K).
        decay: (..., C, K or 1).

    Returns:
        the products (..., C, C) of each; the sums of decays from the first token up to each, itself included, and
        behind each to the last, both as decay.
    """
    *batch, C, K = keys.shape
    c = min(BLOCK, C)
    n, alone = C // c, (1,) * len(batch)
    decay, keys, *rows = (x.reshape(*batch, n, c, x.shape[-1]) for x in (decay, keys, *rows))
    i, j, l = np.ogrid[:c, :c, :c]  # noqa: E741
    within = _sums((j < l) & (l <= i), decay)  # (..., n, c, c, K), from a token of a block to another
    until, since = within[..., -1, :, :], within[..., 0, :] + decay[..., :1, :]
    border, block, m = np.ogrid[: n + 1, -1:n, :n]
    between = _sums((block < m) & (m < border), since[..., -1, :])  # (..., n + 1, 1 + n, K), from a block to a border

    behind = between[..., :n, 1:, None, :] + until[..., None, :, :, :]  # (..., n, n, c, K), from a token to a border
    earlier = np.tri(n, k=-1, dtype=bool).reshape(*alone, n, n, 1, 1)
    left = keys[..., None, :, :, :] * jnp.exp(jnp.where(earlier, behind, -jnp.inf))
    left = left.reshape(*batch, n, C, K)
    seen = np.tri(c, dtype=bool).reshape(*alone, 1, c, c, 1)
    pairs = keys[..., None, :, :] * jnp.exp(jnp.where(seen, within, -jnp.inf))
    diagonal = np.eye(n, dtype=keys.dtype).reshape(*alone, n, 1, n, 1)

    def products(rows: jax.Array) -> jax.Array:
        across = _product(rows * jnp.exp(since), left.mT)
        own = _product(rows[..., None, :], pairs.mT)  # (..., n, c, 1, c)
        return across.reshape(*batch, C, C) + (own * diagonal).reshape(*batch, C, C)

    since_first, until_last = since + between[..., :n, 0, None, :], until + between[..., n, 1:, None, :]
    return [products(x) for x in rows], since_first.reshape(*batch, C, -1), until_last.reshape(*batch, C, -1)


def _sums(chosen: np.ndarray, values: jax.Array) -> jax.Array:
    """Sums of values (..., m, K) over the last axis of `chosen` (a, b, m) bool: (..., a, b, K)."""
    a, b, m = chosen.shape
    *batch, _, K = values.shape
    out = _product(values.mT.reshape(-1, m), jnp.asarray(chosen.reshape(a * b, m).T, values.dtype))
    return jnp.moveaxis(out.reshape(*batch, K, a, b), -3, -1)


def flops(context: int, heads: int, key: int, value: int, rates: int, delta: bool = True) -> float:
    """Return the operations of `chunked` for a token, forward, with `heads` states of key x value and as many `rates`
    of decay in each: its products, without the exponentials."""
    C = min(CHUNK, 1 << (context - 1).bit_length())
    c = min(BLOCK, C)
    within = 4 * key * (C + c) + 2 * value * C + 2 * c * c * rates  # products of keys and queries, what they weigh
    solved = C * (key + value) if delta else 0
    return float(heads * (within + solved + (6 if delta else 4) * key * value))


def _begun(state: jax.Array | None, *given: jax.Array) -> jax.Array:
    """The state that a text begins with, the given one or zeros, in float32 at least."""
    dtype = jnp.result_type(*given, jnp.float32, *(() if state is None else (state,)))
    q, _, v, *_ = given
    shape = v.shape[0], v.shape[-2], q.shape[-1], v.shape[-1]
    return jnp.zeros_like(v, dtype, shape) if state is None else state.astype(dtype)  # spread over devices as v is


def _wide(
    q: jax.Array, k: jax.Array, v: jax.Array, decay: jax.Array, beta: jax.Array, state: jax.Array
) -> tuple[jax.Array, ...]:
    """All in float32 at least, q scaled, queries and keys (..., H, K) repeated for each value head."""
    dtype = jnp.result_type(q, k, v, decay, beta, state, jnp.float32)
    q, k, v, decay, beta, state = (x.astype(dtype) for x in (q, k, v, decay, beta, state))
    if v.shape[-2] % k.shape[-2]:
        raise ValueError(f"{v.shape[-2]} value heads are no multiple of {k.shape[-2]} heads of keys")
    group = v.shape[-2] // k.shape[-2]
    q, k = (jnp.repeat(x, group, axis=-2) if group > 1 else x for x in (q * q.shape[-1] ** -0.5, k))
    return q, k, v, decay, beta, state
