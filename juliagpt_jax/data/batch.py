"""The rows that one training step is given, and how they are gathered from a token array."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

IGNORED = -1  # the target of a token that is not scored


class Batch(NamedTuple):
    """Arrays, or trees of arrays, whose first axis is the rows. Devices and micro-batches get some of the rows each.

    Attributes:
        inputs: (B, T) int32 tokens.
        targets: (B, T) int32 tokens to predict; IGNORED where nothing is.
        weights: float32 of each row (B, 1) or of each target (B, T), in the loss; () where all weigh the same.
        extra: what one objective needs beside these, by row; () for most.
        positions: (B, T) int32 where the tokens stand, passages PASSAGE of them apart; () for 0 .. T - 1.
    """

    inputs: Any
    targets: Any
    weights: Any = ()
    extra: Any = ()
    positions: Any = ()

    @property
    def rows(self) -> int:
        """B"""
        return jax.tree.leaves(self)[0].shape[0]

    @property
    def given(self) -> tuple[Any, ...]:
        """The inputs, and their positions where these are not 0 .. T - 1: the arguments of a model."""
        return (self.inputs,) if isinstance(self.positions, tuple) else (self.inputs, self.positions)

    @property
    def scored(self) -> jax.Array:
        """(B, T) bool: there is something to predict."""
        return self.targets != IGNORED

    def weighed(self, values: jax.Array) -> jax.Array:
        """Return values (B, T) times the weights."""
        return values if isinstance(self.weights, tuple) else values * self.weights


def read_on(starts: Any, lengths: Any, begins: Any, sizes: Any, offsets: Any) -> Any:
    """Return where tokens lie that are `offsets` (1, n) behind each of the (B,) starts, round its ring of `sizes`
    tokens at `begins`; `lengths` play no part in it."""
    return begins[:, None] + ((starts - begins)[:, None] + offsets) % sizes[:, None]


def gather(
    tokens: np.ndarray, starts: np.ndarray, lengths: np.ndarray, begins: np.ndarray, sizes: np.ndarray, context: int
) -> Batch:
    """Return the batch of `sampler.Windows`: inputs and targets, each (B, context) int32; targets past a window's
    length are IGNORED."""
    return gather_places(tokens, read_on(starts, lengths, begins, sizes, np.arange(context + 1)[None, :]), lengths)


def gather_places(tokens: np.ndarray, places: np.ndarray, lengths: np.ndarray) -> Batch:
    """Return the batch of windows whose tokens, the last one's successor included, lie at `places` (B, context + 1)."""
    window = tokens[places].astype(np.int32)
    offsets = np.arange(window.shape[1] - 1)
    return Batch(window[:, :-1], np.where(offsets < lengths[:, None], window[:, 1:], IGNORED))


@functools.partial(jax.jit, static_argnums=5)
def gather_on_device(
    tokens: jax.Array, starts: jax.Array, lengths: jax.Array, begins: jax.Array, sizes: jax.Array, context: int
) -> Batch:
    """`gather` for a token array that lives on the device; places are int32, so the text is below 2^31 tokens. Columns
    (n, B) are the windows of n batches, which come along a first axis."""
    if starts.ndim == 2:
        one = lambda *columns: gather_on_device(tokens, *columns, context)
        return jax.vmap(one)(starts, lengths, begins, sizes)
    places = read_on(starts, lengths, begins, sizes, jnp.arange(context + 1)[None, :])
    return gather_places_on_device(tokens, places, lengths)


@jax.jit
def gather_places_on_device(tokens: jax.Array, places: jax.Array, lengths: jax.Array) -> Batch:
    """`gather_places` for a token array that lives on the device; places are int32; (n, B, context + 1) of n batches,
    which come along a first axis."""
    if places.ndim == 3:
        return jax.vmap(lambda *one: gather_places_on_device(tokens, *one))(places, lengths)
    window = tokens[places].astype(jnp.int32)
    offsets = jnp.arange(window.shape[1] - 1)[None, :]
    return Batch(window[:, :-1], jnp.where(offsets < lengths[:, None], window[:, 1:], IGNORED))
