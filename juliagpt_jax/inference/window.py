"""The window of a text that is longer than the cache: when it rolls, and what stays in sight."""

from typing import Any, NamedTuple

import numpy as np

from juliagpt_jax.ground.errors import UserError


class Window(NamedTuple):
    """A cache of `slots` tokens over a text that goes on.

    When it is full, half of it is filled again: with the newest tokens, or, with `sinks`, with the first tokens of the
    text and the newest (StreamingLLM, Xiao et al. 2023, arXiv 2309.17453). A text is a sequence or an array of ids.
    """

    slots: int
    sinks: int = 0

    def check(self) -> None:
        """Raise a UserError when the sinks leave no room for newer tokens in half a window."""
        if not 0 <= self.sinks < self.half:
            raise UserError(
                f"sinks={self.sinks} is outside 0 .. {self.half - 1}: with the newest they are half a context"
            )

    @property
    def half(self) -> int:
        """Tokens in sight just after it has rolled."""
        return self.slots // 2

    def rolls(self, filled: Any, more: int) -> Any:
        """Tell, for a number or an array of filled slots, where `more` tokens need a roll first."""
        return filled + more > self.slots

    def begin(self, prompt: Any) -> Any:
        """Return what is read of a prompt: all, or what stays in sight of one that is longer than the window."""
        return prompt if len(prompt) <= self.slots else self.in_sight(prompt)

    def in_sight(self, text: Any) -> Any:
        """Return half a window of a text that is longer: its sinks and its newest tokens."""
        newest = text[len(text) - (self.half - self.sinks) :]
        return np.concatenate([text[: self.sinks], newest]) if self.sinks else newest
