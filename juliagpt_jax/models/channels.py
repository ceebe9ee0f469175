"""What happens to one token: a module `y = channel(x)` on x (..., D), built from the model's config, the gain of its
last projection and the maker of its Linears."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from juliagpt_jax import config
from juliagpt_jax.models.layers import linears


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x) (Shazeer 2020, arXiv 2002.05202, eq. 6)."""

    model: config.Model
    gain: float
    linear: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        gate = self.linear(self.model.hidden, name="gate")(x)
        up = self.linear(self.model.hidden, name="up")(x)
        return self.linear(x.shape[-1], gain=self.gain, name="down")(jax.nn.silu(gate) * up)


class ReLU2(nn.Module):
    """down(relu(up x)^2) (So et al. 2021, arXiv 2109.08668, section 4.1): two matrices where SwiGLU has three, so
    ffn_mult 6 has as many parameters as SwiGLU of 4."""

    model: config.Model
    gain: float
    linear: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        up = self.linear(self.model.hidden, name="up")(x)
        return self.linear(x.shape[-1], gain=self.gain, name="down")(jnp.square(jax.nn.relu(up)))


class GELU(nn.Module):
    """down(gelu(up x)), GPT-2's MLP, with its tanh form of GELU (Hendrycks & Gimpel 2016, arXiv 1606.08415, section
    2); it has ffn_mult 4."""

    model: config.Model
    gain: float
    linear: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        up = self.linear(self.model.hidden, name="up")(x)
        return self.linear(x.shape[-1], gain=self.gain, name="down")(jax.nn.gelu(up, approximate=True))


def monarch_swiglu(model: config.Model, gain: float, linear: Callable[..., nn.Module], **names) -> SwiGLU:
    """SwiGLU with Monarch matrices, whatever the other Linears of the model are."""
    return SwiGLU(model, gain, linears(model, "monarch"), **names)


CHANNELS = {"swiglu": SwiGLU, "relu2": ReLU2, "gelu": GELU, "monarch": monarch_swiglu}
