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

    @property
    def ending(self: Any) -> int:
        """The id that ends what an encoder reads and what a decoder answers: of the end of a text, or of a line; -1
        where there is neither."""
        return self.newline if self.eos is None else self.eos

    def source(self: Any, text: str, unknown: str = "error") -> np.ndarray:
        """Return the ids (n,) int32 of a text that an encoder reads: the prefix, the text's, and `ending`.

        A tokenizer of SentencePiece's kind reads lines, and blanks that it would not give back, as single blanks
        between words.

        Raises:
            UserError: characters that the tokenizer lacks, or it has no id that ends a text.
        """
        if self.ending < 0:
            raise UserError("the tokenizer has no id that ends a text, as a T5 needs one; data.tokenizer=bpe has")
        if getattr(self, "marks_start", False):
            words = text.split()
            bare = folding.encode(self, "".join(words), unknown)  # for what it says of characters
            if unknown == "fold":
                words = [folding.fold(self, word)[0] for word in words]
            lacking = dict.fromkeys(map(ord, self.unknown("".join(words))))
            words = [left for word in words if (left := word.translate(lacking))]
            own = self.encode(" ".join(words)) if len(bare) else bare
        else:
            own = folding.encode(self, text, unknown)
        return np.array([*self.prefix, *own.tolist(), self.ending], np.int32)
