"""Which windows step n trains on: a pure function of (plan, step). There is no iterator to save.

The text is a ring. In epoch e it is cut, from an offset that depends on e, into chunks of `context` tokens, and the
epoch is a permutation of these chunks; the last chunk may be short. A window reads the tokens from its chunk's start
and predicts each token's successor. So each token is predicted exactly once an epoch, and from another position in its
window in each epoch.
Every data technique is another distribution over chunk starts: this function is the only place that knows one.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

IGNORED = -1  # the target of a token that is not scored


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a text of `tokens` tokens is cut and drawn."""

    tokens: int
    context: int
    batch: int
    seed: int

    @property
    def chunks(self) -> int:
        """Windows in an epoch."""
        return -(-self.tokens // self.context)


@functools.lru_cache(maxsize=4)
def _epoch(plan: Plan, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """(starts, lengths) of all windows of an epoch, in the order they are drawn."""
    rng = np.random.Generator(np.random.Philox(key=[plan.seed, epoch]))
    offset = rng.integers(plan.tokens)
    order = rng.permutation(plan.chunks)
    lengths = np.minimum(plan.context, plan.tokens - order * plan.context)
    return (offset + order * plan.context) % plan.tokens, lengths


def windows(plan: Plan, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Starts and lengths, each (batch,) int64, of the windows of a step. A batch may straddle two epochs."""
    first, last = step * plan.batch, (step + 1) * plan.batch - 1
    parts = []
    for epoch in range(first // plan.chunks, last // plan.chunks + 1):
        begin = max(first - epoch * plan.chunks, 0)
        end = min(last + 1 - epoch * plan.chunks, plan.chunks)
        parts.append([column[begin:end] for column in _epoch(plan, epoch)])
    starts, lengths = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return starts, lengths


def gather(tokens: np.ndarray, starts: np.ndarray, lengths: np.ndarray, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets, each (batch, context) int32, of windows on the ring; targets past a window's length are
    IGNORED."""
    offsets = np.arange(context + 1)
    window = tokens[(starts[:, None] + offsets) % len(tokens)].astype(np.int32)
    return window[:, :-1], np.where(offsets[:-1] < lengths[:, None], window[:, 1:], IGNORED)


@functools.partial(jax.jit, static_argnums=3)
def gather_on_device(
    tokens: jax.Array, starts: jax.Array, lengths: jax.Array, context: int
) -> tuple[jax.Array, jax.Array]:
    """`gather` for a token array that lives on the device; starts are int32, so the text is below 2^31 tokens."""
    offsets = jnp.arange(context + 1)[None, :]
    window = tokens[(starts[:, None] + offsets) % tokens.shape[0]].astype(jnp.int32)
    return window[:, :-1], jnp.where(offsets[:, :-1] < lengths[:, None], window[:, 1:], IGNORED)
