"""Trees of parameters by path."""

from collections.abc import Callable
from typing import Any

import jax

from juliagpt_jax.ground.knobs import model as knobs
from juliagpt_jax.models import roles


def paths(tree: Any, separator: str = "/") -> dict[str, Any]:
    """Return {"block_0/mixer/query/kernel": leaf, ...} in the tree's own order."""
    flat = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator=separator): leaf for path, leaf in flat}


def by_path(tree: Any, rule: Callable[[str, Any], Any], separator: str = "/") -> Any:
    """Return the tree with rule(path, leaf) in the place of each leaf."""
    return jax.tree.unflatten(
        jax.tree.structure(tree), [rule(path, leaf) for path, leaf in paths(tree, separator).items()]
    )


def count(params: Any) -> int:
    """Return the number of parameters; a tied head counts once, and the scales of kernels kept as int8 not at all."""
    return sum(leaf.size * roles.of(path).counted for path, leaf in paths(params).items())


def active(params: Any, model: knobs.Model) -> int:
    """Return the number of parameters that a token goes through: of experts (`models/moe.py`) those of
    `model.moe.top`."""
    used = (leaf.size * roles.of(path).counted * share_used(path, model) for path, leaf in paths(params).items())
    return round(sum(used))


def share_used(path: str, model: knobs.Model) -> float:
    """Return the share of a parameter that a token goes through."""
    return model.moe.top / model.moe.experts if roles.of(path).each else 1.0
