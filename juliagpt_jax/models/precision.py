"""The precision that a model computes in and its weights are kept in, by a word: `prepare`."""

from collections.abc import Callable
from typing import Any

import jax
from flax.traverse_util import flatten_dict, unflatten_dict

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.words import near
from juliagpt_jax.models import quantized, roles
from juliagpt_jax.models.decoder import DTYPES
from juliagpt_jax.models.interface import Model
from juliagpt_jax.models.layers import INT8, LINEARS
from juliagpt_jax.models.parameters import by_path


def prepare(model: Model, params: Any, word: str) -> tuple[Model, Any]:
    """Return the model that computes in a precision of PRECISIONS, and the parameters that it wants.

    f32, bf16 and f16 are of matrices, activations and products. int8 and ternary keep each kernel as bytes with a scale
    and round activations to int8, token by token; the rest is as before.

    Raises:
        UserError: no precision is called that, or this model cannot be had in it.
    """
    check(word)
    return PRECISIONS[word](model, params)


def check(word: str) -> None:
    """Raise a UserError when no precision is called that."""
    if word not in PRECISIONS:
        raise UserError(f"no precision is called {word!r}{near(word, PRECISIONS)}")


def cast(params: Any, precision: str) -> Any:
    """Return the parameters with those in a floating-point precision whose role it is to be cast: matrices, but for
    those of a filter, which is computed in float32. Vectors (norms, biases, scales) and whole numbers stay as they
    are."""
    return by_path(params, lambda path, leaf: leaf.astype(DTYPES[precision]) if roles.of(path).cast else leaf)


def _floating(word: str) -> Callable[[Model, Any], tuple[Model, Any]]:
    def change(model: Model, params: Any) -> tuple[Model, Any]:
        if model.encodes and word == "f16":
            raise UserError("f16: the activations of a T5 overflow it; bf16 and f32 hold them")
        return model.clone(precision=word, parent=None), cast(params, word)

    return change


def _int8(model: Model, params: Any) -> tuple[Model, Any]:
    """Any model, rounded after training (absmax, each output by itself)."""
    if model.config.linear == "ternary":
        raise UserError(
            "int8: the weights of this model are ternary, and another rounding of them another model: ternary"
        )
    return _bytes(model, params, "int8", quantized.int8)


def _ternary(model: Model, params: Any) -> tuple[Model, Any]:
    """A model that was trained so (absmean, one scale a kernel)."""
    if model.config.linear != "ternary":
        raise UserError(
            f"ternary: this model was trained with model.linear={model.config.linear}, and three values a weight would "
            "be left of it; int8 is for every model, ternary for what was trained with model.linear=ternary"
        )
    return _bytes(model, params, "ternary", quantized.ternary)


def _bytes(
    model: Model, params: Any, word: str, rounded: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
) -> tuple[Model, Any]:
    if model.int8:  # a packed file has its weights so
        return model, params
    leaves, made = flatten_dict(params, sep="/"), {}
    kernels = [path for path in leaves if roles.of(path).kind == "kernel"]
    if not kernels or INT8[model.config.linear] is LINEARS[model.config.linear]:
        raise UserError(
            f"{word}: the Linears of this model are made of factors (model.linear={model.config.linear}), not of such "
            "kernels"
        )
    if model.config.has_ode and model.config.ode.time in ("lowrank", "generated"):
        raise UserError(f"{word}: the kernels of this model change with time (model.ode.time={model.config.ode.time})")
    round_it, round_each = jax.jit(rounded), jax.jit(jax.vmap(rounded))
    for path, leaf in leaves.items():
        if path in kernels:
            round_own = round_each if roles.of(path).each else round_it
            made[f"{path}_int8"], made[f"{path}_scale"] = round_own(leaf)
        else:
            made[path] = leaf
    return model.clone(int8=True, parent=None), unflatten_dict(made, sep="/")


# `PRECISIONS[word](model, params)` gives both as they are used in that precision.
PRECISIONS = {**{word: _floating(word) for word in DTYPES}, "int8": _int8, "ternary": _ternary}
