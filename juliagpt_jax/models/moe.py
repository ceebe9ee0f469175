"""Experts: several channels in the place of one, of which each token goes through a few (mixture of experts).

A router, one matrix, gives each token a logit for each expert; the token goes through the `model.moe.top` with the
largest, and what they give is added up by weights of the router's (Shazeer et al. 2017, arXiv 1701.06538, section 2.1;
top 1: Switch Transformer, Fedus et al. 2021, arXiv 2101.03961, section 2.1). An expert is any other channel of any
Linears: it comes as a pure function, and its parameters lie side by side along a first axis, "expert".

No token is dropped, and none sees another: tokens are sorted by expert, and each expert's are cut into blocks of one
size, the last one padded, so that shapes are fixed; a block is multiplied with the matrices of its expert.

Shape letters beside those of `gpt.py`: N tokens, E experts, P the experts that a token goes through (`top`), M tokens
in a block.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from juliagpt_jax.ground.knobs import model as knobs

Run = Callable[[Any, jax.Array], jax.Array]  # (parameters of one expert, x (M, D)) -> (M, D)


class Places(NamedTuple):
    """Where the pairs of a token and an expert lie in blocks; a pair is numbered token * P + choice.

    Attributes:
        owner: (blocks,) the expert of each block; None where each expert has one, in their order.
        pairs: (blocks * M,) the pair in each place, N * P in one that is empty.
        places: (N, P) the place of each pair; of one that was dropped the number of places.
    """

    owner: jax.Array | None
    pairs: jax.Array
    places: jax.Array


def route(logits: jax.Array, top: int, gate: str) -> tuple[jax.Array, jax.Array]:
    """Return the experts that each token goes through, the largest logit first, and their weights, (N, P) each, from
    logits (N, E) float32."""
    largest, experts = jax.lax.top_k(logits, top)
    return experts, GATES[gate](largest, logits)


def _of_chosen(largest: jax.Array, logits: jax.Array) -> jax.Array:
    """The softmax over the chosen experts alone: weights that add up to 1 (Mixtral: Jiang et al. 2024, arXiv
    2401.04088, section 2.1)."""
    return jax.nn.softmax(largest, axis=-1)


def _of_all(largest: jax.Array, logits: jax.Array) -> jax.Array:
    """The chosen ones' part of the softmax over all experts, as in Switch Transformer."""
    return jnp.exp(largest - jax.nn.logsumexp(logits, axis=-1, keepdims=True))


def through_all(run: Run, params: Any, x: jax.Array, experts: jax.Array, weights: jax.Array) -> jax.Array:
    """Return the weighted sum of the chosen experts for x (N, D), with every expert computed for every token: the
    reference, and the cheaper form for a few tokens."""
    count = jax.tree.leaves(params)[0].shape[0]
    chosen = experts[..., None] == jnp.arange(count)[None, None]
    share = jnp.sum(jnp.where(chosen, weights[..., None], 0), axis=1)  # (N, E)
    return jnp.einsum("ne,end->nd", share, jax.vmap(run, (0, None))(params, x).astype(share.dtype)).astype(x.dtype)


def block_size(tokens: int, top: int, experts: int) -> int:
    """Return M, a power of two that does not exceed the tokens. Small blocks copy an expert's matrices often, large
    ones multiply much padding: the sum of both costs is least at a block that grows with the root of an expert's
    share of tokens. Eight times that is near the least on a processor (64 to 128 for 1,024 to 4,096 tokens)."""
    best = 8 * math.sqrt(tokens * top / experts)
    return 2 ** int(math.log2(max(1.0, min(best, tokens))))


