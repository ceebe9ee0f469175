"""A request to write, whatever its route: the fields that all have, their limits, and how it is refused."""

import dataclasses
import secrets
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.words import near
from juliagpt_jax.inference.judging import Asked as Question
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.search import guides
from juliagpt_jax.serving.job import Request

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


class Asked(BaseModel):
    """The body of a request. A field that is null is as if it were not there."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())
    model: str | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None  # -1, as 0: all
    n: Annotated[int, Field(ge=1)] | None = None
    stop: str | list[str] | None = None
    seed: Annotated[int, Field(ge=-1, lt=2**32)] | None = None  # -1, as null: another one each time
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    ignore_eos: bool | None = None  # write on behind the token that ends a text
    response_format: Any = None  # the form that texts are held to; see `guides.answering`
    calculator: bool | None = None  # fill in results: <<2+3= becomes <<2+3=5>>
    verify: bool | None = None  # give each text the verifier's score
    user: str | None = None  # of no use here
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
    def read(cls, body: bytes) -> Self:
        """Read what a body asks for.

        Raises:
            Refused: it is not JSON, or a field is unknown, missing, of the wrong type, out of range or not supported.
        """
        try:
            asked = cls.model_validate_json(body)
        except ValidationError as error:
            raise _refusal(error, cls) from error
        for name, value in NEUTRAL.items():
            if getattr(asked, name, None) not in (None, value):
                raise Refused(400, f"{name} is not supported", name, "unsupported_parameter")
        stops = asked.stops()
        if len(stops) > MOST_STOPS or not all(0 < len(stop) <= LONGEST_STOP for stop in stops):
            raise Refused(400, f"stop: up to {MOST_STOPS} texts of 1 .. {LONGEST_STOP} characters", "stop")
        return asked

    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def hold(self, limits: Limits, prompts: int, max_tokens: int) -> None:
        """Raise Refused where more is asked for than `limits` allow."""
        if max_tokens > limits.max_tokens:
            raise Refused(
                400, f"max_tokens is {max_tokens}; this server writes up to {limits.max_tokens}", "max_tokens"
            )
        n = self.n or 1
        if not 0 < prompts * n <= limits.texts:
            raise Refused(400, f"{prompts} prompts x n={n}: this server takes 1 .. {limits.texts} texts", "n")

    def questions(self, prompts: Sequence[str]) -> Sequence[Question]:
        """Return what each text answers, as a verifier is asked, by the prompts that were read before them."""
        return prompts

    def texts(
        self, prompts: Iterable[tuple[np.ndarray, int]], max_tokens: int, tokenizer: Tokenizer, **more: Any
    ) -> list[Request]:
        """Return for each prompt, ids and how many at their start are no part of the text, n texts to write. The draws
        are those of `generate` with this seed for all the prompts.

        Args:
            more: of `Request`.

        Raises:
            Refused: the form that is asked for is none, or has no text of so few tokens.
        """
        greedy = self.temperature == 0
        temperature = 1.0 if self.temperature is None or greedy else self.temperature
        rule = Rule(temperature, max(0, self.top_k or 0), 1.0 if self.top_p is None else self.top_p, greedy)
        seed = secrets.randbits(32) if self.seed in (None, -1) else self.seed
        prompts = list(prompts)
        more["guided"] = self._guided(prompts, max_tokens, tokenizer)
        more |= {"stops": self.stops(), "ends": () if self.ignore_eos else tokenizer.stops}
        seen: dict[bytes, int] = {}
        requests = []
        for ids, hidden in prompts:
            for _ in range(self.n or 1):
                nth = seen[ids.tobytes()] = seen.get(ids.tobytes(), -1) + 1
                requests.append(Request(ids, max_tokens, rule, seed, nth, hidden=hidden, **more))
        return requests

    def _guided(self, prompts: Sequence[tuple[np.ndarray, int]], max_tokens: int, tokenizer: Tokenizer) -> Any:
        field = "response_format" if self.response_format is not None else "calculator"
        if field == "response_format" and self.stops() and self.response_format != {"type": "text"}:
            raise Refused(400, "stop does not go with response_format: a form ends by itself", "stop")
        try:
            guided = guides.answering(tokenizer, self.response_format, bool(self.calculator))
            if guided and max_tokens:
                guided([ids for ids, _ in prompts], max_tokens)
        except UserError as error:
            raise Refused(400, f"{field}: {error}", field) from error
        return guided if max_tokens else None

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


def _refusal(error: ValidationError, kind: type[Asked]) -> Refused:
    """Return the first mistake in one line."""
    first = error.errors(include_url=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return Refused(400, f"the body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}")
    if not first["loc"]:
        return Refused(400, "the body must be a JSON object")
    param = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        name, names = ".".join(map(str, first["loc"])), kind.model_fields
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
