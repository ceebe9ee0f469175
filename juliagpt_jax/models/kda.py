"""Kimi Delta Attention (Kimi Team 2025, arXiv 2510.26692, section 4): the gated delta rule of `delta.py` as a mixer.

Its cache is a matrix for each head and the last few tokens of a short convolution, as large for a text of a million
tokens as for one: decoding costs the same at each. The paper has three such layers, then one of attention without
positions: `model.mixer="kda kda kda attention"`, `model.positions="none"`.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from juliagpt_jax.ground.knobs import model as knobs
from juliagpt_jax.models import delta
from juliagpt_jax.models.layers import RMSNorm, ShortConv

NOTHING_LEFT = -1e4  # a decay whose exponential is 0 in float64, too; sums and products of it are numbers


class Sizes(NamedTuple):
    """Numbers of a layer, where a knob of 0 leaves them to the model."""

    heads: int  # H, of queries and keys
    values: int  # HV, of values, decays and states
    key: int  # K, channels
    value: int  # V, channels
    rank: int  # of the two gates

    @classmethod
    def of(cls, model: knobs.Model) -> "Sizes":
        kda = model.kda
        heads = kda.heads or model.heads
        key = kda.head_width or max(1, model.width // heads)
        value = kda.value_width or key
        return cls(heads, kda.value_heads or heads, key, value, kda.gate_rank or value)


class KimiDeltaAttention(nn.Module):
    """out(norm(o) * sigmoid(gate)), o from the delta rule on short convolutions of queries, keys and values.

    A key channel fades by exp(-exp(A_log) softplus(decay(x) + dt_bias)) a token; a head writes the share beta =
    sigmoid(x beta) of what is new, of twice that with `kda.negative`. Queries and keys have length 1. The projections
    of both gates have two factors; the one that steers writing is a plain matrix under every `model.linear`.
    """

    model: knobs.Model
    gain: float
    linear: Callable[..., nn.Module]
    packed: bool = False
    channelwise: ClassVar[bool] = True  # each key channel fades at its own rate
    rewindable: ClassVar[bool] = False  # a state does not tell what it was before a token
    loops: ClassVar[bool] = True  # over tokens, or chunks of them
    packs: ClassVar[bool] = True
    any_context: ClassVar[bool] = True

    @nn.compact
    def __call__(self, x: jax.Array, positions: jax.Array, cache: Any = None) -> tuple[jax.Array, Any]:
        """x (B, T, D), positions (B or 1, T) -> (B, T, D) and the continued cache. Without a cache the tokens are
        taken to stand at 0 .. T-1. Pads stand behind a row's tokens."""
        (B, T, D), size, kda = x.shape, Sizes.of(self.model), self.model.kda
        keys, values = size.heads * size.key, size.values * size.value
        joined = [self.linear(n, name=name)(x) for name, n in (("query", keys), ("key", keys), ("value", values))]
        if cache is None:
            real = None
            past, count = jnp.zeros((B, kda.conv_width - 1, 2 * keys + values), x.dtype), T
        else:
            real = jnp.broadcast_to(positions < cache["slots"][:, None], (B, T))
            past, count = cache["past"], jnp.sum(real, axis=1)
        conv = ShortConv(kda.conv_width, bias=False, name="short")
        reach = positions % knobs.PASSAGE if self.packed else None
        joined, past = conv(jnp.concatenate(joined, axis=-1), past, count, reach)
        q, k, v = jax.checkpoint(_parts, static_argnums=1)(joined, size)

        decay, beta = self._decay(x, size), jax.nn.sigmoid(self._steer(x, "beta", size.values))
        beta = 2 * beta if kda.negative else beta
        if reach is not None:  # a passage begins with an empty state
            decay = jnp.where((reach == 0)[:, :, None, None], NOTHING_LEFT, decay)
        if real is not None:
            decay, beta = jnp.where(real[:, :, None, None], decay, 0), jnp.where(real[:, :, None], beta, 0)
        if cache is not None and T == 1:
            now = q[:, 0], k[:, 0], v[:, 0], decay[:, 0], beta[:, 0]
            o, state = delta.step(*now, cache["state"], kda.delta)
            o = o[:, None]
        else:
            state = None if cache is None else cache["state"]
            o, state = delta.chunked(q, k, v, decay, beta, state, kda.delta)

        gate = self.linear(values, name="gate_up")(self.linear(size.rank, name="gate_down")(x))
        gate = jax.nn.sigmoid(gate.reshape(o.shape).astype(o.dtype))
        y = (RMSNorm(self.model.norm_eps, name="norm")(o) * gate).astype(x.dtype).reshape(B, T, values)
        y = self.linear(D, gain=self.gain, name="out")(y)
        return y, None if cache is None else {"past": past, "slots": cache["slots"], "state": state}

    def _steer(self, x: jax.Array, name: str, features: int) -> jax.Array:
        """x times a matrix of its own, in float32 behind the product."""
        weight = self.param(name, nn.initializers.normal(x.shape[-1] ** -0.5), (x.shape[-1], features))
        y = x.reshape(-1, x.shape[-1]) @ weight.astype(x.dtype)
        return y.reshape(*x.shape[:-1], features).astype(jnp.promote_types(x.dtype, jnp.float32))

    def _decay(self, x: jax.Array, size: Sizes) -> jax.Array:
        """(B, T, HV, K or 1): the logarithm of what is left of the state."""
        channels = size.key if self.channelwise else 1
        if self.channelwise:
            given = self.linear(size.rank, name="decay_down")(x)
            given = self.linear(size.values * channels, name="decay_up")(given)
        else:
            given = self._steer(x, "decay", size.values)
        A_log = self.param("A_log", _rates, (size.values,))
        dt_bias = self.param("dt_bias", _times, (size.values * channels,))
        given = given.reshape(*x.shape[:-1], size.values, channels)
        return jax.checkpoint(log_decay, static_argnums=3)(given, A_log, dt_bias, self.model.kda.bound)

    @nn.nowrap
    def init_cache(self, batch: int, slots: int, dtype: jnp.dtype) -> dict[str, jax.Array]:
        """Return an empty cache, of one size for every number of slots.

        `past`: what the short convolution needs; `slots`: the position from which on a token is a pad, a row; `state`:
        see `delta.py`."""
        size = Sizes.of(self.model)
        channels = 2 * size.heads * size.key + size.values * size.value
        return {
            "past": jnp.zeros((batch, self.model.kda.conv_width - 1, channels), dtype),
            "slots": jnp.full(batch, slots, jnp.int32),
            "state": jnp.zeros((batch, size.values, size.key, size.value), jnp.float32),
        }

    @staticmethod
    def slots(cache: dict[str, jax.Array]) -> jax.Array:
        """Return the number of slots of each row of a cache, (B,)."""
        return cache["slots"]

    @classmethod
    def flops(cls, model: knobs.Model) -> float:
        """Return the cost of the delta rule by chunks."""
        size = Sizes.of(model)
        rates = size.key if cls.channelwise else 1
        return delta.flops(model.context, size.values, size.key, size.value, rates, model.kda.delta)


