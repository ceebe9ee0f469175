"""The memory that a training step needs on a device, told from its program before it is compiled.

What a step is given is known exactly. What it computes in between is told by going through the traced program in its
order and keeping, as a compiler does, each result until its last use: those of matrix products, sums, loops and the
like. What is computed element by element is taken to be fused into what uses it, and keeps alive what it is made of,
unless several things use it.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.interpreters import partial_eval

from juliagpt_jax.data.batch import Batch
from juliagpt_jax.ground import config, devices, memory
from juliagpt_jax.models.build import build_model
from juliagpt_jax.objectives.build import build_objective
from juliagpt_jax.objectives.recursive import Offer
from juliagpt_jax.training.mesh import make_mesh, shardings
from juliagpt_jax.training.state import Frozen, TrainState, initial_state, places
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
# ... and among it what costs so much that it is not computed in each of several places that read it.
DEAR = frozenset("exp exp2 log log1p expm1 tanh logistic erf pow sqrt rsqrt cbrt sin cos div atan2 rem".split())
VIEWS = ("reshape", "squeeze", "expand_dims")  # the same bytes, where these are an array's
CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # where a call that is no loop has its program
LOOPS = ("scan", "while", "cond")  # whose programs have their own memory
# Threefry makes two arrays of words, of which random bits are mixed where they are read. On a processor it is a loop,
# which holds two more; and the numbers that it begins with, two again, are made before any loop that it stands in.
RANDOM, WORDS = "random_bits", 2


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


def of(program: core.Jaxpr, state: TrainState, batch: Batch, frozen: Frozen, mesh: jax.sharding.Mesh) -> Footprint:
    """Return what a traced train step needs on a device.

    Args:
        program: that of `make_train_step(...).trace(state, batch, frozen)`.
        state, batch, frozen: these, or their shapes.
    """
    placed, rows = places(state, mesh), math.prod(mesh.shape[axis] for axis in devices.BATCH)
    params = nbytes(state.params, placed.params) + nbytes(frozen, shardings(frozen, mesh))
    kept = nbytes(state, placed) - nbytes(state.params, placed.params)
    trained = {leaf.shape: nbytes(leaf, place) / nbytes(leaf) for leaf, place in _pairs(state.params, placed.params)}
    # Where devices run their own rows, the program has what one of them sees; else the compiler cuts it by rows.
    alone = _has(program, "shard_map")
    share = lambda shape: trained.get(shape, 1.0 if alone else 1 / rows)
    found = working(program, len(jax.tree.leaves(state)), share)
    if mesh.size == 1 and not _has(program, "scan"):
        found += params + kept  # of a program without a loop the compiler lays the new state beside the old one
    return Footprint(params, kept, nbytes(batch) // rows, found)


def nbytes(tree: Any, places: Any = None) -> int:
    """Return the bytes of arrays, or of the part of each that one device has."""
    if places is None:
        return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
    return sum(math.prod(place.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf, place in _pairs(tree, places))


def _pairs(tree: Any, places: Any) -> Any:
    return zip(jax.tree.leaves(tree), jax.tree.leaves(places), strict=True)


def says(found: Footprint, settings: config.Config, mesh: jax.sharding.Mesh, room: int) -> str:
    """Say what a run needs, and what helps where that is more than there is.

    Args:
        room: bytes that a device has for it; 0: nobody knows.
    """
    size = lambda count: f"{count / 1e9:.2f}" if count > 1e7 else f"{count / 1e9:.4f}"
    parts = f"parameters {size(found.params)}, optimizer {size(found.optimizer)}"
    each = " on each device" if mesh.size > 1 else ""
    text = (
        f"this run needs about {size(found.total)} GB{each}: {parts}, gradients and activations {size(found.working)}"
    )
    if not room or found.total < room:
        return text
    train, rows = settings.train, math.prod(mesh.shape[axis] for axis in devices.BATCH)
    ways = []
    if train.batch_size // train.accumulate > rows:
        ways.append(f"--config.train.accumulate={2 * train.accumulate} halves the activations")
    if not train.remat and settings.model.kind != "t5":  # which keeps all
        loop = settings.model.scan_layers or settings.model.kind == "recursive"  # whose inner steps are one with remat
        also = "" if loop else " with --config.model.scan_layers=true"
        ways.append(f"--config.train.remat=true{also} keeps few of them")
    if len(jax.devices()) > mesh.shape["model"] * mesh.shape["fsdp"]:
        ways.append(f"--config.mesh.fsdp={len(jax.devices()) // mesh.shape['model']} cuts the state over the devices")
    ways.append("adapters train few parameters of a model that is there")
    return f"{text}; there is room for {size(room)}. {'; '.join(ways)}"


def room() -> int:
    """Return the bytes that a device has for a run: what an accelerator says, or the free memory of this machine, which
    its devices share; 0 where neither is known."""
    stats = jax.local_devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    if stats:
        return int(stats.get("bytes_limit", 0))
    return memory.free() // len(jax.local_devices())


def working(program: core.Jaxpr, kept: int, share: Any = lambda shape: 1.0) -> int:
    """Return the most bytes that results of a program take at one time, beside what it is given.

    Args:
        kept: so many of its first results take the places of what it is given.
        share: share(shape) of an array that one device computes.
    """
    program, _ = partial_eval.dce_jaxpr(program, [True] * len(program.outvars))  # as the compiler does
    return round(_peak(_flat(program), kept, share))


class _Line(NamedTuple):
    """A computation: its name, what it reads and gives, and the programs inside it."""

    name: str
    reads: list[Any]
    gives: list[Any]
    inside: Sequence[core.Jaxpr] = ()
    kept: int = 0  # of a loop: what it carries round, in the places of what it begins with


def _flat(program: core.Jaxpr) -> tuple[list[_Line], list[Any]]:
    """Return the lines of a program with those of plain calls among them, and its results.

    As the compiler does, it takes a loop of one round for what stands in it, and computes once what is computed twice
    of the same: on a processor even what `jax.checkpoint` computes again, which there lies in memory until then.
    """
    lines: list[_Line] = []
    again: dict[Any, list[Any]] = {}  # what a computation gives, by all that it depends on
    joins = _on_processor()

    def walk(jaxpr: core.Jaxpr, known: dict[Any, Any], part: Any) -> list[Any]:
        look = lambda atom: None if isinstance(atom, core.Literal) else known.setdefault(atom, (atom, object()))
        for equation in jaxpr.eqns:
            name, inside = equation.primitive.name, _inside(equation)
            name = "reshape" if name == "concatenate" and len(equation.invars) == 1 else name
            reads = [look(atom) for atom in equation.invars]
            if inside and (name not in LOOPS or equation.params.get("length") == 1):
                (called,) = inside[:1]
                own = dict(zip(called.invars, reads[len(reads) - len(called.invars) :], strict=True))
                apart = equation.params.get("differentiated") and equation.params.get("prevent_cse") and not joins
                results = walk(called, own, object() if apart else part)
                known |= dict(zip(equation.outvars, results, strict=False))
                continue
            same = None if inside else _same(equation, name, reads, part)
            if same in again:
                known |= dict(zip(equation.outvars, again[same], strict=True))
                continue
            gives = [look(atom) for atom in equation.outvars]
            if same is not None:
                again[same] = gives
            carried = equation.params.get("num_carry", len(gives) if name == "while" else 0)
            lines.append(_Line(name, [r for r in reads if r], gives, inside, carried))
        return [look(atom) for atom in jaxpr.outvars]

    return lines, walk(program, {}, None)


def _same(equation: Any, name: str, reads: list[Any], part: Any) -> Any:
    """Return what two computations have in common that give the same, None where that cannot be told."""
    given = []
    for atom, read in zip(equation.invars, reads, strict=True):
        if isinstance(atom, core.Literal) and not np.ndim(atom.val):
            given.append((str(atom.val), str(atom.aval)))
        elif read is None:  # a number that stands outside, where this program is called
            return None
        else:
            given.append(read)
    key = (name, part, tuple(given), tuple(sorted(equation.params.items(), key=lambda pair: pair[0])))
    try:
        hash(key)
    except TypeError:
        return None
    return None if equation.effects else key


def _has(program: core.Jaxpr, name: str) -> bool:
    each = program.eqns
    return any(one.primitive.name == name or any(_has(inside, name) for inside in _inside(one)) for one in each)


def _inside(equation: Any) -> list[core.Jaxpr]:
    found = []
    for key, value in equation.params.items():
        for one in value if isinstance(value, tuple | list) else [value]:
            if isinstance(one, core.ClosedJaxpr):
                found.append(one.jaxpr)
            elif isinstance(one, core.Jaxpr) and key in CALLS:
                found.append(one)
    return found


def _peak(flat: tuple[list[_Line], list[Any]], kept: int, share: Any) -> float:
    """Return the most bytes that are alive at one line, those inside its loops included."""
    lines, results = flat
    made: dict[Any, frozenset[Any]] = {}  # what a fused result is made of: the arrays that live in its place
    whole = _whole(lines, results)
    born: dict[Any, int] = {}
    dies: dict[Any, int] = {}
    size: dict[Any, float] = {}
    fed = {read for line in lines if line.name == "dot_general" for read in line.reads}
    for i, line in enumerate(lines):
        sources = frozenset[Any]().union(*(made.get(read, frozenset([read])) for read in line.reads))
        dies |= dict.fromkeys(sources, i)
        for n, give in enumerate(line.gives):
            view = line.name in VIEWS and made.keys().isdisjoint(line.reads) and not _halves(give)
            if line.name in FUSED and (view or give not in whole):
                made[give] = sources
                continue
            # What a loop carries is born when the loop has ended: it lies where what it began with lay.
            born[give] = i + (n < line.kept)
            size[give] = _bytes(give, share)
            if line.name == RANDOM and _on_processor():
                size[give] *= WORDS
            elif _halves(give) and (
                give in fed or line.name == "dot_general" or (line.name == "scan" and n >= line.kept)
            ):
                size[give] *= 2  # as float32
            dies[give] = max(i, born[give])
    for result in results:
        if result:
            dies |= dict.fromkeys(made.get(result, frozenset([result])), len(lines))
    for result in results[:kept]:
        size[result] = 0.0
    change = [0.0] * (len(lines) + 2)
    for give, at in born.items():
        change[at] += size[give]
        change[dies[give] + 1] -= size[give]
    live = most = 0.0
    for i, line in enumerate(lines):
        live += change[i]
        inside = [_flat(one) for one in line.inside]
        own = max((_peak(one, line.kept, share) for one in inside), default=0.0)
        if _on_processor():
            own += size[line.gives[0]] if line.name == RANDOM else sum(_numbers(one, share) for one in inside)
        most = max(most, live + own)
    return most


def _on_processor() -> bool:
    return jax.default_backend() == "cpu"


def _bytes(result: Any, share: Any) -> float:
    aval = result[0].aval
    return math.prod(aval.shape) * getattr(aval.dtype, "itemsize", 4) * share(aval.shape)


def _halves(result: Any) -> bool:
    """Tell whether a result has numbers of 16 bits that a processor multiplies as float32, and stacks so, too."""
    dtype = result[0].aval.dtype
    return _on_processor() and jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize == 2


def _numbers(body: tuple[list[_Line], list[Any]], share: Any) -> float:
    """Return the bytes of what random bits in a loop begin with: of each shape once."""
    found = {line.gives[0][0].aval.shape: line.gives[0] for line in body[0] if line.name == RANDOM}
    return sum((WORDS * _bytes(bits, share) for bits in found.values()), 0.0)


def _whole(lines: list[_Line], results: list[Any]) -> set[Any]:
    """Return the results that are arrays of their own.

    Those are what something reads that takes nothing in, and what several fusions read: it is computed in each of them
    again only where it is made of one array, and cheap.
    """
    whole = {read for line in lines if line.name not in FUSED for read in line.reads} | {r for r in results if r}
    into: dict[Any, set[int]] = {}  # the fusions that take a result in, by the line of their last result
    for i in range(len(lines) - 1, -1, -1):
        line = lines[i]
        if line.name not in FUSED:
            continue
        (give,) = line.gives
        roots = into.get(give, set())
        arrays = {read for read in line.reads if math.prod(read[0].aval.shape) > 1}
        if give in whole or (len(roots) > 1 and (len(arrays) > 1 or line.name in DEAR)):
            whole.add(give)
            roots = {i}
        for read in line.reads:
            into.setdefault(read, set()).update(roots)
    return whole


def with_micro_batches(settings: config.Config) -> config.Config:
    """Return a config with the number of micro-batches that suits the device, where it leaves that open."""
    micro = devices.micro_batches(settings.train.accumulate, settings.train.batch_size, settings.model.context)
    return dataclasses.replace(settings, train=dataclasses.replace(settings.train, accumulate=micro))


def stepped(settings: config.Config, vocab: int, mesh: jax.sharding.Mesh | None = None) -> tuple[Any, Any, Any]:
    """Return the jitted train step of a config that has no files, its first state and its batch, as shapes.

    Args:
        vocab: of its tokenizer.
        mesh: the devices; None for those of the config.
    """
    settings = with_micro_batches(settings)
    model, mesh = build_model(settings, vocab), mesh or make_mesh(settings)
    objective = build_objective(settings, model)
    state = jax.eval_shape(lambda: initial_state(settings, model, memo=objective.memo()))
    rows = jax.ShapeDtypeStruct((settings.train.batch_size, settings.model.context), np.int32)
    batch = Batch(rows, rows)
    if settings.model.kind == "recursive":
        one = jax.ShapeDtypeStruct(rows.shape[:1], np.int32)
        batch = Batch(rows, rows, extra=Offer(one, one))
    return make_train_step(settings, model, mesh, objective, state, Frozen(own=objective.frozen())), state, batch
