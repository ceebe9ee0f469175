"""How tokens see each other.

A mixer is a module `y, cache = mixer(x, positions, cache)` on x (B, T, D), and `init_cache(batch, slots, dtype)`, the
empty pytree it continues. It is built from the model's config, the gain of its last projection and the class of its Linears.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from juliagpt_jax import config
from juliagpt_jax.models.layers import attend, rotary


class Attention(nn.Module):
    """The baseline's attention (`gpt.py`), its projections of any kind in LINEARS."""

    model: config.Model
    gain: float
    linear: type[nn.Module]

    @nn.compact
    def __call__(self, x, positions, cache=None):
        B, T, D = x.shape
        H, K = self.model.heads, self.model.kv_heads or self.model.heads
        C = D // H
        q = self.linear(H * C, name="query")(x).reshape(B, T, H, C)
        k = self.linear(K * C, name="key")(x).reshape(B, T, K, C)
        v = self.linear(K * C, name="value")(x).reshape(B, T, K, C)
        q, k = rotary(q, positions, self.model.rope_base), rotary(k, positions, self.model.rope_base)
        drop = nn.Dropout(self.model.dropout, deterministic=not self.has_rng("dropout"))
        y, cache = attend(q, k, v, positions, cache, drop)
        return self.linear(D, gain=self.gain, name="out")(y.reshape(B, T, D)), cache

    @nn.nowrap
    def init_cache(self, batch: int, slots: int, dtype: jnp.dtype) -> dict[str, jax.Array]:
        H, K = self.model.heads, self.model.kv_heads or self.model.heads
        shape = (batch, slots, K, self.model.width // H)
        return {"k": jnp.zeros(shape, dtype), "v": jnp.zeros(shape, dtype)}


MIXERS = {"attention": Attention}
