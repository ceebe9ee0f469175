"""The rows that one training step is given."""

from typing import Any, NamedTuple

import jax

IGNORED = -1  # the target of a token that is not scored


class Batch(NamedTuple):
    """Arrays, or trees of arrays, whose first axis is the rows. Devices and micro-batches get some of the rows each.

    Attributes:
        inputs: (B, T) int32 tokens.
        targets: (B, T) int32 tokens to predict; IGNORED where nothing is.
        weights: float32 of each row (B, 1) or of each target (B, T), in the loss; () where all weigh the same.
        extra: what one objective needs beside these, by row; () for most.
    """

    inputs: Any
    targets: Any
    weights: Any = ()
    extra: Any = ()

    @property
    def rows(self) -> int:
        """B"""
        return jax.tree.leaves(self)[0].shape[0]

    @property
    def scored(self) -> jax.Array:
        """(B, T) bool: there is something to predict."""
        return self.targets != IGNORED

    def weighed(self, values: jax.Array) -> jax.Array:
        """Return values (B, T) times the weights."""
        return values if isinstance(self.weights, tuple) else values * self.weights
