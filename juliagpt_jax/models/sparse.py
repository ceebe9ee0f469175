"""Attention to few tokens, which each query chooses for itself: those with the highest scores, or whole blocks."""

import functools
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from juliagpt_jax.ground.knobs import model as knobs
from juliagpt_jax.models.attention import Attention
from juliagpt_jax.models.softmax import products, rows, weigh

LEAST = jnp.finfo(jnp.float32).min
TILE = 64  # queries that meet a block of keys in one product


class TopK(Attention):
    """Attention to the `model.sparse.top` visible keys of the highest scores (Explicit Sparse Transformer: Zhao et al.
    2019, arXiv 1912.11637, eq. 4 to 6).

    Keys that tie with the last of them are kept as well, so that no order among equals is made up. The others have no
    weight and no gradient. It saves no time: all scores are computed, and looked through.
    """

    loops: ClassVar[bool] = True  # over bits

    @nn.nowrap
    def choose(self, scores: jax.Array, visible: jax.Array) -> jax.Array:
        top = self.model.sparse.top
        if top >= scores.shape[-1]:
            return scores
        shown = jax.lax.stop_gradient(jnp.where(visible[:, None, None], scores, LEAST))
        return jnp.where(shown >= kth_largest(shown, top)[..., None], scores, LEAST)


def kth_largest(x: jax.Array, k: int) -> jax.Array:
    """Return the k-th largest number of each row of x (..., n) float32, exactly: (...).

    It is found bit by bit, from the highest: as whole numbers of 32 bits, with those of negative numbers turned round,
    floats have their own order. On a CPU 32 such counts take a fifth of the time of `jax.lax.top_k`, which sorts; as a
    loop, because written out they take seconds to compile.
    """
    high = jnp.uint32(1 << 31)
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    ordered = jnp.where(bits >= high, ~bits, bits | high)

    def one(i: jax.Array, found: jax.Array) -> jax.Array:
        tried = found | (high >> i.astype(jnp.uint32))
        enough = jnp.sum(ordered >= tried[..., None], axis=-1, dtype=jnp.int32) >= k
        return jnp.where(enough, tried, found)

    found = jax.lax.fori_loop(0, 32, one, jnp.zeros_like(ordered, shape=x.shape[:-1]))
    return jax.lax.bitcast_convert_type(jnp.where(found >= high, found ^ high, ~found), jnp.float32)


