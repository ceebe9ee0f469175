"""The type and the limits of every knob, in frozen dataclasses that the rest of the package can trust.

Nothing here has a default value: values, and what follows from them, live in the config files; `configs/base.py` names
every knob with its why. What must hold between two knobs, and how a `Config` is made, is in `config.py`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any


def _knob(test: Callable[[Any], bool], says: str) -> Any:
    return dataclasses.field(metadata={"test": test, "says": says})


def _at_least(low: float) -> Any:
    return _knob(lambda v: v >= low, f"must be at least {low}")


def _one_of(*names: str) -> Any:
    return _knob(lambda v: v in names, f"must be one of {', '.join(names)}")


def _any() -> Any:
    return _knob(lambda v: True, "")


def _positive() -> Any:
    return _knob(lambda v: v > 0, "must be above 0")


def _below_one() -> Any:
    return _knob(lambda v: 0 <= v < 1, "must be in [0, 1)")


def _share() -> Any:
    return _knob(lambda v: 0 <= v <= 1, "must be in [0, 1]")


def _text() -> Any:
    return _knob(lambda v: v.strip() != "", "must not be empty")


@dataclasses.dataclass(frozen=True)
class Data:
    path: str = _text()
    tokenizer: str = _text()
    errors: str = _one_of("strict", "replace")
    unknown: str = _one_of("error", "skip")
    on_bad: str = _one_of("error", "skip")
    max_bad: float = _share()
    max_leak: float = _share()
    scores: str = _any()
    filter: str = _any()
    keep: str = _any()
    phase_weights: str = _any()
    weights_by: str = _text()
    order: str = _text()
    order_by: str = _text()
    order_after: float = _at_least(0)
    order_epochs: float = _at_least(0)
    order_parts: int = _at_least(1)
    pacing: str = _text()
    pacing_start: float = _share()


@dataclasses.dataclass(frozen=True)
class Model:
    width: int = _at_least(2)
    layers: int = _at_least(1)
    heads: int = _at_least(1)
    kv_heads: int = _at_least(0)
    context: int = _at_least(2)
    ffn_mult: float = _positive()
    dropout: float = _below_one()
    tie: bool = _any()
    norm: str = _text()
    norm_eps: float = _knob(lambda v: 0 < v < 1, "must be above 0 and below 1")
    bias: bool = _any()
    positions: str = _one_of("rotary", "learned")
    rope_base: float = _knob(lambda v: v > 1, "must be above 1")
    qk_norm: bool = _any()
    zero_init: bool = _any()
    x0_skip: bool = _any()
    softcap: float = _at_least(0)
    mixer: str = _text()
    channel: str = _text()
    depth: str = _text()
    linear: str = _text()
    ode_solver: str = _text()
    ode_steps: int = _knob(lambda v: 1 <= v <= 1024, "must be in 1 .. 1024")
    ode_min_steps: int = _at_least(0)
    ode_rtol: float = _knob(lambda v: 0 <= v < 1, "must be above 0, or 0 for ode_steps equal steps, and below 1")
    ode_max_steps: int = _knob(lambda v: 1 <= v <= 4096, "must be in 1 .. 4096")
    ode_speed: float = _positive()
    ode_time: str = _text()
    ode_modes: int = _at_least(1)
    ode_rank: int = _at_least(1)
    ode_adjoint: str = _text()
    monarch_blocks: int = _at_least(1)
    conv_width: int = _at_least(1)
    filter_order: int = _at_least(1)
    filter_bands: int = _at_least(1)
    filter_sine: float = _positive()
    filter_fast: float = _positive()
    filter_slow: float = _positive()

    @property
    def hidden(self) -> int:
        """F, the hidden width of the channel mixer."""
        return round(self.ffn_mult * self.width)


@dataclasses.dataclass(frozen=True)
class Train:
    steps: int = _at_least(1)
    batch_size: int = _at_least(1)
    accumulate: int = _at_least(0)
    optimizer: str = _text()
    lr: float = _positive()
    adam_lr: float = _at_least(0)
    min_lr: float = _at_least(0)
    schedule: str = _text()
    warmup: int = _at_least(0)
    warmup_tokens: int = _at_least(0)
    decay_share: float = _share()
    beta1: float = _below_one()
    beta2: float = _below_one()
    muon_momentum: float = _below_one()
    muon_polar: str = _text()
    soap_every: int = _at_least(1)
    soap_max_side: int = _at_least(1)
    weight_decay: float = _at_least(0)
    weight_decay_schedule: str = _text()
    cautious: bool = _any()
    clip: float = _positive()
    kfac_fisher: str = _one_of("sampled", "empirical")
    kfac_sharing: str = _one_of("expand", "reduce")
    kfac_damping: float = _positive()
    kfac_kl: float = _at_least(0)
    kfac_ema: float = _below_one()
    kfac_factors_every: int = _at_least(1)
    kfac_inverse_every: int = _at_least(1)
    ternary_from: float = _below_one()
    precision: str = _one_of("f32", "bf16", "f16")
    remat: bool = _any()
    ema: float = _below_one()
    tail: float = _share()
    ode_energy: float = _at_least(0)
    ngram: str = _text()
    ngram_weight: float = _at_least(0)
    max_bad_steps: int = _at_least(1)
    log_every: int = _at_least(1)
    eval_every: int = _at_least(1)
    eval_windows: int = _at_least(1)
    final_windows: int = _at_least(0)
    checkpoint_every: int = _at_least(1)
    keep: int = _at_least(1)
    sample_every: int = _at_least(0)
    sample_tokens: int = _at_least(1)


@dataclasses.dataclass(frozen=True)
class Mesh:
    data: int = _at_least(0)
    model: int = _at_least(1)


@dataclasses.dataclass(frozen=True)
class Config:
    data: Data
    model: Model
    train: Train
    mesh: Mesh
    seed: int = _knob(lambda v: 0 <= v < 2**32, "must be in [0, 2^32)")

    @property
    def warmup_steps(self) -> int:
        """Steps until the learning rate is at its highest: those of `train.warmup_tokens`, else `train.warmup`."""
        tokens = self.train.batch_size * self.model.context
        return -(-self.train.warmup_tokens // tokens) if self.train.warmup_tokens else self.train.warmup

    @property
    def ternary_step(self) -> int:
        """Steps done when model.linear=ternary begins to round; 0: it does from the start."""
        return min(round(self.train.ternary_from * self.train.steps), self.train.steps - 1)


def decay_steps(train: Train) -> int:
    """The last steps, in which the trapezoid comes down."""
    return max(1, round(train.decay_share * train.steps))
