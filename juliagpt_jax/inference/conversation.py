"""A dialogue with a model that has a chat template: its user says something, it answers, and so on."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from juliagpt_jax.data import chat
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.generate import Generator, Guided, slots_for
from juliagpt_jax.inference.opened import Opened
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.inference.stops import stream_texts
from juliagpt_jax.inference.window import Window


class Conversation:
    """Messages so far, and the model that goes on.

    Args:
        window: of the model's context, for what is longer.
        system: what the model is told before all else.
        unknown: what becomes of characters that the tokenizer lacks; see `folding.encode`.

    Attributes:
        messages: {"role": ..., "content": ...}, in their order.
    """

    def __init__(self, opened: Opened, window: Window, system: str | None = None, unknown: str = "error"):
        self.messages: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
        self._opened, self._window, self._unknown = opened, window, unknown
        self._generator: Generator | None = None

    def ask(self, said: str) -> np.ndarray:
        """Return the ids before an answer to what the user says. It counts as said when the model has answered.

        Raises:
            UserError: as `chat.encode`.
        """
        asked = [*self.messages, {"role": "user", "content": said}]
        return chat.encode(self._opened.tokenizer, asked, unknown=self._unknown)

    def answer(
        self,
        said: str,
        new_tokens: int,
        rule: Rule,
        seed: int,
        stops: Sequence[str] = (),
        ends: Sequence[int] = (),
        guided: Guided | None = None,
    ) -> Iterator[str]:
        """Yield the answer in pieces; see `stream_texts`.

        Raises:
            UserError: as `ask`.
        """
        ids = self.ask(said)
        generator, parts = self._able(len(ids) + new_tokens), []
        told = (new_tokens, rule, seed, stops, ends, guided)
        for ((text, _),) in stream_texts(generator, self._opened.tokenizer, [ids], *told):
            parts.append(text)
            yield text
        self.messages += [{"role": "user", "content": said}, {"role": "assistant", "content": "".join(parts)}]

    def _able(self, length: int) -> Generator:
        """Return a generator whose cache holds a text of that length, or the whole context."""
        model, window = self._opened.model, self._window
        slots = slots_for(model, length, window)
        if self._generator is None or self._generator.slots < slots:
            self._generator = Generator(model, self._opened.params, window.sinks, slots, window.evict)
        return self._generator


def prompt(opened: Opened, said: str, options: argparse.Namespace) -> np.ndarray:
    """Return the ids before an answer to the first thing that a user says."""
    window = Window(opened.model.config.context)
    return Conversation(opened, window, options.system, options.unknown).ask(said)


def hold(
    opened: Opened,
    rule: Rule,
    window: Window,
    options: argparse.Namespace,
    ends: Sequence[int],
    guided: Guided | None = None,
) -> None:
    """Answer each line of stdin, as those of one conversation, until it ends.

    Raises:
        UserError: as `chat.encode`; or a flag is for texts that are not a dialogue.
    """
    for flag in ("json", "draft", "strict"):
        if getattr(options, flag):
            raise UserError(f"--{flag} is not of a dialogue; give what the user says by --prompt")
    held = Conversation(opened, window, options.system, options.unknown)
    context, told = (
        opened.model.config.context,
        (options.max_new_tokens, rule, options.seed, options.stop, ends, guided),
    )
    for said in _said():
        if len(held.ask(said)) + options.max_new_tokens > context:
            print(f"note: the model sees {window.says} of what was said", file=sys.stderr)
        for text in held.answer(said, *told):
            print(text, end="", flush=True)
        print()


def _said() -> Iterator[str]:
    """Yield what is typed or piped in, line by line, without blank lines."""
    if sys.stdin is None:
        return
    typed = sys.stdin.isatty()
    while True:
        if typed:
            print("> ", end="", flush=True)
        try:
            line = sys.stdin.readline()
        except UnicodeDecodeError as error:
            raise UserError(f"stdin: byte {error.start} is not {error.encoding}") from error
        if not line:
            return print() if typed else None
        if line.strip():
            yield line.rstrip("\r\n")
