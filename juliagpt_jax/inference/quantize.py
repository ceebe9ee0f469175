"""A trained model in the numbers that it is to compute with: `prepare`."""

from collections.abc import Callable
from typing import Any

import jax
from flax.traverse_util import flatten_dict, unflatten_dict

from juliagpt_jax.errors import UserError
from juliagpt_jax.models import quantized
from juliagpt_jax.models.capture import is_linear
from juliagpt_jax.models.decoder import Decoder
from juliagpt_jax.models.layers import INT8, LINEARS


def prepare(decoder: Decoder, params: Any, precision: str) -> tuple[Decoder, Any]:
    """The model that computes in a precision of PRECISIONS, and the parameters that it wants.

    f32, bf16 and f16 are of activations and products; the parameters stay as they are. int8 and ternary keep each
    kernel as bytes with a scale, and round activations to int8, token by token; the rest is as before.

    Raises:
        UserError: this model cannot be had in that precision.
    """
    return PRECISIONS[precision](decoder, params)


def _float(precision: str) -> Callable[[Decoder, Any], tuple[Decoder, Any]]:
    return lambda decoder, params: (decoder.clone(precision=precision, parent=None), params)


def _int8(decoder: Decoder, params: Any) -> tuple[Decoder, Any]:
    """Any model, rounded after training (absmax, each output by itself)."""
    if decoder.model.linear == "ternary":
        raise UserError(
            "int8: the weights of this model are ternary, and another rounding of them another model: ternary"
        )
    return _bytes(decoder, params, "int8", quantized.int8)


def _ternary(decoder: Decoder, params: Any) -> tuple[Decoder, Any]:
    """A model that was trained so (absmean, one scale a kernel)."""
    if decoder.model.linear != "ternary":
        raise UserError(
            f"ternary: this model was trained with model.linear={decoder.model.linear}, and three values a weight "
            "would be left of it; int8 is for every model, ternary for what was trained with model.linear=ternary"
        )
    return _bytes(decoder, params, "ternary", quantized.ternary)


def _bytes(
    decoder: Decoder, params: Any, word: str, rounded: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
) -> tuple[Decoder, Any]:
    if decoder.int8:  # a packed file has its weights so
        return decoder, params
    leaves, made = flatten_dict(params, sep="/"), {}
    kernels = [path for path in leaves if is_linear(path) and path.endswith("/kernel")]
    if not kernels or INT8[decoder.model.linear] is LINEARS[decoder.model.linear]:
        raise UserError(
            f"{word}: the Linears of this model are Monarch matrices (model.linear=monarch), of no such kernel"
        )
    if "ode" in decoder.model.depth.split() and decoder.model.ode_time in ("lowrank", "generated"):
        raise UserError(f"{word}: the kernels of this model change with time (model.ode_time={decoder.model.ode_time})")
    round_it = jax.jit(rounded)
    for path, leaf in leaves.items():
        if path in kernels:
            made[f"{path}_int8"], made[f"{path}_scale"] = round_it(leaf)
        else:
            made[path] = leaf
    return decoder.clone(int8=True, parent=None), unflatten_dict(made, sep="/")


PRECISIONS = {"f32": _float("f32"), "bf16": _float("bf16"), "f16": _float("f16"), "int8": _int8, "ternary": _ternary}
