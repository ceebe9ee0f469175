"""Depth as time: one block as the right-hand side of dx/dt = f(x, t), solved from t = 0 to t = 1.

f is what the block would add to x, times `ode_speed`: Euler with as many steps is a stack of that many blocks with
shared weights. A solve runs on a schedule, 0 = t_0 < ... < t_n = 1, that is known beforehand: then no token looks
ahead, and each evaluation of the block has a cache of its own. A solve whose steps follow a tolerance (`adaptive`)
measures its error over the whole window, so a later token moves an earlier one.

diffrax gives the solvers (their tableaus), the adaptive controller and the continuous adjoint. The loop over a schedule
is our own: it has a cache for each evaluation and runs on many devices; a test holds it equal to diffrax, solver by
solver.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Field = Callable[[Any, Any, Any], Any]  # (args, y, t) -> dy/dt, of y's structure; all that is traced comes in `args`

BRANCH = 8  # steps under one level of recomputation
COUPLING = 0.99  # of the reversible stepping: below 1 it damps the difference of its two states


class Tableau(NamedTuple):
    """An explicit Runge-Kutta method: k_i = f(y + dt sum_j a_ij k_j, t + c_i dt), then y + dt sum_i b_i k_i."""

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]

    @property
    def stages(self) -> int:
        return len(self.b)


class Solve(NamedTuple):
    """Facts of a solve beside its result."""

    times: jax.Array  # (n + 1,), the schedule; an adaptive one is followed by inf
    ok: jax.Array  # bool: it reached t = 1 with finite numbers in at most ode.max_steps steps
    energy: jax.Array  # integral of the mean of f^2; 0 where train.ode_energy does not ask for it


def _rk4():
    """The classical fourth-order method (Kutta 1901); its error estimate is the difference to the midpoint rule."""
    import diffrax

    class RK4(diffrax.AbstractERK):
        tableau = diffrax.ButcherTableau(
            a_lower=(np.array([0.5]), np.array([0.0, 0.5]), np.array([0.0, 0.0, 1.0])),
            b_sol=np.array([1 / 6, 1 / 3, 1 / 3, 1 / 6]),
            b_error=np.array([1 / 6, 1 / 3 - 1, 1 / 3, 1 / 6]),
            c=np.array([0.5, 0.5, 1.0]),
        )
        interpolation_cls = diffrax.ThirdOrderHermitePolynomialInterpolation.from_k

        def order(self, terms: Any) -> int:
            return 4

        def error_order(self, terms: Any) -> int:
            return 3  # of the midpoint rule's local error

    return RK4()


def _named(name: str) -> Callable[[], Any]:
    def make():
        import diffrax  # late: half a second that a model without an ODE need not wait

        return getattr(diffrax, name)()

    return make


@functools.cache
def solver(name: str) -> Any:
    """diffrax's solver of that name."""
    return SOLVERS[name]()


@functools.cache
def tableau(name: str) -> Tableau:
    """The tableau of a solver, without the stages that only its error estimate reads.

    Bosh3, Tsit5 and Dopri5 evaluate f at the end of a step, for the error estimate, and use it again as the first
    stage of the next (FSAL). On a given schedule there is no error to estimate, so that stage goes, and the first stage
    of the next step is evaluated there: the same numbers, and as many evaluations.
    """
    if name == "euler":
        return Tableau(((),), (1.0,), (0.0,))
    table = solver(name).tableau
    a = [(), *(tuple(map(float, row)) for row in table.a_lower)]
    b, c = list(map(float, table.b_sol)), [0.0, *map(float, table.c)]
    while b[-1] == 0:  # nothing comes after the last stage
        a, b, c = a[:-1], b[:-1], c[:-1]
    return Tableau(tuple(a), tuple(b), tuple(c))


def _plus(y: Any, dt: Any, weights: Sequence[float], slopes: Sequence[Any]) -> Any:
    """y + dt * sum of weight * slope."""
    used = [(w, k) for w, k in zip(weights, slopes, strict=True) if w]
    if not used:
        return y
    return jax.tree.map(
        lambda y, *ks: y + dt * sum(w * k for (w, _), k in zip(used, ks, strict=True)), y, *(k for _, k in used)
    )


def advance(method: Tableau, field: Field, args: Any, y: Any, t: Any, dt: Any) -> Any:
    """y at t + dt. Calls the field `method.stages` times, always in the same order."""
    slopes = []
    for row, c in zip(method.a, method.c, strict=True):
        slopes.append(field(args, _plus(y, dt, row, slopes), t + c * dt))
    return _plus(y, dt, method.b, slopes)


