"""The window of a text that is longer than the cache: when it rolls, and what stays in sight."""

from typing import Any, NamedTuple

import numpy as np

from juliagpt_jax.ground.errors import UserError


class Window(NamedTuple):
    """A cache of `slots` tokens over a text that goes on.

    When it is full, half of it is filled again: with the newest tokens, or, with `sinks`, with the first tokens of the
    text and the newest (StreamingLLM, Xiao et al. 2023, arXiv 2309.17453). A text is a sequence or an array of ids.

    With `evict` nothing is filled again: the cache lets go of one old token for each new one, but for its sinks
    (`models/evicting.py`), and is full for good.
    """

    slots: int
    sinks: int = 0
    evict: bool = False

    def check(self) -> None:
        """Raise a UserError when the sinks leave no room for newer tokens in half a window, or in a whole one that
        evicts."""
        room, what = (self.slots, "a context") if self.evict else (self.half, "half a context")
        if not 0 <= self.sinks < room:
            raise UserError(f"sinks={self.sinks} is outside 0 .. {room - 1}: with the newest they are {what}")

    @property
    def half(self) -> int:
        """Tokens in sight just after it has rolled."""
        return self.slots // 2

    @property
    def says(self) -> str:
        """Which tokens of a longer text are in sight, in words."""
        newest = f"the last {self.slots - self.sinks}"
        if not self.evict:
            newest = f"the last {self.half - self.sinks} to {self.slots - self.sinks}"
        return f"the first {self.sinks} and {newest}" if self.sinks else newest

    def rolls(self, filled: Any, more: int) -> Any:
        """Tell, for a number or an array of filled slots, where `more` tokens need a roll first."""
        return filled + more > (np.inf if self.evict else self.slots)

    def begin(self, prompt: Any) -> Any:
        """Return what is read of a prompt: all, or what stays in sight of one that is longer than the window."""
        return prompt if len(prompt) <= self.slots else self.in_sight(prompt)

    def in_sight(self, text: Any) -> Any:
        """Return the sinks and the newest tokens of a longer text: half a window of it, or a whole one that evicts."""
        newest = text[len(text) - ((self.slots if self.evict else self.half) - self.sinks) :]
        return np.concatenate([text[: self.sinks], newest]) if self.sinks else newest
