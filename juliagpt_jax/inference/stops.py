"""Text as it is written, ended before a stop string or before the token that ends a text: looked for on the host, after
each block of tokens."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from juliagpt_jax.data.tokenizer import Tokenizer, stream_text
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.sampling import Rule


class Cutter:
    """A text that comes in pieces and ends before the stop that is complete first, of several at once before the
    longest. However it is cut into pieces, the same is shown.

    Attributes:
        stopped: whether a stop was met; nothing more is shown then.
    """

    def __init__(self, stops: Sequence[str]):
        """Raise a UserError when a stop is empty."""
        if not all(stops):
            raise UserError("a stop string is empty: it would end every text before its first character")
        self.stops = stops
        self.stopped = False
        self._held = ""

    def push(self, text: str) -> str:
        """Return what can be shown now: all but an end that a stop may begin with."""
        if self.stopped:
            return ""
        text = self._held + text
        found = first_stop(text, self.stops)
        if found:
            self.stopped, self._held = True, ""
            return text[: found[0]]
        at = len(text) - begun(text, self.stops)
        self._held = text[at:]
        return text[:at]

    def end(self) -> str:
        """Return what was held back, when no more text comes."""
        rest, self._held = self._held, ""
        return rest


def first_stop(text: str, stops: Iterable[str], begin: int = 0, recent: int | None = None) -> tuple[int, int] | None:
    """Return start and end of the stop string in text[begin:] that is complete first, if any; among those that end
    together the longest. All but the last `recent` characters are known to have none; None: nothing is known."""
    known = 0 if recent is None else len(text) - recent
    found = []
    for stop in stops:
        start = text.find(stop, max(begin, known - len(stop) + 1))
        if start >= 0:
            found.append((start + len(stop), start))
    if not found:
        return None
    end, start = min(found)
    return start, end


def cut(text: str, stops: Iterable[str]) -> str:
    """Return a whole text up to the stop string that ends it."""
    found = first_stop(text, stops)
    return text[: found[0]] if found else text


def until(ids: np.ndarray, end: int | None) -> tuple[np.ndarray, bool]:
    """Return the ids (N,) before the first one that ends a text, and whether there is one; `end` None: none does."""
    found = np.flatnonzero(ids == end) if end is not None else np.zeros(0, int)
    return (ids[: found[0]], True) if len(found) else (ids, False)


def begun(text: str, stops: Iterable[str]) -> int:
    """Count the characters at the end of the text that may be the beginning of a stop string."""
    return max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)


def stream_texts(
    generator: Generator,
    tokenizer: Tokenizer,
    prompts: Sequence[np.ndarray],
    new_tokens: int,
    rule: Rule,
    seed: int,
    stops: Sequence[str] = (),
    end: int | None = None,
) -> Iterator[list[tuple[str, bool]]]:
    """Yield for each prompt the text that follows in pieces, and whether it has ended by now before a stop or before
    the token `end`, of which nothing is shown; until all have their tokens or have ended. A row that has ended says
    nothing more, and the others are what they would be alone.

    Raises:
        UserError: a stop is empty, or as `Generator.stream`.
    """
    cutters = [Cutter(stops) for _ in prompts]
    ended = [False] * len(prompts)

    def blocks() -> Iterator[np.ndarray]:
        for block in generator.stream(prompts, new_tokens, rule, seed):
            yield block
            if all(met or cutter.stopped for met, cutter in zip(ended, cutters, strict=True)):
                return

    def pieces(row: int) -> Iterator[np.ndarray]:
        for block in copies[row]:
            own, met = until(block[row][: 0 if ended[row] else None], end)
            ended[row] |= met
            yield own

    copies = itertools.tee(blocks(), len(prompts))
    texts = [stream_text(tokenizer, prompt, pieces(row)) for row, prompt in enumerate(prompts)]
    said = lambda row: ended[row] or cutters[row].stopped
    for fresh in zip(*texts, strict=True):
        shown = [cutter.push(text) for cutter, text in zip(cutters, fresh, strict=True)]
        yield [(text, said(row)) for row, text in enumerate(shown)]
    yield [(cutter.end(), said(row)) for row, cutter in enumerate(cutters)]
