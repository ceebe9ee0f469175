"""Which tokens a token sees, by a word: the masks that attention takes.

A mask answers for queries at `positions` (B or 1, T) and keys in `slots` (B or 1, S), each the position of its token:
(B or 1, T, S) bool. With a cache the slots are all of it, 0 .. S-1; without one they are the tokens' own positions, and
a pad stands at one past the last (see `gpt.py`). A mask that is not `causal` looks ahead: it has no cache. One that is
`bounded(model)` shows so many first and so many newest tokens alone (`windowed.py`); of others that is None.

Positions are those in the text; a cache that evicts (`evicting.py`) shows what the mask `sinks` shows, at positions
inside the cache. A sink token (`model.sink`) is the first token: `window` loses sight of it, `sinks` counts it among
its `model.sink_tokens`.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from juliagpt_jax.ground.knobs import model as knobs


class Causal:
    """Every token up to the own one: the baseline's (`gpt.py`)."""

    causal: ClassVar[bool] = True

    @staticmethod
    def bounded(model: knobs.Model) -> tuple[int, int] | None:
        return None

    @staticmethod
    def visible(model: knobs.Model, slots: jax.Array, positions: jax.Array) -> jax.Array:
        return slots[:, None, :] <= positions[:, :, None]


class Whole:
    """Every token that exists, before and behind: for encoders."""

    causal: ClassVar[bool] = False

    @staticmethod
    def bounded(model: knobs.Model) -> tuple[int, int] | None:
        return None

    @staticmethod
    def visible(model: knobs.Model, slots: jax.Array, positions: jax.Array) -> jax.Array:
        exists = (slots < slots.shape[1])[:, None, :]
        return jnp.broadcast_to(exists, (exists.shape[0], positions.shape[1], slots.shape[1]))


class Window:
    """The newest `model.window` tokens, the own one among them (Longformer: Beltagy et al. 2020, arXiv 2004.05150,
    section 3.1; causal as in Mistral 7B, arXiv 2310.06825, section 2)."""

    causal: ClassVar[bool] = True

    @staticmethod
    def bounded(model: knobs.Model) -> tuple[int, int] | None:
        return 0, model.window

    @staticmethod
    def visible(model: knobs.Model, slots: jax.Array, positions: jax.Array) -> jax.Array:
        return Causal.visible(model, slots, positions) & _near(model, slots, positions)


class Sinks:
    """The first `model.sink_tokens` tokens and the window's: what StreamingLLM keeps (Xiao et al. 2023, arXiv
    2309.17453, section 3.2), at the positions that the tokens have in the text."""

    causal: ClassVar[bool] = True

    @staticmethod
    def bounded(model: knobs.Model) -> tuple[int, int] | None:
        return model.sink_tokens, model.window

    @staticmethod
    def visible(model: knobs.Model, slots: jax.Array, positions: jax.Array) -> jax.Array:
        first = (slots < model.sink_tokens)[:, None, :]
        return Causal.visible(model, slots, positions) & (first | _near(model, slots, positions))


def _near(model: knobs.Model, slots: jax.Array, positions: jax.Array) -> jax.Array:
    return positions[:, :, None] - slots[:, None, :] < model.window


def causal(model: knobs.Model) -> bool:
    """No layer's mask lets a token see a later one."""
    return all(MASKS[word].causal for word in model.mask.split())


MASKS: dict[str, Any] = {"causal": Causal, "none": Whole, "window": Window, "sinks": Sinks}
