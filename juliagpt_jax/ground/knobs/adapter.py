"""Knobs of adapters, a few trained parameters beside frozen weights: `config.adapter`."""

import dataclasses

from juliagpt_jax.ground.knobs import limits


@dataclasses.dataclass(frozen=True)
class Adapter:
    """LoRA beside the Linears of a model that `train.init` names (`models/adapters.py`)."""

    rank: int = limits.at_least(0, since="0.2", before=0)
    alpha: float = limits.positive(since="0.2", before=16.0)
    dropout: float = limits.below_one(since="0.2", before=0.0)
    targets: str = limits.text(since="0.2", before="all")
    layers: str = limits.text(since="0.2", before="all")
    base: str = limits.one_of("float", "int8", "nf4", "q4_1", since="0.2", before="float")

    @property
    def scale(self) -> float:
        """The factor of the product of the two thin matrices."""
        return self.alpha / self.rank if self.rank else 0.0
