"""K-FAC: the gradient of each Linear's weight times the inverse of its Kronecker-factored Fisher matrix.

With inputs a and output gradients g the block of a weight is taken as A x B, A = E[a a'] and B = E[g g'], so that its
inverse costs that of two small matrices (Martens & Grosse 2015, arXiv 1503.05671). What the positions of a text are to
it, and the evaluations of an ODE, is said in models/capture.py (Eschenhagen et al. 2023, arXiv 2311.00636). AdamW
updates what is no Linear's weight, and a tied head, which is the embedding, too.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from juliagpt_jax.ground import config
from juliagpt_jax.models import roles
from juliagpt_jax.models.capture import Moments
from juliagpt_jax.models.parameters import by_path


class Factors(NamedTuple):
    """Of one weight (in, out), or of each block of a Monarch factor (blocks, out, in): A and B, or their inverses."""

    inputs: jax.Array  # (in, in)
    outputs: jax.Array  # (out, out)


class State(NamedTuple):
    """Trees of one structure, with an array or a Factors for each weight."""

    steps: jax.Array  # int32 applied
    mean: Any  # running mean of the gradients
    factors: Any  # running means
    inverses: Any  # of the damped factors
    trust: jax.Array  # share of the last step that the trust region let pass; nan: it must not be applied


def measured(moments: Mapping[str, Moments], terms: jax.Array, scale: jax.Array) -> dict[str, Factors]:
    """A and B of the mean over `terms` losses, from sums for the gradient of their sum times `scale`."""
    return {path: Factors(m.inputs / m.number, m.outputs / (scale**2 * terms)) for path, m in moments.items()}


def damped_inverses(factors: Factors, damping: float) -> Factors:
    """(A + pi sqrt(damping) I)^-1 and (B + sqrt(damping) / pi I)^-1, where pi^2 is the ratio of the mean eigenvalues
    of A and B (Martens & Grosse 2015, section 6.3)."""
    tiny = jnp.finfo(factors.inputs.dtype).tiny  # of a layer without a gradient, pi is large and not 0/0
    mean = lambda m: jnp.trace(m, axis1=-2, axis2=-1) / m.shape[-1] + tiny
    pi = jnp.sqrt(mean(factors.inputs) / mean(factors.outputs))
    return Factors(
        _inverse(factors.inputs, pi * damping**0.5),
        _inverse(factors.outputs, damping**0.5 / pi),
    )


def _inverse(m: jax.Array, damping: jax.Array) -> jax.Array:
    """(M + damping I)^-1 of symmetric positive M; nan where rounding makes it none."""
    eye = jnp.eye(m.shape[-1], dtype=m.dtype)
    eye = jnp.broadcast_to(eye, m.shape)
    root = jnp.linalg.cholesky(m + damping[..., None, None] * eye)
    root = jax.lax.linalg.triangular_solve(root, eye, left_side=True, lower=True)
    return root.mT @ root


def solve(gradient: jax.Array, inverses: Factors) -> jax.Array:
    """A^-1 G B^-1 of a weight's gradient."""
    if gradient.ndim == 3:  # (blocks, out, in)
        return inverses.outputs @ gradient @ inverses.inputs
    return inverses.inputs @ gradient @ inverses.outputs


def scale_by_kfac(train: config.Train) -> optax.GradientTransformationExtraArgs:
    """K-FAC for trees whose leaves are all weights of Linears.

    Beside gradients, `update` takes `lr`, the learning rate of this step (`train.lr` unless given), and `measure`,
    which gives the factors of this batch by path (see `measured`). Without it they stay what they are; before the first
    measurement directions are means of gradients.

    The direction d of the mean gradient m is shortened to min(1, sqrt(kfac_kl / (lr^2 d'm))): d'm bounds d'F d, so that
    a step changes predictions by about kfac_kl / 2 nats at the most (Ba, Grosse & Martens 2017, "Distributed
    second-order optimization using Kronecker-factored approximations", section 5).
    """

    def init(params: Any) -> State:
        def square(make: Callable[[int], jax.Array]) -> Any:
            def one(path: str, weight: jax.Array) -> Factors:
                sides = roles.of(path).sides(weight.shape)
                wide = [jnp.broadcast_to(make(n), (*weight.shape[:-2], n, n)) for n in sides]
                return Factors(*(jnp.asarray(m, weight.dtype) for m in wide))

            return by_path(params, one)

        return State(
            steps=jnp.zeros((), jnp.int32),
            mean=jax.tree.map(jnp.zeros_like, params),
            factors=square(lambda n: jnp.zeros((n, n))),
            inverses=square(jnp.eye),
            trust=jnp.ones(()),
        )

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        measure: Callable[[], dict[str, Factors]] | None = None,
        lr: Any = train.lr,
        **extra: Any,
    ) -> tuple[Any, State]:
        factors, inverses = state.factors, state.inverses
        if measure is not None:
            times = state.steps // train.kfac.factors_every
            keep = jnp.minimum(times / (times + 1), train.kfac.ema)  # at first the mean of all, which forgets the zeros
            blend = lambda old, new: (keep * old + (1 - keep) * new).astype(old.dtype)

            def renew():
                seen = measure()
                return jax.tree.map(blend, factors, by_path(updates, lambda path, _: seen[path]))

            def invert():
                return jax.tree.map(lambda _, f: damped_inverses(f, train.kfac.damping), updates, factors)

            factors = jax.lax.cond(state.steps % train.kfac.factors_every == 0, renew, lambda: state.factors)
            inverses = jax.lax.cond(state.steps % train.kfac.inverse_every == 0, invert, lambda: state.inverses)

        steps = state.steps + 1
        mean = jax.tree.map(lambda m, g: train.beta1 * m + (1 - train.beta1) * g, state.mean, updates)
        unbiased = optax.tree.bias_correction(mean, train.beta1, steps)
        directions = jax.tree.map(solve, unbiased, inverses)
        size = optax.tree.vdot(directions, unbiased)
        sound = jnp.isfinite(size)
        for leaf in jax.tree.leaves(factors):  # these stay, so they are looked at also when no inverse reads them
            sound &= jnp.all(jnp.isfinite(leaf))
        trust = jnp.minimum(1.0, jnp.sqrt(train.kfac.kl / size) / lr) if train.kfac.kl else jnp.ones_like(size)
        directions = jax.tree.map(lambda d: (trust * d).astype(d.dtype), directions)
        trust = jnp.where(sound, trust, jnp.nan).astype(state.trust.dtype)
        return directions, State(steps, mean, factors, inverses, trust)

    return optax.GradientTransformationExtraArgs(init, update)
