"""The rule by which tokens are drawn, as one value. Imports nothing heavy, so that a wrong flag is refused at once."""

import dataclasses

from juliagpt_jax.ground.errors import UserError


@dataclasses.dataclass(frozen=True)
class Rule:
    """A draw from softmax(logits / temperature), restricted first to the top k, then to the nucleus.

    Attributes:
        temperature: above 0.
        top_k: keep the k most likely tokens; 0 keeps all. Ties at the k-th place are kept.
        top_p: keep the smallest set of most likely tokens whose probability is at least p (Holtzman et al. 2020, arXiv
            1904.09751, section 3.1); 1 keeps all.
        greedy: take the most likely token; the other fields are then without effect.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    greedy: bool = False

    def __post_init__(self):
        if not 0 < self.temperature < float("inf"):
            raise UserError(
                f"temperature must be above 0, not {self.temperature}; --greedy takes the most likely token"
            )
        if self.top_k < 0:
            raise UserError(f"top_k must be at least 0, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p must be in (0, 1], not {self.top_p}")
