"""How tokens see each other.

A mixer is a module `y, cache = mixer(x, positions, cache)` on x (B, T, D), and `init_cache(batch, slots, dtype)`, the
empty pytree it continues. It is built from the model's config, the gain of its last projection and the maker of its
Linears. `flops(model)` is what one layer of it computes for a token beside its Linears, forward, in a full context.
`goes_back` says whether tokens can be taken back from its cache by their positions alone: what is cached of a token
lies in the slot of its position, and no earlier position looks there.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from juliagpt_jax.ground import config
from juliagpt_jax.models.layers import RMSNorm, attend, rotary, split_heads
from juliagpt_jax.models.monarch import MonarchHeads, MonarchMixer


class Attention(nn.Module):
    """The baseline's attention (`gpt.py`), its projections of any kind in LINEARS; `qk_norm` as an option."""

    model: config.Model
    gain: float
    linear: Callable[..., nn.Module]
    goes_back: ClassVar[bool] = True

    @nn.compact
    def __call__(self, x, positions, cache=None):
        D, H, K = x.shape[-1], self.model.heads, self.model.kv_heads or self.model.heads
        q = split_heads(self.linear(D, name="query")(x), H)
        k = split_heads(self.linear(K * D // H, name="key")(x), K)
        v = split_heads(self.linear(K * D // H, name="value")(x), K)
        eps = self.model.norm_eps
        if self.model.qk_norm:  # (Henry et al. 2020, arXiv 2010.04245; with RMSNorm and its scale as in Qwen3)
            q, k = RMSNorm(eps, name="query_norm")(q), RMSNorm(eps, name="key_norm")(k)
        if self.model.positions == "rotary":
            q, k = rotary(q, positions, self.model.rope_base), rotary(k, positions, self.model.rope_base)
        drop = nn.Dropout(self.model.dropout, deterministic=not self.has_rng("dropout"))
        y, cache = attend(q, k, v, positions, cache, drop)
        return self.linear(D, gain=self.gain, name="out")(y), cache

    @nn.nowrap
    def init_cache(self, batch: int, slots: int, dtype: jnp.dtype) -> dict[str, jax.Array]:
        H, K = self.model.heads, self.model.kv_heads or self.model.heads
        shape = (batch, K, slots, self.model.width // H)
        return {"k": jnp.zeros(shape, dtype), "v": jnp.zeros(shape, dtype)}

    @staticmethod
    def flops(model: config.Model) -> float:
        """Scores and weighted values over all of the context, counted in full."""
        return 4.0 * model.width * model.context


def of_layers(model: config.Model) -> list[Any]:
    """The mixer of each layer, of MIXERS: the words of `model.mixer` are repeated over the layers."""
    words = model.mixer.split()
    return [MIXERS[words[i % len(words)]] for i in range(model.layers)]


MIXERS = {"attention": Attention, "monarch": MonarchMixer, "monarch_heads": MonarchHeads}
