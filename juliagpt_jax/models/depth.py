"""Depths: the ways in which a layer uses its block.

`model.depth` names a kind for each layer, repeated like the mixers: "stack" is a transformer, "ode" a model whose every
layer is an ODE, "stack ode stack" one ODE between two plain blocks, "recursive" uses a block on two states in turn. A
kind says what parameters a layer has, how often it evaluates its block (each evaluation has a cache of its own), and
runs it.

The block comes detached, a pure function (params, x, positions, cache, keys, start) -> (x, cache, aux), so
`jax.checkpoint`, `jax.lax.scan`, `jax.vmap` and diffrax take it as it is. `keys` are Flax's random keys, {} without
dropout; `start` is what the first layer was given, None where the mixer does not ask for it. What a block has to say,
`aux`, is a dict of floating-point arrays; that of a layer is the sum over its evaluations.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs import model as knobs
from juliagpt_jax.models import fields, ode

Aux = dict[str, Any]
Block = Callable[[Any, jax.Array, jax.Array, Any, dict[str, jax.Array], Any], tuple[jax.Array, Any, Aux]]


@dataclasses.dataclass(frozen=True)
class Stack:
    """The block, once: as in every transformer.

    Attributes:
        model: the model's config.
        times: those of an ODE's steps, 0 .. 1; () for those of the config, and here.
        energy: an ODE measures its kinetic energy.
    """

    model: knobs.Model
    times: Sequence[float] = ()
    energy: bool = False
    residual: ClassVar[bool] = True  # the block adds its input to what it gives

    def init(self, key: jax.Array, params: Any) -> Any:
        """Return the layer's parameters, from those of its block."""
        return params

    @property
    def blocks_worth(self) -> float:
        """The number of plain blocks that add as much to the residual stream, for the scale of the initial weights."""
        return 1.0

    @property
    def evaluations(self) -> int:
        """The number of times that the block is evaluated, and so of caches that the layer has."""
        return 1

    def run(
        self,
        block: Block,
        params: Any,
        x: jax.Array,
        positions: jax.Array,
        caches: Sequence[Any] | None,
        keys: dict[str, jax.Array],
        start: jax.Array | None = None,
    ) -> tuple[jax.Array, Sequence[Any], Aux]:
        """Return x after the layer, the continued caches, () without any, and what there is to say of it."""
        x, cache, aux = block(params, x, positions, caches[0] if caches else None, keys, start)
        return x, (cache,) if caches else (), aux


@dataclasses.dataclass(frozen=True)
class Recursive(Stack):
    """The block g again and again on two states of each token, as a tiny recursive model does (`recursive.py`): a low
    one, which begins as x and is thrown away, and a high one, which begins at 0 and is added to x. T times:

        n times:  low = low + g(high + low);    then once:  high = high + g(high + low)

    n is `recursive.inner` and T `recursive.outer`. With n = 0, T = 1 is a plain block and a larger T the same block T
    times. The gradient goes through all of it; there is one dropout mask for all
    evaluations. What a whole puzzle has besides, supervision at each step and halting, has no place in a text that is
    written token by token: every token would need its own number of steps, and the keys of all of them.
    """

    residual: ClassVar[bool] = False

    @property
    def blocks_worth(self) -> float:
        return float(self.model.recursive.outer)

    @property
    def evaluations(self) -> int:
        return self.model.recursive.outer * (self.model.recursive.inner + 1)

    def run(
        self,
        block: Block,
        params: Any,
        x: jax.Array,
        positions: jax.Array,
        caches: Sequence[Any] | None,
        keys: dict[str, jax.Array],
        start: jax.Array | None = None,
    ) -> tuple[jax.Array, Sequence[Any], Aux]:
        own, continued, said = self.model.recursive, [], []

        def g(given: jax.Array) -> jax.Array:
            change, cache, aux = block(
                params, given, positions, caches[len(continued)] if caches else None, keys, start
            )
            continued.append(cache)
            said.append(aux)
            return change

        high, low = jnp.zeros_like(x), x
        for _ in range(own.outer):
            for _ in range(own.inner):
                low = low + g(high + low)
            high = high + g(high + low)
        aux = jax.tree.map(lambda *values: sum(values[1:], values[0]), *said)
        return x + high, tuple(continued) if caches else (), aux


