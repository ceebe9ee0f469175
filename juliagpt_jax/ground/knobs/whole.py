"""A whole config, and what follows from several of its parts."""

import dataclasses

from juliagpt_jax.ground.knobs import limits
from juliagpt_jax.ground.knobs.adapter import Adapter
from juliagpt_jax.ground.knobs.data import Data
from juliagpt_jax.ground.knobs.model import Model
from juliagpt_jax.ground.knobs.train import Train


@dataclasses.dataclass(frozen=True)
class Mesh:
    """Devices that share the work."""

    data: int = limits.at_least(0)
    model: int = limits.at_least(1)
    fsdp: int = limits.at_least(1, since="0.2", before=1)
    deterministic: bool = limits.knob(since="0.2", before=False)

    @property
    def shared(self) -> int:
        """Devices that hold one copy of the parameters together."""
        return self.model * self.fsdp


@dataclasses.dataclass(frozen=True)
class Config:
    """All knobs of a run."""

    data: Data
    model: Model
    train: Train
    adapter: Adapter
    mesh: Mesh
    seed: int = limits.knob(lambda v: 0 <= v < 2**32, "must be in [0, 2^32)")

    @property
    def warmup_steps(self) -> int:
        """Steps until the learning rate is at its highest: those of `train.warmup_tokens`, else `train.warmup`."""
        tokens = self.train.batch_size * self.model.context
        return -(-self.train.warmup_tokens // tokens) if self.train.warmup_tokens else self.train.warmup

    @property
    def reads(self) -> str:
        """Name what the run learns from: "examples" of a task, "puzzles", or a "text"."""
        if self.data.task != "none" or self.model.kind == "t5":
            return "examples"
        return "puzzles" if self.data.puzzle.kind != "none" else "text"

    @property
    def drops(self) -> bool:
        """Training draws masks of dropout, in the model or in its adapters."""
        return bool(self.model.dropout or self.model.word_dropout or self.adapter.dropout)

    @property
    def ternary_step(self) -> int:
        """Steps done when model.linear=ternary begins to round; 0: it does from the start."""
        return min(round(self.train.ternary_from * self.train.steps), self.train.steps - 1)


def decay_steps(train: Train) -> int:
    """The last steps, in which the trapezoid comes down."""
    return max(1, round(train.decay_share * train.steps))


def cycle_bounds(train: Train) -> list[int]:
    """The steps at which the cycles begin, and `train.steps`, at which the last one has ended."""
    length = round(train.cycles.share * train.steps)
    return [train.steps - length + round(i * length / train.cycles.count) for i in range(train.cycles.count + 1)]
