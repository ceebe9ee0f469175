"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2024, arXiv 2409.11321, algorithm 3)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

EPSILON = 1e-8


class SoapState(NamedTuple):
    """Statistics of each matrix G (m, n) of gradients.

    steps: those so far, the first of which only sets up the bases.
    mean, square: Adam's moments, in the bases.
    covariances: the means of G G' and G' G; None in place of one whose side is too long.
    bases: their eigenvectors as columns, the largest eigenvalue first.
    """

    steps: jax.Array
    mean: Any
    square: Any
    covariances: Any
    bases: Any


def scale_by_soap(beta1: float, beta2: float, every: int, max_side: int) -> optax.GradientTransformation:
    """SOAP for trees whose leaves are all matrices, (..., m, n), each in bases of its own.

    Args:
        beta1: decay of the first moment.
        beta2: decay of the second moment, and of the covariances.
        every: steps between two updates of the bases, one power iteration and a QR decomposition each.
        max_side: a longer side has no basis; without any, SOAP is Adam.

    As in the authors' code the first step changes no parameter, the bases are updated after the step, and the mean of
    the gradients is carried over into the new bases, the mean of their squares only put in their order.
    """

    def init(params):
        sides = lambda p: tuple(jnp.zeros((*p.shape[:-2], n, n)) if n <= max_side else None for n in p.shape[-2:])
        zeros = lambda: jax.tree.map(jnp.zeros_like, params)
        square = lambda: jax.tree.map(sides, params)
        return SoapState(jnp.zeros((), jnp.int32), zeros(), zeros(), square(), square())

    def update(updates, state, params=None):
        steps, bases = state.steps, state.bases
        rotated = jax.tree.map(lambda g, q: jnp.where(steps > 0, _into(g, q), 0), updates, bases)
        mean = optax.tree.update_moment(rotated, state.mean, beta1, 1)
        square = optax.tree.update_moment(rotated, state.square, beta2, 2)
        t = jnp.maximum(steps, 1).astype(jnp.float32)
        correct = jnp.sqrt(1 - beta2**t) / (1 - beta1**t)
        adam = jax.tree.map(lambda m, v: correct * m / (jnp.sqrt(v) + EPSILON), mean, square)
        directions = jax.tree.map(_out_of, adam, bases)

        covariances = jax.tree.map(lambda g, c: _covariances(g, c, beta2), updates, state.covariances)
        each = jax.tree.structure(updates).flatten_up_to
        adopt = lambda one: jax.tree.unflatten(jax.tree.structure(updates), one)

        def first(mean, square, bases):
            return mean, square, jax.tree.map(lambda g, c: _eigenvectors(c), updates, covariances)

        def refresh(mean, square, bases):
            new = [_refreshed(*leaf) for leaf in zip(*map(each, (mean, square, covariances, bases)), strict=True)]
            return tuple(adopt(part) for part in zip(*new, strict=True))

        def keep(mean, square, bases):
            return mean, square, bases

        which = jnp.where(steps == 0, 0, jnp.where(steps % every == 0, 1, 2))
        mean, square, bases = jax.lax.switch(which, (first, refresh, keep), mean, square, bases)
        return directions, SoapState(steps + 1, mean, square, covariances, bases)

    return optax.GradientTransformation(init, update)


def _into(x: jax.Array, bases: tuple) -> jax.Array:
    left, right = bases
    x = x if left is None else left.mT @ x
    return x if right is None else x @ right


def _out_of(x: jax.Array, bases: tuple) -> jax.Array:
    left, right = bases
    x = x if left is None else left @ x
    return x if right is None else x @ right.mT


def _covariances(g: jax.Array, old: tuple, beta: float) -> tuple:
    left, right = old
    return (
        None if left is None else beta * left + (1 - beta) * (g @ g.mT),
        None if right is None else beta * right + (1 - beta) * (g.mT @ g),
    )


def _eigenvectors(covariances: tuple) -> tuple:
    return tuple(None if c is None else jnp.linalg.eigh(c)[1][..., ::-1] for c in covariances)


def _refreshed(mean: jax.Array, square: jax.Array, covariances: tuple, bases: tuple) -> tuple:
    """The moments in new bases, and these: a power iteration from the old ones, in the order of their eigenvalues."""
    mean, new = _out_of(mean, bases), []
    for axis, covariance, basis in zip((-2, -1), covariances, bases, strict=True):
        if basis is None:
            new.append(None)
            continue
        powered = covariance @ basis
        order = jnp.argsort(-jnp.sum(basis * powered, axis=-2), axis=-1)
        square = jnp.take_along_axis(square, order[..., None] if axis == -2 else order[..., None, :], axis=axis)
        new.append(jnp.linalg.qr(jnp.take_along_axis(powered, order[..., None, :], axis=-1))[0])
    return _into(mean, tuple(new)), square, tuple(new)
