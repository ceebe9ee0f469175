"""Beginning of many texts, such as the examples that are shown before each question: read once for all of them."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.models.interface import Model

FEWEST = 16  # tokens that all texts begin with: of fewer it does not pay to read them apart


class Begun(NamedTuple):
    """Beginning of texts, read: how many tokens, and the cache of one row behind them; None, where nothing is read
    apart."""

    length: Any = 0
    cache: Any = None

    def rows(self, count: int) -> Any:
        """Return the cache of so many rows that all have read it."""
        return jax.tree.map(lambda held: jnp.repeat(held, count, axis=0), self.cache)


NOTHING = Begun()


def shared(model: Model, texts: Sequence[np.ndarray], ends: Sequence[int], fewest: int) -> int:
    """Return how many tokens all texts begin with, their last `ends` apart, where reading them apart pays; else 0.

    It does not with at most `fewest` texts, or fewer than FEWEST tokens in common. Nor is it done by a model with
    another mixer or mask than causal attention, whose cache may not have any number of slots, nor take any number of
    tokens at once; nor by one with an encoder.
    """
    plain = {*model.config.mixer.split(), *model.config.mask.split()} == {"attention", "causal"}
    if not plain or model.encodes or len(texts) <= fewest:
        return 0
    length = min(len(ids) - end for ids, end in zip(texts, ends, strict=True))
    for ids in texts:
        differs = np.flatnonzero(ids[:length] != texts[0][:length])
        length = int(differs[0]) if len(differs) else length
    return length if length >= FEWEST else 0


def read(model: Model, params: Any, ids: np.ndarray, slots: int) -> Begun:
    """Return ids (T,), read into a cache of so many slots."""
    return Begun(len(ids), _read(model, params, jnp.asarray(ids, jnp.int32), slots))


@functools.partial(jax.jit, static_argnums=(0, 3))
def _read(model: Model, params: Any, ids: jax.Array, slots: int) -> Any:
    return model.apply({"params": params}, ids[None], jnp.arange(len(ids))[None], model.init_cache(1, slots))[1]
