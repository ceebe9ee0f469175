"""Answers of a model to prompts: many at a time, each up to what ends it."""

from collections.abc import Callable, Sequence

import numpy as np

from juliagpt_jax.inference.generate import BLOCK, Generator, Guided
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
    block: int = BLOCK,
    guided: Guided | None = None,
) -> list[np.ndarray]:
    """Return for each prompt the ids (n,) int32 that the model writes behind it, `most` at most, up to what ends them,
    with it.

    What is written depends on parameters, prompts, rule and seed alone. A prompt that stands there several times gets
    a draw of its own each time.

    Args:
        ended: where an answer ends in the ids (n,) that were written, and where its end does; None: it goes on.
        rows: prompts that are computed at once; the last batch is filled up, so that there is one program.
        block: tokens between two looks at whether all answers of a batch have ended.
        guided: see `Generator.stream`.
    """
    written = []
    for i, first in enumerate(range(0, len(prompts), rows)):
        own = [*prompts[first : first + rows]]
        full = own + [own[0]] * (rows - len(own))
        ids, ends = np.zeros((len(own), 0), np.int32), [None for _ in own]
        for fresh in generator.stream(full, most, rule, (seed + i * NEXT) % 2**32, min(block, most), guided):
            ids = np.concatenate([ids, fresh[: len(own)]], axis=1)
            ends = [found or ended(row) for found, row in zip(ends, ids, strict=True)]
            if all(ends):
                break
        written += [row[: found[1]] if found else row for found, row in zip(ends, ids, strict=True)]
    return written
