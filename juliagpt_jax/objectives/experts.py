"""Penalties on the routers of experts (`models/moe.py`), and the numbers that are logged of them.

All of it is told of each row by itself, and weighed by the row's scored targets: so it does not matter how a batch is
cut. Over layers penalties are added up, as each router is asked for the same.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from juliagpt_jax.data.batch import Batch
from juliagpt_jax.ground import config
from juliagpt_jax.models.interface import Model
from juliagpt_jax.objectives.objective import Chosen

Penalty = Callable[[jax.Array, dict[str, Any], Batch], jax.Array]


def balance(config: config.Config, model: Model, chosen: Chosen | None) -> Penalty | None:
    """Return `train.moe.balance` times the loss of unequal shares: at least 1 a layer, where all experts have the same
    share."""
    return _of_rows("balance", config.train.moe.balance, config)


def router_z(config: config.Config, model: Model, chosen: Chosen | None) -> Penalty | None:
    """Return `train.moe.router_z` times the squared logsumexp of the routers' logits."""
    return _of_rows("router_z", config.train.moe.router_z, config)


def _of_rows(name: str, weight: float, config: config.Config) -> Penalty | None:
    if not (weight and config.model.has_experts):
        return None

    def penalty(logits: jax.Array, aux: dict[str, Any], batch: Batch) -> jax.Array:
        return weight * jnp.sum(jnp.stack([_sum(value, batch) for value in aux[name]]))

    return penalty


def told(model: config.Model, aux: dict[str, Any], batch: Batch) -> dict[str, jax.Array]:
    """Return what is logged of routers, summed over the scored targets: `balance`, `router_z` and `dropped`, means over
    the layers that have experts, and `share_LAYER_EXPERT`, the share of a layer's choices that an expert has. {} where
    no layer has any."""
    if "share" not in aux:
        return {}
    # An ODE adds up what its evaluations say, shares too, which add up to 1 in each.
    often = [jax.lax.stop_gradient(jnp.sum(share, axis=-1)) for share in aux["share"]]
    mean = lambda name: sum(_sum(v / n, batch) for v, n in zip(aux[name], often, strict=True)) / len(often)
    sums: dict[str, Any] = {name: mean(name) for name in ("balance", "router_z", "dropped")}
    layers = [i for i, word in enumerate(model.by_layer(model.channel)) if word == "moe"]
    for layer, share, n in zip(layers, aux["share"], often, strict=True):
        sums |= {f"share_{layer}_{e}": _sum(share[:, e] / n, batch) for e in range(share.shape[-1])}
    return sums


def _sum(rows: jax.Array, batch: Batch) -> jax.Array:
    """The sum of a value by row (B,) over the scored targets, by their weights."""
    return jnp.sum(batch.weighed(batch.scored * rows[:, None]))
