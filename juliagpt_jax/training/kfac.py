"""K-FAC: the gradient of each Linear's weight times the inverse of its Kronecker-factored Fisher matrix.

With inputs a and output gradients g the block of a weight is taken as A x B, A = E[a a'] and B = E[g g'], so that its
inverse costs that of two small matrices (Martens & Grosse 2015, arXiv 1503.05671). What the positions of a text are to
it, and the evaluations of an ODE, is said in models/capture.py (Eschenhagen et al. 2023, arXiv 2311.00636). AdamW
updates what is no Linear's weight, and a tied head, which as the embedding is no linear map of its input.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from juliagpt_jax import config
from juliagpt_jax.models.capture import Moments, is_linear, sides
from juliagpt_jax.models.parameters import by_path, paths


class Factors(NamedTuple):
    """Of one weight (in, out), or of each block of a Monarch factor (blocks, out, in): A and B, or their inverses."""

    inputs: jax.Array  # (in, in)
    outputs: jax.Array  # (out, out)


class State(NamedTuple):
    """Trees of dicts that hold the weights of Linears alone, except for `adam`, which has the rest."""

    count: jax.Array  # int32 steps applied
    mean: Any  # running mean of the gradients
    factors: Any  # running means, a Factors for each weight
    inverses: Any  # of the damped factors
    adam: Any
    trust: jax.Array  # share of the last step that the trust region let pass; nan: it must not be applied


def measured(moments: Mapping[str, Moments], terms: jax.Array, scale: jax.Array) -> dict[str, Factors]:
    """A and B of the mean over `terms` losses, from sums for the gradient of their sum times `scale`."""
    return {path: Factors(m.inputs / m.count, m.outputs / (scale**2 * terms)) for path, m in moments.items()}


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


def solve(inverses: Factors, gradient: jax.Array) -> jax.Array:
    """A^-1 G B^-1 of a weight's gradient."""
    if gradient.ndim == 3:  # (blocks, out, in)
        return inverses.outputs @ gradient @ inverses.inputs
    return inverses.inputs @ gradient @ inverses.outputs


def kfac(train: config.Train, params: Any) -> optax.GradientTransformationExtraArgs:
    """The transformation. Beside gradients, `update` takes `lr`, the learning rate of this step (`train.lr` unless
    given), and `measure`, which gives the factors of this batch by path (see `measured`); without it they stay what
    they are: before the first measurement directions are the mean of the gradients.

    The step is of length min(1, sqrt(kfac_kl / (lr^2 d'm))) for the direction d of the mean gradient m: d'm bounds
    d'F d, so that predictions change by about kfac_kl / 2 nats at the most (Ba, Grosse & Martens 2017, "Distributed
    second-order optimization using Kronecker-factored approximations", section 5).
    """
    own = [path for path in paths(params) if is_linear(path)]
    adam = optax.scale_by_adam(train.beta1, train.beta2)
    clip = optax.clip_by_global_norm(train.clip)

    def part(tree: Any, linear: bool) -> Any:
        return unflatten_dict({path: leaf for path, leaf in paths(tree).items() if (path in own) == linear}, sep="/")

    def each(rule: Callable[..., Any], *trees: Any) -> Any:
        """rule(...) for each Linear's weight of trees that hold an array or a Factors for it."""
        flat = [flatten_dict(tree, sep="/") for tree in trees]
        return unflatten_dict({path: rule(*(leaves[path] for leaves in flat)) for path in own}, sep="/")

    def init(params: Any) -> State:
        weights = paths(params)

        def square(path: str, make: Callable[[int], jax.Array]) -> Factors:
            weight = weights[path]
            wide = [jnp.broadcast_to(make(n), (*weight.shape[:-2], n, n)) for n in sides(path, weight)]
            return Factors(*(jnp.asarray(m, weight.dtype) for m in wide))

        squares = lambda make: unflatten_dict({path: square(path, make) for path in own}, sep="/")
        return State(
            count=jnp.zeros((), jnp.int32),
            mean=jax.tree.map(jnp.zeros_like, part(params, True)),
            factors=squares(lambda n: jnp.zeros((n, n))),
            inverses=squares(jnp.eye),
            adam=adam.init(part(params, False)),
            trust=jnp.ones(()),
        )

    def update(
        grads: Any,
        state: State,
        params: Any = None,
        *,
        measure: Callable[[], dict[str, Factors]] | None = None,
        lr: jax.Array | float = train.lr,
        **extra: Any,
    ) -> tuple[Any, State]:
        grads, _ = clip.update(grads, clip.init(grads))
        rest, adam_state = adam.update(part(grads, False), state.adam)

        factors, inverses = state.factors, state.inverses
        if measure is not None:
            seen = state.count // train.kfac_factors_every
            keep = jnp.minimum(seen / (seen + 1), train.kfac_ema)  # at first the mean of all, which forgets zeros
            blend = lambda old, new: jax.tree.map(lambda o, n: (keep * o + (1 - keep) * n).astype(o.dtype), old, new)
            renew = lambda: each(blend, factors, unflatten_dict(measure(), sep="/"))
            factors = jax.lax.cond(state.count % train.kfac_factors_every == 0, renew, lambda: state.factors)
            invert = lambda: each(lambda f: damped_inverses(f, train.kfac_damping), factors)
            inverses = jax.lax.cond(state.count % train.kfac_inverse_every == 0, invert, lambda: state.inverses)

        count = state.count + 1
        mean = jax.tree.map(lambda m, g: train.beta1 * m + (1 - train.beta1) * g, state.mean, part(grads, True))
        unbiased = optax.tree.bias_correction(mean, train.beta1, count)
        directions = each(solve, inverses, unbiased)
        size = optax.tree.vdot(directions, unbiased)
        sound = jnp.isfinite(size)
        for leaf in jax.tree.leaves(factors):  # these stay, so they are looked at also when no inverse reads them
            sound &= jnp.all(jnp.isfinite(leaf))
        trust = jnp.minimum(1.0, jnp.sqrt(train.kfac_kl / size) / lr) if train.kfac_kl else jnp.ones_like(size)
        flat = paths(jax.tree.map(lambda d: trust * d, directions)) | paths(rest)
        trust = jnp.where(sound, trust, jnp.nan).astype(state.trust.dtype)
        state = State(count, mean, factors, inverses, adam_state, trust)
        return by_path(grads, lambda path, g: flat[path].astype(g.dtype)), state

    return optax.GradientTransformationExtraArgs(init, update)