class BlockSparse(Attention):
    """Attention to a query's own block of `model.sparse.block` tokens and to the `model.sparse.blocks` earlier ones
    whose mean key it likes best (Mixture of Block Attention: Lu et al. 2025, arXiv 2502.13189, section 2.2).

    Each head of queries chooses for itself; the choice has no gradient. An earlier block lies wholly in the past, so
    nothing looks ahead. Of blocks that it likes alike a query takes the earlier ones. Queries that chose the same block
    are brought together, TILE at a time, and meet its keys in one product: time grows with the tokens, but for the
    product with the means, 1 / block of all scores. Without a cache the tokens are taken to stand at 0 .. T-1.

    The cache has the keys and values in blocks and their means. A mean is of use only when its block is full, and is
    taken anew whenever one of its tokens is written, so that tokens can be taken back.
    """

    masks: ClassVar[tuple[str, ...]] = ("causal",)
    evicts: ClassVar[bool] = False
    packs: ClassVar[bool] = False

    def attend(self, q, k, v, positions, cache, drop):
        B, T, size = q.shape[0], q.shape[2], self.model.sparse.block
        positions = jnp.broadcast_to(positions, (B, T))
        if cache is None:
            k, v = _in_blocks(k, size), _in_blocks(v, size)
            means = _means(k)
        else:
            cache = _write(cache, k, v, positions)
            k, v, means = cache["k"], cache["v"], cache["means"]
        end = T if cache is None else cache["slots"][:, None]
        own = jnp.where(positions < end, positions // size, k.shape[2])
        chosen = self.chosen(q, means, own)
        sums, total = _meet(q, k, v, positions, chosen, self.sink(k.shape[1]), drop)
        return rows(sums, total, v.dtype), cache

    @nn.nowrap
    def chosen(self, q: jax.Array, means: jax.Array, own: jax.Array) -> jax.Array:
        """Return the numbers of the blocks that each query meets, (B, H, T, blocks + 1), its own last; n for none.

        Args:
            means: (B, K, n, C), of the keys of each block.
            own: (B, T), the number of the block that each query stands in, n for a pad.
        """
        n = means.shape[2]
        liked = jax.lax.stop_gradient(products(q, means.astype(q.dtype)))  # (B, K, G, T, n)
        earlier = (jnp.arange(n)[None, None] < own[:, :, None]) & (own < n)[:, :, None]
        liked = jnp.where(earlier[:, None, None], liked, LEAST).reshape(*q.shape[:3], n)
        own = jnp.broadcast_to(own[:, None, :, None], (*q.shape[:3], 1)).astype(jnp.int32)
        found = []
        for _ in range(min(self.model.sparse.blocks, n)):  # on a CPU faster than top_k for as few
            best = jnp.argmax(liked, axis=-1, keepdims=True).astype(jnp.int32)
            there = jnp.take_along_axis(liked, best, axis=-1) > LEAST
            found.append(jnp.where(there, best, n))
            liked = jnp.where(jnp.arange(n)[None, None, None] == best, LEAST, liked)
        return jnp.concatenate([*found, own], axis=-1)

    @nn.nowrap
    def weights(self, q: jax.Array, k: jax.Array, positions: jax.Array) -> jax.Array:
        """Return what each head multiplies the values with where there is no cache, (B, H, T, T), by the definition:
        all scores, and a mask of what was chosen."""
        (B, K, T, _), H, size = k.shape, q.shape[1], self.model.sparse.block
        blocks = _in_blocks(k, size)
        n = blocks.shape[2]
        positions = jnp.broadcast_to(positions, (B, T))
        chosen = self.chosen(q, _means(blocks), jnp.where(positions < T, positions // size, n))
        meets = jnp.any(chosen[..., None] == jnp.arange(n)[None, None, None, None], axis=-2)  # (B, H, T, n)
        meets = jnp.repeat(meets, size, axis=-1)[..., :T]
        scores = jnp.where(meets.reshape(B, K, H // K, T, T), products(q, k), LEAST)
        weights, total = weigh(scores, self.visible(positions, positions), self.sink(K))
        return (weights / total[..., None]).reshape(B, H, T, T)

    @nn.nowrap
    def init_cache(self, batch: int, slots: int, dtype: Any, first: int | None = None) -> dict[str, jax.Array]:
        """Return an empty cache: a key and a value for each slot, and the mean of the keys of each block; `slots`: the
        position from which on a token is a pad, a row."""
        H, size = self.model.heads, self.model.sparse.block
        K, C = self.model.kv_heads or H, self.model.width // H
        n = -(-slots // size)
        part = lambda: jnp.zeros((batch, K, n, size, C), dtype)
        means = jnp.zeros((batch, K, n, C), jnp.float32)
        return {"k": part(), "v": part(), "means": means, "slots": jnp.full(batch, slots, jnp.int32)}

    @staticmethod
    def slots(cache: dict[str, jax.Array]) -> jax.Array:
        """Return the number of slots of each row of a cache, (B,)."""
        return cache["slots"]

    @staticmethod
    def flops(model: knobs.Model, mask: str = "causal") -> float:
        """Return the cost of the product with the means, and of the blocks that a token meets; not what tiles that are
        not full add."""
        size = model.sparse.block
        n = -(-model.context // size)
        met = min(model.sparse.blocks + 1, n) * size
        return (2.0 * n + 4.0 * met) * model.width


def _in_blocks(x: jax.Array, size: int) -> jax.Array:
    """(B, K, T, C) -> (B, K, n, size, C), zeros behind."""
    B, K, T, C = x.shape
    return jnp.pad(x, ((0, 0), (0, 0), (0, -T % size), (0, 0))).reshape(B, K, -1, size, C)


def _means(blocks: jax.Array) -> jax.Array:
    return jnp.mean(jax.lax.stop_gradient(blocks).astype(jnp.float32), axis=3)


def _write(cache: dict[str, jax.Array], k: jax.Array, v: jax.Array, positions: jax.Array) -> dict[str, jax.Array]:
    """The cache with T more tokens of each row in it, and the means of the blocks that they lie in."""
    (B, K, n, size, _), T = cache["k"].shape, k.shape[2]
    real = positions < cache["slots"][:, None]
    block = jnp.where(real, positions // size, n)
    head = jnp.arange(B)[:, None, None], jnp.arange(K)[None, :, None]
    index = *head, block[:, None, :], jnp.where(real, positions % size, 0)[:, None, :]
    held, means = {"k": cache["k"].at[index].set(k, mode="drop")}, cache["means"]
    held["v"] = cache["v"].at[index].set(v, mode="drop")
    if T == 1:  # of one block, not of all
        index = *head, block[:, None, :]
        means = means.at[index].set(_means(held["k"].at[index].get(mode="clip")), mode="drop")
    else:
        touched = jnp.any(block[:, :, None] == jnp.arange(n)[None, None], axis=1)  # (B, n)
        means = jnp.where(touched[:, None, :, None], _means(held["k"]), means)
    return held | {"means": means, "slots": cache["slots"]}


def _meet(q, k, v, positions, chosen, sink, drop):
    """Return the sums (B, K, G * T, C) and totals (B, K, G, T), as `averages` and `weigh` give them, of each query and
    the blocks that it has chosen."""
    (B, H, T, C), (K, n, size) = q.shape, k.shape[1:4]
    more, tile = chosen.shape[-1], min(TILE, T)
    place = _places(chosen.reshape(B * H, T * more), n, tile)
    pair = jnp.where(place.pair < T * more, place.pair // more, T)  # the query of each row
    row = place.row.reshape(B * H, T, more)

    each = lambda part: part.reshape(B * H, T, -1)
    spread = _take(each(q), pair, row).reshape(B, H, -1, tile, C)
    at = jnp.take_along_axis(jnp.pad(positions, ((0, 0), (0, 1)), constant_values=-1), pair.reshape(B, -1), axis=1)
    at = at.reshape(B, H, -1, tile, 1)  # -1 in a row without a query
    block = place.block.reshape(B, H, -1)
    index = jnp.arange(B)[:, None, None], (jnp.arange(H) // (H // K))[None, :, None], jnp.minimum(block, n - 1)
    keys, values = k[index], v[index]  # (B, H, tiles, size, C)

    scores = jnp.einsum("bhxqc,bhxsc->bhxqs", spread * C**-0.5, keys, preferred_element_type=jnp.float32)
    slots = (block[..., None] * size + jnp.arange(size)[None, None, None])[:, :, :, None]
    scores = jnp.where(slots <= at, scores, LEAST)
    top = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    weights = jnp.exp(scores - top)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    sums = jnp.einsum("bhxqs,bhxsc->bhxqc", drop(weights).astype(v.dtype), values, preferred_element_type=jnp.float32)

    # Of each query's parts, one softmax.
    back = lambda part: part.reshape(B * H, -1, part.shape[-1])
    parts = _take(back(jnp.concatenate([sums, total], axis=-1)), place.row, place.pair[..., None])
    parts = parts.reshape(B, H, T, more, C + 1)
    tops = jnp.take_along_axis(jnp.pad(back(top)[..., 0], ((0, 0), (0, 1)), constant_values=LEAST), place.row, axis=1)
    tops = tops.reshape(B, H, T, more, 1)
    own = jnp.full((1, H, 1, 1), LEAST) if sink is None else sink.reshape(1, H, 1, 1)
    highest = jax.lax.stop_gradient(jnp.maximum(jnp.max(tops, axis=3), own))  # (B, H, T, 1)
    share = jnp.where(tops > LEAST, jnp.exp(tops - highest[..., None]), 0)
    both = jnp.sum(parts * share, axis=3)  # (B, H, T, C + 1)
    total = both[..., C] + (0 if sink is None else jnp.exp(own - highest)[..., 0])
    total = jnp.where(total > 0, total, 1)  # of a pad
    return both[..., :C].reshape(B, K, -1, C), total.reshape(B, K, -1, T)


class Places(NamedTuple):
    """The rows, in tiles that each belong to one block, of pairs of a query and a block that it meets."""

    block: jax.Array  # (N, tiles), n for a tile without a block
    pair: jax.Array  # (N, tiles * tile), the pair of each row; P for a row without one
    row: jax.Array  # (N, P), the row of each pair; tiles * tile for a pair without a block


def _places(blocks: jax.Array, n: int, tile: int) -> Places:
    """The places of pairs whose blocks are (N, P), n for none.

    The pairs of a block keep their order, so a later query moves none of an earlier one's rows within its tile: a
    product rounds in the same way whatever comes later.
    """
    N, P = blocks.shape
    tiles = (P + min(n, P) * (tile - 1)) // tile  # that are never too few
    order = jnp.argsort(blocks, axis=1, stable=True)
    pick = functools.partial(jnp.take_along_axis, axis=1)
    begin = jnp.sum(blocks[:, None] < jnp.arange(n + 1)[None, :, None], axis=2)  # (N, n + 1): pairs of blocks before
    full = -(-jnp.diff(begin, axis=1) // tile)
    first = jnp.pad(jnp.cumsum(full, axis=1), ((0, 0), (1, 0)))  # (N, n + 1): tiles of all blocks before
    block = jnp.sum(first[:, None, 1:] <= jnp.arange(tiles)[None, :, None], axis=2)

    here = jnp.minimum(block, n - 1)
    within = (jnp.arange(tiles)[None] - pick(first, here))[:, :, None] * tile + jnp.arange(tile)[None, None]
    at = pick(begin, here)[:, :, None] + within
    there = (at < pick(begin, here + 1)[:, :, None]) & (block < n)[:, :, None]
    pair = jnp.where(there, pick(order, jnp.minimum(at, P - 1).reshape(N, -1)).reshape(at.shape), P)

    rank = pick(jnp.broadcast_to(jnp.arange(P)[None], (N, P)), jnp.argsort(order, axis=1))  # among the sorted
    own = jnp.minimum(blocks, n - 1)
    row = jnp.where(blocks < n, pick(first, own) * tile + rank - pick(begin, own), tiles * tile)
    return Places(block, pair.reshape(N, -1), row)


@jax.custom_vjp
def _take(x: jax.Array, index: jax.Array, back: jax.Array) -> jax.Array:
    """Rows (N, M, C) of x (N, R, C) by their index (N, M), zeros for R. `back` (N, R, c) are the places to which each
    row went, M for none: the gradient is read from there, where that of a gather would add up one row after the
    other."""
    return jax.vmap(lambda x, index: x.at[index].get(mode="fill", fill_value=0))(x, index)


def _take_back(back, gradient):
    N, R, c = back.shape
    rows_ = _take(gradient, back.reshape(N, R * c), jnp.zeros((N, gradient.shape[1], 0), jnp.int32))
    return jnp.sum(rows_.reshape(N, R, c, -1), axis=2), None, None


_take.defvjp(lambda x, index, back: (_take(x, index, back), back), _take_back)
