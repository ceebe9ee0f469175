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

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Most tokens of a chunk. In chunks of 64, its inner products cost about as much as those with a state of 64 x 64; a
# processor takes 8 to 27% less time with chunks of 16, of heads of 16 to 128 channels, and twice as much with 8.
CHUNK = {"cpu": 16}
CHUNK_ELSE = 64
BLOCK = 8  # tokens of a block of `faded`, all pairs of which are one product: smaller blocks make a longer program
# Tokens, counted once for each head, that are computed together. A processor gains nothing from more than some
# thousand; other devices are to have enough to do, which was not measured.
AT_ONCE = {"cpu": 2048}
AT_ONCE_ELSE = 32_768


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
    chunk: int = 0,
    at_once: int = 0,
) -> tuple[jax.Array, jax.Array]:
    """Return what `recurrence` does, up to `chunk` tokens at once (arXiv 2510.26692, section 3.2; UT transform of
    Yang et al. 2024, arXiv 2406.06484).

    With A[i, j] = beta_i (k_i' k_j, faded from j to i) for j < i, the tokens of a chunk write (I + A)^-1 of what each
    would write if the others were not there: a triangular system. Every product of faded keys comes from `faded`, which
    only ever takes the exponential of sums of decays, numbers of at most 0: no strength of decay overflows.

    Texts and chunks are gone through in pieces. For the backward pass only the arguments are kept and the state before
    each piece; the rest is computed anew, a piece at a time.

    Args:
        chunk: the most tokens of one (see `length_of_chunk`), a power of 2; 0 for CHUNK.
        at_once: tokens of a piece, counted once for each head of values, a chunk of one text at least; 0 for AT_ONCE.

    Raises:
        ValueError: chunk is no power of 2.
    """
    chunk = chunk or CHUNK.get(jax.default_backend(), CHUNK_ELSE)
    if chunk < 1 or chunk & (chunk - 1):
        raise ValueError(f"chunk={chunk} is no power of 2")
    state = _begun(state, q, k, v, decay, beta)
    (B, T, HV), C = v.shape[:3], length_of_chunk(v.shape[1], chunk)
    many = max(1, (at_once or AT_ONCE.get(jax.default_backend(), AT_ONCE_ELSE)) // (C * HV))  # chunks of a piece
    texts = max(n for n in range(1, min(B, many) + 1) if B % n == 0)
    pieces = -(-T // (C * (many // texts)))
    chunks = -(-T // (C * pieces))  # of a text in a piece: about as many in each

    # Texts of a piece are those that lie B / texts apart: one axis of all of them stays spread over devices.
    def cut(x: jax.Array) -> jax.Array:  # (B, T, ...) -> (B / texts, pieces, texts, tokens, ...)
        x = jnp.pad(x, ((0, 0), (0, pieces * chunks * C - T), *((0, 0),) * (x.ndim - 2)))
        return jnp.moveaxis(x.reshape(texts, B // texts, pieces, chunks * C, *x.shape[2:]), 0, 2)

    piece = jax.checkpoint(functools.partial(_piece, C, delta))
    some = lambda given: jax.lax.scan(piece, *given)
    begun = jnp.moveaxis(state.reshape(texts, B // texts, *state.shape[1:]), 0, 1)
    last, o = jax.lax.map(some, (begun, tuple(cut(x) for x in (q, k, v, decay, beta))))
    o = jnp.moveaxis(o, 2, 0).reshape(B, -1, *o.shape[4:])
    return o[:, :T], jnp.moveaxis(last, 1, 0).reshape(state.shape)


def length_of_chunk(length: int, most: int) -> int:
    """Return the tokens of a text's chunks. Its last tokens are a whole chunk too, with tokens that change nothing
    behind them: the longest chunk that lengthens the text by a quarter at most, and 16 tokens if none does."""
    chunk = min(most, 1 << (length - 1).bit_length())
    while chunk > 16 and 4 * (-(-length // chunk) * chunk) > 5 * length:
        chunk //= 2
    return chunk


def _piece(C: int, delta: bool, state: jax.Array, given: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    """Return the state behind some texts' next chunks of C tokens, and o: arguments as of `step`, with their T."""
    q, k, v, decay, beta = given
    q, k, v, decay, beta, state = _wide(q, k, v, decay, beta[..., None], state)
    B, _, HV, V = v.shape

    def by_chunk(x: jax.Array) -> jax.Array:  # (B, T, HV, X) -> (chunks, B * HV, C, X)
        x = x.reshape(B, -1, C, HV, x.shape[-1]).transpose(1, 0, 3, 2, 4)
        return x.reshape(-1, B * HV, *x.shape[3:])

    parts = _prepare(by_chunk(q), by_chunk(k), by_chunk(v), by_chunk(decay), by_chunk(beta), delta)
    last, o = jax.lax.scan(_advance, state.reshape(-1, *state.shape[2:]), parts)
    o = o.reshape(-1, B, HV, C, V).transpose(1, 0, 3, 2, 4).reshape(v.shape)
    return last.reshape(state.shape), o


def _prepare(q: jax.Array, k: jax.Array, v: jax.Array, decay: jax.Array, beta: jax.Array, delta: bool) -> _Chunk:
    """All that can be known of chunks without their states: each argument (..., C, its channels)."""
    batch = k.shape[:-2]
    q, k, v, decay, beta = (x.reshape(-1, *x.shape[-2:]) for x in (q, k, v, decay, beta))
    rows = jnp.stack([beta * k, q], axis=2) if delta else q[:, :, None]
    products, read, keys, kept = faded(rows, k, decay)
    written, held = beta * v, jnp.zeros_like(k)
    if delta:
        solved = _inverse(products[:, :, 0])
        written, held = _product(solved, written), _product(solved, read[:, :, 0])
    made = _Chunk(written, held, read[:, :, -1], products[:, :, -1], keys, kept[..., None])
    return jax.tree.map(lambda x: x.reshape(*batch, *x.shape[1:]), made)


def _advance(state: jax.Array, part: _Chunk) -> tuple[jax.Array, jax.Array]:
    """Return the state behind a chunk and its o (..., C, V)."""
    new = part.written - _product(part.held, state)
    o = _product(part.read, state) + _product(part.seen, new)
    return part.kept * state + _product(part.keys.mT, new), o


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
    return (jnp.tril(-_product(_product(inverse.mT, gradient), inverse.mT), -1),)


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
    fades = jnp.exp(_product(summed, decay.reshape(N * blocks, c, -1)))
    fades = fades.reshape(N, blocks, levels + 1, 2, c, 1, -1)
    r = rows.reshape(N, blocks, 1, c, R, K) * fades[:, :, :, 0]
    k = keys.reshape(N, blocks, 1, c, K) * fades[:, :, :, 1, :, 0]
    within = _product(r[:, :, :levels].reshape(N, blocks, levels, c * R, K), k[:, :, :levels].mT)
    within = within.reshape(N, blocks, levels, c, R, c) * jnp.asarray(masks[None, None, :, :, None], keys.dtype)
    own = jnp.sum(rows * keys[:, :, None], axis=-1).reshape(N, blocks, c, R, 1)
    products = jnp.sum(within, axis=2) + own * np.eye(c, dtype=keys.dtype).reshape(1, 1, c, 1, c)
    rows, keys, kept = r[:, :, levels].reshape(rows.shape), k[:, :, levels].reshape(keys.shape), fades[:, :, -1, 0, -1]

    while c < C:
        blocks //= 2
        r, k = rows.reshape(N, blocks, 2, c * R, K), keys.reshape(N, blocks, 2, c, K)
        kept, both = kept.reshape(N, blocks, 2, 1, -1), products.reshape(N, blocks, 2, c, R, c)
        across = _product(r[:, :, 1], k[:, :, 0].mT).reshape(N, blocks, c, R, c)
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


def flops(context: int, heads: int, key: int, value: int, rates: int, delta: bool = True) -> float:
    """Return the operations of `chunked` for a token, forward, with `heads` states of key x value and as many `rates`
    of decay in each: its products, without the exponentials, in chunks of CHUNK_ELSE, so that a model has the same
    FLOPs on every device."""
    C = min(CHUNK_ELSE, 1 << (context - 1).bit_length())
    c, rows = min(BLOCK, C), 2 if delta else 1
    levels = c.bit_length() - 1
    within = rows * key * (2 * levels * c + C - c) + 4 * (levels + 1) * c * rates + 2 * value * C
    solved = C * C + 2 * C * (key + value) if delta else 0
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
