"""Answers of a model to prompts: many at a time, each up to the id that ends it."""

from collections.abc import Callable, Sequence

import numpy as np

from juliagpt_jax.inference.generate import BLOCK, Generator
from juliagpt_jax.inference.sampling import Rule

GREEDY = Rule(greedy=True)
Ended = Callable[[np.ndarray], tuple[int, int] | None]
ROWS = 64  # prompts at a time
NEXT = 0x9E3779B9  # between the seeds of two such batches


def answers(
    generator: Generator,
    prompts: Sequence[np.ndarray],
    most: int,
    ended: Ended,
    rule: Rule = GREEDY,
    seed: int = 0,
    rows: int = ROWS,
) -> list[np.ndarray]:
    """Return for each prompt the ids (n,) int32 that the model writes behind it, `most` at most, up to what ends them,
    with it.

    What is written depends on parameters, prompts, rule and seed alone. A prompt that stands there several times gets
    a draw of its own each time.

    Args:
        ended: as `data.examples.rows.Form.ended`.
        rows: prompts that are computed at once; the last batch is filled up, so that there is one program.
    """
    written = []
    for i, first in enumerate(range(0, len(prompts), rows)):
        own = [*prompts[first : first + rows]]
        full = own + [own[0]] * (rows - len(own))
        parts, ids = [], np.zeros((len(own), 0), np.int32)
        for block in generator.stream(full, most, rule, (seed + i * NEXT) % 2**32, min(BLOCK, most)):
            parts.append(block)
            ids = np.concatenate(parts, axis=1)[: len(own)]
            if all(ended(row) for row in ids):
                break
        written += [row[: found[1]] if (found := ended(row)) else row for row in ids]
    return written
