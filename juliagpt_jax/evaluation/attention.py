"""Attention weights of every head, and how far back their mass lies.

A model does not hand out its attention weights. They are computed again here, from what comes into each attention
mixer and from its parameters; a test holds them to what the mixer makes of them.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.models.decoder import Decoder
from juliagpt_jax.models.layers import RMSNorm, rotary, split_heads
from juliagpt_jax.models.mixers import Attention, of_layers

NEAREST = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # shares of the mass on so many nearest tokens are reported


def weights(mixer: Attention, params: Any, x: jax.Array, positions: jax.Array) -> jax.Array:
    """Attention weights of each head, by which it multiplies the values: x (B, T, D) -> (B, H, T, T), rows add up to 1.

    Args:
        params: the mixer's own.
        positions: (B or 1, T).
    """
    model = mixer.model
    H, K = model.heads, model.kv_heads or model.heads
    apply = lambda part, name, given: part.apply({"params": params[name]}, given)
    q = split_heads(apply(mixer.linear(model.width, parent=None), "query", x), H)
    k = split_heads(apply(mixer.linear(K * model.width // H, parent=None), "key", x), K)
    if model.qk_norm:
        norm = RMSNorm(model.norm_eps, parent=None)
        q, k = apply(norm, "query_norm", q), apply(norm, "key_norm", k)
    if model.positions == "rotary":
        q, k = rotary(q, positions, model.rope_base), rotary(k, positions, model.rope_base)
    k = jnp.repeat(k, H // K, axis=1)
    scores = jnp.einsum("bhtc,bhsc->bhts", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    visible = positions[:, None, None, :] <= positions[:, None, :, None]
    return jax.nn.softmax(jnp.where(visible, scores, -jnp.inf), axis=-1)


def layers_with_heads(model: Decoder) -> list[int]:
    """The layers whose mixer is attention; none where a layer is an ODE, whose heads look anew at each step."""
    if model.model.has_ode:
        return []
    return [i for i, kind in enumerate(of_layers(model.model)) if kind is Attention]


def of_windows(model: Decoder, params: Any, tokens: jax.Array) -> jax.Array:
    """The attention weights of tokens (B, T) in each of `layers_with_heads`: (layers, B, H, T, T)."""
    found = []

    def watch(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        mixer = context.module
        if isinstance(mixer, Attention) and context.method_name == "__call__":
            found.append(weights(mixer, mixer.variables["params"], args[0], args[1]))
        return call(*args, **kwargs)

    with nn.intercept_methods(watch):  # without remat, which would trace the block a second time
        model.clone(remat=False, parent=None).apply({"params": params}, tokens)
    return jnp.stack(found)


@functools.partial(jax.jit, static_argnums=0)
def maps(model: Decoder, params: Any, tokens: jax.Array) -> jax.Array:
    """`of_windows`, compiled."""
    return of_windows(model, params, tokens)


@functools.partial(jax.jit, static_argnums=0)
def _mass(model: Decoder, params: Any, tokens: jax.Array) -> jax.Array:
    T = tokens.shape[1]
    queries = jnp.arange(T // 2, T)
    back = queries[:, None] - jnp.arange(T)[None]  # (queries, distance) -> index
    looked = jnp.take_along_axis(
        of_windows(model, params, tokens)[..., T // 2 :, :], jnp.maximum(back, 0)[None, None, None], axis=-1
    )
    return jnp.where(back[None, None, None] >= 0, looked, 0).sum(axis=(1, 3)) / (len(tokens) * len(queries))


def mass(model: Decoder, params: Any, windows: np.ndarray, batch: int) -> np.ndarray:
    """(layers, H, T): the mean attention weight at each distance, 0 being the token itself, over windows (n, T),
    `batch` at a time.

    Only the second half of a window asks, so that each has at least half a window to look back on.
    """
    batches = [windows[i : i + batch] for i in range(0, len(windows), batch)]
    parts = [np.asarray(_mass(model, params, part), np.float64) for part in batches]
    return np.average(parts, axis=0, weights=[len(part) for part in batches])


def uniform(length: int) -> np.ndarray:
    """The `mass` of a head that looks everywhere alike: (T,)."""
    queries = np.arange(length // 2, length)
    return np.mean((np.arange(length) <= queries[:, None]) / (queries[:, None] + 1), axis=0)


def describe(by_distance: np.ndarray) -> dict[str, Any]:
    """Of masses (T,) that add up to 1: the mean distance, the median one, and the share on the nearest 1, 2, 4, ...
    tokens, the one that asks included."""
    total = np.cumsum(by_distance)
    shares = {str(n): float(total[n - 1]) for n in NEAREST if n <= len(by_distance) // 2}
    mean = float(by_distance @ np.arange(len(by_distance)))
    return {"mean_distance": mean, "median_distance": int(np.searchsorted(total, 0.5)), "nearest": shares}
