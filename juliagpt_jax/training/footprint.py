"""The memory that a training step needs on a device, told from its program before it is compiled.

What a step is given is known exactly. What it computes in between is told by going through the traced program in its
order and keeping, as a compiler does, each result until its last use: those of matrix products, sums, loops and the
like. What is computed element by element is taken to be fused into what uses it, and keeps alive what it is made of.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from juliagpt_jax.data.batch import Batch
from juliagpt_jax.ground import config, devices
from juliagpt_jax.models.build import build_model
from juliagpt_jax.objectives.build import build_objective
from juliagpt_jax.objectives.recursive import Offer
from juliagpt_jax.training.mesh import make_mesh
from juliagpt_jax.training.state import Frozen, initial_state
from juliagpt_jax.training.step import make_train_step

# Computed element by element, or only another view: no array of its own where every use can take it in.
FUSED = frozenset(
    """add sub mul div neg sign abs max min exp exp2 log log1p expm1 tanh logistic sqrt rsqrt pow integer_pow square erf
    sin cos floor ceil round is_finite and or not xor eq ne lt le gt ge select_n convert_element_type
    bitcast_convert_type
    broadcast_in_dim reshape squeeze expand_dims iota stop_gradient clamp nextafter rem atan2 transpose slice rev pad
    shift_left shift_right_logical shift_right_arithmetic copy pvary pcast optimization_barrier name
    dynamic_slice mul_add cbrt population_count real imag reduce_precision copy_p""".split()
)
CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # where a call that is no loop has its program


class Footprint(NamedTuple):
    """Bytes on one device.

    Attributes:
        params: the trained parameters and what is frozen beside them.
        optimizer: all else that a checkpoint keeps.
        batch: tokens.
        working: gradients, activations and what else is computed in a step.
    """

    params: int
    optimizer: int
    batch: int
    working: int

    @property
    def total(self) -> int:
        """Return the bytes in all."""
        return sum(self)


def nbytes(tree: Any, places: Any = None) -> int:
    """Return the bytes of arrays, or of the part of each that one device has."""
    if places is None:
        return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(places), strict=True)
    return sum(math.prod(place.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf, place in pairs)


def working(program: core.Jaxpr, share: Any = lambda shape: 1.0) -> int:
    """Return the most bytes that results of a program take at one time, beside what it is given.

    Args:
        share: share(shape) of an array that one device computes.
    """
    return round(_peak(_flat(program), set(), share))


class _Line(NamedTuple):
    """A computation: its name, what it reads and gives, and the programs inside it."""

    name: str
    reads: list[Any]
    gives: list[Any]
    inside: Sequence[core.Jaxpr] = ()


def _flat(program: core.Jaxpr) -> tuple[list[_Line], list[Any]]:
    """Return the lines of a program with those of plain calls among them, and its results."""
    lines: list[_Line] = []

    def walk(jaxpr: core.Jaxpr, known: dict[Any, Any]) -> list[Any]:
        look = lambda atom: None if isinstance(atom, core.Literal) else known.setdefault(atom, (atom, object()))
        for equation in jaxpr.eqns:
            name, inside = equation.primitive.name, _inside(equation)
            reads = [look(atom) for atom in equation.invars]
            if inside and name not in ("scan", "while", "cond"):
                (called,) = inside[:1]
                own = dict(zip(called.invars, reads[len(reads) - len(called.invars) :], strict=True))
                results = walk(called, own)
                known |= dict(zip(equation.outvars, results, strict=False))
                continue
            gives = [look(atom) for atom in equation.outvars]
            lines.append(_Line(name, [r for r in reads if r], gives, inside))
        return [look(atom) for atom in jaxpr.outvars]

    return lines, walk(program, {})


def _inside(equation: Any) -> list[core.Jaxpr]:
    found = []
    for key, value in equation.params.items():
        for one in value if isinstance(value, tuple | list) else [value]:
            if isinstance(one, core.ClosedJaxpr):
                found.append(one.jaxpr)
            elif isinstance(one, core.Jaxpr) and key in CALLS:
                found.append(one)
    return found


def _peak(flat: tuple[list[_Line], list[Any]], given: set[Any], share: Any) -> float:
    lines, results = flat
    # What a fused line is made of: the arrays that live in its place.
    made: dict[Any, frozenset[Any]] = {}
    uses: dict[Any, int] = {}
    for line in lines:
        for read in line.reads:
            uses[read] = uses.get(read, 0) + 1
    kept = {read for line in lines if line.name not in FUSED for read in line.reads} | {r for r in results if r}
    born, dies, size = {}, {}, {}
    for i, line in enumerate(lines):
        sources = frozenset().union(*(made.get(read, frozenset([read])) for read in line.reads))
        for source in sources:
            dies[source] = i
        for give in line.gives:
            variable = give[0]
            if line.name in FUSED and give not in kept:
                made[give] = sources
                continue
            born[give] = i
            size[give] = math.prod(variable.aval.shape) * _itemsize(variable.aval) * share(variable.aval.shape)
            dies.setdefault(give, i)
    for result in results:
        if result:
            for source in made.get(result, frozenset([result])):
                dies[source] = len(lines)
    starts: dict[int, float] = {}
    ends: dict[int, float] = {}
    for give, at in born.items():
        starts[at] = starts.get(at, 0) + size[give]
        ends[dies[give]] = ends.get(dies[give], 0) + size[give]
    live = most = 0.0
    for i, line in enumerate(lines):
        live += starts.get(i, 0)
        inside = max((_peak(_flat(one), set(), share) for one in line.inside), default=0.0)
        most = max(most, live + inside)
        live -= ends.get(i, 0)
    return most


def _itemsize(aval: Any) -> int:
    return getattr(aval.dtype, "itemsize", 4)


def stepped(settings: config.Config, vocab: int, mesh: jax.sharding.Mesh | None = None) -> tuple[Any, Any, Any]:
    """Return the jitted train step of a config that has no files, its first state and its batch, as shapes.

    Args:
        vocab: of its tokenizer.
        mesh: the devices; None for those of the config.
    """
    micro = devices.micro_batches(settings.train.accumulate, settings.train.batch_size, settings.model.context)
    settings = dataclasses.replace(settings, train=dataclasses.replace(settings.train, accumulate=micro))
    model, mesh = build_model(settings, vocab), mesh or make_mesh(settings)
    objective = build_objective(settings, model)
    state = jax.eval_shape(lambda: initial_state(settings, model, memo=objective.memo()))
    rows = jax.ShapeDtypeStruct((settings.train.batch_size, settings.model.context), np.int32)
    batch = Batch(rows, rows)
    if settings.model.kind == "recursive":
        one = jax.ShapeDtypeStruct(rows.shape[:1], np.int32)
        batch = Batch(rows, rows, extra=Offer(one, one))
    return make_train_step(settings, model, mesh, objective, state, Frozen(own=objective.frozen())), state, batch
