"""Knobs of the architecture: `config.model`."""

import dataclasses

from juliagpt_jax.ground.knobs import limits

# Of the model, and yet no finished one has them: how it is trained, and how its layers are compiled.
OF_TRAINING = ("model.dropout", "model.dropout_on", "model.word_dropout", "model.scan_layers")

PASSAGE = 2**20  # positions from a passage of a packed row to the next one
START = 0  # the id that an answer of a T5 begins behind: its padding, <bos> of the tokenizers that are learned here
ABSENT = -1  # in what a T5 reads: nothing is there


@dataclasses.dataclass(frozen=True)
class ODE:
    """Layers whose depth is "ode": a Neural ODE in place of a residual step."""

    solver: str = limits.text(was="ode_solver")
    steps: int = limits.within(1, 1024, was="ode_steps")
    min_steps: int = limits.at_least(0, was="ode_min_steps")
    rtol: float = limits.knob(
        lambda v: 0 <= v < 1, "must be above 0, or 0 for equal steps, and below 1", was="ode_rtol"
    )
    max_steps: int = limits.within(1, 4096, was="ode_max_steps")
    speed: float = limits.positive(was="ode_speed")
    time: str = limits.text(was="ode_time")
    modes: int = limits.at_least(1, was="ode_modes")
    rank: int = limits.at_least(1, was="ode_rank")
    adjoint: str = limits.text(was="ode_adjoint")


@dataclasses.dataclass(frozen=True)
class Monarch:
    """Monarch Linears and the Monarch mixers."""

    blocks: int = limits.at_least(1, was="monarch_blocks")
    conv_width: int = limits.at_least(1, was="conv_width")
    filter_order: int = limits.at_least(1, was="filter_order")
    filter_bands: int = limits.at_least(1, was="filter_bands")
    filter_sine: float = limits.positive(was="filter_sine")
    filter_fast: float = limits.positive(was="filter_fast")
    filter_slow: float = limits.positive(was="filter_slow")


@dataclasses.dataclass(frozen=True)
class KDA:
    """Kimi Delta Attention and Gated DeltaNet."""

    heads: int = limits.at_least(0, since="0.2", before=0)
    value_heads: int = limits.at_least(0, since="0.2", before=0)
    head_width: int = limits.at_least(0, since="0.2", before=0)
    value_width: int = limits.at_least(0, since="0.2", before=0)
    conv_width: int = limits.at_least(1, since="0.2", before=4)
    gate_rank: int = limits.at_least(0, since="0.2", before=0)
    bound: float = limits.at_least(0, since="0.2", before=0.0)
    negative: bool = limits.knob(since="0.2", before=False)
    delta: bool = limits.knob(since="0.2", before=True)


@dataclasses.dataclass(frozen=True)
class MoE:
    """Experts: layers whose channel is "moe"."""

    experts: int = limits.at_least(1, since="0.2", before=8)
    top: int = limits.at_least(1, since="0.2", before=2)
    expert: str = limits.text(since="0.2", before="swiglu")
    expert_mult: float = limits.positive(since="0.2", before=2.0)
    shared: int = limits.at_least(0, since="0.2", before=0)
    gate: str = limits.text(since="0.2", before="chosen")
    capacity: float = limits.at_least(0, since="0.2", before=0.0)


@dataclasses.dataclass(frozen=True)
class Sparse:
    """The mixers that attend to few tokens, chosen by their scores."""

    top: int = limits.at_least(1, since="0.2", before=32)
    block: int = limits.at_least(1, since="0.2", before=32)
    blocks: int = limits.at_least(0, since="0.2", before=3)


@dataclasses.dataclass(frozen=True)
class TT:
    """Linears whose kernels are tensor trains."""

    cores: int = limits.within(2, 8, since="0.2", before=3)
    ranks: str = limits.knob(
        lambda v: bool(v.split()) and all(word.isdecimal() and int(word) > 0 for word in v.split()),
        "must be whole numbers above 0",
        since="0.2",
        before="8",
    )


