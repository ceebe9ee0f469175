"""Parameters that lie cut over devices and come together a layer at a time: fully sharded data parallelism (ZeRO, stage
3: Rajbhandari et al. 2020, arXiv 1910.02054, section 5.3).

A layer asks for its own before it computes, and for them again in the backward pass: what came together is never kept.
The gradient of coming together is a sum over devices of which each keeps its part.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from juliagpt_jax.models.parameters import by_path

# What is computed again in the backward pass beside what came together: the forms that a weight takes before a product.
FORMS = frozenset({"all_gather", "convert_element_type", "transpose", "reshape", "broadcast_in_dim", "squeeze"})


class Cuts(NamedTuple):
    """Where the parameters of a model are cut. Hashable, as all that a model is compiled for.

    Attributes:
        over: the axis of the mesh.
        axes: (path, axis) of each parameter that is cut; the others are whole.
    """

    over: str
    axes: tuple[tuple[str, int], ...]

    def whole(self, tree: Any, under: str) -> Any:
        """Return parameters that lie under a path of the model, "" for all, with those that are cut put together;
        inside `jax.shard_map`."""
        axes = dict(self.axes)

        def one(path: str, leaf: Any) -> Any:
            axis = axes.get(f"{under}/{path}" if under else path)
            return leaf if axis is None else jax.lax.all_gather(leaf, self.over, axis=axis, tiled=True)

        return by_path(tree, one)

    def beside_layers(self, params: Any) -> Any:
        """Return the parameters of a model with those that are in no layer put together."""
        layers = {name: tree for name, tree in params.items() if name.startswith("block_")}
        return {name: layers.get(name, tree) for name, tree in self.whole(params | dict.fromkeys(layers), "").items()}

    def layer(self, run: Callable[..., Any], under: str) -> Callable[..., Any]:
        """Return run(params, ...) of a layer whose parameters come together in it, and are not kept for its
        gradient."""
        kept = lambda primitive, *_, **__: primitive.name not in FORMS
        return jax.checkpoint(lambda params, *given: run(self.whole(params, under), *given), policy=kept)
