"""One text that a server writes: what was asked for, how far it is, and what its reader gets next."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.inference.generate import ENDED, Guide, Guided
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.inference.stops import until
from juliagpt_jax.serving.batch import Scores
from juliagpt_jax.serving.transcript import Transcript


@dataclasses.dataclass(frozen=True)
class Request:
    """One text to write.

    Attributes:
        prompt: ids, at least one. Of more than the context the last half context is read.
        max_tokens: 0 only scores the prompt.
        seed, nth: draws depend on both, on the prompt and the rule; nth is the number of equal prompts before it.
        hidden: how many ids at the start of the prompt are no part of the text: those a tokenizer puts before it.
        stops: strings that end the text; see `Transcript`.
        ends: ids that end it, and are no part of it.
        logprobs: scores of each token with so many alternatives, at most batch.TOP; None for none.
        adapter: the number of the one that the model has on for it; 0: none.
        echo: begin the text with the prompt. With `logprobs` it is scored, too, and must fit into the context.
        guided: begins what has a say before each token; None: nothing has.
    """

    prompt: np.ndarray
    max_tokens: int
    rule: Rule
    seed: int
    nth: int = 0
    hidden: int = 0
    stops: tuple[str, ...] = ()
    ends: tuple[int, ...] = ()
    logprobs: int | None = None
    echo: bool = False
    adapter: int = 0
    guided: Guided | None = None

    @property
    def scores_prompt(self) -> bool:
        return self.echo and self.logprobs is not None


@dataclasses.dataclass(frozen=True)
class Token:
    """A token of a text: how it reads, where it stands there, its log-probability in nats and that of the likeliest.
    The first of a prompt, before which nothing stands, has none."""

    text: str
    offset: int
    logprob: float | None
    top: dict[str, float] | None


@dataclasses.dataclass(frozen=True)
class Piece:
    """The next part of a text. In the last piece `finish` is "stop" or "length", or there is an `error`."""

    text: str = ""
    tokens: Sequence[Token] = ()  # with logprobs
    finish: str = ""
    completion: int = 0  # tokens drawn so far
    error: str = ""


class Job:
    """A request that is being served.

    Args:
        name: the text of a token alone.
        deliver: where its pieces go.

    Attributes:
        window: the ids that its row has read.
        done: tokens that were drawn.
        cancelled: nobody waits for it any more.
        joined: when it got a row, a time of `time.monotonic`.
        guide: has a say before each token.
    """

    def __init__(
        self, request: Request, tokenizer: Tokenizer, name: Callable[[int], str], deliver: Callable[[Piece], None]
    ):
        self.request, self.deliver, self._name = request, deliver, name
        self.window: list[int] = []
        self.done, self.cancelled, self.joined = 0, False, 0.0
        prompt, hidden = request.prompt.tolist(), request.hidden
        before, self._ids = (prompt[:hidden], prompt[hidden:]) if request.echo else (prompt, [])
        self.transcript = Transcript(tokenizer, before, self._ids, request.stops)
        self.guide: Guide | None = request.guided([request.prompt], request.max_tokens) if request.guided else None
        self._scores: list[tuple[float | None, dict[str, float] | None]] = []
        self._shown = self._shown_tokens = 0

    def note_prompt(self, scores: Scores) -> None:
        """Keep the scores of all of the prompt but its first token."""
        hidden = self.request.hidden
        if not hidden:
            self._scores.append((None, None))
        self._note(Scores(*(leaf[max(0, hidden - 1) :] for leaf in scores)), self._ids[0 if hidden else 1 :])

    def add(self, ids: list[int], scores: Scores | None) -> bool:
        """Continue by drawn tokens, of which those past max_tokens or the end of the text are dropped, with their
        scores; deliver what there is to show. Returns whether the text ends."""
        new = ids[: self.request.max_tokens - self.done]
        said, ended = until(np.array(new, np.int64), (*self.request.ends, ENDED))
        new = said.tolist()
        self.done += len(new) + ended
        self.window += new
        self._ids += new
        if self.request.logprobs is not None and scores:
            self._note(scores, new)
        last = ended or self.done == self.request.max_tokens
        self.transcript.add(new, last)
        finish = "stop" if ended or self.transcript.stopped else "length" if last else ""
        text = self.transcript.text
        tokens = self._tokens(len(text), last) if self.request.logprobs is not None else ()
        if text[self._shown :] or tokens or finish:
            counted = self.transcript.tokens + (ended and not self.transcript.stopped)
            self.deliver(Piece(text[self._shown :], tokens, finish, counted))
        self._shown = len(text)
        return bool(finish)

    def _note(self, scores: Scores, ids: Sequence[int]) -> None:
        count = self.request.logprobs or 0
        for n, token in enumerate(ids):
            top: dict[str, float] = {}
            for value, other in zip(scores.top[n][:count], scores.ids[n][:count], strict=True):
                top.setdefault(self._name(int(other)), float(value))  # parts of characters may read alike
            top.setdefault(self._name(token), float(scores.taken[n]))
            self._scores.append((float(scores.taken[n]), top))

    def _tokens(self, upto: int, last: bool) -> list[Token]:
        """Return the tokens that are shown with the first `upto` characters and were not before."""
        ends, tokens = self.transcript.ends(), []
        for n in range(self._shown_tokens, len(ends)):
            begin = ends[n - 1] if n else 0
            if begin >= upto if self.transcript.stopped else ends[n] > upto and not last:
                break
            tokens.append(Token(self._name(self._ids[n]), begin, *self._scores[n]))
        self._shown_tokens += len(tokens)
        return tokens
