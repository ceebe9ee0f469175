"""How blocks are composed.

Blocks come detached: block i is a pure function (x, positions, cache) -> (x, cache) that carries its own parameters, so
`jax.checkpoint`, `jax.lax.scan`, `jax.vmap` and diffrax take it as it is. A depth says how many distinct blocks a model
of L layers has, how many caches it keeps (one for each evaluation of a block), and runs them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax

Block = Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, Any]]


class Stack:
    """Block after block, as in every transformer."""

    @staticmethod
    def blocks(layers: int) -> int:
        return layers

    @staticmethod
    def evaluations(layers: int) -> int:
        return layers

    @staticmethod
    def run(
        blocks: Sequence[Block], x: jax.Array, positions: jax.Array, caches: Sequence[Any]
    ) -> tuple[jax.Array, tuple]:
        continued = []
        for block, cache in zip(blocks, caches, strict=True):
            x, cache = block(x, positions, cache)
            continued.append(cache)
        return x, tuple(continued)


DEPTHS = {"stack": Stack}
