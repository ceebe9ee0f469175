"""Requests and answers of `/v1/chat/completions`, in the shape of OpenAI's API of that name.

The API is described at https://platform.openai.com/docs/api-reference/chat. Conversations are written by the model's
own template; what a message says is text, and no special token. Tools and images are refused.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from juliagpt_jax.data import chat
from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.judging import Asked as Question
from juliagpt_jax.serving.asked import Asked, Limits, Refused
from juliagpt_jax.serving.batch import TOP
from juliagpt_jax.serving.completions import Answer
from juliagpt_jax.serving.job import Piece, Request, Token

# What clients send without meaning it; see `asked.NEUTRAL`.
NEUTRAL = {"tools": [], "tool_choice": "none", "functions": [], "store": False}


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["text"]
    text: str


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    role: Literal[*chat.ROLES]  # pyright: ignore[reportInvalidTypeForm]
    content: str | list[Part]
    name: str | None = None  # of no use here

    def said(self) -> dict[str, str]:
        """Return it as a template takes it: role and text."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": self.role, "content": text}


class ChatCompletion(Asked):
    """The body of a request. A field that is null is as if it were not there."""

    messages: list[Message]
    max_completion_tokens: Annotated[int, Field(ge=0)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=TOP)] | None = None
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    store: Any = None
    metadata: Any = None  # of no use here

    def requests(self, tokenizer: Tokenizer, limits: Limits, unknown: str = "error") -> list[Request]:
        """Return n answers to write. Without max_tokens each may fill the context.

        Args:
            unknown: what becomes of characters that the tokenizer lacks; see `folding.encode`.

        Raises:
            Refused: the model has no template, which may refuse a conversation itself; a conversation is too long, or
            has what the tokenizer lacks; or more is asked for than `limits` allow.
        """
        for name, value in NEUTRAL.items():
            if getattr(self, name) not in (None, value):
                raise Refused(400, f"{name} is not supported", name, "unsupported_parameter")
        if self.top_logprobs is not None and not self.logprobs:
            raise Refused(400, "top_logprobs needs logprobs=true", "top_logprobs")
        if not self.messages:
            raise Refused(400, "messages: there is none", "messages")
        try:
            chat.check(tokenizer)
        except UserError as error:
            raise Refused(400, f"{error}; POST /v1/completions", "messages", "no_chat_template") from error
        try:
            ids = chat.encode(tokenizer, self.said, unknown=unknown)
        except UserError as error:
            raise Refused(400, f"messages: {error}", "messages") from error
        most = min(limits.max_prompt, limits.context - 1)
        if not 0 < len(ids) <= most:
            says = f"the conversation has {len(ids)} tokens; this server reads 1 .. {most}"
            raise Refused(400, says, "messages", "context_length_exceeded")
        asked = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        max_tokens = min(limits.max_tokens, limits.context - len(ids)) if asked is None else asked
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        self.hold(limits, 1, max_tokens)
        return self.texts([(ids, 0)], max_tokens, tokenizer, logprobs=logprobs)

    def questions(self, prompts: Sequence[str]) -> Sequence[Question]:
        """See `Asked.questions`: each answers the conversation, which a verifier writes by its own template."""
        return [self.said] * len(prompts)

    @property
    def said(self) -> list[dict[str, str]]:
        return [message.said() for message in self.messages]


class ChatAnswer(Answer):
    """Shapes answers of a conversation: all at once, or piece by piece."""

    prefix, kind = "chatcmpl", "chat.completion"

    def chunk(self, number: int, piece: Piece) -> dict[str, Any]:
        """Return what is streamed of a piece; the first of each answer says whose it is."""
        first = {} if self._completion[number] else {"role": "assistant"}
        shaped = super().chunk(number, piece)
        shaped["object"] = "chat.completion.chunk"
        shaped["choices"][0]["delta"] = first | shaped["choices"][0].pop("message")
        return shaped

    def last_chunk(self) -> dict[str, Any]:
        return super().last_chunk() | {"object": "chat.completion.chunk"}

    def _choice(self, number: int, text: str, tokens: Sequence[Token], finish: str) -> dict[str, Any]:
        wanted = self._requests[number].logprobs is not None
        found = {"content": [_logprob(token) for token in tokens]} if wanted else None
        message = {"role": "assistant", "content": text}
        return {"index": number, "message": message, "logprobs": found, "finish_reason": finish or None}


def _logprob(token: Token) -> dict[str, Any]:
    shaped = lambda text, value: {"token": text, "logprob": value, "bytes": list(text.encode())}
    others = [shaped(text, value) for text, value in (token.top or {}).items()]
    return shaped(token.text, token.logprob) | {"top_logprobs": others}
