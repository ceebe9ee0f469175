"""Wrong answers beside the right ones: what a preference is made of where nobody stated one."""

import zlib
from collections.abc import Sequence

import numpy as np

from juliagpt_jax.data.tasks.task import Example, Task
from juliagpt_jax.ground.errors import UserError

LOOKED_AT = 32  # answers of other examples that are compared


def rejected(examples: Sequence[Example], task: Task | None) -> list[str]:
    """Return for each example an answer that it does not prefer: the one that it states (`facts["rejected"]`), or
    another of its choices, or the answer to another question that is most like its own and wrong. Which one depends on
    the examples alone.

    Raises:
        UserError: an example has none of these.
    """
    return [_of(example, i, examples, task) for i, example in enumerate(examples)]


def _of(example: Example, number: int, examples: Sequence[Example], task: Task | None) -> str:
    if "rejected" in example.facts:
        return str(example.facts["rejected"])
    rng = np.random.default_rng([zlib.crc32(b"wrong"), number])
    others = [choice for choice in example.choices if choice != example.answer]
    if others:
        return others[int(rng.integers(len(others)))]
    if task is None or task.verify is None:
        raise UserError(
            f"example {number + 1:,} states no answer that is rejected, and there is no verifier that knows wrong ones"
        )
    drawn = rng.integers(len(examples), size=LOOKED_AT)
    answers = sorted(
        {examples[i].answer for i in drawn.tolist()}, key=lambda own: (-_likeness(own, example.answer), own)
    )
    for answer in answers:
        if not task.verify(example, answer):
            return answer
    raise UserError(f"example {number + 1:,}: {LOOKED_AT} answers to other questions are right for it too")


def _likeness(one: str, other: str) -> int:
    """Count characters that two texts have at the same places, from the beginning and from the end."""
    same = lambda a, b: sum(map(str.__eq__, a, b))
    return same(one, other) + same(one[::-1], other[::-1]) - abs(len(one) - len(other))
