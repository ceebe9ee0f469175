"""Linears whose kernels are tensor trains (Oseledets 2011, doi 10.1137/090752286; as layers: Novikov et al. 2015, arXiv
1509.06569, section 3.2).

Both sides of a kernel (D, F) are cut into d factors, D = n_1 ... n_d and F = m_1 ... m_d, and

    W[(i_1 ... i_d), (j_1 ... j_d)] = G_1[i_1, j_1] G_2[i_2, j_2] ... G_d[i_d, j_d],

each G_k[i_k, j_k] a matrix of r_(k-1) x r_k, r_0 = r_d = 1. So it has sum_k r_(k-1) n_k m_k r_k weights instead of D F.
A token goes through one core after the other, and the kernel is never made; each weight is used for several products a
token (`uses`), so FLOPs fall by less than weights, and with high ranks they rise.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax


class Shape(NamedTuple):
    """The factors and ranks of a tensor train: of core k, r_(k-1) n_k inputs and m_k r_k outputs."""

    inputs: tuple[int, ...]  # n_1 ... n_d
    outputs: tuple[int, ...]  # m_1 ... m_d
    ranks: tuple[int, ...]  # r_0 ... r_d

    @classmethod
    def of(cls, fan_in: int, features: int, cores: int, ranks: str) -> "Shape":
        """Return that of a kernel (fan_in, features): factors as equal as there are, those of the inputs falling and
        those of the outputs growing, which does the least work; the ranks repeated."""
        inner = [int(word) for word in ranks.split()]
        between = tuple(inner[i % len(inner)] for i in range(cores - 1))
        return cls(factors(fan_in, cores)[::-1], factors(features, cores), (1, *between, 1))

    @property
    def sides(self) -> list[tuple[int, int]]:
        """The shape of each core as a matrix."""
        lower, upper = self.ranks[:-1], self.ranks[1:]
        parts = zip(lower, self.inputs, self.outputs, upper, strict=True)
        return [(low * n, m * up) for low, n, m, up in parts]

    @property
    def uses(self) -> list[int]:
        """The number of products a token that each weight of a core is used for."""
        count = len(self.inputs)
        return [math.prod(self.outputs[:k]) * math.prod(self.inputs[k + 1 :]) for k in range(count)]


@functools.cache
def factors(size: int, count: int) -> tuple[int, ...]:
    """Return `count` factors of a size, growing, whose sum is the least: 384 as 6 x 8 x 8, 7 as 1 x 1 x 7."""
    if count == 1:
        return (size,)
    found = [(first, *factors(size // first, count - 1)) for first in range(1, size + 1) if size % first == 0]
    return tuple(sorted(min(found, key=sum)))


def uses(model: Any, sides: Sequence[tuple[int, int]]) -> list[int]:
    """Return the `uses` of the cores of these shapes, in a model of these `tt.ranks`."""
    inner = [int(word) for word in model.tt.ranks.split()]
    ranks = (1, *(inner[i % len(inner)] for i in range(len(sides) - 1)), 1)
    inputs = tuple(rows // ranks[k] for k, (rows, _) in enumerate(sides))
    outputs = tuple(columns // ranks[k + 1] for k, (_, columns) in enumerate(sides))
    return Shape(inputs, outputs, ranks).uses


def contract(
    x: jax.Array,
    cores: Sequence[jax.Array],
    shape: Shape,
    product: Callable[[jax.Array, jax.Array, str], jax.Array],
) -> jax.Array:
    """Multiply x (N, D) by a tensor train, (N, F): `product(x, core, name)` of two matrices for each of its cores."""
    N = len(x)
    rest, done, rank = math.prod(shape.inputs), 1, 1
    for k, (core, n, m) in enumerate(zip(cores, shape.inputs, shape.outputs, strict=True)):
        rest //= n
        x = x.reshape(N, n, rest, done, rank).transpose(0, 2, 3, 4, 1)  # what this core sums over comes last
        x = product(x.reshape(N * rest * done, rank * n), core, f"core_{k}")
        done, rank = done * m, shape.ranks[k + 1]
        x = x.reshape(N, rest, done, rank)
    return x.reshape(N, done)


class TTLinear(nn.Module):
    """A Linear whose kernel is a tensor train of `cores` cores; core k is kept as the matrix (r_(k-1) n_k, m_k r_k)
    that a token meets, so that optimizers of matrices take it as one."""

    features: int
    cores: int
    ranks: str
    initial: Callable[[int, int, float], Any]  # of INITS, for each core: their product is then drawn as a kernel is
    gain: float = 1.0  # as of the dense Linear

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x (..., D) -> (..., features)."""
        shape = Shape.of(x.shape[-1], self.features, self.cores, self.ranks)
        gains = [*[1.0] * (self.cores - 1), self.gain]
        parts = [
            self.param(f"core_{k}", self.initial(rows, columns, gain), (rows, columns)).astype(x.dtype)
            for k, ((rows, columns), gain) in enumerate(zip(shape.sides, gains, strict=True))
        ]
        y = contract(x.reshape(-1, x.shape[-1]), parts, shape, self.product)
        return y.reshape(*x.shape[:-1], self.features)

    def product(self, x: jax.Array, core: jax.Array, name: str) -> jax.Array:
        """Return x (N, in) times the core of that name (in, out)."""
        return x @ core
