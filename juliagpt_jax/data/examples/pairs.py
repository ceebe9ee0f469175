"""Examples as pairs of texts: what an encoder reads, and what a decoder writes (`models/t5.py`)."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from juliagpt_jax.data.batch import IGNORED, Batch
from juliagpt_jax.data.examples.rows import MULTIPLE, Encoded, Form, Rows
from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs.model import ABSENT, START


class PairForm(Form):
    """Examples whose question is a text of its own, ended by the id that ends their answer, too."""

    def encode(self, example: Example, answer: str | None = None) -> Encoded:
        """Return the ids of a question and those of its answer behind it, which are learned.

        Raises:
            UserError: characters that the tokenizer lacks, or the example is a conversation.
        """
        if self.chat or "messages" in example.facts:
            raise UserError("a T5 answers a prompt, and holds no conversation")
        return super().encode(example, answer)

    def _prompt(self, text: str) -> np.ndarray:
        return self.tokenizer.source(text, self.unknown)

    def _plain(self, prompt: str, answer: str) -> list[tuple[np.ndarray, bool]]:
        asked, given = self._prompt(prompt), self.tokenizer.encode(answer, self.unknown)
        if np.isin(given, self.end).any():
            raise UserError(f"an answer holds what ends an answer: {answer[:60]!r}")
        return [(asked, False), (np.array([*given.tolist(), *self.end], np.int32), True)]


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs(Rows):
    """One pair a row: a source of `source_length` places at most, and as many of an answer as `length` leaves."""

    source_length: int = 0

    def take(self, which: Sequence[int] | np.ndarray) -> Batch:
        """Return some rows, as NumPy arrays; what is not there is ABSENT in the source."""
        answers = self.length - self.source_length
        source = np.full((len(which), self.source_length), ABSENT, np.int32)
        tokens, targets = np.full((2, len(which), answers), START, np.int32)
        targets[:] = IGNORED
        for row, number in enumerate(which):
            ids, learned = self.examples[self.members[number][0]]
            first = int(np.argmax(learned))
            asked, answer = ids[:first], ids[first:]
            source[row, : len(asked)] = asked
            tokens[row, 1 : len(answer)] = answer[:-1]
            targets[row, : len(answer)] = answer
        return Batch({"source": source, "tokens": tokens}, targets)


def form(tokenizer: Tokenizer, unknown: str) -> PairForm:
    """Return how examples become pairs in a tokenizer, whose `ending` ends both.

    Raises:
        UserError: it has none.
    """
    tokenizer.source("")
    return PairForm(tokenizer, (tokenizer.ending,), unknown=unknown)


def pair(examples: Sequence[Encoded], beside: Sequence[Encoded] = ()) -> Pairs:
    """Return examples as rows that have room for the longest source and the longest answer, `beside` counted too."""
    firsts = [int(np.argmax(own.learned)) for own in (*examples, *beside)]
    ends = [len(own.ids) - first for own, first in zip((*examples, *beside), firsts, strict=True)]
    source, answer = (-(-max(sizes) // MULTIPLE) * MULTIPLE for sizes in (firsts, ends))
    return Pairs(examples, [[i] for i in range(len(examples))], source + answer, False, source)
