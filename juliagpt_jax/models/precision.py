"""What a model computes in and what its weights are kept as, by a word: `prepare`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.words import near
from juliagpt_jax.models import quantized
from juliagpt_jax.models.capture import is_linear
from juliagpt_jax.models.decoder import DTYPES, Decoder
from juliagpt_jax.models.layers import INT8, LINEARS


def prepare(model: Decoder, params: Any, word: str) -> tuple[Decoder, Any]:
    """The model that computes in a precision of PRECISIONS, and the parameters that it wants.

    f32, bf16 and f16 are of matrices, activations and products. int8 and ternary keep each kernel as bytes with a scale
    and round activations to int8, token by token; the rest is as before.

    Raises:
        UserError: no precision is called that, or this model cannot be had in it.
    """
    check(word)
    return PRECISIONS[word](model, params)


def check(word: str) -> None:
    """Raises UserError when no precision is called that."""
    if word not in PRECISIONS:
        raise UserError(f"no precision is called {word!r}{near(word, PRECISIONS)}")


def cast(params: Any, precision: str) -> Any:
    """Matrices in a floating-point precision, but for those of a filter, which is computed in float32; vectors (norms,
    biases, scales) and whatever is not floating-point stay as they are."""

    def leaf(path, p):
        names = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
        whole = p.ndim < 2 or "filter" in names or not jnp.issubdtype(p.dtype, jnp.floating)
        return p if whole else p.astype(DTYPES[precision])

    return jax.tree_util.tree_map_with_path(leaf, params)


def _floating(word: str) -> Callable[[Decoder, Any], tuple[Decoder, Any]]:
    return lambda model, params: (model.clone(precision=word, parent=None), cast(params, word))


def _int8(model: Decoder, params: Any) -> tuple[Decoder, Any]:
    """Any model, rounded after training (absmax, each output by itself)."""
    if model.model.linear == "ternary":
        raise UserError(
            "int8: the weights of this model are ternary, and another rounding of them another model: ternary"
        )
    return _bytes(model, params, "int8", quantized.int8)


def _ternary(model: Decoder, params: Any) -> tuple[Decoder, Any]:
    """A model that was trained so (absmean, one scale a kernel)."""
    if model.model.linear != "ternary":
        raise UserError(
            f"ternary: this model was trained with model.linear={model.model.linear}, and three values a weight would "
            "be left of it; int8 is for every model, ternary for what was trained with model.linear=ternary"
        )
    return _bytes(model, params, "ternary", quantized.ternary)


def _bytes(
    model: Decoder, params: Any, word: str, rounded: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
) -> tuple[Decoder, Any]:
    if model.int8:  # a packed file has its weights so
        return model, params
    leaves, made = flatten_dict(params, sep="/"), {}
    kernels = [path for path in leaves if is_linear(path) and path.endswith("/kernel")]
    if not kernels or INT8[model.model.linear] is LINEARS[model.model.linear]:
        raise UserError(
            f"{word}: the Linears of this model are Monarch matrices (model.linear=monarch), of no such kernel"
        )
    if model.model.has_ode and model.model.ode.time in ("lowrank", "generated"):
        raise UserError(f"{word}: the kernels of this model change with time (model.ode.time={model.model.ode.time})")
    round_it = jax.jit(rounded)
    for path, leaf in leaves.items():
        if path in kernels:
            made[f"{path}_int8"], made[f"{path}_scale"] = round_it(leaf)
        else:
            made[path] = leaf
    return model.clone(int8=True, parent=None), unflatten_dict(made, sep="/")


# `PRECISIONS[word](model, params)` gives both as they are used in that precision.
PRECISIONS = {**{word: _floating(word) for word in DTYPES}, "int8": _int8, "ternary": _ternary}