@dataclasses.dataclass(frozen=True)
class ODE(Stack):
    """dx/dt = ode.speed * (what the block adds to x), from t = 0 to t = 1. See `ode.py`.

    The schedule is `times`, or without any `ode.steps` equal steps; with `ode.rtol` above 0 and no times the solve is
    adaptive. Its state is float32 at least, so that many small steps add up; the block computes in the dtype of x.
    Dropout has one mask for all evaluations: the field is the same everywhere on the way.

    What the block has to say is solved beside x, d aux/dt = ode.speed * (the block's aux): under Euler with as many
    steps as `ode.speed` that is the sum over its evaluations, as in a stack. So it has a gradient under every adjoint;
    under a tolerance the step size heeds its error, too.
    """

    residual: ClassVar[bool] = False

    def init(self, key: jax.Array, params: Any) -> Any:
        time = fields.TIMES[self.model.ode.time].init(jax.random.fold_in(key, 1), params, self.model)
        return params | ({"time": time} if time else {})

    @property
    def blocks_worth(self) -> float:
        return self.model.ode.speed

    @property
    def evaluations(self) -> int:
        model, times = self.model, self.times
        if not times and model.ode.rtol:
            raise UserError(
                "an adaptive ODE has no cache, since its steps look ahead: decode on a schedule "
                "(--ode_rtol or --ode_steps)"
            )
        steps = len(times) - 1 if times else model.ode.steps
        return steps * ode.tableau(model.ode.solver).stages * (2 if model.ode.adjoint == "reversible" else 1)

    def run(
        self,
        block: Block,
        params: Any,
        x: jax.Array,
        positions: jax.Array,
        caches: Sequence[Any] | None,
        keys: dict[str, jax.Array],
        start: jax.Array | None = None,
    ) -> tuple[jax.Array, Sequence[Any], Aux]:
        """Solve the layer, for the results that a stack gives; without caches aux has the `Solve` as "ode"."""
        model, times = self.model, self.times
        wide = jnp.promote_types(x.dtype, jnp.float32)
        energy = self.energy and not caches
        continued = []

        def field(args, y, t):
            weights, shift = fields.TIMES[model.ode.time].at(args["weights"], args["time"], t)
            given = (y[0] + jnp.reshape(shift, (1, 1, -1))).astype(x.dtype)
            cache = caches[len(continued)] if caches else None
            change, cache, aux = block(weights, given, args["positions"], cache, args["keys"], args["start"])
            continued.append(cache)
            change = model.ode.speed * change.astype(wide)
            said = [model.ode.speed * value.astype(wide) for value in jax.tree.leaves(aux)]
            return change, *([jnp.mean(change * change)] if energy else []), *said

        args = {
            "weights": {name: leaf for name, leaf in params.items() if name != "time"},
            "time": params.get("time", {}),
            "positions": positions,
            "keys": {name: key for name, key in keys.items() if name != "steps"},
            "start": start,
        }
        grid = times or [i / model.ode.steps for i in range(model.ode.steps + 1)]
        solver, adjoint = model.ode.solver, model.ode.adjoint
        silence, structure = self._silence(block, args, x, caches)
        y = x.astype(wide)
        y = y, *([jnp.mean(0 * y)] if energy else []), *silence  # diffrax wants no empty branches in its state
        if caches:
            y, *said = ode.unrolled(field, solver, args, y, grid, adjoint == "reversible")
            return y.astype(x.dtype), tuple(continued), jax.tree.unflatten(structure, said)

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
        y, *said = y
        spent = said.pop(0) if energy else jnp.zeros((), wide)
        return y.astype(x.dtype), (), jax.tree.unflatten(structure, said) | {"ode": ode.Solve(grid, arrived, spent)}

    def _silence(self, block: Block, args: Any, x: jax.Array, caches: Any) -> tuple[list[jax.Array], Any]:
        """Zeros of the shapes of a block's aux, float32 at least, and its structure.

        Raises:
            UserError: something in it cannot be added up over time.
        """
        cache = caches[0] if caches else None
        given = args["weights"], x, args["positions"], cache, args["keys"], args["start"]
        _, _, shapes = jax.eval_shape(block, *given)
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                name = jax.tree_util.keystr(path, simple=True, separator="/")
                raise UserError(
                    f"config.model.depth: an ODE adds up over time what its block has to say, and {name} is "
                    f"{leaf.dtype}: only floating-point numbers can be"
                )
        wide = jnp.promote_types(x.dtype, jnp.float32)
        leaves, structure = jax.tree.flatten(shapes)
        return [jnp.zeros_like(x, wide, leaf.shape) for leaf in leaves], structure


def layers(model: knobs.Model, schedule: Sequence[Sequence[float]] = (), energy: bool = False) -> list[Stack]:
    """Return each layer by its kind, of DEPTHS.

    Args:
        schedule: for each layer the times of an ODE's steps; () for all as configured.
        energy: ODEs measure their kinetic energy.
    """
    schedule = schedule or ((),) * model.layers
    words = model.by_layer(model.depth)
    return [DEPTHS[word](model, times, energy) for word, times in zip(words, schedule, strict=True)]


def evaluations(model: knobs.Model, schedule: Sequence[Sequence[float]] = ()) -> list[int]:
    """Return how often each layer evaluates its block.

    Raises:
        UserError: a layer is an adaptive ODE, whose steps are not known beforehand.
    """
    return [layer.evaluations for layer in layers(model, schedule)]


def adaptive(model: knobs.Model, schedule: Sequence[Sequence[float]] = ()) -> bool:
    """Some layer's steps follow a tolerance, so that tokens see ahead."""
    return model.ode.rtol > 0 and not schedule and model.has_ode


DEPTHS = {"stack": Stack, "ode": ODE, "recursive": Recursive}
