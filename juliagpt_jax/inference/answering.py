"""Answers of a model to prompts: many at a time, each up to the id that ends it."""

from collections.abc import Sequence

import numpy as np

from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.sampling import Rule

GREEDY = Rule(greedy=True)
ROWS = 64  # prompts at a time
NEXT = 0x9E3779B9  # between the seeds of two such batches


def answers(
    generator: Generator,
    prompts: Sequence[np.ndarray],
    most: int,
    ends: Sequence[int],
    rule: Rule = GREEDY,
    seed: int = 0,
    rows: int = ROWS,
) -> list[np.ndarray]:
    """Return for each prompt the ids (n,) int32 that the model writes behind it, `most` at most, up to the first one of
    `ends`, which is the last of them.

    What is written depends on parameters, prompts, rule and seed alone. A prompt that stands there several times gets
    a draw of its own each time.

    Args:
        rows: prompts that are computed at once; the last batch is filled up, so that there is one program.
    """
    written = []
    for i, first in enumerate(range(0, len(prompts), rows)):
        own = [*prompts[first : first + rows]]
        full = own + [own[0]] * (rows - len(own))
        parts = [np.zeros((rows, 0), np.int32)]
        open_ = np.ones(len(own), bool)
        for block in generator.stream(full, most, rule, (seed + i * NEXT) % 2**32):
            parts.append(block)
            open_ &= ~np.isin(block[: len(own)], ends).any(axis=1)
            if not open_.any():
                break
        written += [_ended(ids, ends) for ids in np.concatenate(parts, axis=1)[: len(own)]]
    return written


def _ended(ids: np.ndarray, ends: Sequence[int]) -> np.ndarray:
    found = np.flatnonzero(np.isin(ids, ends))
    return ids[: found[0] + 1] if len(found) else ids
