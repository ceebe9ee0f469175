"""Tiny recursive models (TRM: Jolicoeur-Martineau 2025, arXiv 2510.04871): a small network that improves an answer.

There are two states, z_H and z_L (here `high`, the answer, and `low`, the reasoning), one vector for each place. One
network f of a few layers updates both. A cycle updates the low state n times from the question, then the high state
once from the low one; a call makes T cycles, of which only the last has a gradient (figure 3 of the paper):

    n times:  low = f(low + (high + question));    then once:  high = f(high + low)

Where n = 0 there is no low state, and high = f(high + question): with T = 1 and one step a plain stack of layers.
f is post-norm: h = rms(h + mix(h)), then h = rms(h + swiglu(h)), with an RMS norm that has no weights; with
`model.zero_init` both branches begin at zero, without which a plain stack of twelve layers does not start to learn.
Every token sees every other: the model fills in a whole puzzle at once. Slots stand before the puzzle; the first one
holds the embedding of the puzzle's id, and the halting head reads the high state there.

With several `latents` as many answers are worked out side by side, from other beginnings of the low state; the best
one of a puzzle learns, and where no solution is known the one counts that the halting head trusts most (Speed is
Confidence: 2026, arXiv 2601.19085).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs import model as knobs
from juliagpt_jax.models import kda
from juliagpt_jax.models.attention import Attention
from juliagpt_jax.models.decoder import DTYPES
from juliagpt_jax.models.interface import check_no_decoder
from juliagpt_jax.models.layers import INITS, linears

HALT_BIAS = -5.0  # the halting head begins by never halting
# What a recursive model does not have, by knob, and what the knob may say; the words of its core and gate are its own.
PLAIN = {"dropout": (0.0,), "positions": ("rotary", "none"), "depth": ("stack",), "sink": ("none",), "softcap": (0.0,)}
PLAIN |= {"norm": ("rms",), "mixer": ("attention",), "mask": ("causal",), "channel": ("swiglu",), "unet": (False,)}
PLAIN |= {"word_dropout": (0.0,), "x0_skip": (False,), "value_embedding": ("none",), "scan_layers": (False,)}


class Carry(NamedTuple):
    """The states (B, slots + T, D) that one call hands to the next, without their gradient; (B, K, slots + T, D) of K
    latents."""

    high: jax.Array
    low: jax.Array


def rms(x: jax.Array, eps: float) -> jax.Array:
    """x over the root of its mean square, in float32, without weights."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + eps)).astype(x.dtype)


