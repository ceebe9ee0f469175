"""A model that judges answers: how likely one is right.

Its verdict is the difference of the logits of two tokens of its vocabulary, WRONG and RIGHT: a scalar head whose
weights are the difference of two columns of the model's own. So a judge is a model as any other, on the disk and in
memory, of any architecture; what it would write means nothing.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from juliagpt_jax.data.chat import Message
from juliagpt_jax.data.examples import build
from juliagpt_jax.data.examples.rows import Form
from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.opened import Opened, open_model
from juliagpt_jax.models.interface import Model
from juliagpt_jax.store.workdir import find

WRONG, RIGHT = 0, 1  # ids
ROWS = 32  # answers that are judged at once
Asked = str | Sequence[Message]  # a question: a prompt, or a conversation up to the answer


def verdicts(logits: jax.Array) -> jax.Array:
    """Return the log-odds (..., ) that an answer is right, from logits (..., V)."""
    return logits[..., RIGHT] - logits[..., WRONG]


class Judge:
    """A model that has learned to judge (`train.objective=value`), ready to be asked.

    Attributes:
        form: how questions and answers become ids.
    """

    def __init__(self, opened: Opened, form: Form):
        self.opened, self.form = opened, form

    def score(self, prompts: Sequence[Asked], answers: Sequence[str]) -> np.ndarray:
        """Return the probability (n,) that each answer is right: what the judge says behind its end.

        Raises:
            UserError: characters that its tokenizer lacks, or an answer that is too long for it.
        """
        return self.score_ids(self.ids(prompts, answers))

    def ids(self, prompts: Sequence[Asked], answers: Sequence[str], whole: bool = True) -> list[np.ndarray]:
        """Return what it reads (m,) of each question and answer, which with `whole` false is only begun.

        Raises:
            UserError: characters that its tokenizer lacks, or messages and no chat template.
        """
        asked = zip(map(_example, prompts), answers, strict=True)
        return [self.form.judged(example, answer, whole) for example, answer in asked]

    def score_ids(self, ids: Sequence[np.ndarray]) -> np.ndarray:
        """Return the probability (n,) that answers are right, each given as the ids (m,) of its question, of itself and
        of what ends it."""
        context = self.opened.model.config.context
        longest = max(map(len, ids), default=0)
        if longest > context:
            raise UserError(f"a question with its answer has {longest} tokens, and the judge reads {context} at most")
        odds = ends(self.opened.model, self.opened.params, ids, min(-(-longest // 8) * 8, context))
        return 1 / (1 + np.exp(-odds.astype(np.float64)))


def _example(asked: Asked) -> Example:
    if isinstance(asked, str):
        return Example(asked, "")
    return Example("", "", facts={"messages": [*asked, {"role": "assistant", "content": ""}]})


@functools.partial(jax.jit, static_argnums=0)
def _odds(model: Model, params: Any, inputs: jax.Array) -> jax.Array:
    return verdicts(model.apply({"params": params}, inputs)[0])


def ends(model: Model, params: Any, ids: Sequence[np.ndarray], length: int, rows: int = ROWS) -> np.ndarray:
    """Return the log-odds (n,) float32 behind the last of the ids (m,) of each answer, of `length` at most, in batches
    of so many rows."""
    found = []
    for first in range(0, len(ids), rows):
        some = ids[first : first + rows]
        inputs = np.zeros((rows, length), np.int32)
        for row, own in enumerate(some):
            inputs[row, : len(own)] = own
        odds = np.asarray(_odds(model, params, inputs))
        found += [odds[row, len(own) - 1] for row, own in enumerate(some)]
    return np.array(found, np.float32)


def open_judge(workdir: Path, checkpoint: str = "newest") -> Judge:
    """Open a run that has learned to judge.

    Raises:
        UserError: it is none.
        StorageError: it has no sound checkpoint.
    """
    found = find(workdir, checkpoint)
    if found.config.train.objective != "value":
        raise UserError(
            f"--workdir={workdir}: it learned {found.config.train.objective}, not to judge answers: "
            "train.objective=value does"
        )
    opened = open_model(found)
    return Judge(opened, build.form(found.config.data, opened.tokenizer))


def reliability(probabilities: np.ndarray, right: np.ndarray, bins: int = 10) -> dict[str, Any]:
    """Return how far a judge can be trusted: what it finds of answers of which is known whether they are right.

    `accuracy` at even odds; `false_accepts`, the share of wrong answers that it takes for right; `false_rejects`, the
    share of right ones that it takes for wrong (None where there are none); `ranked`, the chance that a right answer
    gets more than a wrong one; `brier`, the mean squared error; `calibration`, for each tenth of probabilities that
    occurs their mean, the share of right answers and the number; `calibration_error`, the mean distance of the two.
    """
    probabilities, right = np.asarray(probabilities, float), np.asarray(right, bool)
    accepted = probabilities > 0.5
    share = lambda values: float(values.mean()) if len(values) else None
    which = np.minimum((probabilities * bins).astype(int), bins - 1)
    curve = [
        (float(probabilities[own].mean()), float(right[own].mean()), int(own.sum()))
        for own in (which == b for b in range(bins))
        if own.any()
    ]
    values = np.concatenate([probabilities[right], probabilities[~right]])
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # ties share theirs
    n, m = int(right.sum()), int((~right).sum())
    return {
        "judged": len(right),
        "right": share(right),
        "accuracy": share(accepted == right),
        "false_accepts": share(accepted[~right]),
        "false_rejects": share(~accepted[right]),
        "ranked": float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m)) if n and m else None,
        "brier": float(np.mean((probabilities - right) ** 2)),
        "calibration": [list(point) for point in curve],
        "calibration_error": float(sum(abs(p - r) * c for p, r, c in curve) / len(right)),
    }