def blocks(tokens: int, top: int, experts: int) -> int:
    """Return how many blocks there are at the most, however the tokens choose."""
    size, pairs = block_size(tokens, top, experts), tokens * top
    return min(pairs, (pairs + experts * (size - 1)) // size)


def _sorting_pays(tokens: int, top: int, experts: int) -> bool:
    """True where the places are fewer than the rows of every expert for every token."""
    return blocks(tokens, top, experts) * block_size(tokens, top, experts) < tokens * experts


def sort(experts: jax.Array, count: int) -> Places:
    """Return places in which each block has one expert and no pair is dropped, for choices (N, P) of `count` experts:
    those of an expert in the order of tokens."""
    (tokens, top), pairs = experts.shape, experts.size
    size, number = block_size(tokens, top, count), blocks(tokens, top, count)
    flat = experts.reshape(-1)
    order = jnp.argsort(flat, stable=True)
    chosen, starts = _counts(flat, count)
    ends = jnp.cumsum(-(-chosen // size))  # behind the last block of each expert
    first = ends - -(-chosen // size)
    block = jnp.arange(number)
    owner = jnp.minimum(jnp.sum(ends[None] <= block[:, None], axis=1, dtype=jnp.int32), count - 1)
    rank = ((block - first[owner]) * size)[:, None] + jnp.arange(size)[None]  # among the expert's pairs
    at = jnp.minimum(starts[owner][:, None] + rank, pairs - 1)
    filled = jnp.where(rank < chosen[owner][:, None], order[at], pairs)
    places = first[flat] * size + jnp.argsort(order) - starts[flat]
    return Places(owner, filled.reshape(-1), places.reshape(experts.shape))


def sort_within(experts: jax.Array, count: int, limit: int, urgency: jax.Array) -> Places:
    """Return places in which each expert has one block of `limit` places, for choices (N, P); of more pairs those of
    the least `urgency` (N, P) have a place, and the others none."""
    pairs, flat = experts.size, experts.reshape(-1)
    order = jnp.lexsort((urgency.reshape(-1), flat))
    chosen, starts = _counts(flat, count)
    rank = jnp.broadcast_to(jnp.arange(limit)[None], (count, limit))
    at = jnp.minimum(starts[:, None] + rank, pairs - 1)
    filled = jnp.where(rank < chosen[:, None], order[at], pairs)
    rank = jnp.argsort(order) - starts[flat]
    places = jnp.where(rank < limit, flat * limit + rank, count * limit)
    return Places(None, filled.reshape(-1), places.reshape(experts.shape))


def _counts(flat: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Count the pairs of each expert, and those of the experts before it."""
    chosen = jnp.sum(flat[:, None] == jnp.arange(count)[None], axis=0, dtype=jnp.int32)
    return chosen, jnp.cumsum(chosen) - chosen


def through_chosen(run: Run, params: Any, x: jax.Array, places: Places, weights: jax.Array) -> jax.Array:
    """Return the weighted sum of the chosen experts for x (N, D), each computed for its own tokens alone."""
    owner, pairs, at = places
    number = len(jax.tree.leaves(params)[0] if owner is None else owner)
    given = spread(x, pairs, at).reshape(number, -1, x.shape[-1])
    own = params if owner is None else jax.tree.map(lambda leaf: leaf[owner], params)
    found = collect(jax.vmap(run)(own, given).reshape(-1, x.shape[-1]), pairs, at)
    return jnp.einsum("np,npd->nd", weights, found.astype(weights.dtype)).astype(x.dtype)


# XLA's CPU backend adds up the gradient of rows that are picked, x[i], row by row in a loop. Each pair has one place,
# so that the gradient of one function is the other: rows that are picked, too.


@jax.custom_vjp
def spread(x: jax.Array, pairs: jax.Array, places: jax.Array) -> jax.Array:
    """Return x (N, D) as it lies in places (S, D): each token in those of its pairs, zeros in the empty ones."""
    top = places.shape[1]
    return jnp.take(x, pairs // top, axis=0, mode="fill", fill_value=0)


def _spread_backward(kept, gradient):
    _, places = kept
    return jnp.sum(_picked(gradient, places), axis=1).astype(gradient.dtype), None, None


spread.defvjp(lambda x, pairs, places: (spread(x, pairs, places), (pairs, places)), _spread_backward)


@jax.custom_vjp
def collect(y: jax.Array, pairs: jax.Array, places: jax.Array) -> jax.Array:
    """Return the rows of y (S, D) by pair, (N, P, D); of a pair without a place zeros."""
    return _picked(y, places)


def _collect_backward(kept, gradient):
    pairs, _ = kept
    return _picked(gradient.reshape(-1, gradient.shape[-1]), pairs), None, None


collect.defvjp(lambda y, pairs, places: (collect(y, pairs, places), (pairs, places)), _collect_backward)


def _picked(rows: jax.Array, index: jax.Array) -> jax.Array:
    """The rows at an index, zeros behind the last."""
    return jnp.take(rows, index, axis=0, mode="fill", fill_value=0)


class MoE(nn.Module):
    """Experts of one kind, a router, and a channel beside them that every token goes through if `model.moe.shared`.

    It says of each row: `balance`, E times the sum over experts of the share of choices that an expert has and its mean
    probability, 1 where all have the same (Switch Transformer, eq. 4, of a window by itself as in DeepSeek-V3, arXiv
    2412.19437, eq. 17, so that it does not matter how a batch is cut); `router_z`, the mean squared logsumexp of the
    logits (ST-MoE: Zoph et al. 2022, arXiv 2202.08906, eq. 5); `share` (B, E), those of the choices; and `dropped`, the
    share of choices that found no place.

    With `model.moe.capacity` an expert has room for so many times its equal share of the choices, and the others are
    dropped by lot: where, and only where, the caller passes a "capacity" random key, as training does. Then what
    becomes of a token depends on all others at hand, later ones too.
    """

    model: knobs.Model
    gain: float
    linear: Callable[..., nn.Module]
    channel: Callable[..., nn.Module]  # of the experts, as in CHANNELS

    @nn.compact
    def __call__(self, x: jax.Array, real: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        own, flat = self.model.moe, x.reshape(-1, x.shape[-1])
        router = self.param("router", nn.initializers.normal(x.shape[-1] ** -0.5), (x.shape[-1], own.experts))
        logits = flat.astype(jnp.float32) @ router.astype(jnp.float32)
        chosen, weights = route(logits, own.top, own.gate)
        exists = jnp.broadcast_to(real, x.shape[:2]).reshape(-1)
        expert = self.channel(_as_wide(self.model, own.expert_mult), self.gain, self.linear, parent=None)
        params = self._experts(expert, x)

        def run(params: Any, x: jax.Array) -> jax.Array:
            return expert.apply({"params": params}, x[None], jnp.ones((1, len(x)), bool))[0][0]

        kept = jnp.ones(chosen.shape, bool)
        if own.capacity and self.has_rng("capacity"):
            limit = math.ceil(own.capacity * chosen.size / own.experts)
            lot = jax.random.uniform(self.make_rng("capacity"), chosen.shape)
            places = sort_within(chosen, own.experts, limit, jnp.where(exists[:, None], lot, jnp.inf))
            kept = places.places < own.experts * limit
            y = through_chosen(run, params, flat, places, weights)
        elif _sorting_pays(len(flat), own.top, own.experts):
            y = through_chosen(run, params, flat, sort(chosen, own.experts), weights)
        else:
            y = through_all(run, params, flat, chosen, weights)
        y = y.reshape(x.shape)
        if own.shared:
            wide = _as_wide(self.model, own.shared * own.expert_mult)
            beside = self.channel(wide, self.gain, self.linear, name="shared")
            y = y + beside(x, real)[0]
        return y, _said(logits, chosen, kept, exists, (x.shape[0], x.shape[1]))

    def _experts(self, expert: nn.Module, x: jax.Array) -> Any:
        """The parameters of all experts: those of one, with the experts along a first axis."""
        if self.has_variable("params", "experts"):  # `param` would trace how they begin, each time
            return self.get_variable("params", "experts")
        one = lambda key: expert.init(key, x[:1, :1], jnp.ones((1, 1), bool))["params"]
        return self.param("experts", lambda key: jax.vmap(one)(jax.random.split(key, self.model.moe.experts)))


def _said(
    logits: jax.Array, chosen: jax.Array, kept: jax.Array, exists: jax.Array, rows: tuple[int, int]
) -> dict[str, jax.Array]:
    """Sum up what a router did, see `MoE`: (B, ...) float32, over the tokens that exist."""
    count = logits.shape[-1]
    weight = exists.astype(jnp.float32)
    number = jnp.maximum(jnp.sum(weight.reshape(rows), axis=1), 1)

    def mean(values: jax.Array) -> jax.Array:
        """Over the tokens of each row, of values (N, ...)."""
        values = values * weight.reshape(-1, *(1,) * (values.ndim - 1))
        return jnp.sum(values.reshape(*rows, *values.shape[1:]), axis=1) / number.reshape(-1, *(1,) * (values.ndim - 1))

    share = mean(jnp.mean(chosen[..., None] == jnp.arange(count)[None, None], axis=1, dtype=jnp.float32))
    return {
        "balance": count * jnp.sum(share * mean(jax.nn.softmax(logits, axis=-1)), axis=-1),
        "router_z": mean(jax.nn.logsumexp(logits, axis=-1) ** 2),
        "share": share,
        "dropped": mean(1 - jnp.mean(kept, axis=1, dtype=jnp.float32)),
    }


def _as_wide(model: knobs.Model, ffn_mult: float) -> knobs.Model:
    return dataclasses.replace(model, ffn_mult=ffn_mult)


# `model.moe.gate`: the weights of what the chosen experts give, from their logits (N, P) and all logits (N, E).
GATES = {"chosen": _of_chosen, "all": _of_all}
