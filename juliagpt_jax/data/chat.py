"""Conversations as ids: a chat template of a model from outside, filled in a sandbox.

A template is a program in Jinja that came with a file, so it is run as a stranger's: without Python's attributes (as
transformers runs it, in `ImmutableSandboxedEnvironment`), for a bounded number of steps, with texts of a bounded
length. What people write is text: `<|im_end|>` in a message gets the ids of its letters, and ends nothing.
"""

import datetime
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from juliagpt_jax.data.library import LibraryTokenizer
from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.ground.errors import UserError

ROLES = ("system", "user", "assistant", "tool")
LONGEST_TEMPLATE = 2**17  # characters
MOST_STEPS = 200_000  # lines of a template that are run
LONGEST = 2**22  # characters of any text on the way
PRIVATE = range(0xE000, 0xF900)  # characters that mean nothing
Message = Mapping[str, Any]  # {"role": "user", "content": "..."}
UNMARKED = (
    "the chat template does not say where an answer begins and ends, by {% generation %} or by what it writes before "
    "one: nothing can be learned from answers alone"
)


def encode(tokenizer: Tokenizer, messages: Sequence[Message], answer: bool = True, unknown: str = "error") -> Any:
    """Return the ids (n,) int32 of a conversation.

    Args:
        messages: in their order, each with "role" and "content".
        answer: end with what an answer of the model begins with.
        unknown: what becomes of characters that the tokenizer lacks; see `CharTokenizer.encode`.

    Raises:
        UserError: the model has no template, the template refuses these messages or is not to be trusted, or there are
            characters that the tokenizer lacks.
    """
    writer = _Writer(tokenizer, messages)
    return writer.ids(writer.text(len(messages), answer), unknown)


def pieces(tokenizer: Tokenizer, messages: Sequence[Message], unknown: str = "error") -> list[tuple[np.ndarray, bool]]:
    """Return a conversation in pieces: the ids (n,) int32 of each, and whether the model is to write it. An answer ends
    with the id that ends what the model writes. Each piece is encoded for itself, as when the model goes on from the
    one before.

    Where an answer stands the template says, by `{% generation %}`, or by what it writes where an answer is to begin.

    Raises:
        UserError: as `encode`; or the template does not say where answers begin and end.
    """
    writer = _Writer(tokenizer, messages)
    cuts = writer.marked() if "generation" in re.findall(r"{%-?\s*(\w+)", check(tokenizer)) else writer.derived()
    made: list[tuple[np.ndarray, bool]] = []
    for text, answer in cuts:
        ids = writer.ids(text, unknown)
        if answer:
            ends = np.flatnonzero(np.isin(ids, tokenizer.stops))
            if not len(ends):
                raise UserError("the chat template ends an answer with no token that the model ends it with")
            made.append((ids[: ends[-1] + 1], True))
            ids = ids[ends[-1] + 1 :]
        if len(ids):
            made.append((ids, False))
    return made


class _Writer:
    """A conversation that is written by the template of a tokenizer, in whole or in part.

    Raises:
        UserError: as `encode`.
    """

    def __init__(self, tokenizer: Tokenizer, messages: Sequence[Message]):
        self.template = check(tokenizer)
        assert isinstance(tokenizer, LibraryTokenizer)  # no other has one
        self.tokenizer, self.messages = tokenizer, messages
        marks = _special(tokenizer)
        said = "".join(text for message in messages for text in _strings(message))
        free = [chr(code) for code in PRIVATE if chr(code) not in said][:3]
        if len(free) < 3 or any(len(name) == 1 and name in said for name in marks):
            raise UserError("a message has a character that is a special token of this model")
        self.between, *self.around = free
        between = self.between
        self.split = re.compile("|".join(f"({pattern})" for pattern, _ in marks.values()) or "(?!)")
        self.numbers = [number for _, number in marks.values()]
        # A special token's name in a message is broken by a character that stands nowhere else, until specials are
        # found.
        names = re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True))) or "(?!)")
        broken = lambda text: names.sub(lambda m: m[0][0] + between + m[0][1:], text)
        self.broken = [_mapped(own, broken) for own in messages]
        self.called = tokenizer.special_names()
        if tokenizer.first is not None and (name := tokenizer.name(tokenizer.first)):
            self.called["bos_token"] = name

    def text(self, count: int, answer: bool, marked: bool = False) -> str:
        """Return the text of the first messages."""
        begin, end = self.around if marked else ("", "")
        return render(self.template, self.broken[:count], answer, self.called, (begin, end))

    def ids(self, text: str, unknown: str) -> Any:
        """Return the ids of a text of the template."""
        ids, at = [], 0
        for found in self.split.finditer(text):
            ids += self._own(text[at : found.start()], unknown)
            ids.append(self.numbers[(found.lastindex or 0) - 1])
            at = found.end()
        return np.array(ids + self._own(text[at:], unknown), np.int32)

    def _own(self, text: str, unknown: str) -> list[int]:
        return self.tokenizer.encode(text.replace(self.between, ""), unknown).tolist()

    def marked(self) -> list[tuple[str, bool]]:
        """Return the texts outside and inside of what the template marks as written by the model, in turn."""
        begin, end = self.around
        outside, *inside = self.text(len(self.messages), False, True).split(begin)
        cuts = [(outside, False)]
        for text in inside:
            answer, _, after = text.partition(end)
            cuts += [(answer, True), (after, False)]
        return cuts

    def derived(self) -> list[tuple[str, bool]]:
        """Return the texts outside and inside of answers: one begins behind what the template writes for the messages
        before it when an answer is to follow, and ends where what it writes for the messages up to it does."""
        whole, at, cuts = self.text(len(self.messages), False), 0, []
        for i, message in enumerate(self.messages):
            if message.get("role") != "assistant":
                continue
            plain, before, through = self.text(i, False), self.text(i, True), self.text(i + 1, False)
            if before == plain or not (before.startswith(plain) and through.startswith(before)):
                raise UserError(UNMARKED)
            if not whole.startswith(through):
                raise UserError(UNMARKED)
            cuts += [(whole[at : len(before)], False), (whole[len(before) : len(through)], True)]
            at = len(through)
        return [*cuts, (whole[at:], False)]


