"""Layers that repeat, rolled up into loops: a program that does not grow with depth.

A model's words repeat over its layers, "kda kda kda attention" every four. The program has a layer of each run of equal
ones: here two, one of which is a loop of three turns, within a loop over the fours. Parameters are laid side by side
for that at each call; those of a model are the same either way, and so are its checkpoints.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from juliagpt_jax.ground.knobs import model as knobs

Layer = Callable[[jax.Array, Any], tuple[jax.Array, Any]]  # (x, what the layer is given) -> x and what it gives


def unit(model: knobs.Model, kinds: Sequence[Any]) -> tuple[int, ...]:
    """Return the layers after which the words of a model, and so its layers' functions, repeat, as the lengths of runs
    of equal ones: (3, 1) for "kda kda kda attention"; () if the `kinds` of its depth do not repeat so, because each
    layer of an ODE has a schedule of its own."""
    words = (model.mixer, model.mask, model.channel, model.depth, model.value_embedding)
    size = math.lcm(*(len(text.split()) for text in words))
    if any(kind != kinds[i % size] for i, kind in enumerate(kinds)):
        return ()
    by_layer = zip(*(model.by_layer(text) for text in words), kinds, strict=True)
    return tuple(len(list(equal)) for _, equal in itertools.groupby(itertools.islice(by_layer, size)))


def run(
    layers: Sequence[Layer], given: Sequence[Any], x: jax.Array, unit: Sequence[int] = ()
) -> tuple[jax.Array, list[Any]]:
    """Return x behind all layers, and what each of them gives.

    Args:
        given: a pytree for each layer: parameters, caches, random keys.
        unit: runs of layers that are the same functions, after which they are these again; () for no loop. A run is
            cut where trees differ in structure, shape or dtype. Units whose trees differ from the first one's end the
            loop, and are computed one layer after the other as are layers that fill no unit.
    """
    looks = [_look(tree) for tree in given]
    size, turns = sum(unit), 0
    while unit and looks[turns * size :][:size] == looks[:size] and (turns + 1) * size <= len(given):
        turns += 1
    gives: list[Any] = []
    if turns * max(unit, default=0) > 1:
        runs, at = [], 0
        for length in unit:
            runs += [len(list(equal)) for _, equal in itertools.groupby(looks[at : at + length])]
            at += length
        starts = list(itertools.accumulate(runs, initial=0))
        own = [
            _stack([_stack(given[i + start : i + start + length]) for i in range(0, turns * size, size)])
            for start, length in zip(starts, runs, strict=False)
        ]

        def turn(x, own):
            return _each([lambda x, mine, f=layers[i]: jax.lax.scan(f, x, mine) for i in starts[:-1]], x, own)

        x, out = jax.lax.scan(turn, x, own)
        for i in range(turns):
            for length, gave in zip(runs, out, strict=True):
                gives += [jax.tree.map(lambda leaf, at=(i, j): leaf[at], gave) for j in range(length)]
    x, more = _each(layers[len(gives) :], x, given[len(gives) :])
    return x, gives + more


def _each(layers: Sequence[Layer], x: jax.Array, given: Sequence[Any]) -> tuple[jax.Array, list[Any]]:
    gives = []
    for layer, mine in zip(layers, given, strict=True):
        x, gave = layer(x, mine)
        gives.append(gave)
    return x, gives


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _look(tree: Any) -> Any:
    """Return what has to be equal for two trees to be stacked."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]
