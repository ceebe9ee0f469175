"""What the Linears of a model see: the second moments of their inputs a and of the gradients g by their outputs.

These are the factors of the Kronecker-factored Fisher matrix (K-FAC: Martens & Grosse 2015, arXiv 1503.05671), summed
as weight sharing asks (Eschenhagen et al. 2023, arXiv 2311.00636): "expand" takes every position for an example of its
own, "reduce" first sums a and g over the positions of a row. A weight that is used several times, such as the block
of an ODE at each evaluation, has more positions.

A `Moments` of zeros is laid beside each weight in the tree of parameters, and taps at the Linear's input and output
give it the sums for its "gradient". So they come out of jax.grad wherever the gradient itself does: of loops,
recomputed blocks, hand-written adjoints, micro-batches, and devices.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from juliagpt_jax.models.decoder import Decoder
from juliagpt_jax.models.layers import Linear, MonarchLinear, SubLNLinear, block_product, monarch

WATCH = "watch"  # the name, beside a weight, of the dict of Moments of the weights in its module


class Moments(NamedTuple):
    """Sums for one weight; of a Monarch factor (blocks, out, in) each array has the blocks in front."""

    inputs: jax.Array  # (in, in), of a a'
    outputs: jax.Array  # (out, out), of g g'
    number: jax.Array  # () how many a a' were added up


def is_linear(path: str) -> bool:
    """Whether a parameter is the weight of a product that the taps know: the kernel of a Linear, a Monarch factor of
    a MonarchLinear, an untied head. (A tied head is not: as the embedding it is looked up, too.)"""
    *_, parent, name = ["", *path.split("/")]
    if "/time/" in path:  # what an ODE adds to weights
        return False
    return path == "head" or name == "kernel" or (name in ("left", "right") and parent != "mixer")


def sides(path: str, weight: Any) -> tuple[int, int]:
    """(in, out) of a weight."""
    *_, a, b = weight.shape
    return (b, a) if weight.ndim == 3 else (a, b)


def moments(
    loss: Callable[[Any], jax.Array], params: Any, names: Iterable[str], rows: int, reduce: bool = False
) -> dict[str, Moments]:
    """{path: Moments} of the weights `names` in the scalar loss(params), which applies a model to `rows` rows.

    The weights must be ones that `is_linear` names; of a ternary Linear the inputs are those before their rounding.
    "expand" unless `reduce`, whose a is a row's mean over positions
    and whose g is its sum.
    """
    weights: dict[str, Any] = dict(flatten_dict(params, sep="/"))

    def zeros(name: str) -> Moments:
        weight, blocks = weights[name], weights[name].shape[:-2]
        shape = lambda side: (*blocks, rows if reduce else side, side)
        new = lambda shape: jnp.zeros_like(weight, shape=shape)  # on as many devices as the weight
        a, g = sides(name, weight)
        return Moments(new(shape(a)), new(shape(g)), new(()))

    def beside(seeds: dict[str, Moments]) -> Any:
        keys = {"/".join([*name.split("/")[:-1], WATCH, name.split("/")[-1]]): m for name, m in seeds.items()}
        return unflatten_dict(weights | keys, sep="/")

    # The backward pass inside it, too: a hand-written adjoint calls the modules there.
    with nn.intercept_methods(functools.partial(_intercept, reduce)):
        found = jax.grad(lambda seeds: loss(beside(seeds)))({name: zeros(name) for name in names})
    if not reduce:
        return found
    outer = lambda x: x.mT @ x
    mean = lambda m: m.inputs / (m.number / rows)
    return {name: Moments(outer(mean(m)), outer(m.outputs), jnp.full_like(m.number, rows)) for name, m in found.items()}


def _intercept(reduce: bool, call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """Put the taps on a method of a module that has Moments beside its weights."""
    module, method = context.module, context.method_name
    if not module.has_variable("params", WATCH):
        return call(*args, **kwargs)
    watch = module.get_variable("params", WATCH)
    x = args[0]
    if isinstance(module, Linear) or (type(module), method) in ((Decoder, "unembed"), (SubLNLinear, "product")):
        (m,) = watch.values()
        return _output(call(_input(x, m, len(x), reduce), *args[1:]), m, len(x), reduce)
    if isinstance(module, MonarchLinear):
        both = iter([watch["right"], watch["left"]])

        def product(x_of_blocks: jax.Array, factor: jax.Array) -> Any:
            m = next(both)
            y = block_product(_input(x_of_blocks, m, len(x), reduce), factor)
            return _output(y, m, len(x), reduce)

        right, left = (module.get_variable("params", name).astype(x.dtype) for name in ("right", "left"))
        y = monarch(x.reshape(-1, x.shape[-1]), right, left, product)
        return y.reshape(*x.shape[:-1], module.features)
    return call(*args, **kwargs)


# The taps pass x on as it is. Of rows * positions vectors in x, (..., D) or (blocks, N, D), they keep the sums.


def _sums(x: jax.Array, like: jax.Array, rows: int, reduce: bool) -> jax.Array:
    x = x.astype(like.dtype)
    x = x if like.ndim == 3 else x.reshape(-1, x.shape[-1])
    if reduce:
        return jnp.sum(x.reshape(*x.shape[:-2], rows, -1, x.shape[-1]), axis=-2)
    return x.mT @ x


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _input(x: jax.Array, m: Moments, rows: int, reduce: bool) -> jax.Array:
    return x


def _input_backward(rows, reduce, kept, gradient):
    x, m = kept
    count = x.size // x.shape[-1] // (len(x) if m.inputs.ndim == 3 else 1)
    sums = Moments(_sums(x, m.inputs, rows, reduce), jnp.zeros_like(m.outputs), jnp.full_like(m.number, count))
    return gradient, sums


_input.defvjp(lambda x, m, rows, reduce: (x, (x, m)), _input_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _output(y: jax.Array, m: Moments, rows: int, reduce: bool) -> jax.Array:
    return y


def _output_backward(rows, reduce, m, gradient):
    return gradient, Moments(
        jnp.zeros_like(m.inputs), _sums(gradient, m.outputs, rows, reduce), jnp.zeros_like(m.number)
    )


_output.defvjp(lambda y, m, rows, reduce: (y, m), _output_backward)
