"""Channels: what happens to one token.

A channel is a module `y, aux = channel(x, real)` on x (B, T, D), built from the model's config, the gain of its last
projection and the maker of its Linears.

`real` (B or 1, T) bool marks tokens that exist: a pad must not count where tokens share something, as the places of an
expert. `aux` is a dict of what there is to say beside y, arrays of floating-point numbers of fixed shapes, such as a
balance loss: they are gathered by name over the layers (see `Decoder`).
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from juliagpt_jax.ground.knobs import model as knobs
from juliagpt_jax.models.layers import linears
from juliagpt_jax.models.moe import MoE


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x) (Shazeer 2020, arXiv 2002.05202, eq. 6)."""

    model: knobs.Model
    gain: float
    linear: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array, real: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        gate = self.linear(self.model.hidden, name="gate")(x)
        up = self.linear(self.model.hidden, name="up")(x)
        return self.linear(x.shape[-1], gain=self.gain, name="down")(jax.nn.silu(gate) * up), {}


class MLP(nn.Module):
    """down(activation(up x)): two matrices where SwiGLU has three, so 3/2 of its ffn_mult has as many parameters."""

    model: knobs.Model
    gain: float
    linear: Callable[..., nn.Module]
    activation: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array, real: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        up = self.linear(self.model.hidden, name="up")(x)
        return self.linear(x.shape[-1], gain=self.gain, name="down")(self.activation(up)), {}


def relu2(x: jax.Array) -> jax.Array:
    """relu(x)^2 (So et al. 2021, arXiv 2109.08668, section 4.1)."""
    return jnp.square(jax.nn.relu(x))


def gelu(x: jax.Array) -> jax.Array:
    """GELU in its tanh form (Hendrycks & Gimpel 2016, arXiv 1606.08415, section 2), which GPT-2 has."""
    return jax.nn.gelu(x, approximate=True)


def monarch_swiglu(model: knobs.Model, gain: float, linear: Callable[..., nn.Module], **names: Any) -> SwiGLU:
    """Make a SwiGLU of Monarch matrices, whatever the other Linears of the model are."""
    return SwiGLU(model, gain, linears(model, "monarch"), **names)


def experts(model: knobs.Model, gain: float, linear: Callable[..., nn.Module], **names: Any) -> MoE:
    """Make experts of the channel `model.moe.expert`."""
    return MoE(model, gain, linear, EXPERTS[model.moe.expert], **names)


def tt_swiglu(model: knobs.Model, gain: float, linear: Callable[..., nn.Module], **names: Any) -> SwiGLU:
    """Make a SwiGLU of tensor trains, whatever the other Linears of the model are."""
    return SwiGLU(model, gain, linears(model, "tt"), **names)


CHANNELS = {
    "swiglu": SwiGLU,
    "relu2": functools.partial(MLP, activation=relu2),
    "gelu": functools.partial(MLP, activation=gelu),
    "monarch": monarch_swiglu,
    "moe": experts,
    "tt": tt_swiglu,
}
# `model.moe.expert`
EXPERTS = {word: channel for word, channel in CHANNELS.items() if channel is not experts}