class GatedDeltaNet(KimiDeltaAttention):
    """Kimi Delta Attention with one decay for all channels of a head, from one matrix: Gated DeltaNet's rule (Yang et
    al. 2024, arXiv 2412.06464, eq. 10). The gate behind it is that of Kimi Delta Attention, so that two models differ
    by the decay alone; the paper's is a SiLU of one matrix."""

    channelwise: ClassVar[bool] = False


def log_decay(x: jax.Array, A_log: jax.Array, dt_bias: jax.Array, bound: float = 0.0) -> jax.Array:
    """Return -exp(A_log) softplus(x + dt_bias), in float32 at least: x (..., HV, K), A_log (HV,), dt_bias (HV K,).
    With a bound -bound sigmoid(exp(A_log) (x + dt_bias)), so that a token never fades more than exp(-bound)."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    row = (1,) * (x.ndim - 2)
    rate, x = jnp.exp(A_log).reshape(*row, -1, 1), x + dt_bias.reshape(*row, *x.shape[-2:])
    return -bound * jax.nn.sigmoid(rate * x) if bound else -rate * jax.nn.softplus(x)


def _parts(joined: jax.Array, size: Sizes) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Queries and keys (B, T, H, K) of length 1 and values (B, T, HV, V), in float32 at least, of what the short
    convolution gives, (B, T, 2 H K + HV V)."""
    wide = jax.nn.silu(joined).astype(jnp.promote_types(joined.dtype, jnp.float32))
    q, k, v = jnp.split(wide, [size.heads * size.key, 2 * size.heads * size.key], axis=-1)
    q, k = (_unit(part.reshape(*part.shape[:2], size.heads, size.key)) for part in (q, k))
    return q, k, v.reshape(*v.shape[:2], size.values, size.value)


def _unit(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-6)


def _rates(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """A_log: the logarithm of 1 to 16."""
    return jnp.log(jax.random.uniform(key, shape, dtype, 1.0, 16.0))


def _times(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """dt_bias: what softplus makes 0.001 to 0.1 of, evenly in their logarithms, as in Mamba (Gu & Dao 2023, arXiv
    2312.00752, section 3.6)."""
    dt = jnp.exp(jax.random.uniform(key, shape, dtype, math.log(0.001), math.log(0.1)))
    return dt + jnp.log(-jnp.expm1(-dt))
