"""Attention to the first `first` and the newest `newest` tokens, as the masks `window` and `sinks` show them, in time
and memory that grow with the window and not with the text.

Many tokens go through in blocks: each block of queries meets its own keys and those of the window before it, instead of
all. A cache keeps the first tokens, the window, and SPARE tokens more, so that as many can be taken back: those that
the window then reaches again are still there. Keys lie there rotated by their positions in the text.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from juliagpt_jax.models import ring
from juliagpt_jax.models.softmax import averages, products, rows, weigh

SPARE = 17  # a draft of 16 tokens and the one before them: what speculative decoding takes back
BLOCK = 128  # most queries of a block; a longer window is several blocks


def shape(newest: int, tokens: int) -> tuple[int, int]:
    """Return the queries of a block and the number of keys before its first one that it meets, whole blocks."""
    block = min(max(newest, 16), BLOCK, tokens)
    return block, -(-(newest - 1) // block) * block


def pays(tokens: int, bound: tuple[int, int]) -> bool:
    """Tell whether blocks meet less than half of the keys that there are."""
    return tokens > 2 * (bound[0] + sum(shape(bound[1], tokens)))


def bounded(slots: int, bound: tuple[int, int]) -> bool:
    """Tell whether a cache for texts of so many tokens is smaller with a ring than with all of them."""
    return sum(bound) + SPARE < slots


def empty(batch: int, heads: int, slots: int, bound: tuple[int, int], channels: int, dtype: Any) -> dict[str, Any]:
    """Return an empty cache; a token at position `slots` or behind it is a pad."""
    part = lambda count: jnp.zeros((batch, heads, count, channels), dtype)
    first, late = bound[0], bound[1] + SPARE
    held = {"early_k": part(first), "early_v": part(first), "late_k": part(late), "late_v": part(late)}
    return held | {"slots": jnp.full(batch, slots, jnp.int32)}


def is_of(cache: Any) -> bool:
    """Tell such a cache from one that keeps everything, and from none."""
    return cache is not None and "late_k" in cache


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    positions: jax.Array,
    cache: dict[str, jax.Array] | None,
    bound: tuple[int, int],
    sink: jax.Array | None,
    drop: Callable[[Any], Any],
    choose: Callable[[jax.Array, jax.Array], jax.Array],
) -> tuple[jax.Array, dict[str, jax.Array] | None]:
    """Return each token's average over those that it sees, (B, T, H * C), and the continued cache.

    Args:
        q, k, v: (B, H, T, C) and (B, K, T, C).
        positions: (B or 1, T), consecutive in each row, pads behind. Without a cache they begin at 0.
        bound: the number of first and of newest tokens that are seen.
        sink: as of `weigh`.
        choose: `Attention.choose`.
    """
    (B, K, T, C), (first, newest) = k.shape, bound
    positions = jnp.broadcast_to(positions, (B, T))
    both, (block, before) = (("k", k), ("v", v)), shape(newest, T)
    if cache is None:
        early_k, early_v = k[:, :, :first], v[:, :, :first]
        none = jnp.zeros((B, K, before, C), k.dtype)
        keys, values = jnp.concatenate([none, k], axis=2), jnp.concatenate([none, v], axis=2)
        held = jnp.concatenate([jnp.full((B, before), -1), positions], axis=1)
    else:
        real, start = positions < cache["slots"][:, None], jnp.min(positions, axis=1, keepdims=True)
        old, m = cache, cache["late_k"].shape[2]
        late = {f"late_{name}": ring.write(old[f"late_{name}"], new, positions, real, first) for name, new in both}
        early = {f"early_{name}": old[f"early_{name}"] for name, _ in both}
        if first:
            index = ring.at(B, K, positions)
            early = {f"early_{name}": old[f"early_{name}"].at[index].set(new, mode="drop") for name, new in both}
        cache = early | late | {"slots": old["slots"]}
        early_k, early_v = early["early_k"], early["early_v"]
        if T == 1:
            keys, values, held = late["late_k"], late["late_v"], ring.held(start, jnp.arange(m), first, m)
        else:  # what was held before, in the order of the text, then the new ones
            held = start - before + jnp.arange(before)[None]
            slots = jnp.where(held >= first, (held - first) % m, 0)[:, None, :, None]
            keys, values = (
                jnp.concatenate([jnp.take_along_axis(part, slots, axis=2), new], axis=2)
                for part, new in ((old["late_k"], k), (old["late_v"], v))
            )
            held = jnp.concatenate([jnp.where(held > start - 1 - m, held, -1), positions], axis=1)
    return _blocks(q, keys, values, positions, held, early_k, early_v, first, newest, block, sink, drop, choose), cache


def _blocks(q, keys, values, positions, held, early_k, early_v, first, newest, block, sink, drop, choose):
    """(B, T, H * C) by n blocks of queries; keys (B, K, before + T, C), those of the queries last."""
    B, H, T, C = q.shape
    n, more = -(-T // block), -T % block
    past = (keys.shape[2] - T) // block  # whole blocks of keys before the first query, where there are several
    q = jnp.pad(q, ((0, 0), (0, 0), (0, more), (0, 0)))
    keys, values = (jnp.pad(part, ((0, 0), (0, 0), (0, more), (0, 0))) for part in (keys, values))
    here = jnp.pad(positions, ((0, 0), (0, more)), mode="edge")
    held = jnp.pad(held, ((0, 0), (0, more)), constant_values=-1)

    def cut(part: jax.Array) -> jax.Array:
        """(B, K, tokens, C) -> (B * n, K, keys of a block, C): those of blocks i, i + 1, ... i + past, side by side."""
        if n == 1:
            return part
        part = part.reshape(*part.shape[:2], n + past, block, -1)
        part = jnp.concatenate([part[:, :, j : j + n] for j in range(past + 1)], axis=3)
        return part.swapaxes(1, 2).reshape(B * n, part.shape[1], (past + 1) * block, -1)

    own = lambda part: part.reshape(B, -1, n, block, C).swapaxes(1, 2).reshape(B * n, -1, block, C)
    each = lambda part: jnp.repeat(part, n, axis=0) if n > 1 else part
    here, there = here.reshape(B * n, block, 1), cut(held[:, None, :, None])[..., 0]
    visible = (there >= first) & (there <= here) & (there > here - newest)
    keys, values = cut(keys), cut(values)
    if first:
        begun = jnp.arange(early_k.shape[2])[None, None] <= here
        visible = jnp.concatenate([jnp.broadcast_to(begun, (B * n, block, begun.shape[2])), visible], axis=2)
        keys = jnp.concatenate([each(early_k), keys], axis=2)
        values = jnp.concatenate([each(early_v), values], axis=2)
    scores = products(own(q), keys)
    weights, total = weigh(choose(scores, visible), visible, sink)
    y = rows(averages(drop(weights), values), total, values.dtype)  # (B * n, block, H * C)
    return y.reshape(B, n * block, H * C)[:, :T]
