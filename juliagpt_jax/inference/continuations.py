"""Log-probabilities of what comes behind a text: the choices of a question, an answer that was written.

What all texts begin with, such as the examples that are shown before each question, is read once for all of them.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.data.batch import IGNORED
from juliagpt_jax.inference.beginning import NOTHING, Begun, read, shared
from juliagpt_jax.inference.generate import bucket_for
from juliagpt_jax.inference.scoring import fitting, token_losses
from juliagpt_jax.models.interface import Model

ROWS = 32  # texts that share a forward pass
LOGITS = 2**27  # numbers that texts of about one length may have as logits at a time: half a GiB in float32


def last_ids(model: Model, params: Any, pairs: Sequence[tuple[np.ndarray, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return for each text the log-probability (n,), float64, in nats, of the ids at its end, and (n,) whether each of
    these is the most likely one where it stands.

    Args:
        pairs: ids, of which the last so many are asked about; at most one more than the context.
    """
    sums, greedy = np.zeros(len(pairs)), np.zeros(len(pairs), bool)
    begun, rest = _begin(model, params, [ids[:-1] for ids, _ in pairs], [count for _, count in pairs])
    for members, inputs in _alike(model, rest, begun.length):
        targets = np.full(inputs.shape, IGNORED, np.int32)
        for row, i in enumerate(members):
            (ids, count), end = pairs[i], len(rest[i])
            targets[row, end - count : end] = ids[-count:]
        losses, likeliest = map(np.asarray, _continued(model, params, begun, inputs, targets))
        sums[members] = -losses.astype(np.float64).sum(axis=1)[: len(members)]
        greedy[members] = likeliest[: len(members)]
    return sums, greedy


def next_ids(model: Model, params: Any, texts: Sequence[np.ndarray], asked: np.ndarray) -> np.ndarray:
    """Return the log-probabilities (n, C), float64, in nats, that each of the ids `asked` (n, C) comes next behind a
    text: what `last_ids` says of single ids, with one pass for all of a text's."""
    found = np.zeros(asked.shape)
    begun, rest = _begin(model, params, texts, [1] * len(texts))
    for members, inputs in _alike(model, rest, begun.length):
        last, ids = np.zeros(len(inputs), np.int32), np.zeros((len(inputs), asked.shape[1]), np.int32)
        last[: len(members)] = [len(rest[i]) - 1 for i in members]
        ids[: len(members)] = asked[members]
        found[members] = np.asarray(_next(model, params, begun, inputs, last, ids), np.float64)[: len(members)]
    return found


def _begin(
    model: Model, params: Any, texts: Sequence[np.ndarray], ends: Sequence[int]
) -> tuple[Begun, list[np.ndarray]]:
    """Read what all texts begin with, their last `ends` tokens apart, and return it and the rest of each."""
    length = shared(model, texts, ends, ROWS)
    rest = [ids[length:] for ids in texts]
    if not length:
        return NOTHING, rest
    slots = length + bucket_for(max(map(len, rest)), model.config.context - length)
    return read(model, params, texts[0][:length], slots), rest


def _alike(model: Model, texts: Sequence[np.ndarray], begun: int = 0) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield batches of texts of about one length: which ones, and their ids (B, T), padded on the right; a batch may
    have more rows than texts. T is a power of two, so that few programs are compiled, and B as large as LOGITS allow.
    `begun` tokens stand before them.
    """
    order, at = sorted(range(len(texts)), key=lambda i: len(texts[i])), 0
    while at < len(order):
        rows = ROWS
        while True:
            members = order[at : at + rows]
            length = bucket_for(len(texts[members[-1]]), model.config.context - begun)
            if fitting(model, rows, length, LOGITS) == rows:
                break
            rows //= 2
        inputs = np.zeros((rows, length), np.int32)
        for row, i in enumerate(members):
            inputs[row, : len(texts[i])] = texts[i]
        yield members, inputs
        at += len(members)


def _logits(model: Model, params: Any, begun: Begun, inputs: jax.Array, at: jax.Array | None = None) -> jax.Array:
    """Logits (B, T, V) of inputs (B, T), pads at their end, behind what was read before; for `at` see `Model.apply`."""
    if begun.cache is None:
        return model.apply({"params": params}, inputs, at=at)[0]
    positions = jnp.broadcast_to(begun.length + jnp.arange(inputs.shape[1]), inputs.shape)
    return model.apply({"params": params}, inputs, positions, begun.rows(len(inputs)), at=at)[0]


@functools.partial(jax.jit, static_argnums=0)
def _continued(
    model: Model, params: Any, begun: Begun, inputs: jax.Array, targets: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Losses (B, T), 0 where IGNORED, and (B,) whether every other target is the most likely token."""
    logits = _logits(model, params, begun, inputs)
    likeliest = (jnp.argmax(logits, axis=-1) == targets) | (targets == IGNORED)
    return token_losses(logits, targets), jnp.all(likeliest, axis=1)


@functools.partial(jax.jit, static_argnums=0)
def _next(model: Model, params: Any, begun: Begun, inputs: jax.Array, last: jax.Array, ids: jax.Array) -> jax.Array:
    """Log-probabilities (B, C) of ids (B, C) behind the token of inputs (B, T) at `last` (B,)."""
    logits = _logits(model, params, begun, inputs, last)[:, 0]
    return jnp.take_along_axis(jax.nn.log_softmax(logits), ids, axis=1)
