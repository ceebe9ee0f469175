"""A trained verifier as search asks it: of whole answers, and of answers that are only begun."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.inference import judging


class Verify(Protocol):
    """Probabilities that answers are right."""

    def __call__(self, prompts: Sequence[str], answers: Sequence[str], whole: bool = True) -> np.ndarray:
        """Return (N,) in [0, 1]; with `whole` false the answers are only begun, and it is that of what will become of
        them."""
        ...


class Verifier:
    """A judge (`train.objective=value`): of a whole answer it is asked behind what ends the answer, of one that is
    begun behind its last token."""

    def __init__(self, judge: judging.Judge):
        self.judge, self.opened = judge, judge.opened

    def __call__(self, prompts: Sequence[str], answers: Sequence[str], whole: bool = True) -> np.ndarray:
        """See `Verify`.

        Raises:
            UserError: as `judging.Judge.score`.
        """
        if not prompts:
            return np.zeros(0)
        if whole:
            return self.judge.score(prompts, answers)
        form = self.judge.form
        pairs = zip(prompts, answers, strict=True)
        return self.judge.score_ids([form.encode(Example(*pair)).ids[: -len(form.end)] for pair in pairs])
