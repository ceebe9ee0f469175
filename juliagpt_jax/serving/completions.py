"""Requests and answers of `/v1/completions`, in the shape of OpenAI's API of that name.

The API is described at https://platform.openai.com/docs/api-reference/completions. More than there: `top_k`,
`ignore_eos`, prompts as ids of the model's own tokens, up to TOP alternatives of a token. What the model has not
(penalties, logit_bias, suffix, best_of) is refused unless it is without effect.
"""

import secrets
import time
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field

from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.serving.asked import Asked, Limits, Refused
from juliagpt_jax.serving.batch import TOP
from juliagpt_jax.serving.job import Piece, Request, Token


class Completion(Asked):
    """The body of a request. A field that is null is as if it were not there."""

    prompt: str | list[str] | list[int] | list[list[int]]
    best_of: int | None = None
    logprobs: Annotated[int, Field(ge=0, le=TOP)] | None = None
    echo: bool | None = None
    suffix: Any = None

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Read what a body asks for; see `Asked.read`."""
        asked = super().read(body)
        if asked.best_of not in (None, asked.n or 1):
            raise Refused(400, "best_of is not supported beyond n", "best_of", "unsupported_parameter")
        return asked

    def requests(self, tokenizer: Tokenizer, limits: Limits, unknown: str = "error") -> list[Request]:
        """Return for each prompt n texts to write; see `Asked.texts`.

        Args:
            unknown: what becomes of characters that the tokenizer lacks; see `folding.encode`.

        Raises:
            Refused: a prompt is empty, too long, or has what the tokenizer lacks; or more is asked for than `limits`
            allow.
        """
        max_tokens = 16 if self.max_tokens is None else self.max_tokens
        self.hold(limits, len(self._prompts()), max_tokens)
        prompts = [_ids(prompt, tokenizer, limits, unknown) for prompt in self._prompts()]
        longest = max((len(ids) for ids, _ in prompts), default=0)
        if self.echo and self.logprobs is not None and longest > limits.context:
            says = f"a prompt of {longest} tokens cannot be scored: the model's context is {limits.context}"
            raise Refused(400, says, "prompt", "context_length_exceeded")
        return self.texts(prompts, max_tokens, tokenizer, logprobs=self.logprobs, echo=bool(self.echo))

    def _prompts(self) -> Sequence[str | list[int]]:
        """One by one: what is a list of ids alone is one prompt."""
        if isinstance(self.prompt, str) or (self.prompt and isinstance(self.prompt[0], int)):
            return [self.prompt]  # pyright: ignore[reportReturnType]
        return self.prompt  # pyright: ignore[reportReturnType]


def _ids(prompt: str | list[int], tokenizer: Tokenizer, limits: Limits, unknown: str) -> tuple[np.ndarray, int]:
    """Return the ids of a prompt behind those that stand before one, and how many these are."""
    if isinstance(prompt, str):
        try:
            ids, hidden = tokenizer.prompt(prompt, unknown)
        except UserError as error:
            raise Refused(400, f"prompt: {error}", "prompt", "unknown_characters") from error
    else:
        ids, hidden = np.array(prompt), 0
        wrong = [i for i in prompt if not 0 <= i < tokenizer.vocab_size]
        if wrong or not prompt:
            what = f"id {wrong[0]} is outside the vocabulary of {tokenizer.vocab_size}" if wrong else "has no ids"
            raise Refused(400, f"prompt: {what}", "prompt")
    if len(ids) - hidden > limits.max_prompt:
        says = f"the prompt has {len(ids) - hidden} tokens; this server reads up to {limits.max_prompt}"
        raise Refused(400, says, "prompt", "context_length_exceeded")
    return ids.astype(np.int32), hidden


class Answer:
    """Shapes what requests are delivered: all at once, or piece by piece."""

    prefix, kind = "cmpl", "text_completion"

    def __init__(self, model: str, requests: Sequence[Request], usage_asked: bool = False):
        """`usage_asked`: a stream ends with the usage, and says null before, as `stream_options.include_usage` has
        it."""
        self.usage_asked = usage_asked
        self._head = {
            "id": f"{self.prefix}-{secrets.token_hex(12)}",
            "object": self.kind,
            "created": int(time.time()),
            "model": model,
        }
        self._requests = requests
        self._completion = [0] * len(requests)
        self._texts = [""] * len(requests)
        self._tokens: list[list[Token]] = [[] for _ in requests]
        self._finish = [""] * len(requests)

    def add(self, number: int, piece: Piece) -> None:
        """Keep a piece for `whole`."""
        self._texts[number] += piece.text
        self._tokens[number] += piece.tokens
        self._finish[number] = piece.finish
        self._completion[number] = piece.completion

    def chunk(self, number: int, piece: Piece) -> dict[str, Any]:
        """Return what is streamed of a piece."""
        self._completion[number] = piece.completion
        choices = [self._choice(number, piece.text, piece.tokens, piece.finish)]
        return {**self._head, "choices": choices} | ({"usage": None} if self.usage_asked else {})

    def whole(self) -> dict[str, Any]:
        parts = zip(self._texts, self._tokens, self._finish, strict=True)
        choices = [self._choice(number, *part) for number, part in enumerate(parts)]
        return {**self._head, "choices": choices, "usage": self.usage()}

    def read(self, tokenizer: Tokenizer) -> tuple[list[str], list[str]]:
        """Return the prompt of each text, "" where the text begins with it, and the texts, as a verifier reads them."""
        before = lambda request: "" if request.echo else tokenizer.decode(request.prompt[request.hidden :])
        return [before(request) for request in self._requests], list(self._texts)

    def last_chunk(self) -> dict[str, Any]:
        """Return the chunk after all choices, for `stream_options.include_usage`."""
        return {**self._head, "choices": [], "usage": self.usage()}

    def usage(self) -> dict[str, int]:
        """Tokens read, each prompt counted once however many texts follow it, and written."""
        prompt = sum(len(request.prompt) for request in self._first())
        completion = sum(self._completion)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def _choice(self, number: int, text: str, tokens: Sequence[Token], finish: str) -> dict[str, Any]:
        wanted = self._requests[number].logprobs is not None
        found = _logprobs(tokens) if wanted else None
        return {"index": number, "text": text, "logprobs": found, "finish_reason": finish or None}

    def _first(self) -> Iterable[Request]:
        seen: set[int] = set()
        for request in self._requests:
            if id(request.prompt) not in seen:
                seen.add(id(request.prompt))
                yield request


def _logprobs(tokens: Sequence[Token]) -> dict[str, list]:
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [token.top for token in tokens],
        "text_offset": [token.offset for token in tokens],
    }