@dataclasses.dataclass(frozen=True)
class Recursive:
    """Tiny recursive models: model.kind=recursive."""

    core: str = limits.text(since="0.2", before="attention")
    inner: int = limits.at_least(0, since="0.2", before=6)
    outer: int = limits.at_least(1, since="0.2", before=3)
    slots: int = limits.at_least(0, since="0.2", before=16)
    ids: int = limits.at_least(0, since="0.2", before=1)
    multiple: int = limits.at_least(1, since="0.2", before=256)
    both_ways: bool = limits.knob(since="0.2", before=True)
    gate: str = limits.one_of("silu", "normalised", since="0.2", before="silu")
    latents: int = limits.at_least(1, since="0.2", before=1)


@dataclasses.dataclass(frozen=True)
class T5:
    """An encoder and a decoder: model.kind=t5."""

    encoder_layers: int = limits.at_least(0, since="0.2", before=0)
    head_width: int = limits.at_least(0, since="0.2", before=0)
    channel: str = limits.text(since="0.2", before="geglu")
    buckets: int = limits.within(4, 1024, since="0.2", before=32)
    distance: int = limits.within(2, 2**20, since="0.2", before=128)
    scale_head: bool = limits.knob(since="0.2", before=False)


@dataclasses.dataclass(frozen=True)
class Model:
    """A model by its parts."""

    kind: str = limits.text(since="0.2", before="decoder")
    width: int = limits.at_least(2)
    layers: int = limits.at_least(1)
    heads: int = limits.at_least(1)
    kv_heads: int = limits.at_least(0)
    context: int = limits.at_least(2)
    ffn_mult: float = limits.positive()
    dropout: float = limits.below_one()
    dropout_on: str = limits.one_of("all", "branches", since="0.2", before="all")
    word_dropout: float = limits.below_one(since="0.2", before=0.0)
    tie: bool = limits.knob()
    norm: str = limits.text()
    norm_eps: float = limits.knob(lambda v: 0 < v < 1, "must be above 0 and below 1")
    bias: bool = limits.knob()
    qkv_bias: bool = limits.knob(since="0.2", before=False)
    positions: str = limits.one_of("rotary", "learned", "none")
    rope_base: float = limits.knob(lambda v: v > 1, "must be above 1")
    qk_norm: bool = limits.knob()
    init: str = limits.text(since="0.2", before="normal")
    zero_init: bool = limits.knob()
    x0_skip: bool = limits.knob()
    unet: bool = limits.knob(since="0.2", before=False)
    value_embedding: str = limits.text(since="0.2", before="none")
    head_gate: bool = limits.knob(since="0.2", before=False)
    softcap: float = limits.at_least(0)
    mixer: str = limits.text()
    mask: str = limits.text(since="0.2", before="causal")
    window: int = limits.at_least(1, since="0.2", before=128)
    sink_tokens: int = limits.at_least(0, since="0.2", before=4)
    sink: str = limits.one_of("none", "logit", "token", since="0.2", before="none")
    channel: str = limits.text()
    depth: str = limits.text()
    linear: str = limits.text()
    scan_layers: bool = limits.knob(since="0.2", before=False)
    ode: ODE = limits.group()
    monarch: Monarch = limits.group()
    kda: KDA = limits.group()
    moe: MoE = limits.group()
    sparse: Sparse = limits.group()
    tt: TT = limits.group()
    recursive: Recursive = limits.group()
    t5: T5 = limits.group()

    def by_layer(self, words: str) -> list[str]:
        """Return the word of each layer: one word or several, repeated over the layers."""
        several = words.split()
        return [several[i % len(several)] for i in range(self.layers)]

    @property
    def has_ode(self) -> bool:
        """Some layer is solved as an ODE."""
        return "ode" in self.depth.split()

    @property
    def has_experts(self) -> bool:
        """Some layer's channel is experts."""
        return "moe" in self.channel.split()

    @property
    def inner_dropout(self) -> float:
        """Dropout of the embedding and of attention weights, which are no branches."""
        return self.dropout if self.dropout_on == "all" else 0.0

    @property
    def hidden(self) -> int:
        """F, the hidden width of the channel mixer."""
        return round(self.ffn_mult * self.width)
