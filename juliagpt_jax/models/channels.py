"""What happens to one token: a module `y = channel(x)` on x (..., D), built from the model's config, the gain of its
last projection and the class of its Linears."""

import flax.linen as nn
import jax

from juliagpt_jax import config


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x) (Shazeer 2020, arXiv 2002.05202, eq. 6)."""

    model: config.Model
    gain: float
    linear: type[nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        gate = self.linear(self.model.hidden, name="gate")(x)
        up = self.linear(self.model.hidden, name="up")(x)
        return self.linear(x.shape[-1], gain=self.gain, name="down")(jax.nn.silu(gate) * up)


CHANNELS = {"swiglu": SwiGLU}
