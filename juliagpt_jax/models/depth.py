"""How a layer uses its block.

`model.depth` names a kind for each layer, repeated like the mixers: "stack" is a transformer, "ode" a model whose every
layer is an ODE, "stack ode stack" one ODE between two plain blocks. A kind says what parameters a layer has, how often
it evaluates its block (each evaluation has a cache of its own), and runs it.

The block comes detached, a pure function (params, x, positions, cache, keys) -> (x, cache), so `jax.checkpoint`,
`jax.lax.scan`, `jax.vmap` and diffrax take it as it is. `keys` are Flax's random keys, {} without dropout.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models import fields, ode

Block = Callable[[Any, jax.Array, jax.Array, Any, dict[str, jax.Array]], tuple[jax.Array, Any]]


class Stack:
    """The block, once: as in every transformer."""

    residual = True  # the block adds its input to what it gives

    @staticmethod
    def init(key: jax.Array, params: Any, model: config.Model) -> Any:
        """The layer's parameters, from those of its block."""
        return params

    @staticmethod
    def blocks_worth(model: config.Model) -> float:
        """How many plain blocks add as much to the residual stream, for the scale of the initial weights."""
        return 1.0

    @staticmethod
    def evaluations(model: config.Model, times: Sequence[float]) -> int:
        """How often the block is evaluated, and so how many caches the layer has."""
        return 1

    @staticmethod
    def run(
        block: Block,
        params: Any,
        x: jax.Array,
        positions: jax.Array,
        caches: Sequence[Any] | None,
        keys: dict[str, jax.Array],
        model: config.Model,
        times: Sequence[float],
        energy: bool,
    ) -> tuple[jax.Array, Any]:
        """x after the layer and the continued caches; without caches in their place what there is to say of it."""
        x, cache = block(params, x, positions, caches[0] if caches else None, keys)
        return x, (cache,) if caches else None


class ODE:
    """dx/dt = ode_speed * (what the block adds to x), from t = 0 to t = 1. See `ode.py`.

    The schedule is `times`, or without any `ode_steps` equal steps; with `ode_rtol` above 0 and no times the solve is
    adaptive. Its state is float32 at least, so that many small steps add up; the block computes in the dtype of x.
    Dropout has one mask for all evaluations: the field is the same everywhere on the way.
    """

    residual = False

    @staticmethod
    def init(key: jax.Array, params: Any, model: config.Model) -> Any:
        time = fields.TIMES[model.ode.time].init(jax.random.fold_in(key, 1), params, model)
        return params | ({"time": time} if time else {})

    @staticmethod
    def blocks_worth(model: config.Model) -> float:
        return model.ode.speed

    @staticmethod
    def evaluations(model: config.Model, times: Sequence[float]) -> int:
        if not times and model.ode.rtol:
            raise UserError(
                "an adaptive ODE has no cache, since its steps look ahead: decode on a schedule "
                "(--ode_rtol or --ode_steps)"
            )
        steps = len(times) - 1 if times else model.ode.steps
        return steps * ode.tableau(model.ode.solver).stages * (2 if model.ode.adjoint == "reversible" else 1)

    @staticmethod
    def run(
        block: Block,
        params: Any,
        x: jax.Array,
        positions: jax.Array,
        caches: Sequence[Any] | None,
        keys: dict[str, jax.Array],
        model: config.Model,
        times: Sequence[float],
        energy: bool,
    ) -> tuple[jax.Array, Any]:
        wide = jnp.promote_types(x.dtype, jnp.float32)
        continued = []

        def slope(args, x_t, t):
            weights, shift = fields.TIMES[model.ode.time].at(args["weights"], args["time"], t)
            given = (x_t + jnp.reshape(shift, (1, 1, -1))).astype(x.dtype)
            cache = caches[len(continued)] if caches else None
            change, cache = block(weights, given, args["positions"], cache, args["keys"])
            continued.append(cache)
            return model.ode.speed * change.astype(wide)

        def with_energy(args, y, t):
            change = slope(args, y[0], t)
            return change, jnp.mean(change * change)

        args = {
            "weights": {name: leaf for name, leaf in params.items() if name != "time"},
            "time": params.get("time", {}),
            "positions": positions,
            "keys": {name: key for name, key in keys.items() if name != "steps"},
        }
        grid = times or [i / model.ode.steps for i in range(model.ode.steps + 1)]
        solver, adjoint = model.ode.solver, model.ode.adjoint
        if caches:
            y = ode.unrolled(slope, solver, args, x.astype(wide), grid, adjoint == "reversible")
            return y.astype(x.dtype), tuple(continued)

        field, y = slope, x.astype(wide)
        if energy:
            field, y = with_energy, (y, jnp.mean(0 * y))
        if model.ode.rtol and not times:
            y, grid, arrived = ode.adaptive(field, solver, args, y, model.ode.rtol, model.ode.max_steps, adjoint)
        else:
            grid, arrived = jnp.asarray(grid, wide), jnp.array(True)
            if "steps" in keys:
                count = jax.random.randint(keys["steps"], (), model.ode.min_steps, model.ode.steps + 1)
                grid = jnp.minimum(jnp.arange(model.ode.steps + 1, dtype=wide) / count, 1)
                args[ode.RANDOM] = count
            # Times are given for evaluation, which needs no gradient; diffrax's backsolve wants equal steps.
            way = "direct" if times and adjoint == "backsolve" else adjoint
            y = ode.ADJOINTS[way](field, solver, args, y, grid)
        y, spent = y if energy else (y, jnp.zeros((), wide))
        return y.astype(x.dtype), ode.Solve(grid, arrived, spent)


def layers(model: config.Model) -> list[type]:
    """The kind of each layer, of DEPTHS."""
    words = model.depth.split()
    return [DEPTHS[words[i % len(words)]] for i in range(model.layers)]


def evaluations(model: config.Model, schedule: Sequence[Sequence[float]] = ()) -> list[int]:
    """How often each layer evaluates its block.

    Raises:
        UserError: a layer is an adaptive ODE, whose steps are not known beforehand.
    """
    schedule = schedule or ((),) * model.layers
    return [kind.evaluations(model, times) for kind, times in zip(layers(model), schedule, strict=True)]


def adaptive(model: config.Model, schedule: Sequence[Sequence[float]] = ()) -> bool:
    """Whether some layer's steps follow a tolerance, so that tokens see ahead."""
    return model.ode.rtol > 0 and not schedule and model.has_ode


DEPTHS = {"stack": Stack, "ode": ODE}