def check(tokenizer: Tokenizer) -> str:
    """Return the chat template of a tokenizer.

    Raises:
        UserError: it has none.
    """
    if tokenizer.template is None:
        raise UserError("this model has no chat template: it goes on from a text, and answers nobody")
    return tokenizer.template


def _special(tokenizer: LibraryTokenizer) -> dict[str, tuple[str, int]]:
    """Return for each special token the pattern that finds it in a text, and its id; the longest first."""
    added = [token for token in tokenizer.content.get("added_tokens") or () if token.get("special")]
    blank = lambda token, side: r"\s*" if token.get(side) else ""
    pattern = lambda token: blank(token, "lstrip") + re.escape(token["content"]) + blank(token, "rstrip")
    ordered = sorted(added, key=lambda token: -len(token["content"]))
    return {token["content"]: (pattern(token), token["id"]) for token in ordered}


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for own in value.values():
            yield from _strings(own)
    elif isinstance(value, list | tuple):
        for own in value:
            yield from _strings(own)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Return a value of JSON with all its texts changed, names of fields aside."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(own, change) for key, own in value.items()}
    return [_mapped(own, change) for own in value] if isinstance(value, list | tuple) else value


def render(
    template: str,
    messages: Sequence[Message],
    answer: bool,
    names: Mapping[str, str],
    around: tuple[str, str] = ("", ""),
) -> str:
    """Return the text of a conversation.

    Args:
        names: of special tokens, {"bos_token": "<s>"}.
        around: what is written before and behind what the template marks as written by the model.

    Raises:
        UserError: as `encode`; or jinja2 is not installed.
    """
    if len(template) > LONGEST_TEMPLATE:
        raise UserError(f"the chat template has {len(template):,} characters; {LONGEST_TEMPLATE:,} are the most")
    try:
        from juliagpt_jax.data.sandbox import Refused, environment
    except ImportError as error:
        raise UserError("a conversation needs the library jinja2: pip install 'juliagpt-jax[chat]'") from error

    given = {"messages": messages, "add_generation_prompt": answer, "tools": None, "documents": None}
    try:
        with _Bound():
            made = environment(LONGEST, around).from_string(template)
            parts, size = [], 0
            for part in made.generate(**given, **names, raise_exception=_raise, strftime_now=_now):
                parts.append(part)
                size += len(part)
                if size > LONGEST:
                    raise Refused(f"it writes more than {LONGEST:,} characters")
        return "".join(parts)
    except MemoryError:
        raise
    except Exception as error:  # a stranger's program may raise anything
        says = next(iter(str(error).splitlines()), type(error).__name__)
        what = "refuses these messages" if isinstance(error, _Said) else "cannot be used"
        raise UserError(f"the chat template {what}: {says}"[:300]) from error


class _Said(Exception):
    """Objection of a template to a conversation, by `raise_exception`."""


def _raise(message: object) -> NoReturn:
    raise _Said(str(message))


def _now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


class _Bound:
    """Ends a template after MOST_STEPS lines; its code has the file name "<template>"."""

    def __enter__(self) -> None:
        self._before, self._steps = sys.gettrace(), 0
        sys.settrace(self._call)

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._before)

    def _call(self, frame: Any, event: str, _: Any) -> Any:
        return self._line if frame.f_code.co_filename == "<template>" else None

    def _line(self, frame: Any, event: str, _: Any) -> Any:
        from juliagpt_jax.data.sandbox import Refused

        self._steps += 1
        if self._steps > MOST_STEPS:
            raise Refused(f"it does not end in {MOST_STEPS:,} steps")
        return self._line
