"""Knobs of training: `config.train`."""

import dataclasses
import re

from juliagpt_jax.ground.knobs import limits


@dataclasses.dataclass(frozen=True)
class Muon:
    """The optimizer Muon."""

    momentum: float = limits.below_one(was="muon_momentum")
    polar: str = limits.text(was="muon_polar")


@dataclasses.dataclass(frozen=True)
class Soap:
    """The optimizer SOAP."""

    every: int = limits.at_least(1, was="soap_every")
    max_side: int = limits.at_least(1, was="soap_max_side")


@dataclasses.dataclass(frozen=True)
class KFac:
    """The optimizer K-FAC."""

    fisher: str = limits.one_of("sampled", "empirical", was="kfac_fisher")
    sharing: str = limits.one_of("expand", "reduce", was="kfac_sharing")
    damping: float = limits.positive(was="kfac_damping")
    kl: float = limits.at_least(0, was="kfac_kl")
    ema: float = limits.below_one(was="kfac_ema")
    factors_every: int = limits.at_least(1, was="kfac_factors_every")
    inverse_every: int = limits.at_least(1, was="kfac_inverse_every")


@dataclasses.dataclass(frozen=True)
class Ngram:
    """The penalty beside the loss that the corpus's n-grams set."""

    kind: str = limits.text(was="ngram")
    weight: float = limits.at_least(0, was="ngram_weight")


@dataclasses.dataclass(frozen=True)
class DoReMi:
    """Knobs of train.objective=doremi: `config.train.doremi`."""

    reference: str = limits.text(since="0.2", before="none")
    eta: float = limits.positive(since="0.2", before=1.0)
    smoothing: float = limits.knob(lambda v: 0 < v < 1, "must be above 0 and below 1", since="0.2", before=1e-4)


@dataclasses.dataclass(frozen=True)
class Distil:
    """Knobs of train.objective=distil: `config.train.distil`."""

    teacher: str = limits.text(since="0.2", before="none")
    averaged: bool = limits.knob(since="0.2", before=False)
    alpha: float = limits.share(since="0.2", before=0.5)
    temperature: float = limits.positive(since="0.2", before=1.0)


@dataclasses.dataclass(frozen=True)
class Preference:
    """Knobs of train.objective=dpo, ipo and orpo: `config.train.preference`."""

    beta: float = limits.positive(since="0.2", before=0.1)
    reference: str = limits.text(since="0.2", before="none")
    samples: int = limits.at_least(0, since="0.2", before=0)
    sft: float = limits.at_least(0, since="0.2", before=0.0)


@dataclasses.dataclass(frozen=True)
class Written:
    """Answers that a model writes while it learns from them: `config.train.written`."""

    group: int = limits.at_least(1, since="0.2", before=8)
    temperature: float = limits.positive(since="0.2", before=1.0)
    most: int = limits.at_least(0, since="0.2", before=0)


@dataclasses.dataclass(frozen=True)
class Value:
    """Knobs of train.objective=value: `config.train.value`."""

    generator: str = limits.text(since="0.2", before="none")
    samples: int = limits.at_least(1, since="0.2", before=4)
    level: str = limits.one_of("token", "solution", "prefix", since="0.2", before="token")
    text: float = limits.at_least(0, since="0.2", before=0.0)


@dataclasses.dataclass(frozen=True)
class Recursive:
    """Knobs of train.objective=recursive: `config.train.recursive`."""

    steps: int = limits.within(1, 1024, since="0.2", before=16)
    explore: float = limits.share(since="0.2", before=0.1)
    halt_weight: float = limits.at_least(0, since="0.2", before=0.5)
    ids_lr: float = limits.at_least(0, since="0.2", before=1e-4)
    ids_decay: float = limits.at_least(0, since="0.2", before=1.0)
    growth: str = limits.knob(
        lambda v: re.fullmatch(r"none|\d{1,4}x[1-9]\d{0,3}( \d{1,4}x[1-9]\d{0,3})*", v) is not None,
        "must be none, or inner x outer of stages, such as 2x1 4x2",
        since="0.2",
        before="none",
    )


@dataclasses.dataclass(frozen=True)
class Cycles:
    """Knobs of train.schedule=cycles: `config.train.cycles`."""

    count: int = limits.at_least(1, since="0.2", before=4)
    share: float = limits.share(since="0.2", before=0.2)
    peak: float = limits.knob(lambda v: 0 < v <= 1, "must be above 0 and at most 1", since="0.2", before=1.0)


@dataclasses.dataclass(frozen=True)
class MoE:
    """Penalties on the routers of experts."""

    balance: float = limits.at_least(0, since="0.2", before=0.01)
    router_z: float = limits.at_least(0, since="0.2", before=0.001)


@dataclasses.dataclass(frozen=True)
class Train:
    """The training of a model: budget, optimizer, measurements, checkpoints."""

    steps: int = limits.at_least(1)
    batch_size: int = limits.at_least(1)
    accumulate: int = limits.at_least(0)
    steps_per_call: int = limits.at_least(1, since="0.2", before=1)
    optimizer: str = limits.text()
    lr: float = limits.positive()
    adam_lr: float = limits.at_least(0)
    min_lr: float = limits.at_least(0)
    schedule: str = limits.text()
    warmup: int = limits.at_least(0)
    warmup_tokens: int = limits.at_least(0)
    decay_share: float = limits.share()
    stages: str = limits.knob(since="0.2", before="")
    beta1: float = limits.below_one()
    beta2: float = limits.below_one()
    weight_decay: float = limits.at_least(0)
    weight_decay_schedule: str = limits.text()
    decay_tau: float = limits.at_least(0, since="0.2", before=0.0)
    decay_tau_embed: float = limits.at_least(0, since="0.2", before=0.0)
    cautious: bool = limits.knob()
    clip: float = limits.positive()
    ternary_from: float = limits.below_one()
    precision: str = limits.one_of("f32", "bf16", "f16")
    remat: bool = limits.knob()
    ema: float = limits.below_one()
    ema_half_life: float = limits.at_least(0, since="0.2", before=0.0)
    tail: float = limits.share()
    init: str = limits.text(since="0.2", before="none")
    objective: str = limits.text(since="0.2", before="next_token")
    init: str = limits.text(since="0.2", before="none")
    ode_energy: float = limits.at_least(0)
    max_bad_steps: int = limits.at_least(1)
    log_every: int = limits.at_least(1)
    eval_every: int = limits.at_least(1)
    eval_windows: int = limits.at_least(1)
    final_windows: int = limits.at_least(0)
    report_share: float = limits.share(since="0.2", before=0.0)
    checkpoint_every: int = limits.at_least(1)
    keep: int = limits.at_least(1)
    sample_every: int = limits.at_least(0)
    sample_tokens: int = limits.at_least(1)
    wandb: str = limits.knob(since="0.2", before="")
    cycles: Cycles = limits.group()
    muon: Muon = limits.group()
    soap: Soap = limits.group()
    kfac: KFac = limits.group()
    ngram: Ngram = limits.group()
    doremi: DoReMi = limits.group()
    distil: Distil = limits.group()
    preference: Preference = limits.group()
    written: Written = limits.group()
    value: Value = limits.group()
    moe: MoE = limits.group()
    recursive: Recursive = limits.group()

    @property
    def averages(self) -> bool:
        """Keep an average of the weights, which is evaluated beside the raw ones."""
        return bool(self.ema or self.ema_half_life or self.tail or self.schedule == "cycles")
