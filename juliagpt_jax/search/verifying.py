"""A trained verifier as search asks it: of whole answers, and of answers that are only begun."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from juliagpt_jax.inference import judging
from juliagpt_jax.inference.judging import Asked


class Verify(Protocol):
    """Probabilities that answers are right."""

    def __call__(self, prompts: Sequence[Asked], answers: Sequence[str], whole: bool = True) -> np.ndarray:
        """Return (N,) in [0, 1]; with `whole` false the answers are only begun, and it is that of what will become of
        them."""
        ...


class Verifier:
    """A judge (`train.objective=value`): of a whole answer it is asked behind what ends the answer, of one that is
    begun behind its last token. What is too long for it, as an answer that never ended, gets 0."""

    def __init__(self, judge: judging.Judge):
        self.judge, self.opened = judge, judge.opened

    def __call__(self, prompts: Sequence[Asked], answers: Sequence[str], whole: bool = True) -> np.ndarray:
        """See `Verify`.

        Raises:
            UserError: characters that its tokenizer lacks.
        """
        ids = self.judge.ids(prompts, answers, whole)
        found, context = np.zeros(len(ids)), self.opened.model.config.context
        fitting = [n for n, own in enumerate(ids) if len(own) <= context]
        if fitting:
            found[fitting] = self.judge.score_ids([ids[n] for n in fitting])
        return found
