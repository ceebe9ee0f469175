"""Attention weights of every head, and how far back their mass lies.

A model does not hand out its attention weights. They are asked of each attention mixer where it attends, with the
queries and keys that it has there.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.models.attention import Attention
from juliagpt_jax.models.interface import Model
from juliagpt_jax.models.mixers import of_layers

NEAREST = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # shares of the mass on so many nearest tokens are reported


def seen(run: Callable[[], Any]) -> list[jax.Array]:
    """Return what each head of every attention mixer multiplies the values with while `run` runs without a cache:
    (B, H, T, T) each, rows that add up to 1, or to what a learnt logit leaves."""
    found = []

    def watch(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        mixer = context.module
        if isinstance(mixer, Attention) and context.method_name == "attend":
            q, k, _, positions, *_ = args
            found.append(mixer.weights(q, k, positions))
        return call(*args, **kwargs)

    with nn.intercept_methods(watch):
        run()
    return found


def layers_with_heads(model: Model) -> list[int]:
    """Return the layers whose mixer is attention; none where a layer is an ODE or recursive, whose heads look anew at
    each evaluation."""
    if set(model.config.depth.split()) != {"stack"}:
        return []
    return [i for i, kind in enumerate(of_layers(model.config)) if issubclass(kind, Attention)]


def of_windows(model: Model, params: Any, tokens: jax.Array) -> jax.Array:
    """Return the attention weights of tokens (B, T) in each of `layers_with_heads`: (layers, B, H, T, T); with a sink
    token, which is its row and column 0, T + 1 instead of T."""
    config = dataclasses.replace(model.config, scan_layers=False)  # in a loop one layer is seen for all
    plain = model.clone(config=config, remat=False, parent=None)  # which would trace the block a second time
    return jnp.stack(seen(lambda: plain.apply({"params": params}, tokens)))


@functools.partial(jax.jit, static_argnums=0)
def maps(model: Model, params: Any, tokens: jax.Array) -> jax.Array:
    """`of_windows`, compiled."""
    return of_windows(model, params, tokens)


@functools.partial(jax.jit, static_argnums=0)
def _mass(model: Model, params: Any, tokens: jax.Array) -> jax.Array:
    T = tokens.shape[1]
    queries = jnp.arange(T // 2, T)
    back = queries[:, None] - jnp.arange(T)[None]  # (queries, distance) -> index
    found = of_windows(model, params, tokens)[..., -T:, -T:]  # without a sink token
    looked = jnp.take_along_axis(found[..., T // 2 :, :], jnp.maximum(back, 0)[None, None, None], axis=-1)
    return jnp.where(back[None, None, None] >= 0, looked, 0).sum(axis=(1, 3)) / (len(tokens) * len(queries))


def mass(model: Model, params: Any, windows: np.ndarray, batch: int) -> np.ndarray:
    """(layers, H, T): the mean attention weight at each distance, 0 being the token itself, over windows (n, T),
    `batch` at a time.

    Only the second half of a window asks, so that each has at least half a window to look back on.
    """
    return _mean(_mass, model, params, windows, batch)


@functools.partial(jax.jit, static_argnums=0)
def _shares(model: Model, params: Any, tokens: jax.Array) -> jax.Array:
    T = tokens.shape[1]
    asked = of_windows(model, params, tokens)[..., -(T - T // 2) :, :]
    first = asked[..., -T].mean(axis=(1, 3))
    return jnp.stack([first, 1 - asked[..., -T:].sum(axis=-1).mean(axis=(1, 3))], axis=-1)


def shares(model: Model, params: Any, windows: np.ndarray, batch: int) -> np.ndarray:
    """(layers, H, 2): the mean share of the attention on the first token of a window, and on a learnt sink, token or
    logit; of the windows and queries of `mass`. A head that puts more than 0.3 on the first token has a sink there by
    the measure of Gu et al. (2024, arXiv 2410.10781, section 3)."""
    return _mean(_shares, model, params, windows, batch)


def _mean(measure: Callable[..., Any], model: Model, params: Any, windows: np.ndarray, batch: int) -> np.ndarray:
    batches = [windows[i : i + batch] for i in range(0, len(windows), batch)]
    parts = [np.asarray(measure(model, params, part), np.float64) for part in batches]
    return np.average(parts, axis=0, weights=[len(part) for part in batches])


def uniform(length: int) -> np.ndarray:
    """The `mass` of a head that looks everywhere alike: (T,)."""
    queries = np.arange(length // 2, length)
    return np.mean((np.arange(length) <= queries[:, None]) / (queries[:, None] + 1), axis=0)


def describe(by_distance: np.ndarray) -> dict[str, Any]:
    """Describe masses (T,): the mean distance, the median one, and the share on the nearest 1, 2, 4, ... tokens, the
    one that asks included; of all that lies on the text, where a learnt sink has the rest."""
    by_distance = by_distance / max(by_distance.sum(), 1e-30)
    total = np.cumsum(by_distance)
    shares = {str(n): float(total[n - 1]) for n in NEAREST if n <= len(by_distance) // 2}
    mean = float(by_distance @ np.arange(len(by_distance)))
    return {"mean_distance": mean, "median_distance": int(np.searchsorted(total, 0.5)), "nearest": shares}
