"""Evaluation that adapts to the text it reads: a cache of what was just said, and weights that go on learning.

Both look back only: a token is scored before it enters the cache or a gradient. They answer another question than plain
scoring, how well a model learns from the text at hand, and so are reported apart from it.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.scoring import spread, strided, token_losses, window_count
from juliagpt_jax.models.interface import Model

ROWS = 512  # tokens that look into the cache together
TRAINING_WINDOWS = 64  # whose gradients tell how large a weight's are
EPSILON = 0.1  # beside the root mean square of a weight's gradient, in the mean one of all weights


class Cache(NamedTuple):
    """The neural cache of Grave, Joulin and Usunier 2017 (arXiv 1612.04426), equations 2, 3 and 6.

    Attributes:
        size: tokens that it holds, the last ones before the one that is predicted.
        theta: flatness: 0 counts them all alike. It multiplies h h' / sqrt(D), where h (D,) is what the head reads:
            normalised states are longer than an LSTM's.
        share: of the cache in the mixture with the model, lambda.
    """

    size: int
    theta: float
    share: float


class Dynamic(NamedTuple):
    """Dynamic evaluation: Krause et al. 2018 (arXiv 1709.07432), a gradient step after each window that is scored.

    Attributes:
        rule: "sgd", or "rms", which divides by the root mean square of a weight's gradients on the training text and
            pulls harder where that is large (section 4, equations 6 to 8).
        rate: the learning rate.
        decay: the share by which a step pulls the weights back to the trained ones.
    """

    rule: str
    rate: float
    decay: float


@functools.partial(jax.jit, static_argnums=0)
def _states(model: Model, params: Any, inputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Losses (B, T), and what the head reads, float32 (B, T, D)."""
    seen = []

    def look(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name == "product" and args[-1] == "head":
            seen.append(args[0])
        return call(*args, **kwargs)

    with nn.intercept_methods(look):
        logits, *_ = model.apply({"params": params}, inputs)
    if len(seen) != 1:
        raise UserError("the cache needs a model with one head, whose input it keeps")
    return token_losses(logits, targets), seen[0].astype(jnp.float32)


def _windows(tokens: np.ndarray, context: int, stride: int, lead: int, batch: int) -> Iterator[tuple[Any, Any, Any]]:
    """The windows of `strided` in batches of one size, and which targets are scored; the last is filled up."""
    count = window_count(len(tokens), context, stride)
    for i in range(0, count, batch):
        which = np.arange(i, i + batch)
        inputs, targets = strided(tokens, context, stride, lead, np.minimum(which, count - 1))
        yield inputs, targets, (targets >= 0) & (which < count)[:, None]


def cached(
    model: Model, params: Any, tokens: np.ndarray, lead: int, stride: int, cache: Cache, batch: int = 32
) -> np.ndarray:
    """Return the losses (n,) in nats of the tokens of a text under the model mixed with a cache of the last ones.

    Raises:
        UserError: the model has no head to look into.
    """
    context, width = model.config.context, model.config.width
    batch = min(batch, window_count(len(tokens), context, stride))
    keys, values = np.zeros((0, width), np.float32), np.zeros(0, np.int64)
    found = []
    for inputs, targets, scored in _windows(tokens, context, stride, lead, batch):
        losses, states = (np.asarray(part) for part in _states(model, params, inputs, targets))
        plain, states, words = np.exp(-losses[scored].astype(np.float64)), states[scored], targets[scored]
        for i in range(0, len(words), ROWS):
            h, own = states[i : i + ROWS], words[i : i + ROWS]
            keys, values = np.concatenate([keys, h]), np.concatenate([values, own])
            found.append(-np.log(_mixed(plain[i : i + ROWS], h, own, keys, values, cache)))
            keys, values = keys[max(0, len(keys) - cache.size) :], values[max(0, len(values) - cache.size) :]
    return np.concatenate(found)


def _mixed(
    plain: np.ndarray, h: np.ndarray, own: np.ndarray, keys: np.ndarray, values: np.ndarray, cache: Cache
) -> np.ndarray:
    """Probabilities of the last tokens of a cache, each with those before it as its cache; of the first of a text,
    with nothing to look back to, the model's."""
    place = len(keys) - len(h) + np.arange(len(h))[:, None]
    back = place - np.arange(len(keys))
    visible = (back > 0) & (back <= cache.size)
    scores = np.where(visible, cache.theta / h.shape[1] ** 0.5 * (h @ keys.T), -np.inf)
    weights = np.exp(scores - np.max(scores, axis=1, keepdims=True, initial=-1e30))
    total = weights.sum(axis=1, dtype=np.float64)
    hits = (weights * (values == own[:, None])).sum(axis=1, dtype=np.float64)
    share = cache.share * (total > 0)
    return (1 - share) * plain + share * hits / np.where(total > 0, total, 1)


@functools.partial(jax.jit, static_argnums=0)
def _gradient(model: Model, params: Any, inputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, Any]:
    """The losses of one window (1, T), 0 where ignored, and the gradient of their mean."""

    def loss(params):
        losses = token_losses(model.apply({"params": params}, inputs)[0], targets)
        return jnp.sum(losses) / jnp.maximum(jnp.sum(targets >= 0), 1), losses

    gradient, losses = jax.grad(loss, has_aux=True)(params)
    return losses, gradient


@jax.jit
def _moved(params: Any, gradient: Any, start: Any, sizes: Any, floor: float, rate: float, decay: float) -> Any:
    """The weights after a step. `sizes` are the root mean squares of their gradients, relative to the mean of all."""

    def move(p, g, p0, size):
        back = jnp.minimum(decay * size, 1.0)  # a step never goes past the trained weights
        return p - rate * g / (size + floor) + back * (p0 - p)

    return jax.tree.map(move, params, gradient, start, sizes)


@functools.partial(jax.jit, static_argnums=0)
def _squares(model: Model, params: Any, total: Any, inputs: jax.Array, targets: jax.Array) -> Any:
    return jax.tree.map(lambda sum, g: sum + g * g, total, _gradient(model, params, inputs, targets)[1])


def sizes(model: Model, params: Any, training: np.ndarray, lead: int) -> tuple[Any, float]:
    """Return the root mean square of each weight's gradient over windows of the training text, relative to the mean
    of all weights, and that mean."""
    inputs, targets = spread(training, model.config.context, TRAINING_WINDOWS, lead)
    total = jax.tree.map(jnp.zeros_like, params)
    for i in range(len(inputs)):
        total = _squares(model, params, total, inputs[i : i + 1], targets[i : i + 1])
    roots = jax.tree.map(lambda sum: jnp.sqrt(sum / len(inputs)), total)
    leaves = jax.tree.leaves(roots)
    mean = float(sum(np.asarray(leaf, np.float64).sum() for leaf in leaves) / sum(leaf.size for leaf in leaves))
    return jax.tree.map(lambda root: root / (mean or 1.0), roots), mean


def dynamic(
    model: Model,
    params: Any,
    tokens: np.ndarray,
    lead: int,
    stride: int,
    how: Dynamic,
    training: np.ndarray | None = None,
) -> np.ndarray:
    """Return the losses (n,) in nats of the tokens of a text under weights that learn from each window once it is
    scored. The windows are those of plain scoring: a step sees `stride` new tokens.

    Args:
        params: float32.
        training: tokens of the training text, which "rms" needs.
    """
    if how.rule == "rms" and training is None:
        raise ValueError("rms needs the training text")
    scale, mean, floor = jax.tree.map(jnp.ones_like, params), 1.0, 0.0
    if how.rule == "rms" and training is not None:
        (scale, mean), floor = sizes(model, params, training, lead), EPSILON
    moving, found = params, []
    for inputs, targets, scored in _windows(tokens, model.config.context, stride, lead, 1):
        losses, gradient = _gradient(model, moving, inputs, targets)
        found.append(np.asarray(losses)[scored].astype(np.float64))
        moving = _moved(moving, gradient, params, scale, floor, how.rate / (mean or 1.0), how.decay)
    return np.concatenate(found)
