"""A cache that evicts: it keeps the first n tokens and the newest m of a text that goes on, in constant memory
(StreamingLLM: Xiao et al. 2023, arXiv 2309.17453, section 3.2).

Positions are those inside the cache: with n + m tokens kept the newest stands at n + m - 1, however long the text is,
so no distance is larger than those of training. A key is computed once, when its token is read, from what was kept
then; so the output is no function of the kept tokens alone. As long as nothing is evicted all of it is plain decoding.

The newest m keys lie in a ring, the token at position p of the text in slot (p - n) mod m, and lie there unrotated:
rotary positions act by distance alone, so a step rotates them anew, relative to its own token, and the query with
them. That costs 3 operations a number of the ring, beside the 4 (for each head that shares them) of attention itself,
and one rotated copy of a layer's keys; in return no angle grows with the text, and nothing is rounded more than once.
The first n keys keep their positions, so they lie there rotated, and a second query, rotated by the place of the newest
token, looks at them.

The mask `sinks` (`models/masks.py`) shows the same tokens, at their positions in the text: from the n-th token on a
model of that mask sees the first ones further and further away.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from juliagpt_jax.models import ring
from juliagpt_jax.models.layers import rotary
from juliagpt_jax.models.softmax import averages, products, rows, weigh

PAD = 2**30  # the position from which on a token is a pad, in a cache that has no last slot


def empty(batch: int, heads: int, slots: int, first: int, channels: int, dtype: Any) -> dict[str, jax.Array]:
    """Return an empty cache of `slots` tokens, of which the `first` stay."""
    part = lambda count: jnp.zeros((batch, heads, count, channels), dtype)
    return {"first_k": part(first), "first_v": part(first), "k": part(slots - first), "v": part(slots - first)}


def is_of(cache: Any) -> bool:
    """Tell such a cache from one that keeps everything, and from none."""
    return cache is not None and "first_k" in cache


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    positions: jax.Array,
    cache: dict[str, jax.Array],
    rope_base: float,
    sink: jax.Array | None,
    drop: Callable[[Any], Any],
    choose: Callable[[jax.Array, jax.Array], jax.Array] = lambda scores, visible: scores,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return each token's average over those that are kept when it is read, (B, T, H * C), and the continued cache.

    Args:
        q, k, v: (B, H, T, C) and (B, K, T, C), not rotated.
        positions: (B or 1, T), in the text: consecutive in each row, from where it left off; pads, PAD or more, behind.
        sink: as of `weigh`.
        choose: `Attention.choose`.
    """
    B, K, T, _ = k.shape
    n, m = cache["first_k"].shape[2], cache["k"].shape[2]
    positions = jnp.broadcast_to(positions, (B, T))
    start = jnp.min(positions, axis=1, keepdims=True)  # (B, 1)
    both = {"k": k, "v": v}
    late = {name: ring.write(cache[name], both[name], positions, positions < PAD, n) for name in both}
    first = {"first_k": cache["first_k"], "first_v": cache["first_v"]}
    if n:
        index = ring.at(B, K, positions)
        first["first_k"] = first["first_k"].at[index].set(rotary(k, positions, rope_base), mode="drop")
        first["first_v"] = first["first_v"].at[index].set(v, mode="drop")

    # Keys beside the first ones, and where in the text their tokens stand. One token evicts none that it sees.
    held = ring.held(start if T == 1 else start - 1, jnp.arange(m), n, m)  # (B, m)
    if T == 1:
        keys, values = late["k"], late["v"]
    else:
        keys, values = jnp.concatenate([cache["k"], k], axis=2), jnp.concatenate([cache["v"], v], axis=2)
        held = jnp.concatenate([held, positions], axis=1)
    here, there = positions[:, :, None], held[:, None, :]
    visible = (there >= n) & (there <= here) & (there > here - m)
    origin = start - m  # so that angles stay small
    near = products(rotary(q, positions - origin, rope_base), rotary(keys, held - origin, rope_base))
    far = products(rotary(q, jnp.minimum(positions, n + m - 1), rope_base), first["first_k"])

    begun = jnp.arange(n)[None, None] <= here
    scores, visible = jnp.concatenate([far, near], -1), jnp.concatenate([begun, visible], -1)
    weights, total = weigh(choose(scores, visible), visible, sink)
    weights = drop(weights)
    sums = averages(weights[..., :n], first["first_v"]) + averages(weights[..., n:], values)
    return rows(sums, total, v.dtype), first | late