def advance_pair(method: Tableau, field: Field, args: Any, pair: Any, t: Any, dt: Any) -> Any:
    """A step of the reversible form of any method (McCallum & Foster 2024, arXiv 2410.11648, eq. 5), twice the
    evaluations.

    With P(z, t, dt) what `advance` adds to z:
        y' = c y + (1 - c) z + P(z, t, dt);  z' = z - P(y', t + dt, -dt).
    """
    y, z = pair
    moved = advance(method, field, args, z, t, dt)  # z + P
    y = jax.tree.map(lambda y, z, m: COUPLING * (y - z) + m, y, z, moved)
    back = advance(method, field, args, y, t + dt, -dt)  # y' + P
    return y, jax.tree.map(lambda z, y, b: z - (b - y), z, y, back)


def retreat_pair(method: Tableau, field: Field, args: Any, pair: Any, t: Any, dt: Any) -> Any:
    """The pair that `advance_pair` came from, up to rounding."""
    y, z = pair
    back = advance(method, field, args, y, t + dt, -dt)
    z = jax.tree.map(lambda z, y, b: z + (b - y), z, y, back)
    moved = advance(method, field, args, z, t, dt)
    return jax.tree.map(lambda y, z, m: (y - m) / COUPLING + z, y, z, moved), z


# How the gradient of a solve on a schedule is computed: (field, solver's name, args, y, times) -> y at times[-1].


def _step(field: Field, name: str, args: Any) -> Callable[[Any, Any], tuple[Any, None]]:
    def step(y, interval):
        t, dt = interval
        go = lambda y: advance(tableau(name), field, args, y, t, dt)
        # A schedule whose length is drawn anew each training step ends in empty steps.
        return jax.lax.cond(dt > 0, go, lambda y: y, y) if RANDOM in args else go(y), None

    return step


RANDOM = "random"  # a key of `args`: the schedule may hold empty steps, to be skipped


def _intervals(times: jax.Array) -> tuple[jax.Array, jax.Array]:
    return times[:-1], times[1:] - times[:-1]


def direct(field: Field, name: str, args: Any, y: Any, times: jax.Array) -> Any:
    """Keep every evaluation's activations: memory O(n), no recomputation, the exact gradient."""
    return jax.lax.scan(_step(field, name, args), y, _intervals(times))[0]


def recursive(field: Field, name: str, args: Any, y: Any, times: jax.Array) -> Any:
    """Recompute from checkpoints, in levels of BRANCH steps: memory of O(log n) states and of one step's activations,
    one forward pass more a level; the exact gradient."""
    step = _step(field, name, args)

    def levels(y, intervals):
        n = len(intervals[0])
        size = 1
        while size * BRANCH < n:
            size *= BRANCH
        inner = step if size == 1 else lambda y, part: (levels(y, part), None)
        whole = n // size * size
        head = jax.tree.map(lambda a: a[:whole].reshape(-1, size) if size > 1 else a, intervals)
        y, _ = jax.lax.scan(jax.checkpoint(inner, prevent_cse=False), y, head)
        return levels(y, jax.tree.map(lambda a: a[whole:], intervals)) if whole < n else y

    return levels(y, _intervals(times))


def unrolled(field: Field, name: str, args: Any, y: Any, times: Sequence[float], pairs: bool) -> Any:
    """Compute these numbers without a loop, so that the field may keep count of its calls, as it must to read and
    write caches. `pairs`: in the reversible form."""
    y = (y, y) if pairs else y
    for t, end in itertools.pairwise(times):
        y = (advance_pair if pairs else advance)(tableau(name), field, args, y, t, end - t)
    return y[0] if pairs else y


