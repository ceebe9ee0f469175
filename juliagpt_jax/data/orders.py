"""Orders of a curriculum, and the paces at which what is sorted becomes open to be drawn."""

from typing import Any

import numpy as np


def _paced(curriculum: Any, order: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mix an order as the pacing says. Draw k is one, at random, of the items not yet taken among the first
    share(k / n) of `order`, or among the first k + 1 where the share is less."""
    n = len(order)
    progress = np.arange(n) / n
    open_ = np.ceil(n * np.clip(PACINGS[curriculum.pacing](curriculum, progress), 0, 1) - 1e-9)
    open_ = np.maximum(open_.astype(np.int64), np.arange(1, n + 1))
    if (open_ == np.arange(1, n + 1)).all():
        return order
    pool: list[int] = []
    taken, into, chances = [], 0, rng.random(n)
    for limit, chance in zip(open_.tolist(), chances.tolist(), strict=True):
        if into < limit:
            pool.extend(order[into:limit].tolist())
            into = limit
        index = int(chance * len(pool))
        pool[index], pool[-1] = pool[-1], pool[index]
        taken.append(pool.pop())
    return np.array(taken)


def _linear(curriculum: Any, progress: np.ndarray) -> np.ndarray:
    return curriculum.start + (1 - curriculum.start) * progress


def _root(curriculum: Any, progress: np.ndarray) -> np.ndarray:
    """The square-root competence of Platanios et al. 2019 (arXiv 1903.09848, equation 8)."""
    return np.sqrt(curriculum.start**2 + (1 - curriculum.start**2) * progress)


def _step(curriculum: Any, progress: np.ndarray) -> np.ndarray:
    stage = np.floor(progress * curriculum.parts) + 1
    return np.maximum(curriculum.start, stage / curriculum.parts)


def _easy_first(curriculum: Any, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _paced(curriculum, np.argsort(values, kind="stable"), rng)


def _hard_first(curriculum: Any, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _paced(curriculum, np.argsort(-values, kind="stable"), rng)


def _interleaved(curriculum: Any, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Several rounds, each over the whole range from easy to hard (the interleaved form of arXiv 2506.11300)."""
    order = np.argsort(values, kind="stable")
    rounds = [order[i :: curriculum.parts] for i in range(curriculum.parts)]
    return np.concatenate([_paced(curriculum, part, rng) for part in rounds if len(part)])


def _as_drawn(curriculum: Any, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.arange(len(values))


# A curriculum is a `sampler.Curriculum`. `PACINGS[word](curriculum, progress)` is the share that is open,
# `ORDERS[word](curriculum, values, rng)` the windows, from how hard they are, in the order in which they are drawn.
PACINGS = {"linear": _linear, "root": _root, "step": _step}
ORDERS = {"random": _as_drawn, "easy_first": _easy_first, "hard_first": _hard_first, "interleaved": _interleaved}
