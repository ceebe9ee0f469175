"""The gated delta rule: each head keeps a matrix of values by key, lets it fade, and corrects what it holds of a key.

For each token, with q scaled by K^-1/2 (Kimi Delta Attention: Kimi Team 2025, arXiv 2510.26692, section 3):

    state <- exp(decay) * state                     each key channel at its own rate
    state <- state + beta k (v - state' k)'         write what the faded state does not hold of the key yet
    o = state' q                                    read the written state

One rate for all channels of a head is Gated DeltaNet (Yang et al. 2024, arXiv 2412.06464), no decay DeltaNet (Schlag et
al. 2021, arXiv 2102.11174). With beta up to 2 the state's transition has eigenvalues down to -1, which is what parity
and other state tracking need (Grazzi et al. 2024, arXiv 2411.12537). Without `delta` the value is written as it is:
linear attention that fades.

`step` is a token, `recurrence` the sum by its definition, `chunked` the same in pieces and in the way that a device is
fast at: a token at a time (`delta_tokens`) or in few large products (`delta_chunks`). Shapes: H heads of queries and
keys; HV of values, decays and states, a multiple of H: value head n reads the queries and keys of head n // (HV / H).

    q, k (B, T, H, K)   v (B, T, HV, V)   decay (B, T, HV, K or 1), at most 0   beta (B, T, HV)   state (B, HV, K, V)

All of it is computed in float32, or in float64 where that is given. A token of beta 0 and decay 0 leaves the state as
it is, to the bit: a pad.
"""

import functools

import jax
import jax.numpy as jnp

from juliagpt_jax.models.delta_chunks import BLOCK, by_chunk
from juliagpt_jax.models.delta_tokens import by_token, token

CHUNK = 64  # most tokens of a chunk: the products within it cost about as much as those with a state of 64 x 64
# A processor goes token by token, which takes, forward and backward, about half the time of chunks of 16 with 32
# channels, four fifths of it or as much with 64, and as much with 128 (experiments/kda). With chunks of 64 it may wait
# for ever where their work is cut for several threads (seen on jax 0.10.2).
LEAST = 64  # tokens of a piece, if a text has them: a state is kept for each
STATES = 1 << 21  # numbers in the states of all tokens of a piece, on a processor: they are to stay near at hand
AT_ONCE = 32_768  # tokens of a piece elsewhere, counted once for each head: enough to do, which was not measured


def step(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    decay: jax.Array,
    beta: jax.Array,
    state: jax.Array,
    delta: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """Return o (B, HV, V) and the state behind one token: arguments as above without their T."""
    q, k, v, decay, beta, state = _wide(q, k, v, decay, beta[..., None], state)
    return token(q, k, v, decay, beta, state, delta)[:2]


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
    """Return what `recurrence` does, in the way that a device is fast at: token by token or in chunks.

    Texts and their tokens are gone through in pieces. For the backward pass only the arguments are kept and the state
    before each piece; the rest is computed anew, a piece at a time.

    Args:
        chunk: the most tokens of one (see `length_of_chunk`), a power of 2; 0 for what the device is fast at.
        at_once: tokens of a piece, counted once for each head of values; 0 for what suits the device. LEAST tokens of
            a text that goes token by token, and a chunk of another, are a piece in any case.

    Raises:
        ValueError: chunk is no power of 2.
    """
    processor = jax.default_backend() == "cpu"
    chunk = chunk or (1 if processor else CHUNK)
    if chunk < 1 or chunk & (chunk - 1):
        raise ValueError(f"chunk={chunk} is no power of 2")
    state = _begun(state, q, k, v, decay, beta)
    (B, T, HV), C = v.shape[:3], length_of_chunk(v.shape[1], chunk)
    least = C if C > 1 else min(LEAST, T)  # tokens of a piece
    at_once = at_once or (STATES // (q.shape[-1] * v.shape[-1]) if processor else AT_ONCE)
    many = max(1, at_once // (least * HV))
    texts = max(n for n in range(1, min(B, many) + 1) if B % n == 0)
    pieces = -(-T // (least * (many // texts)))
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
    """Return the state behind some texts' next tokens, and o: arguments as of `recurrence`."""
    q, k, v, decay, beta = given
    wide = _wide(q, k, v, decay, beta[..., None], state)
    o, state = by_token(delta, *wide) if C == 1 else by_chunk(C, delta, *wide)
    return state, o


def flops(context: int, heads: int, key: int, value: int, rates: int, delta: bool = True) -> float:
    """Return the operations of `chunked` for a token, forward, with `heads` states of key x value and as many `rates`
    of decay in each: its products, without the exponentials, in chunks of CHUNK, so that a model has the same
    FLOPs on every device."""
    C = min(CHUNK, 1 << (context - 1).bit_length())
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