def backsolve(field: Field, name: str, args: Any, y: Any, times: jax.Array) -> Any:
    """Solve the adjoint equation backwards (Chen et al. 2018, arXiv 1806.07366, algorithm 1), by diffrax: memory O(1).

    What it gives is the gradient of the continuous equation, not of the steps that were taken: off by the solver's
    error: by 97% for 4 Euler steps and 56% for 64 of a block of `tiny` (experiments/neural_ode). Equal steps only.
    """
    import diffrax

    term = diffrax.ODETerm(lambda t, y, args: field(args, y, t))
    dt = (times[-1] - times[0]) / (len(times) - 1)
    adjoint = diffrax.BacksolveAdjoint()
    y = diffrax.diffeqsolve(term, solver(name), times[0], times[-1], dt, y, args, adjoint=adjoint, throw=False).ys
    return jax.tree.map(lambda leaf: leaf[0], y)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def reversible(field: Field, name: str, args: Any, y: Any, times: jax.Array) -> Any:
    """Steps that can be taken back (`advance_pair`): memory O(1), the exact gradient up to rounding; twice the
    evaluations of the solver, and in the backward pass as many again to go back, before those of a recomputation."""
    return _reversible_forward(field, name, args, y, times)[0]


def _reversible_forward(field, name, args, y, times):
    step = lambda pair, at: (advance_pair(tableau(name), field, args, pair, *at), None)
    pair, _ = jax.lax.scan(step, (y, y), _intervals(times))
    return pair[0], (args, pair, times)


def _reversible_backward(field, name, kept, gradient):
    args, pair, times = kept
    leaves, structure = jax.tree.flatten(args)
    real = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]

    def with_floats(floats):
        floats = iter(floats)
        return structure.unflatten([next(floats) if r else leaf for leaf, r in zip(leaves, real, strict=True)])

    def back(carry, at):
        pair, gradient, sums = carry
        pair = retreat_pair(tableau(name), field, args, pair, *at)
        forward = lambda floats, pair: advance_pair(tableau(name), field, with_floats(floats), pair, *at)
        _, pull = jax.vjp(forward, floats, pair)
        of_floats, gradient = pull(gradient)
        return (pair, gradient, jax.tree.map(jnp.add, sums, of_floats)), None

    floats = [leaf for leaf, r in zip(leaves, real, strict=True) if r]
    start = pair, (gradient, jax.tree.map(jnp.zeros_like, gradient)), jax.tree.map(jnp.zeros_like, floats)
    (_, (of_y, of_z), sums), _ = jax.lax.scan(back, start, _intervals(times), reverse=True)
    sums = iter(sums)
    of_args = structure.unflatten([next(sums) if r else None for r in real])
    return of_args, jax.tree.map(jnp.add, of_y, of_z), jnp.zeros_like(times)


reversible.defvjp(_reversible_forward, _reversible_backward)


def adaptive(
    field: Field, name: str, args: Any, y: Any, rtol: float, max_steps: int, adjoint: str
) -> tuple[Any, jax.Array, jax.Array]:
    """Solve with steps that follow a tolerance, absolute and relative (diffrax's PIDController).

    Returns:
        y at t = 1, NaN where the solver gave up; the times of its steps (max_steps + 1,), followed by inf (all inf
        under "backsolve", which can't keep them); whether it arrived.
    """
    import diffrax

    adjoints = {
        "recursive": diffrax.RecursiveCheckpointAdjoint,
        "direct": diffrax.DirectAdjoint,
        "backsolve": diffrax.BacksolveAdjoint,
    }
    ends = diffrax.SubSaveAt(t1=True)
    steps = diffrax.SubSaveAt(t0=True, steps=True, fn=lambda t, y, args: t)
    solution: Any = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: field(args, y, t)),
        solver(name),
        0.0,
        1.0,
        None,
        y,
        args,
        saveat=diffrax.SaveAt(t1=True) if adjoint == "backsolve" else diffrax.SaveAt(subs=[ends, steps]),
        stepsize_controller=diffrax.PIDController(rtol, rtol),
        adjoint=adjoints[adjoint](),
        max_steps=max_steps,
        throw=False,
    )
    arrived = solution.result == diffrax.RESULTS.successful
    if adjoint == "backsolve":
        end, times = solution.ys, jnp.full(max_steps + 1, jnp.inf)
    else:
        end, times = solution.ys[0], solution.ts[1]
    end = jax.tree.map(lambda leaf: jnp.where(arrived, leaf[0], jnp.nan), end)
    return end, times, arrived


SOLVERS = {
    "euler": _named("Euler"),
    "midpoint": _named("Midpoint"),
    "heun": _named("Heun"),
    "ralston": _named("Ralston"),
    "rk4": _rk4,
    "bosh3": _named("Bosh3"),
    "tsit5": _named("Tsit5"),
    "dopri5": _named("Dopri5"),
}
ADJOINTS = {"recursive": recursive, "direct": direct, "backsolve": backsolve, "reversible": reversible}
