"""Requests and answers of `/v1/completions`, in the shape of OpenAI's API of that name.

The API is described at https://platform.openai.com/docs/api-reference/completions. More than there: `top_k`,
`ignore_eos`, prompts as ids of the model's own tokens, up to TOP alternatives of a token. What the model has not
(penalties, logit_bias, suffix, best_of) is refused unless it is without effect.
"""

import dataclasses
import secrets
import time
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.words import near
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.serving.batch import TOP
from juliagpt_jax.serving.job import Piece, Request, Token

MOST_STOPS, LONGEST_STOP = 16, 256
# What clients send without meaning it: fields that are not supported, and the value of each that has no effect.
NEUTRAL = {
    "suffix": "",
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logit_bias": {},
    # of other servers of this API
    "repetition_penalty": 1,
    "repeat_penalty": 1,
    "length_penalty": 1,
    "typical_p": 1,
    "min_p": 0,
    "min_tokens": 0,
    "use_beam_search": False,
}


class Refused(Exception):
    """A request that is answered with an error.

    Args:
        status: of HTTP.
        param: the field that is wrong.
        code: OpenAI's word for what happened.
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None, retry_after: int = 0
    ):
        super().__init__(message)
        self.status, self.retry_after = status, retry_after
        self.body = error_body(status, message, param, code)


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of one request: new tokens, tokens of a prompt, bytes of a body, texts. `context` is the model's:
    a longer prompt is read from its last half on."""

    max_tokens: int
    max_prompt: int
    max_body: int
    texts: int
    context: int


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    include_usage: bool | None = None


class Completion(BaseModel):
    """The body of a request. A field that is null is as if it were not there."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())
    prompt: str | list[str] | list[int] | list[list[int]]
    model: str | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None  # -1, as 0: all
    n: Annotated[int, Field(ge=1)] | None = None
    best_of: int | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool | None = None  # go on behind the token that ends a text
    seed: Annotated[int, Field(ge=-1, lt=2**32)] | None = None  # -1, as null: another one each time
    logprobs: Annotated[int, Field(ge=0, le=TOP)] | None = None
    echo: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None  # of no use here
    suffix: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    logit_bias: Any = None
    repetition_penalty: Any = None
    repeat_penalty: Any = None
    length_penalty: Any = None
    typical_p: Any = None
    min_p: Any = None
    min_tokens: Any = None
    use_beam_search: Any = None

    @classmethod
    def read(cls, body: bytes) -> "Completion":
        """Read what a body asks for.

        Raises:
            Refused: it is not JSON, or a field is unknown, missing, of the wrong type, out of range or not supported.
        """
        try:
            asked = cls.model_validate_json(body)
        except ValidationError as error:
            raise _refusal(error) from error
        for name, value in NEUTRAL.items():
            if getattr(asked, name) not in (None, value):
                raise Refused(400, f"{name} is not supported", name, "unsupported_parameter")
        if asked.best_of not in (None, asked.n or 1):
            raise Refused(400, "best_of is not supported beyond n", "best_of", "unsupported_parameter")
        stops = asked.stops()
        if len(stops) > MOST_STOPS or not all(0 < len(stop) <= LONGEST_STOP for stop in stops):
            raise Refused(400, f"stop: up to {MOST_STOPS} texts of 1 .. {LONGEST_STOP} characters", "stop")
        return asked

    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def requests(self, tokenizer: Tokenizer, limits: Limits, unknown: str = "error") -> list[Request]:
        """Return for each prompt n texts to write. The draws are those of `generate` with this seed for all the
        prompts.

        Args:
            unknown: what becomes of characters that the tokenizer lacks; see `folding.encode`.

        Raises:
            Refused: a prompt is empty, too long, or has what the tokenizer lacks; or more is asked for than `limits`
            allow.
        """
        max_tokens = 16 if self.max_tokens is None else self.max_tokens
        if max_tokens > limits.max_tokens:
            raise Refused(
                400, f"max_tokens is {max_tokens}; this server writes up to {limits.max_tokens}", "max_tokens"
            )
        prompts, n = self._prompts(), self.n or 1
        if not 0 < len(prompts) * n <= limits.texts:
            raise Refused(400, f"{len(prompts)} prompts x n={n}: this server takes 1 .. {limits.texts} texts", "n")
        greedy = self.temperature == 0
        temperature = 1.0 if self.temperature is None or greedy else self.temperature
        rule = Rule(temperature, max(0, self.top_k or 0), 1.0 if self.top_p is None else self.top_p, greedy)
        seed = secrets.randbits(32) if self.seed in (None, -1) else self.seed
        end = None if self.ignore_eos else tokenizer.eos
        seen: dict[bytes, int] = {}
        requests = []
        for prompt in prompts:
            ids, hidden = _ids(prompt, tokenizer, limits, unknown)
            scored = bool(self.echo) and self.logprobs is not None
            if scored and len(ids) > limits.context:
                says = f"a prompt of {len(ids)} tokens cannot be scored: the model's context is {limits.context}"
                raise Refused(400, says, "prompt", "context_length_exceeded")
            for _ in range(n):
                nth = seen[ids.tobytes()] = seen.get(ids.tobytes(), -1) + 1
                more = {"logprobs": self.logprobs, "echo": bool(self.echo)}
                requests.append(Request(ids, max_tokens, rule, seed, nth, hidden, self.stops(), end, **more))
        return requests

    def _prompts(self) -> Sequence[str | list[int]]:
        """One by one: what is a list of ids alone is one prompt."""
        if isinstance(self.prompt, str) or (self.prompt and isinstance(self.prompt[0], int)):
            return [self.prompt]  # pyright: ignore[reportReturnType]
        return self.prompt  # pyright: ignore[reportReturnType]

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


def _refusal(error: ValidationError) -> Refused:
    """Return the first mistake in one line."""
    first = error.errors(include_url=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return Refused(400, f"the body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}")
    if not first["loc"]:
        return Refused(400, "the body must be a JSON object")
    param = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        name, names = ".".join(map(str, first["loc"])), Completion.model_fields
        return Refused(400, f"no field is called {name!r}{near(name, names)}", name, "unknown_parameter")
    if first["type"] == "missing":
        return Refused(400, f"{param} is missing", param)
    if param == "prompt":
        return Refused(400, "prompt must be a text, a list of texts, a list of ids or a list of such lists", param)
    if param == "stop":
        return Refused(400, "stop must be a text or a list of texts", param)
    given = repr(first["input"])
    given = given if len(given) <= 40 else given[:40] + "..."
    return Refused(400, f"{param}: {first['msg'].lower().removeprefix('input ')}, not {given}", param)


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

    def __init__(self, model: str, requests: Sequence[Request], usage_asked: bool = False):
        """`usage_asked`: a stream ends with the usage, and says null before, as `stream_options.include_usage` has
        it."""
        self.usage_asked = usage_asked
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
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
