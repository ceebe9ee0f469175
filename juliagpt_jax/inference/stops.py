"""Text as it is written, ended before a stop string or an id that ends it: looked for on the host, after each block of
tokens."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from juliagpt_jax.data.tokenizer import Tokenizer, stream_text
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.generate import ENDED, Generator, Guided
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
    ends: Sequence[int] = (),
    guided: Guided | None = None,
) -> Iterator[list[tuple[str, bool]]]:
    """Yield for each prompt the text that follows in pieces, and whether it has ended by now; until all have their
    tokens or have ended. A row that has ended says nothing more, and the others are what they would be alone.

    Args:
        stops: strings that end a text, and are no part of it.
        ends: ids that end a text, and are no part of it (`Opened.stops`).
        guided: as of `Generator.stream`.

    Raises:
        UserError: a stop is empty, or as `Generator.stream`.
    """
    cutters = [Cutter(stops) for _ in prompts]
    ended, finished = [False] * len(prompts), False
    stream = generator.stream(prompts, new_tokens, rule, seed, guided=guided)
    copies, ends = itertools.tee(stream, len(prompts)), (*ends, ENDED)

    def pieces(row: int) -> Iterator[np.ndarray]:
        while not finished and (piece := next(copies[row], None)) is not None:
            own, met = until(piece[row][: 0 if ended[row] else None], ends)
            ended[row] |= met
            yield own

    before = [[] for _ in prompts] if generator.model.encodes else prompts  # an answer is a text of its own
    texts = [stream_text(tokenizer, prompt, pieces(row)) for row, prompt in enumerate(before)]
    over = lambda row: ended[row] or cutters[row].stopped
    for fresh in zip(*texts, strict=True):
        yield [(cutter.push(text), over(row)) for row, (cutter, text) in enumerate(zip(cutters, fresh, strict=True))]
        finished = all(map(over, range(len(prompts))))
    yield [(cutter.end(), over(row)) for row, cutter in enumerate(cutters)]


def until(ids: np.ndarray, ends: Sequence[int]) -> tuple[np.ndarray, bool]:
    """Return the ids (N,) before the first one that ends a text, of `ends`, and whether there is one."""
    found = np.flatnonzero(np.isin(ids, ends))
    return (ids[: found[0]], True) if len(found) else (ids, False)
