"""Prompts as ids: the text that a model goes on from, behind what its tokenizer puts before a text."""

from typing import Any, NamedTuple

import numpy as np

from juliagpt_jax.data import folding
from juliagpt_jax.ground.errors import UserError


class Prompt(NamedTuple):
    """The tokens that a model reads before it writes.

    Attributes:
        ids: (n,) int32, at least one.
        hidden: how many ids at their start are no part of the text.
    """

    ids: np.ndarray
    hidden: int


class Prompting:
    """Prompts of every tokenizer."""

    def prompt(self: Any, text: str, unknown: str = "error", begins: bool = False) -> Prompt:
        """Return the ids of a prompt, the same for every command: the prefix, then the text's. Where both are nothing,
        `lead` stands there, so that an empty prompt begins a text.

        Args:
            unknown: as of `folding.encode`.
            begins: the prompt is the beginning of a text, not a place in it: without a prefix `lead` stands before it.

        Raises:
            UserError: characters that the tokenizer lacks.
        """
        own = folding.encode(self, text, unknown)
        before = self.prefix or ((self.lead,) if begins or not len(own) else ())
        return Prompt(np.array([*before, *own.tolist()], np.int32), len(before))

    def source(self: Any, text: str, unknown: str = "error") -> np.ndarray:
        """Return the ids (n,) int32 of a text that an encoder reads: the prefix, the text's, and the id of its end.

        Raises:
            UserError: characters that the tokenizer lacks, or it has no id that ends a text.
        """
        if self.eos is None:
            raise UserError("the tokenizer has no id that ends a text, as a T5 needs one; data.tokenizer=bpe has")
        return np.array([*self.prefix, *folding.encode(self, text, unknown).tolist(), self.eos], np.int32)
