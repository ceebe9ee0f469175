"""Monarch Mixer's way of letting tokens see each other (Fu et al. 2023, arXiv 2310.12109): gates around a product with
a structured matrix over positions, causal, in O(T^1.5) a channel instead of attention's O(T^2).

`MonarchMixer`: the matrix is a convolution with a filter as long as the context, computed by a DFT that is itself a
Monarch product. `MonarchHeads`: the matrix of each head is a learned Monarch matrix under a causal mask.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.ground.knobs import model as knobs
from juliagpt_jax.models.layers import ShortConv


def split(length: int) -> tuple[int, int]:
    """The even n1 and the n2 with n1 * n2 >= length for which the DFT below does the least work, n1 n2 (n1 + 4 n2)."""
    pairs = [(n1, -(-length // n1)) for n1 in range(2, 4 * math.isqrt(length) + 6, 2)]
    return min(pairs, key=lambda pair: pair[0] * pair[1] * (pair[0] + 4 * pair[1]))


@functools.lru_cache
def _factors(n1: int, n2: int) -> tuple[np.ndarray, ...]:
    """The real matrices of the DFT of n1 * n2 real numbers and of its inverse, in float64.

    A signal is read as (n1, n2). With w_n = exp(-2 pi i / n) its DFT at k1 + n1 * k2 is
    sum_b w_n2^(b k2) w_(n1 n2)^(b k1) sum_a w_n1^(a k1) x[a, b]: a small DFT along a, then for each k1 one matrix along
    b that holds the twiddle factors too. A real signal needs k1 = 0 .. n1 / 2 alone. A complex number is a pair.
    """
    half, size = n1 // 2 + 1, n1 * n2
    k1, a, b = np.arange(half), np.arange(n1), np.arange(n2)
    root = lambda power, n: np.exp(-2j * np.pi * (power % n) / n)
    outer = root(np.outer(k1, a), n1)  # (half, n1)
    inner = root(np.outer(k1, b), size)[:, None, :] * root(np.outer(b, b), n2)  # (half, k2, b)
    pairs = lambda z: np.block([[np.real(z), -np.imag(z)], [np.imag(z), np.real(z)]])
    twice = np.where((k1 == 0) | (k1 == n1 // 2), 1.0, 2.0)  # the other half is the conjugate
    back = inner.conj().swapaxes(1, 2) * (twice / size)[:, None, None]
    back_outer = outer.conj().T
    return (
        np.concatenate([np.real(outer), np.imag(outer)]),  # (2 half, n1)
        pairs(inner),  # (half, 2 n2, 2 n2)
        pairs(back),
        np.concatenate([np.real(back_outer), -np.imag(back_outer)], axis=1),  # (n1, 2 half): the real part
    )


def spectrum(x: jax.Array, n1: int, n2: int) -> jax.Array:
    """The DFT of x (B, T, D) along its tokens, zeros appended up to n1 * n2: (n1 / 2 + 1, 2, n2, B, D), real and
    imaginary, the frequency k1 + n1 * k2 at [k1, :, k2]. n1 must be even."""
    (B, T, D), rows = x.shape, -(-x.shape[1] // n2)
    outer, inner, _, _ = (jnp.asarray(f, x.dtype) for f in _factors(n1, n2))
    x = jnp.pad(x, ((0, 0), (0, rows * n2 - T), (0, 0))).reshape(B, rows, n2 * D)
    x = jnp.einsum("ka,bam->bkm", outer[:, :rows], x)  # the rows after these are the zeros
    x = x.reshape(B, 2, -1, n2, D).transpose(2, 1, 3, 0, 4).reshape(-1, 2 * n2, B * D)
    return jnp.einsum("kij,kjm->kim", inner, x).reshape(-1, 2, n2, B, D)


def signal(x: jax.Array, n1: int, n2: int, length: int) -> jax.Array:
    """The first `length` tokens of the real signal with this `spectrum`: (B, length, D)."""
    (half, _, _, B, D), rows = x.shape, -(-length // n2)
    _, _, inner, outer = (jnp.asarray(f, x.dtype) for f in _factors(n1, n2))
    x = jnp.einsum("kij,kjm->kim", inner, x.reshape(half, 2 * n2, B * D))
    x = x.reshape(half, 2, n2, B, D).transpose(3, 1, 0, 2, 4).reshape(B, 2 * half, n2 * D)
    return jnp.einsum("ak,bkm->bam", outer[:rows], x).reshape(B, rows * n2, D)[:, :length]


def causal_convolution(x: jax.Array, taps: jax.Array) -> jax.Array:
    """y[b, t, d] = sum over j <= t of taps[t - j, d] x[b, j, d], for x (B, T, D) and taps (K, D); float32 or wider.

    By the DFT of a length that leaves no wrap around. Rounding leaks about 1e-7 of the size of x backwards in time.
    """
    dtype, T = jnp.promote_types(x.dtype, jnp.float32), x.shape[1]
    n1, n2 = split(T + taps.shape[0] - 1)
    x, taps = spectrum(x.astype(dtype), n1, n2), spectrum(taps.astype(dtype)[None], n1, n2)
    re = x[:, 0] * taps[:, 0] - x[:, 1] * taps[:, 1]
    im = x[:, 0] * taps[:, 1] + x[:, 1] * taps[:, 0]
    return signal(jnp.stack([re, im], axis=1), n1, n2, T)


def convolution_at(x: jax.Array, taps: jax.Array, position: jax.Array) -> jax.Array:
    """One token of `causal_convolution`, by its sum: at position (B,) of x (B, S, D) with taps (S, D) -> (B, D).

    A slice of the reversed filter, for each row from another place, and a product summed: on a CPU ten times as fast
    as a gather by lag.
    """
    S = x.shape[1]
    backwards = jnp.concatenate([taps[::-1], jnp.zeros_like(taps)])  # no tap meets an input after the position
    here = jax.vmap(lambda p: jax.lax.dynamic_slice_in_dim(backwards, S - 1 - p, S))(position)
    return jnp.einsum("bsd,bsd->bd", here, x.astype(taps.dtype))


class LongFilter(nn.Module):
    """A filter as long as the context for each of `width` channels, made from positions by a small network with sines,
    under a window that decays faster from channel to channel (Poli et al. 2023, arXiv 2302.10866, section 3.3).

    Position t is t / (context - 1): the context is part of the model. Everything is float32. The last layer begins
    such that each channel's filter has energy 1.
    """

    model: knobs.Model
    width: int

    @nn.compact
    def __call__(self, length: int) -> jax.Array:
        """The first `length` taps, (length, width); there are no more than `context`."""
        m, order = self.model, self.model.monarch.filter_order
        t = np.arange(m.context) / (m.context - 1)
        angles = 2 * np.pi * np.arange(m.context) / m.context
        bands = np.linspace(1e-4, m.monarch.filter_bands - 1, m.monarch.filter_bands)
        angles = np.outer(angles, bands)
        x = np.concatenate([t[:, None], np.cos(angles), -np.sin(angles)], axis=1)[:length]
        rates = np.linspace(
            -math.log(0.01) / m.monarch.filter_slow, -math.log(0.01) / m.monarch.filter_fast, self.width
        )
        window = np.exp(-np.outer(t, rates))

        x = jnp.asarray(x, jnp.float32)
        frequency = self.param("frequency", nn.initializers.constant(m.monarch.filter_sine), (order,))
        for i in range(3):
            normal = nn.initializers.normal((3 * x.shape[1]) ** -0.5)  # as a uniform draw from +-1/sqrt(fan-in)
            weight = self.param(f"weight_{i}", normal, (x.shape[1], order))
            x = jnp.sin(frequency[None] * (x @ weight + self.param(f"bias_{i}", normal, (order,))[None]))
        energy = np.sum(window**2, axis=0) * order / 2  # of a filter of weights 1: the square of a sine is 1/2
        scaled = lambda key, shape, dtype: nn.initializers.normal(1.0)(key, shape, dtype) * energy[None] ** -0.5
        weight = self.param("weight_out", scaled, (order, self.width), jnp.float32)
        return (x @ weight) * jnp.asarray(window[:length], jnp.float32)


class Gated(nn.Module):
    """out(gate * (mix(v) + skip * v)), v = gate' * value, where gate', gate and value are short convolutions of
    projections. `mix` is the subclass's."""

    model: knobs.Model
    gain: float
    linear: Callable[..., nn.Module]
    rewindable: ClassVar[bool] = False  # the short convolution keeps the last tokens, whichever they are

    @nn.compact
    def __call__(self, x: jax.Array, positions: jax.Array, cache: Any = None) -> tuple[jax.Array, Any]:
        """x (B, T, D) -> (B, T, D) and the continued cache. Without a cache the tokens are taken to stand at
        0 .. T-1."""
        B, T, D = x.shape
        if cache is None:
            past, count = jnp.zeros((B, self.model.monarch.conv_width - 1, 3 * D), x.dtype), T
        else:
            past, count = cache["past"], jnp.sum(positions < cache["slots"][:, None], axis=1)
        x, past = ShortConv(self.model.monarch.conv_width, name="short")(self.linear(3 * D, name="in")(x), past, count)
        before, after, v = jnp.split(x, 3, axis=-1)
        v = v * before
        y, mixed = self.mix(v, positions, cache)
        skip = self.param("skip", nn.initializers.ones, (D,)).astype(x.dtype)[None, None]
        y = self.linear(D, gain=self.gain, name="out")((y.astype(x.dtype) + skip * v) * after)
        return y, None if cache is None else {"past": past, "slots": cache["slots"]} | mixed

    def mix(self, v: jax.Array, positions: jax.Array, cache: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """v (B, T, D) -> (B, T, D), and what the cache keeps of it."""
        raise NotImplementedError

    @nn.nowrap
    def init_cache(self, batch: int, slots: int, dtype: jnp.dtype) -> dict[str, jax.Array]:
        """`past`: what the short convolution needs; `slots`: the position from which on a token is a pad, a row."""
        past = jnp.zeros((batch, self.model.monarch.conv_width - 1, 3 * self.model.width), dtype)
        return {"past": past, "slots": jnp.full(batch, slots, jnp.int32)}

    @staticmethod
    def slots(cache: dict[str, jax.Array]) -> jax.Array:
        """Return the number of slots of each row of a cache, (B,)."""
        return cache["slots"]


class MonarchMixer(Gated):
    """Gates around a long convolution: the Hyena operator of order 2, as Monarch Mixer has it.

    The cache keeps the convolution's inputs. A new token costs one pass over them and over the filter, 2 S numbers a
    channel, just as attention passes over S keys and S values.
    """

    def mix(self, v, positions, cache):
        T = v.shape[1]
        taps = LongFilter(self.model, v.shape[2], name="filter")
        if cache is None:
            return causal_convolution(v, taps(min(T, self.model.context))), {}
        inputs = cache["inputs"].at[jnp.arange(v.shape[0])[:, None], positions].set(v, mode="drop")
        S, context = inputs.shape[1], self.model.context
        taps = jnp.pad(taps(min(S, context)), ((0, max(0, S - context)), (0, 0)))  # it reaches no further
        if T == 1:
            return convolution_at(inputs, taps, positions[:, 0])[:, None], {"inputs": inputs}
        last = jnp.max(jnp.where(positions < S, positions, -1), axis=1)
        seen = jnp.arange(S)[None] <= last[:, None]  # not even the rounding of what an unused slot holds
        y = causal_convolution(jnp.where(seen[:, :, None], inputs, 0), taps)
        return jnp.take_along_axis(y, jnp.minimum(positions, S - 1)[:, :, None], axis=1), {"inputs": inputs}

    @nn.nowrap
    def init_cache(self, batch: int, slots: int, dtype: jnp.dtype) -> dict[str, jax.Array]:
        inputs = jnp.zeros((batch, slots, self.model.width), dtype)
        return super().init_cache(batch, slots, dtype) | {"inputs": inputs}

    @staticmethod
    def flops(model: knobs.Model) -> float:
        """Return the cost of the DFT and its inverse, see `split`."""
        n1, n2 = split(2 * model.context - 1)
        return 2 * n1 * n2 * (n1 + 4 * n2) / model.context * model.width


class MonarchHeads(Gated):
    """Gates around a learned Monarch matrix over positions for each head, causally masked.

    Position i is token l of block s of n, and the matrix has left[l, s, k] right[k, l, p] from (k, p) to (s, l). The
    mask leaves all of an earlier block (k < s) and p <= l of the token's own, so the masked product is two
    block-diagonal ones again: O(T^1.5), and exactly causal.

        sums[k, l] = sum_p right[k, l, p] x[k, p]               own[k, l] = the same sum over p <= l
        y[s, l] = sum_(k < s) left[l, s, k] sums[k, l] + left[l, s, s] own[s, l]

    The cache keeps `sums`, S numbers a channel, to which each new token adds its share: about 2 sqrt(S) multiply-adds
    a token and channel. The matrices belong to the context of the config; they begin as exponential averages over half
    a block to all of the context, one for each head.
    """

    def mix(self, v, positions, cache):
        (B, T, D), H = v.shape, self.model.heads
        n, blocks = block_shape(self.model.context)
        if T > self.model.context:
            raise ValueError(f"{T} tokens, but the matrices are for a context of {self.model.context}")
        averages = exponential_averages(n, blocks, H, self.model.context)
        right = self.param("right", lambda _: jnp.asarray(averages[0], jnp.float32))  # (H, k, l, p)
        left = self.param("left", lambda _: jnp.asarray(averages[1], jnp.float32))  # (H, l, s, k)
        v = v.reshape(B, T, H, D // H)
        if cache is None:
            used = -(-T // n)
            x = jnp.pad(v, ((0, 0), (0, used * n - T), (0, 0), (0, 0)))
            y, _ = masked_monarch(x, right[:, :used], left[:, :, :used, :used])
            return y[:, :T].reshape(B, T, D), {}
        sums, rows = cache["sums"].reshape(B, blocks, n, H, D // H), jnp.arange(B)
        slot = jnp.where(positions < cache["slots"][:, None], positions, blocks * n)  # past the end: dropped
        if T == 1:
            s, l = slot[:, 0] // n, slot[:, 0] % n  # noqa: E741
            share = right.at[:, s, :, l].get(mode="clip")[..., None] * v.astype(jnp.float32)[:, 0, :, None]
            where = rows[:, None], s[:, None], slice(None), jnp.arange(H)[None]
            sums = sums.at[where].add(share, mode="drop")
            weights = left.at[:, l, s].get(mode="clip") * (jnp.arange(blocks)[None] <= s[:, None])[None]
            y = jnp.einsum("hbk,bkhc->bhc", weights, sums[rows, :, l]).reshape(B, 1, D)
        else:
            x = jnp.zeros((B, blocks * n, *v.shape[2:]), v.dtype).at[rows[:, None], slot].set(v, mode="drop")
            y, sums = masked_monarch(x, right, left, sums)
            y = y.at[rows[:, None], slot].get(mode="clip").reshape(B, T, D)
        return y, {"sums": sums.reshape(cache["sums"].shape)}

    @nn.nowrap
    def init_cache(self, batch: int, slots: int, dtype: jnp.dtype) -> dict[str, jax.Array]:
        n, blocks = block_shape(self.model.context)
        sums = jnp.zeros((batch, blocks, n, self.model.width), jnp.float32)
        return super().init_cache(batch, min(slots, self.model.context), dtype) | {"sums": sums}

    @staticmethod
    def flops(model: knobs.Model) -> float:
        """Return the cost of the two block-diagonal products, the first taken with and without the mask."""
        n, blocks = block_shape(model.context)
        return 2.0 * (2 * n + blocks) * model.width


def block_shape(context: int) -> tuple[int, int]:
    """The tokens of a block and the number of blocks, both about the square root of the context."""
    n = math.isqrt(context - 1) + 1
    return n, -(-context // n)


def exponential_averages(n: int, blocks: int, heads: int, context: int) -> tuple[np.ndarray, np.ndarray]:
    """right (heads, k, l, p) and left (heads, l, s, k) whose causal product is c exp(-(i - j) / tau), of energy 1, with
    tau from n / 2 to the context over the heads."""
    tau = np.geomspace(n / 2, context, heads)[:, None, None, None]
    token, block = np.arange(n), np.arange(blocks)
    right = np.exp((token[None, :] - token[:, None] - n)[None, None] / tau) * np.ones((1, blocks, 1, 1))
    apart = (block[:, None] - block[None, :])[None, None]
    left = np.where(apart >= 0, np.exp((1 - apart.clip(0)) * n / tau), 0) * np.ones((1, n, 1, 1))
    return right, left * np.sqrt(1 - np.exp(-2 / tau))


def masked_monarch(
    x: jax.Array, right: jax.Array, left: jax.Array, sums: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """The causally masked Monarch product of `MonarchHeads`.

    x (B, blocks * n, H, C), right (H, blocks, n, n), left (H, n, blocks, blocks), and float32 sums of earlier tokens
    (B, blocks, n, H, C) that these ones follow -> float32 y like x and the continued sums.
    """
    H, blocks, n, _ = right.shape
    B, C = x.shape[0], x.shape[-1]
    grid = lambda z: z.reshape(B, blocks, n, H, C).transpose(3, 1, 2, 0, 4).reshape(H, blocks, n, B * C)
    product = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)
    both = jnp.concatenate([right, jnp.tril(right)], axis=2).astype(x.dtype)
    both = product(both, grid(x))
    every, own = both[:, :, :n], both[:, :, n:]
    if sums is not None:
        every, own = every + grid(sums), own + grid(sums)
    earlier = jnp.tril(left, -1).astype(x.dtype)
    y = product(earlier, every.swapaxes(1, 2).astype(x.dtype))  # (H, l, s, B * C)
    y = y + jnp.diagonal(left, axis1=2, axis2=3)[..., None] * own.swapaxes(1, 2)
    flat = lambda z: z.reshape(H, blocks, n, B, C).transpose(3, 1, 2, 0, 4)
    return flat(y.swapaxes(1, 2)).reshape(B, blocks * n, H, C), flat(every)
