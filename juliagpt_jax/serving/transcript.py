"""The text of a sequence while it grows: what may be shown already, and where a stop string ends it."""

from collections.abc import Iterable, Sequence

import numpy as np

from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.inference.stops import begun, first_stop

CONTEXT = 8  # tokens before the first new one that are decoded with it: the start of a text may read differently


class Transcript:
    """Text of tokens, shown up to what may still change: part of a character, or the beginning of a stop string.

    What is shown, counted and cut depends on the tokens alone, not on how many of them come at once.

    Args:
        before: ids that the text follows.
        echo: ids that the text begins with; no stop string is looked for in them.
        stops: of those in the text the one that is complete first ends it, and is not part of it.

    Attributes:
        text: that may be shown.
        stopped: whether a stop string has ended it.
        tokens: that made it, with those of the stop string, without `echo`.
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int], echo: Sequence[int], stops: Iterable[str]):
        self._tokenizer, self._stops = tokenizer, tuple(stops)
        self._ids = [*before[-CONTEXT:], *echo]
        self._context = len(self._ids) - len(echo)
        self._skip = len(self._decode(self._context))
        self._echo = len(echo)
        self._ends: list[int] = []
        self.text = self._decode(len(self._ids))[self._skip :]
        self._searched = len(self.text)
        self.stopped, self.tokens = False, 0

    def add(self, ids: Sequence[int], last: bool) -> None:
        """Continue by tokens; after the `last` ones everything is shown that is not cut off by a stop string."""
        self._ids.extend(ids)
        whole = self._decode(len(self._ids))[self._skip :]
        text = whole.rstrip("\ufffd")
        found = first_stop(text, self._stops, self._searched, len(text) - len(self.text))
        self.tokens = len(self._ids) - self._context - self._echo
        if found:
            start, end = found
            self.text, self.stopped = text[:start], True
            self.tokens = next(n for n, at in enumerate(self.ends(), 1) if at >= end) - self._echo
        else:
            self.text = whole if last else text[: len(text) - begun(text[self._searched :], self._stops)]

    def ends(self) -> list[int]:
        """For each token, those of `echo` first, the length of the text with it."""
        for count in range(len(self._ends), len(self._ids) - self._context):
            text = self._decode(self._context + count + 1)[self._skip :].rstrip("\ufffd")
            self._ends.append(max(len(text), self._ends[-1] if self._ends else 0))
        return self._ends

    def _decode(self, count: int) -> str:
        return self._tokenizer.decode(np.array(self._ids[:count], np.int64))
