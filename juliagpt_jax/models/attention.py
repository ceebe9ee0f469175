"""Attention of the kit: the baseline's (`gpt.py`), with a mask of MASKS, Linears of any kind, and options."""

from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from juliagpt_jax.ground.knobs import model as knobs
from juliagpt_jax.ground.knobs.model import PASSAGE
from juliagpt_jax.models import evicting, windowed
from juliagpt_jax.models.layers import RMSNorm, biased, rotary, split_heads
from juliagpt_jax.models.masks import MASKS
from juliagpt_jax.models.softmax import averages, products, rows, weigh


class Attention(nn.Module):
    """Multi-head attention under a mask; `qk_norm`, the kind of positions, value embeddings, gates and a learnt sink as
    options.

    With `model.sink` = "logit" a learnt logit of each head joins its softmax, and the probability that it takes is
    given to no value (as in gpt-oss, OpenAI 2025, arXiv 2508.10925): a head can look at nothing. It begins at 0.
    """

    model: knobs.Model
    gain: float
    linear: Callable[..., nn.Module]
    mask: str = "causal"
    packed: bool = False
    rewindable: ClassVar[bool] = True
    masks: ClassVar[tuple[str, ...]] = tuple(MASKS)
    takes_start: ClassVar[bool] = True
    sinks: ClassVar[tuple[str, ...]] = ("logit", "token")
    evicts: ClassVar[bool] = True
    packs: ClassVar[bool] = True
    any_context: ClassVar[bool] = True

    @nn.compact
    def __call__(
        self, x: jax.Array, positions: jax.Array, cache: Any = None, start: jax.Array | None = None
    ) -> tuple[jax.Array, Any]:
        """x (B, T, D), positions (B or 1, T) -> (B, T, D) and the continued cache. `start` (B, T, D) is what the first
        layer was given; its projection, 0 at first, is added to the values (Value Residual Learning: Zhou et al. 2024,
        arXiv 2410.17897, section 3, with a projection in place of the first layer's values)."""
        D, H, K = x.shape[-1], self.model.heads, self.model.kv_heads or self.model.heads
        # (Qwen2, arXiv 2407.10671, section 2.2: a bias in queries, keys and values alone)
        linear = biased(self.linear) if self.model.qkv_bias and not self.model.bias else self.linear
        q = split_heads(linear(D, name="query")(x), H)
        k = split_heads(linear(K * D // H, name="key")(x), K)
        v = split_heads(linear(K * D // H, name="value")(x), K)
        if start is not None:
            start = RMSNorm(self.model.norm_eps, name="start_norm")(start)
            v = v + split_heads(self.linear(K * D // H, gain=0.0, name="start")(start), K)
        eps = self.model.norm_eps
        if self.model.qk_norm:  # (Henry et al. 2020, arXiv 2010.04245; with RMSNorm and its scale as in Qwen3)
            q, k = RMSNorm(eps, name="query_norm")(q), RMSNorm(eps, name="key_norm")(k)
        if self.model.sink == "logit":
            self.param("sink_logit", nn.initializers.zeros, (H,))
        if self.model.positions == "rotary" and not evicting.is_of(cache):
            at = positions % PASSAGE if self.packed else positions
            q, k = rotary(q, at, self.model.rope_base), rotary(k, at, self.model.rope_base)
        drop = nn.Dropout(self.model.inner_dropout, deterministic=not self.has_rng("dropout"))
        y, cache = self.attend(q, k, v, positions, cache, drop)
        if self.model.head_gate:
            y = self._gated(y, x)
        return self.linear(D, gain=self.gain, name="out")(y), cache

    def _gated(self, y: jax.Array, x: jax.Array) -> jax.Array:
        """Return y (B, T, H * C), each head times 2 sigmoid(w x): 1 at first (Qiu et al. 2025, arXiv 2505.06708,
        section 2.2, by head after the attention; theirs has no 2)."""
        weight = self.param("gate", nn.initializers.zeros, (x.shape[-1], self.model.heads)).astype(x.dtype)
        gate = 2 * jax.nn.sigmoid(x.reshape(-1, x.shape[-1]) @ weight)
        return (y.reshape(*gate.shape, -1) * gate[..., None]).reshape(y.shape)

    def attend(
        self, q: jax.Array, k: jax.Array, v: jax.Array, positions: jax.Array, cache: Any, drop: Callable[[Any], Any]
    ) -> Any:
        """Return softmax(q k' / sqrt(C)) v over the tokens that the mask shows, (B, T, H * C), and the continued cache.

        As `gpt.attend`, whose docstring says what makes it fast: q (B, H, T, C), k and v (B, K, T, C), the softmax in
        float32, `drop` applied to its weights.
        """
        B, K, T, _ = k.shape
        slots, bound = positions, MASKS[self.mask].bounded(self.model)
        if evicting.is_of(cache):
            return evicting.attend(q, k, v, positions, cache, self.model.rope_base, self.sink(K), drop, self.choose)
        if bound and (windowed.is_of(cache) or (cache is None and windowed.pays(T, bound))):
            return windowed.attend(q, k, v, positions, cache, bound, self.sink(K), drop, self.choose)
        if cache is not None:
            index = jnp.arange(B)[:, None, None], jnp.arange(K)[None, :, None], positions[:, None, :]
            k = cache["k"].at[index].set(k, mode="drop")
            v = cache["v"].at[index].set(v, mode="drop")
            cache = {"k": k, "v": v}
            slots = jnp.arange(k.shape[2])[None, :]
        visible = self.visible(slots, positions)
        weights, total = weigh(self.choose(products(q, k), visible), visible, self.sink(K))
        return rows(averages(drop(weights), v), total, v.dtype), cache

    @nn.nowrap
    def visible(self, slots: jax.Array, positions: jax.Array) -> jax.Array:
        """Return which keys in `slots` the queries at `positions` see; where rows are packed, none of another
        passage."""
        visible = MASKS[self.mask].visible(self.model, slots, positions)
        if not self.packed:
            return visible
        return visible & (slots[:, None, :] // PASSAGE == positions[:, :, None] // PASSAGE)

    @nn.nowrap
    def choose(self, scores: jax.Array, visible: jax.Array) -> jax.Array:
        """Return scores (B, K, G, T, S) of which a subclass drops some; here all of them. `visible` is as of `weigh`,
        which drops the others."""
        return scores

    @nn.nowrap
    def weights(self, q: jax.Array, k: jax.Array, positions: jax.Array) -> jax.Array:
        """Return what each head multiplies the values with where there is no cache, (B, H, T, T): rows that add up to
        1, or to what a learnt logit leaves. Given what `attend` is given."""
        visible = self.visible(positions, positions)
        weights, total = weigh(self.choose(products(q, k), visible), visible, self.sink(k.shape[1]))
        return (weights / total[..., None]).reshape(*q.shape[:3], -1)

    @nn.nowrap
    def sink(self, kv_heads: int) -> jax.Array | None:
        """Return the learnt logit of each head, (K, G) float32; None where there is none."""
        if self.model.sink != "logit":
            return None
        return self.get_variable("params", "sink_logit").astype(jnp.float32).reshape(kv_heads, -1)

    @nn.nowrap
    def init_cache(self, batch: int, slots: int, dtype: Any, first: int | None = None) -> dict[str, jax.Array]:
        """Return an empty cache: a key and a value for each slot, or, where that is less, for each token that the mask
        shows (`windowed.py`). Given `first`, one that evicts (`evicting.py`)."""
        H, K = self.model.heads, self.model.kv_heads or self.model.heads
        C = self.model.width // H
        if first is not None:
            return evicting.empty(batch, K, slots, first, C, dtype)
        bound = MASKS[self.mask].bounded(self.model)
        if bound and windowed.bounded(slots, bound):
            return windowed.empty(batch, K, slots, bound, C, dtype)
        return {"k": jnp.zeros((batch, K, slots, C), dtype), "v": jnp.zeros((batch, K, slots, C), dtype)}

    @staticmethod
    def slots(cache: dict[str, jax.Array]) -> Any:
        """Return the number of slots of a cache; of one that evicts, or is bounded, where pads begin."""
        if windowed.is_of(cache):
            return cache["slots"]
        return evicting.PAD if evicting.is_of(cache) else cache["k"].shape[2]

    @staticmethod
    def flops(model: knobs.Model, mask: str = "causal") -> float:
        """Return the cost of scores and weighted values over all keys that a token meets: the whole context, in full,
        or what `windowed.py` takes of it."""
        bound = MASKS[mask].bounded(model)
        met = model.context
        if bound and windowed.pays(met, bound):
            met = bound[0] + sum(windowed.shape(bound[1], met))
        return 4.0 * model.width * met


# `model.value_embedding`: the layer's values get a projection of what the first layer was given, or not.
VALUE_EMBEDDINGS = {"none": False, "x0": True}
