"""Cost of a model: floating-point operations, by formula and by the compiler's count, and the share of a known peak."""

from collections.abc import Sequence
from typing import Any

from juliagpt_jax.ground import config
from juliagpt_jax.models import mixers, roles, tt
from juliagpt_jax.models.depth import adaptive, evaluations
from juliagpt_jax.models.parameters import paths, share_used

# Dense peaks in FLOP/s from the vendors' data sheets: (f32, f16 and bf16). NVIDIA's f32 products run without TF32 here.
PEAKS = {
    "NVIDIA A100": (19.5e12, 312e12),
    "NVIDIA H100": (67e12, 989e12),
    "NVIDIA H200": (67e12, 989e12),
    "NVIDIA L4": (30.3e12, 121e12),
    "Tesla T4": (8.1e12, 65e12),
    "Tesla V100": (15.7e12, 125e12),
}


def multiplied(model: config.Model, params: Any, schedule: Sequence[Sequence[float]] = ()) -> float:
    """Return how many parameters a forward pass multiplies with a token: each once, those of a block as often as its
    layer evaluates it, those of a tensor train's cores as often as it uses them, of experts those that a token goes
    through, without the padding of their blocks. What makes weights from time costs nothing a token. nan where the
    steps are adaptive."""
    if adaptive(model, schedule):
        return float("nan")
    often = [*evaluations(model, schedule), 1]  # the last for what is no layer's
    leaves = {path: leaf for path, leaf in paths(params).items() if roles.of(path).kind != "time"}
    each = lambda path, leaf: leaf.size * max(roles.of(path).counted, 1) * share_used(path, model)
    used = {path: each(path, leaf) for path, leaf in leaves.items()} | _of_trains(model, leaves)
    times = lambda layer: often[-1 if layer is None else layer]
    return sum(times(roles.layer(path)) * size for path, size in used.items())


def _of_trains(model: config.Model, leaves: dict[str, Any]) -> dict[str, float]:
    """The multiplications a token of each core of a tensor train."""
    found = {}
    cores = [path for path in leaves if roles.of(path).kind == "core"]
    for train in {path.rpartition("/")[0] for path in cores}:
        names = [f"{train}/core_{k}" for k in range(model.tt.cores)]
        often = tt.uses(model, [leaves[name].shape[-2:] for name in names])  # of experts each has its own
        size = lambda name: leaves[name].size * share_used(name, model)
        found |= {name: count * size(name) for name, count in zip(names, often, strict=True)}
    return found


def train_flops_per_token(
    model: config.Model, params: float, vocab: int, schedule: Sequence[Sequence[float]] = (), frozen: float = 0.0
) -> float:
    """6 N + 3 times what the mixers compute beside their Linears: a multiply-add is two operations, the backward pass
    costs twice the forward pass, attention is counted in full, 4 D T an evaluation forward (Chowdhery et al. 2022,
    arXiv 2204.02311, appendix B). N, `params`, is what `multiplied` counts, less what is only looked up: an untied
    embedding, learned positions. A sink token is one more token a window. Of what is `frozen`, as `multiplied` counts
    it, there are no gradients: 4 times. nan where the steps are adaptive."""
    if adaptive(model, schedule):
        return float("nan")
    lookup = 0 if model.tie else vocab * model.width
    sink = model.sink == "token"
    lookup += (model.context + sink) * model.width if model.positions == "learned" else 0
    often = evaluations(model, schedule)
    mixing = sum(count * flops for flops, count in zip(mixers.flops(model), often, strict=True))
    return (1 + sink / model.context) * (6.0 * (params - lookup) - 2.0 * max(0.0, frozen - lookup) + 3.0 * mixing)


def train_flops_per_pair(model: config.Model, params: Any, vocab: int, source: int, answer: int) -> float:
    """FLOPs of training a T5 on a source and an answer of so many tokens: 6 for each multiplication of the forward
    pass, as in `train_flops_per_token`; keys and values of the decoder's look at the source are made of its tokens."""
    met = vocab * model.width * answer  # the head
    for path, leaf in paths(params).items():
        if roles.of(path).matrix:
            read = path.startswith("encoder/") or any(f"/cross/{name}/" in path for name in ("key", "value"))
            met += leaf.size * (source if read else answer)
    inner = model.heads * (model.t5.head_width or model.width // model.heads)
    encoder = (model.t5.encoder_layers or model.layers) * source**2
    return 6.0 * (met + 2 * inner * (encoder + model.layers * answer * (answer + source)))


def compiled_flops(compiled: Any, repeats: int = 1, model: config.Model | None = None) -> float:
    """The compiler's own count for one call, nan where it keeps none. XLA counts the body of a loop once: with a loop
    of micro-batches pass their number as `repeats` (the optimizer's share is then counted that often too, well below
    1%); of a model with other loops, over the steps of an ODE, over cycles, over layers or within a mixer, it says
    nothing."""
    if model is not None and (model.has_ode or model.scan_layers or mixers.loops(model) or model.kind == "recursive"):
        return float("nan")
    analysis: Any = compiled.cost_analysis()
    analysis = analysis[0] if isinstance(analysis, list) and analysis else analysis
    return float(analysis["flops"]) * repeats if analysis and "flops" in analysis else float("nan")


def memory_bytes(compiled: Any) -> float:
    """Memory that a program needs in all on one device, by its compiler: for what it is given, what it gives back
    elsewhere, and what it computes in between; nan where the compiler does not say."""
    memory = compiled.memory_analysis()
    if memory is None:
        return float("nan")
    given = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return float(given + memory.temp_size_in_bytes)


def peak_flops(device_kind: str, precision: str) -> float:
    """The data-sheet peak of a device in FLOP/s, nan where it is not known (every CPU: see the benchmark command)."""
    for name, (f32, f16) in PEAKS.items():
        if device_kind.startswith(name):
            return f32 if precision == "f32" else f16
    return float("nan")
