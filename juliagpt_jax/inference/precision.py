"""What a model computes in and what its weights are kept as, by a word."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from juliagpt_jax.config import near
from juliagpt_jax.errors import UserError
from juliagpt_jax.models.decoder import DTYPES, Decoder


def prepare(word: str, model: Decoder, params: Any) -> tuple[Decoder, Any]:
    """The model and its parameters in a precision of PRECISIONS.

    Raises:
        UserError: no precision is called that.
    """
    check(word)
    return PRECISIONS[word](model, params)


def check(word: str) -> None:
    """Raises UserError when no precision is called that."""
    if word not in PRECISIONS:
        raise UserError(f"no precision is called {word!r}{near(word, PRECISIONS)}")


def cast(params: Any, precision: str) -> Any:
    """Matrices in a floating-point precision, but for those of a filter, which is computed in float32; vectors (norms,
    biases) and whatever is not floating-point stay as they are."""

    def leaf(path, p):
        names = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
        whole = p.ndim < 2 or "filter" in names or not jnp.issubdtype(p.dtype, jnp.floating)
        return p if whole else p.astype(DTYPES[precision])

    return jax.tree_util.tree_map_with_path(leaf, params)


def _floating(word: str) -> Callable[[Decoder, Any], tuple[Decoder, Any]]:
    return lambda model, params: (model.clone(precision=word, parent=None), cast(params, word))


# `PRECISIONS[word](model, params)` gives both as they are used in that precision.
PRECISIONS = {word: _floating(word) for word in DTYPES}