def _gain(model: knobs.Model) -> float:
    """Return what the initial weights of a branch's last projection are multiplied by."""
    return float(not model.zero_init)


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)) on the last axis; the hidden width is rounded up to a multiple. A normalised one is
    down(sigmoid(gate(x)) * rms(gate(x) * up(x))) (arXiv 2601.19085)."""

    model: knobs.Model
    linear: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        multiple = self.model.recursive.multiple
        hidden = -(-round(self.model.ffn_mult * x.shape[-1]) // multiple) * multiple
        gate, up = self.linear(hidden, name="gate")(x), self.linear(hidden, name="up")(x)
        if self.model.recursive.gate == "normalised":
            y = jax.nn.sigmoid(gate) * rms(gate * up, self.model.norm_eps)
        else:
            y = jax.nn.silu(gate) * up
        return self.linear(x.shape[-1], gain=_gain(self.model), name="down")(y)


class Attend(nn.Module):
    """Attention of each place to all places."""

    model: knobs.Model
    linear: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        positions = jnp.arange(x.shape[1])[None, :]
        return Attention(self.model, _gain(self.model), self.linear, mask="none", name="mixer")(x, positions)[0]


class MixPlaces(nn.Module):
    """A SwiGLU over the places of each channel, for puzzles whose places always mean the same (section 4.5 of the
    paper). It is made for `model.context` tokens behind the slots; places that are not there are zeros."""

    model: knobs.Model
    linear: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        T, places = x.shape[1], self.model.recursive.slots + self.model.context
        if T > places:
            raise ValueError(f"{T} places, and mlp_t is made for {places}")
        x = jnp.pad(x.swapaxes(1, 2), ((0, 0), (0, 0), (0, places - T)))
        return SwiGLU(self.model, self.linear, name="mixer")(x)[:, :, :T].swapaxes(1, 2)


class Delta(nn.Module):
    """Kimi Delta Attention. A delta rule reads in one direction: with `recursive.both_ways` two of them read in both,
    each with weights of its own, and are added up; without, a place does not see those behind it."""

    model: knobs.Model
    linear: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = OneWay(self.model, self.linear, name="ahead")(x)
        if self.model.recursive.both_ways:
            y = y + OneWay(self.model, self.linear, name="back")(x[:, ::-1])[:, ::-1]
        return y


class OneWay(nn.Module):
    """Kimi Delta Attention from the first place to the last."""

    model: knobs.Model
    linear: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        positions = jnp.arange(x.shape[1])[None, :]
        return kda.KimiDeltaAttention(self.model, _gain(self.model), self.linear, name="mixer")(x, positions)[0]


class Layer(nn.Module):
    """One layer of f."""

    model: knobs.Model
    core: str
    linear: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        eps = self.model.norm_eps
        x = rms(x + CORES[self.core](self.model, self.linear, name=self.core)(x), eps)
        return rms(x + SwiGLU(self.model, self.linear, name="channel")(x), eps)


class Recursive(nn.Module):
    """Puzzles to logits of their solutions, one supervision step at a time. Attributes as of `Decoder`."""

    config: knobs.Model
    vocab: int
    precision: str = "f32"
    remat: bool = False
    schedule: tuple[tuple[float, ...], ...] = ()
    energy: bool = False
    int8: bool = False
    encodes: ClassVar[bool] = False

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        ids: jax.Array | None = None,
        carry: Carry | None = None,
        fresh: jax.Array | None = None,
    ) -> tuple[jax.Array, Carry, dict[str, Any]]:
        """Make one call.

        Args:
            tokens: (B, T) the puzzle.
            ids: (B,) the puzzles' ids; None for 0. Of an id outside the table the embedding is zero.
            carry: what the last call handed on; None to begin.
            fresh: (B,) bool, rows that begin whatever the carry says; None for none.

        Returns:
            Float32 logits (B, T, V), the new carry, and {"halt": (B,) float32, above 0 where the model takes its answer
            for the solution}; of several latents also {"each": (B, K, T, V), "halts": (B, K)}, of which these two are
            the most trusted.
        """
        own, width, dtype = self.config.recursive, self.config.width, DTYPES[self.precision]
        (B, T), K = tokens.shape, own.latents
        init = INITS[self.config.init](width, self.vocab, 1.0)
        embedding = self.param("embedding", init, (self.vocab, width))
        places = jnp.zeros((B, own.slots, width), embedding.dtype)
        if own.ids and own.slots:
            table = self.param("ids", nn.initializers.zeros, (own.ids, width))
            ids = jnp.zeros(B, jnp.int32) if ids is None else ids
            known = (ids >= 0) & (ids < own.ids)
            places = places.at[:, 0].set(jnp.where(known[:, None], table[jnp.clip(ids, 0, own.ids - 1)], 0))
        question = (width**0.5 * jnp.concatenate([places, embedding[tokens]], axis=1)).astype(dtype)

        begin, shape = [], (B, K, *question.shape[1:])  # latents are rows of their own, those of a puzzle together
        question = jnp.repeat(question, K, axis=0)
        for name, count in (("start_high", 1), ("start_low", K)):  # not trained: no gradient reaches them
            start = self.param(name, INITS["truncated"](1, 1, 1.0), (width,) if count == 1 else (count, width))
            start = jax.lax.stop_gradient(start).astype(dtype).reshape(1, count, 1, width)
            begin.append(jnp.broadcast_to(start, shape).reshape(question.shape))
        carry = Carry(*(begin if carry is None else (part.reshape(question.shape) for part in carry)))
        if fresh is not None:
            fresh = jnp.repeat(fresh, K)[:, None, None]
            carry = Carry(*(jnp.where(fresh, b, c) for b, c in zip(begin, carry, strict=True)))

        f = self._network(question)

        def cycle(carry: Carry) -> Carry:
            high, low = carry
            low = _again(lambda low: f(low + (high + question)), low, own.inner, loop=self.remat)
            return Carry(f(high + (low if own.inner else question)), low)

        held = _again(cycle, jax.lax.stop_gradient(carry), own.outer - 1)
        carry = cycle(jax.lax.stop_gradient(held))

        head = embedding.T if self.config.tie else self.param("head", init, (width, self.vocab))
        answer = carry.high[:, own.slots :].reshape(-1, width)
        logits = jnp.matmul(answer, head.astype(dtype), preferred_element_type=jnp.float32).reshape(B * K, T, -1)
        halt = self.param("halt", nn.initializers.zeros, (width,))
        bias = self.param("halt_bias", nn.initializers.constant(HALT_BIAS), ())
        halt, aux = carry.high[:, 0].astype(jnp.float32) @ halt + bias, {}
        carry = jax.lax.stop_gradient(carry)
        if K > 1:
            carry = Carry(*(part.reshape(shape) for part in carry))
            aux = {"each": logits.reshape(B, K, T, -1), "halts": halt.reshape(B, K)}
            rows, best = jnp.arange(B), jnp.argmax(aux["halts"], axis=1)
            logits, halt = aux["each"][rows, best], aux["halts"][rows, best]
        return logits, carry, {"halt": halt} | aux

    @nn.nowrap
    def _network(self, x: jax.Array) -> Callable[[jax.Array], jax.Array]:
        """Return f, its parameters in it: a function that may be called in a loop and outside of it."""
        parts = []
        for i, layer in enumerate(self.layers()):
            name = f"block_{i}"
            there = self.has_variable("params", name)
            make = lambda key, layer=layer: layer.init(key, x)["params"]
            parts.append((layer, self.get_variable("params", name) if there else self.param(name, make)))

        def f(x: jax.Array) -> jax.Array:
            for layer, params in parts:
                x = layer.apply({"params": params}, x)
            return x

        return jax.checkpoint(f) if self.remat else f

    @nn.nowrap
    def layers(self) -> list[Layer]:
        """Return the layers of f, without parameters; `recursive.core` is repeated over them."""
        linear = linears(self.config, int8=self.int8)
        return [
            Layer(self.config, core, linear, parent=None) for core in self.config.by_layer(self.config.recursive.core)
        ]

    @nn.nowrap
    def begin(self, batch: int) -> Carry:
        """Return a carry of zeros, for rows that are all fresh."""
        own = self.config.recursive
        latents = (own.latents,) if own.latents > 1 else ()
        shape = (batch, *latents, own.slots + self.config.context, self.config.width)
        return Carry(*(jnp.zeros(shape, DTYPES[self.precision]) for _ in range(2)))

    @nn.nowrap
    def check(self) -> None:
        """Refuse what a recursive model does not have.

        Raises:
            UserError: naming the key.
        """
        small = dataclasses.replace(self.config, recursive=dataclasses.replace(self.config.recursive, inner=1, outer=1))
        check_no_decoder(small, self.clone(config=small, parent=None).init, PLAIN, "a recursive model")

    @nn.nowrap
    def init_cache(self, batch: int, slots: int, first: int | None = None) -> Any:
        """Raise a UserError: such a model writes no text."""
        raise UserError("config.model.kind: a recursive model fills in a puzzle at once, and writes no text")


def _again(step: Callable[[Any], Any], x: Any, times: int, loop: bool = True) -> Any:
    """x behind so many steps. With a gradient and `train.remat` they have to be a loop: what they compute again, the
    compiler of a processor would else keep. Without `train.remat` a loop would keep more."""
    if loop and times:
        x, _ = jax.lax.scan(lambda x, _: (step(x), None), x, length=times)
        return x
    for _ in range(times):
        x = step(x)
    return x


# The mixers of f by the words of `model.recursive.core`.
CORES = {"attention": Attend, "mlp_t": MixPlaces, "kda": Delta}
