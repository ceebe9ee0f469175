"""Layers that repeat, rolled up into a loop: a program whose size and compile time do not grow with depth.

A model's words repeat over its layers, "kda kda kda attention" every four: one such unit is compiled, and the others
are turns of a loop over the units' parameters, which are laid side by side at each call. The parameters of a model
are the same either way, and so are its checkpoints.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from juliagpt_jax.ground.knobs import model as knobs

Layer = Callable[[jax.Array, Any], tuple[jax.Array, Any]]  # (x, what the layer is given) -> x and what it gives


def unit(model: knobs.Model, kinds: Sequence[Any]) -> int:
    """Return after how many layers the words of a model, and so its layers' functions, repeat; 0 if the `kinds` of its
    depth do not, because each layer of an ODE has a schedule of its own."""
    words = (model.mixer, model.mask, model.channel, model.depth, model.value_embedding)
    size = math.lcm(*(len(text.split()) for text in words))
    return size if all(kind == kinds[i % size] for i, kind in enumerate(kinds)) else 0


def run(layers: Sequence[Layer], given: Sequence[Any], x: jax.Array, unit: int = 0) -> tuple[jax.Array, list[Any]]:
    """Return x behind all layers, and what each of them gives.

    Args:
        given: a pytree for each layer: parameters, caches, random keys.
        unit: layers after which they are the same functions again; 0 for no loop. Units whose trees differ from the
            first in structure, shape or dtype end the loop, and are computed one after the other as are layers that
            fill no unit.
    """
    turns = _alike(given, unit) if unit else 0
    gives: list[Any] = []
    if turns > 1:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(_unit(given, unit, i) for i in range(turns)))

        def turn(x, own):
            out = []
            for layer, mine in zip(layers[:unit], own, strict=True):
                x, gave = layer(x, mine)
                out.append(gave)
            return x, out

        x, out = jax.lax.scan(turn, x, stacked)
        gives = [jax.tree.map(lambda leaf, i=i: leaf[i], gave) for i in range(turns) for gave in out]
    for layer, mine in list(zip(layers, given, strict=True))[len(gives) :]:
        x, gave = layer(x, mine)
        gives.append(gave)
    return x, gives


def _unit(given: Sequence[Any], unit: int, turn: int) -> list[Any]:
    return list(given[turn * unit : (turn + 1) * unit])


def _alike(given: Sequence[Any], unit: int) -> int:
    """The number of units from the first on whose trees look like the first one's."""

    def look(turn: int) -> Any:
        leaves, structure = jax.tree.flatten(_unit(given, unit, turn))
        return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]

    turns = 1
    while (turns + 1) * unit <= len(given) and look(turns) == look(0):
        turns += 1
    return turns
