"""Weights of three values, activations and weights of int8, and the bytes that hold them: the arithmetic.

BitNet b1.58 (Ma et al. 2024, arXiv 2402.17764, section 2): a kernel W is scale * trits, the trits -1, 0 and 1, and the
scale, one for all of it, the mean of |W|; each token's activations x are levels / unit, whole numbers up to 127 by
size. What is left is a product of whole numbers, whose order of summation does not matter: a kernel that is rounded
as it is used and one that was rounded long ago give the same bits.
"""

import jax
import jax.numpy as jnp
import numpy as np

LEVELS = 127  # the largest level of int8, as far from 0 on both sides
FLOOR = 1e-5  # the least mean or largest |x| that is divided by: of zeros, too, something is made


def ternary(kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The trits (D, F), int8, of a kernel and their scale ()."""
    scale = jnp.maximum(jnp.mean(jnp.abs(kernel)), FLOOR)
    return jnp.clip(jnp.round(kernel / scale), -1, 1).astype(jnp.int8), scale


def int8(kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The levels (D, F), int8, of a kernel and the size of one (F,), each output's by its own largest |weight|."""
    scale = jnp.maximum(jnp.max(jnp.abs(kernel), axis=0), FLOOR) / LEVELS
    return jnp.round(kernel / scale[None]).astype(jnp.int8), scale


def token_levels(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The levels (N, D), int8, of tokens x and how many of them make up 1 (N, 1): each token has its own, so that none
    sees another."""
    x = x.astype(jnp.float32)
    unit = LEVELS / jnp.maximum(jnp.max(jnp.abs(x), axis=-1, keepdims=True), FLOOR)
    return jnp.clip(jnp.round(x * unit), -LEVELS - 1, LEVELS).astype(jnp.int8), unit


def int8_product(x: jax.Array, weights: jax.Array) -> jax.Array:
    """x (N, D) int8 times weights (D, F) int8 -> (N, F) int32, which reads each weight as the byte it is.

    On a processor XLA has a kernel for that, several times as fast as float32's, from two rows on (four take no
    longer); of a single row it makes a product with a vector, for which it first writes the weights down as int32.
    """
    rows = len(x)
    x = jnp.pad(x, ((0, max(0, 4 - rows)), (0, 0)))
    summed = (((1,), (0,)), ((), ()))
    return jax.lax.dot_general(x, weights.astype(jnp.int8), summed, preferred_element_type=jnp.int32)[:rows]


@jax.custom_vjp
def levels_product(x: jax.Array, weights: jax.Array, scale: jax.Array) -> jax.Array:
    """x (N, D), rounded to levels, times the kernel that weights (D, F), int8, and scale, () or (F,), stand for ->
    (N, F) in the dtype of x.

    The gradient by x passes its rounding as if it were not there, as that of `ternary_product`; the one by the scale is
    exact; whole numbers have none.
    """
    return _levels_forward(x, weights, scale)[0]


def _levels_forward(x, weights, scale):
    levels, unit = token_levels(x)
    y = _scaled(int8_product(levels, weights), scale, unit).astype(x.dtype)
    return y, (levels, unit, weights, scale)


def _levels_backward(kept, gradient):
    levels, unit, weights, scale = kept
    kernel = weights.astype(jnp.float32) * jnp.reshape(scale, (1, -1))
    dx = gradient @ kernel.T.astype(gradient.dtype)
    by_output = jnp.sum(gradient * (int8_product(levels, weights) / unit), axis=0)
    dscale = jnp.sum(by_output) if scale.ndim == 0 else by_output
    return dx, None, dscale.astype(scale.dtype)


levels_product.defvjp(_levels_forward, _levels_backward)


def _scaled(product: jax.Array, scale: jax.Array, unit: jax.Array) -> jax.Array:
    return product.astype(jnp.float32) * (jnp.reshape(scale, (1, -1)) / unit)


@jax.custom_vjp
def ternary_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x (N, D), rounded to levels, times kernel (D, F), rounded to trits -> (N, F) in the dtype of x.

    The gradient passes both roundings as if they were not there (the straight-through estimator: Bengio et al. 2013,
    arXiv 1308.3432): it is that of a product of the rounded values.
    """
    return _forward(x, kernel)[0]


def _forward(x, kernel):
    levels, unit = token_levels(x)
    trits, scale = ternary(kernel)
    y = _scaled(int8_product(levels, trits), scale, unit).astype(x.dtype)
    return y, (levels, unit, trits, scale)  # a quarter of the memory of x and the kernel


def _backward(kept, gradient):
    levels, unit, trits, scale = kept
    x, weights = (values.astype(gradient.dtype) for values in (levels / unit, trits * scale))
    dx, dkernel = jax.vjp(jnp.matmul, x, weights)[1](gradient)
    return dx, dkernel.astype(scale.dtype)


ternary_product.defvjp(_forward, _backward)


class Packing:
    """Several trits in a byte: `trits` of them, each a digit to a base that counts -1 as 0.

    Rows of a matrix are packed together: of (D, F) the byte [r, f] of (R, F), R = ceil(D / trits), holds the rows
    r, R + r, 2 R + r, ... of column f, the lowest digit first. What the last rows leave free is 0.
    """

    def __init__(self, base: int, trits: int):
        self.base, self.trits = base, trits

    def rows(self, count: int) -> int:
        """Return the number of rows of bytes that hold `count` rows."""
        return -(-count // self.trits)

    def pack(self, trits: np.ndarray) -> np.ndarray:
        """Trits (D, F) -> bytes (R, F)."""
        rows, (count, columns) = self.rows(len(trits)), trits.shape
        digits = np.zeros((self.trits, rows, columns), np.uint8)
        digits.reshape(-1, columns)[:count] = trits + 1
        places = self.base ** np.arange(self.trits)
        return np.tensordot(places, digits, 1).astype(np.uint8)

    def unpack(self, packed: np.ndarray, count: int) -> np.ndarray:
        """Bytes (R, F) -> trits (count, F), int8.

        Raises:
            ValueError: a byte that no trits make.
        """
        places = (self.base ** np.arange(self.trits, dtype=np.uint8))[:, None, None]
        digits = packed[None] // places % self.base
        wrong = (packed >= self.base**self.trits) | (digits > 2).any(axis=0)
        if wrong.any():
            raise ValueError(
                f"a byte of {packed[wrong][0]} is no {self.trits} digits of 0, 1 and 2 to base {self.base}"
            )
        return digits.reshape(-1, packed.shape[1])[:count].astype(np.int8) - 1


PACKINGS = {"2bit": Packing(4, 4), "base3": Packing(3, 5)}
