"""Statistics of a model's Linears: the second moments of their inputs a and of the gradients g by their outputs.

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

from juliagpt_jax.models import roles
from juliagpt_jax.models.layers import Linear

WATCH = "watch"  # the name, beside a weight, of the dict of Moments of the weights in its module


class Moments(NamedTuple):
    """Sums for one weight; of a Monarch factor (blocks, out, in) each array has the blocks in front."""

    inputs: jax.Array  # (in, in), of a a'
    outputs: jax.Array  # (out, out), of g g'
    number: jax.Array  # () how many a a' were added up


def moments(
    loss: Callable[[Any], jax.Array], params: Any, names: Iterable[str], rows: int, reduce: bool = False
) -> dict[str, Moments]:
    """{path: Moments} of the weights `names` in the scalar loss(params), which applies a model to `rows` rows.

    The weights must be ones whose role is `tapped`; of a ternary Linear the inputs are those before their rounding.
    "expand" unless `reduce`, whose a is a row's mean over positions and whose g is its sum.
    """
    weights: dict[str, Any] = dict(flatten_dict(params, sep="/"))

    def zeros(name: str) -> Moments:
        weight, blocks = weights[name], weights[name].shape[:-2]
        shape = lambda side: (*blocks, rows if reduce else side, side)
        new = lambda shape: jnp.zeros_like(weight, shape=shape)  # on as many devices as the weight
        a, g = roles.of(name).sides(weight.shape)
        return Moments(new(shape(a)), new(shape(g)), new(()))

    def beside(seeds: dict[str, Moments]) -> Any:
        keys = {"/".join([*name.split("/")[:-1], WATCH, name.split("/")[-1]]): m for name, m in seeds.items()}
        return unflatten_dict(weights | keys, sep="/")

    # The backward pass inside it, too: a hand-written adjoint calls the modules there.
    with nn.intercept_methods(functools.partial(_intercept, rows, reduce)):
        found = jax.grad(lambda seeds: loss(beside(seeds)))({name: zeros(name) for name in names})
    if not reduce:
        return found
    outer = lambda x: x.mT @ x
    mean = lambda m: m.inputs / (m.number / rows)
    return {name: Moments(outer(mean(m)), outer(m.outputs), jnp.full_like(m.number, rows)) for name, m in found.items()}


def _intercept(rows: int, reduce: bool, call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """Put the taps on a product of a module that has Moments beside its weights: a method `product(x, weight, name)`,
    or the baseline's Linear, which is nothing else."""
    module, method = context.module, context.method_name
    if method == "product":
        name = args[2]
    elif isinstance(module, Linear) and method == "__call__":
        name = "kernel"
    else:
        return call(*args, **kwargs)
    watch = module.get_variable("params", WATCH) if module.has_variable("params", WATCH) else {}
    if name not in watch:
        return call(*args, **kwargs)
    m = watch[name]
    return _output(call(_input(args[0], m, rows, reduce), *args[1:], **kwargs), m, rows, reduce)


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
