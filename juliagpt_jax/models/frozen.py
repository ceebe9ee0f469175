"""Kernels that are frozen in few bits, and made float again for each product: the base of QLoRA (Dettmers et al. 2023,
arXiv 2305.14314).

A kernel (D, F) maps D inputs to F outputs. Along its inputs it is cut into blocks, the last one filled with zeros, each
with numbers of its own that its codes stand on. Two codes of four bits share a byte: of a block of N rows, byte i holds
row i in its low half and row N/2 + i in its high one, as ggml's blocks do.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from juliagpt_jax.models import roles
from juliagpt_jax.models.quantized import int8

Arrays = dict[str, jax.Array]  # what a kernel is kept as, by the end of its name

# The levels of NF4: quantiles of a normal distribution, scaled to -1 .. 1, zero among them (appendix E of the paper).
_BELOW = "1 0.6961928009986877 0.5250730514526367 0.39491748809814453 0.28444138169288635 0.18477343022823334"
_ABOVE = "0.07958029955625534 0.16093020141124725 0.24611230194568634 0.33791524171829224 0.44070982933044434"
_BELOW, _ABOVE = f"{_BELOW} 0.09105003625154495", f"{_ABOVE} 0.5626170039176941 0.7229568362236023 1"
NF4 = np.array([*(-float(word) for word in _BELOW.split()), 0, *map(float, _ABOVE.split())], np.float32)


class Form(NamedTuple):
    """A way to keep a kernel.

    Attributes:
        shapes: (D, F) -> {the end of an array's name: its shape and dtype}.
        pack: kernel (D, F) float32 -> arrays.
        unpack: (arrays, D) -> the kernel that they stand for, float32.
    """

    shapes: Callable[[int, int], dict[str, tuple[tuple[int, ...], Any]]]
    pack: Callable[[jax.Array], Arrays]
    unpack: Callable[[Arrays, int], jax.Array]


def _blocks(kernel: jax.Array, size: int) -> jax.Array:
    """(D, F) -> (blocks, size, F), behind the last row zeros."""
    return jnp.pad(kernel, ((0, -len(kernel) % size), (0, 0))).reshape(-1, size, kernel.shape[-1])


def _pairs(codes: jax.Array) -> jax.Array:
    """Codes of four bits (blocks, N, F) -> bytes (blocks * N / 2, F)."""
    low, high = jnp.split(codes.astype(jnp.uint8), 2, axis=1)
    return (low | (high << 4)).reshape(-1, codes.shape[-1])


def _codes(packed: jax.Array, blocks: int) -> jax.Array:
    """The way back from `_pairs`."""
    packed = packed.reshape(blocks, -1, packed.shape[-1])
    return jnp.concatenate([packed & 15, packed >> 4], axis=1)


def _rows(blocks: jax.Array, count: int) -> jax.Array:
    return blocks.reshape(-1, blocks.shape[-1])[:count]


def _int8_pack(kernel: jax.Array) -> Arrays:
    levels, scale = int8(kernel)
    return {"int8": levels, "scale": scale}


NF4_BLOCK = 64  # as in the paper


def _nf4_pack(kernel: jax.Array) -> Arrays:
    """Each weight as the nearest level, in units of its block's largest |weight|."""
    blocks = _blocks(kernel, NF4_BLOCK)
    largest = jnp.max(jnp.abs(blocks), axis=1)
    share = blocks / jnp.where(largest, largest, 1)[:, None]
    codes = jnp.zeros(share.shape, jnp.uint8)
    for middle in (NF4[1:] + NF4[:-1]) / 2:
        codes += share > middle
    return {"nf4": _pairs(codes), "absmax": largest}


def _nf4_unpack(arrays: Arrays, count: int) -> jax.Array:
    codes = _codes(arrays["nf4"], len(arrays["absmax"]))
    # Four steps of a choice, each by one bit: a processor picks from a table one number at a time.
    levels: list[Any] = [np.float32(level) for level in NF4]
    for bit in (8, 4, 2, 1):
        one, half = (codes & bit) != 0, len(levels) // 2
        levels = [jnp.where(one, levels[half + i], levels[i]) for i in range(half)]
    return _rows(levels[0] * arrays["absmax"][:, None], count)


Q4_1_BLOCK = 32  # as in ggml


def _q4_1_pack(kernel: jax.Array) -> Arrays:
    """Each weight as a multiple 0 .. 15 of its block's step above its block's least weight, both float16. What has
    been read from a Q4_1 file comes back as the blocks of that file."""
    blocks = _blocks(kernel, Q4_1_BLOCK)
    least = jnp.min(blocks, axis=1)
    step = (jnp.max(blocks, axis=1) - least) / 15
    often = jnp.where(step, 1 / jnp.where(step, step, 1), 0)
    codes = jnp.clip(jnp.trunc((blocks - least[:, None]) * often[:, None] + 0.5), 0, 15)
    return {"q4_1": _pairs(codes), "step": step.astype(jnp.float16), "least": least.astype(jnp.float16)}


def _q4_1_unpack(arrays: Arrays, count: int) -> jax.Array:
    step, least = (arrays[name].astype(jnp.float32)[:, None] for name in ("step", "least"))
    return _rows(_codes(arrays["q4_1"], len(arrays["step"])).astype(jnp.float32) * step + least, count)


def _of_blocks(codes: str, size: int, **each: Any) -> Callable[[int, int], dict[str, Any]]:
    def shapes(rows: int, columns: int) -> dict[str, Any]:
        blocks = -(-rows // size)
        own = {name: ((blocks, columns), dtype) for name, dtype in each.items()}
        return {codes: ((blocks * size // 2, columns), jnp.uint8)} | own

    return shapes


# `FORMS[word]`: how the kernels below adapters are kept, `adapter.base`.
FORMS = {
    "int8": Form(
        lambda rows, columns: {"int8": ((rows, columns), jnp.int8), "scale": ((columns,), jnp.float32)},
        _int8_pack,
        lambda arrays, count: arrays["int8"].astype(jnp.float32) * arrays["scale"][None],
    ),
    "nf4": Form(_of_blocks("nf4", NF4_BLOCK, absmax=jnp.float32), _nf4_pack, _nf4_unpack),
    "q4_1": Form(_of_blocks("q4_1", Q4_1_BLOCK, step=jnp.float16, least=jnp.float16), _q4_1_pack, _q4_1_unpack),
}


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(x: jax.Array, arrays: Arrays, form: str) -> jax.Array:
    """x (N, D) times the kernel that arrays of a form stand for -> (N, F) in the dtype of x.

    The kernel is made for the product and forgotten; for the gradient by x, the only one there is, it is made again.
    """
    return x @ FORMS[form].unpack(_behind(x, arrays), x.shape[-1]).astype(x.dtype)


def _forward(x: jax.Array, arrays: Arrays, form: str) -> Any:
    return product(x, arrays, form), (arrays, jnp.zeros((0, x.shape[-1]), x.dtype))


def _backward(form: str, kept: Any, gradient: jax.Array) -> Any:
    arrays, like = kept
    kernel = FORMS[form].unpack(_behind(gradient, arrays), like.shape[-1]).astype(gradient.dtype)
    return (gradient @ kernel.T).astype(like.dtype), None


def _behind(x: jax.Array, arrays: Arrays) -> Arrays:
    """Return arrays that the compiler cannot know before x: with the codes as they are, since a number is itself.

    Else it makes the kernels of a whole model when a step begins, where there is nothing to wait for, and keeps them
    for the backward pass. (XLA's CPU backend drops `optimization_barrier` before it looks for equal computations.)
    Where x is not a number, neither is the product.
    """
    first = x[0, 0]
    codes = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.integer)
    return {end: leaf ^ (first != first).astype(leaf.dtype) if codes(leaf) else leaf for end, leaf in arrays.items()}


product.defvjp(_forward, _backward)


class FrozenLinear(nn.Module):
    """A Linear whose kernel is kept in a form of FORMS: what `freeze` makes of a dense one's."""

    features: int
    form: str
    gain: float = 1.0  # of the kernel that was; nothing here begins with it

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x (..., D) -> (..., features)."""
        shapes = FORMS[self.form].shapes(x.shape[-1], self.features)
        arrays = {end: self.param(f"kernel_{end}", nn.initializers.zeros, *shape) for end, shape in shapes.items()}
        y: jax.Array = product(x.reshape(-1, x.shape[-1]), arrays, self.form)
        return y.reshape(*x.shape[:-1], self.features)


def freeze(params: Any, form: str) -> Any:
    """Return the parameters with each kernel in a form of FORMS; "float" leaves them as they are. The leaves of the
    given tree are let go one by one, where nobody else holds them."""
    if form == "float":
        return params
    leaves = flatten_dict(params, sep="/")
    del params
    pack = jax.jit(FORMS[form].pack)
    made: dict[str, Any] = {}
    for path in list(leaves):
        leaf = leaves.pop(path)
        if roles.of(path).kind != "kernel":
            made[path] = leaf
            continue
        arrays = (jax.jit(jax.vmap(FORMS[form].pack)) if roles.of(path).each else pack)(leaf)
        made |= {f"{path}_{end}": jax.block_until_ready(array) for end, array in arrays.items()}
    return unflatten_dict(made, sep="/")


def rounded(kernel: jax.Array, form: str) -> jax.Array:
    """Return a kernel (..., D, F) as it is once it has been in a form of FORMS."""
    if form == "float":
        return kernel
    there_and_back = lambda kernel: FORMS[form].unpack(FORMS[form].pack(kernel), kernel.shape[-2])
    return (jax.vmap(there_and_back) if kernel.ndim == 3 else there_and_back)(kernel)
