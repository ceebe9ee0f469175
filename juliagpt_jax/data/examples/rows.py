"""Examples as rows of ids: what is to be learned of each, and the batch of a step.

A row holds one example, or with packing several. None sees another: each is a passage of its own, whose tokens stand
PASSAGE positions behind those of the one before (`Decoder.packed`). Only what the model is to write is scored, and the
id that ends it; every other target is IGNORED.
"""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from juliagpt_jax.data import chat
from juliagpt_jax.data.batch import IGNORED, Batch
from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs.model import PASSAGE

MULTIPLE = 8  # rows are as long as one of it
DRAWS = 2**29  # stream of random numbers of the order of rows


class Encoded(NamedTuple):
    """An example as ids (n,) int32, and which of them are to be learned, (n,) bool; the first never is."""

    ids: np.ndarray
    learned: np.ndarray


@dataclasses.dataclass(frozen=True)
class Form:
    """The way in which examples become ids.

    Attributes:
        end: the ids behind each answer, nearly always one.
        chat: question and answer are written as the tokenizer's chat template says.
        unknown: what becomes of characters that the tokenizer lacks; see `CharTokenizer.encode`.
    """

    tokenizer: Tokenizer
    end: tuple[int, ...]
    chat: bool = False
    unknown: str = "error"

    def encode(self, example: Example, answer: str | None = None) -> Encoded:
        """Return an example as ids, with its own answer or with another; every answer of a conversation is learned.

        Raises:
            UserError: characters that the tokenizer lacks, or as `data.chat.pieces`.
        """
        messages = _messages(example, self.chat, answer)
        if messages:
            pieces = chat.pieces(self.tokenizer, messages, self.unknown)
        else:
            pieces = self._plain(example.prompt, example.answer if answer is None else answer)
        ids = np.concatenate([ids for ids, _ in pieces]).astype(np.int32)
        return Encoded(ids, np.repeat([learned for _, learned in pieces], [len(ids) for ids, _ in pieces]))

    def asked(self, example: Example) -> np.ndarray:
        """Return the ids (n,) int32 behind which the model writes its answer: the same as in training.

        Raises:
            UserError: as `encode`.
        """
        messages = _messages(example, self.chat, None)
        if not messages:
            return self._prompt(example.prompt)
        return chat.encode(self.tokenizer, messages[:-1], unknown=self.unknown)

    def judged(self, example: Example, answer: str, whole: bool = True) -> np.ndarray:
        """Return the ids (n,) int32 behind the last of which a verifier judges an answer: through what ends it, or of
        one that is only begun through its last token.

        Raises:
            UserError: as `encode`.
        """
        if not whole and _messages(example, self.chat, None):
            return np.concatenate([self.asked(example), self.tokenizer.encode(answer, self.unknown)]).astype(np.int32)
        encoded = self.encode(example, answer)
        through = encoded.ids[: np.flatnonzero(encoded.learned)[-1] + 1]  # a template may write something behind
        return through if whole else through[: -len(self.end)]

    def ended(self, ids: np.ndarray) -> tuple[int, int] | None:
        """Return where the answer in ids (n,) that a model wrote ends, and where its end does; None: it goes on."""
        found = np.flatnonzero(np.isin(ids, self.tokenizer.stops))[:1].tolist()
        at = _first(ids, self.end)
        if at is not None and (not found or at <= found[0]):
            return at, at + len(self.end)
        return (found[0], found[0] + 1) if found else None

    def answered(self, ids: np.ndarray) -> str:
        """Return the text of ids that a model wrote, up to what ends it."""
        found = self.ended(ids)
        return self.tokenizer.decode(ids[: found[0]] if found else ids)

    def _prompt(self, text: str) -> np.ndarray:
        return self.tokenizer.prompt(text, self.unknown, begins=True).ids

    def _plain(self, prompt: str, answer: str) -> list[tuple[np.ndarray, bool]]:
        asked = self._prompt(prompt)
        if not self.tokenizer.marks_start:
            given = self.tokenizer.encode(answer, self.unknown)
        else:  # of an answer alone it would make a text that begins
            whole = self._prompt(prompt + answer)
            if not np.array_equal(whole[: len(asked)], asked):
                raise UserError("the tokenizer joins the end of a prompt with the beginning of its answer")
            given = whole[len(asked) :]
        if _first(given, self.end) is not None:
            raise UserError(f"an answer holds what ends an answer: {answer[:60]!r}")
        return [(asked, False), (np.array([*given.tolist(), *self.end], np.int32), True)]


def _first(ids: np.ndarray, part: Sequence[int]) -> int | None:
    """Return where some ids first stand one behind the other; None: nowhere."""
    places = range(len(ids) - len(part) + 1)
    return next((i for i in places if ids[i] == part[0] and (ids[i : i + len(part)] == part).all()), None)


def _messages(example: Example, as_chat: bool, answer: str | None) -> list[Any]:
    """Return an example's messages up to its last answer; [] where it is no conversation."""
    messages = list(example.facts.get("messages", ()))
    if messages:
        last = max(i for i, own in enumerate(messages) if own["role"] == "assistant")
        messages = messages[: last + 1]
    elif as_chat:
        said = example.prompt.strip(), example.answer.strip()  # as `evaluate --chat` asks
        messages = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), said, strict=True)]
    if messages and answer is not None:
        messages[-1] = {"role": "assistant", "content": answer}
    return messages


def fitted(
    all_: Sequence[tuple[Encoded, ...]], length: int, too_long: str, where: str
) -> tuple[list[tuple[Encoded, ...]], list[int], list[str]]:
    """Return examples of at most `length` inputs, which of the given ones they are, and notes of what was done.

    Args:
        all_: of each example its answer, or a pair of answers, which stay together.
        too_long: "error" refuses a longer one; "skip" leaves it out; "cut" takes from what stands before the first
            answer, behind the first id, and where that is not enough from the end.
        where: of what in messages.

    Raises:
        UserError: one is too long, or none is left.
    """
    over = [max(len(own.ids) for own in each) - 1 - length for each in all_]
    long = sum(more > 0 for more in over)
    if long and too_long == "error":
        raise UserError(
            f"{where}: {long:,} of {len(all_):,} examples are longer than the {length} tokens of a row, up to "
            f"{max(over) + length:,}; --config.data.examples.too_long=cut shortens them, skip leaves them out"
        )
    kept, which, short, same = [], [], 0, 0
    for i, (each, more) in enumerate(zip(all_, over, strict=True)):
        if more > 0:
            if too_long == "skip":
                continue
            each = tuple(_cut(own, more, length) for own in each)
        if not all(own.learned[1:].any() for own in each):
            short += 1
            continue
        if len(each) > 1 and np.array_equal(each[0].ids, each[1].ids):
            same += 1
            continue
        kept.append(each)
        which.append(i)
    notes = []
    if long:
        notes.append(f"{where}: {long:,} of {len(all_):,} examples were too long: {too_long}")
    if short:
        notes.append(f"{where}: {short:,} examples left out that have nothing to learn in {length} tokens")
    if same:
        notes.append(f"{where}: {same:,} pairs left out whose answers are the same")
    if not kept:
        raise UserError(f"{where}: no example fits into {length} tokens; model.context says how many there are")
    return kept, which, notes


def _cut(own: Encoded, over: int, length: int) -> Encoded:
    """Return an example with at most `length` inputs: `over` ids less, so that the prompts of a pair stay the same."""
    over = min(over, max(int(np.argmax(own.learned)) - 2, 0))  # at least one token of the question stays
    keep = np.r_[0, 1 + over : len(own.ids)][: length + 1]
    return Encoded(own.ids[keep], own.learned[keep])


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Examples laid into rows of `length` inputs.

    Attributes:
        examples: each at most length + 1 ids.
        members: for each row the numbers of its examples.
        packed: rows hold several, so that their batches have positions.
    """

    examples: Sequence[Encoded]
    members: Sequence[Sequence[int]]
    length: int
    packed: bool

    def __len__(self) -> int:
        return len(self.members)

    def take(self, which: Sequence[int] | np.ndarray) -> Batch:
        """Return some rows, as NumPy arrays."""
        shape = len(which), self.length
        inputs, targets = np.zeros(shape, np.int32), np.full(shape, IGNORED, np.int32)
        positions = np.tile(np.arange(self.length, dtype=np.int32), (len(which), 1))
        for row, number in enumerate(which):
            at, passage = 0, 0
            for passage, member in enumerate(self.members[number]):
                ids, learned = self.examples[member]
                end = at + len(ids) - 1
                inputs[row, at:end] = ids[:-1]
                targets[row, at:end] = np.where(learned[1:], ids[1:], IGNORED)
                positions[row, at:end] = passage * PASSAGE + np.arange(end - at)
                at = end
            positions[row, at:] = (passage + 1) * PASSAGE + self.length  # pads
        return Batch(inputs, targets, positions=positions if self.packed else ())

    def batch(self, seed: int, step: int, size: int) -> Batch:
        """Return the batch of a step: the rows in an order that is new in each epoch, a pure function of the seed and
        the step."""
        return self.take(self.drawn(seed, step, size))

    def drawn(self, seed: int, step: int, size: int) -> np.ndarray:
        """Return the numbers (size,) of the rows of a step."""
        epochs, places = np.divmod(step * size + np.arange(size), len(self))
        return np.array([_order(len(self), seed, int(e))[p] for e, p in zip(epochs, places, strict=True)])


@functools.lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the rows in an epoch."""
    return np.random.Generator(np.random.Philox(key=[seed + (DRAWS << 32), epoch])).permutation(count)


def lay(examples: Sequence[Encoded], length: int, pack: bool) -> Rows:
    """Lay examples into rows: one a row, or as many as fit, the longest first, each into the fullest row that it fits
    into (best fit decreasing)."""
    if not pack:
        return Rows(examples, [[i] for i in range(len(examples))], length, False)
    members: list[list[int]] = []
    free: list[list[int]] = [[] for _ in range(length + 1)]  # rows by the places that are left in them
    there = 0  # bit n is set where free[n] has a row
    sizes = np.array([len(own.ids) - 1 for own in examples])
    for i in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[i])
        if above := there >> size:
            left = size + (above & -above).bit_length() - 1
            row = free[left].pop()
            there &= ~(0 if free[left] else 1 << left)
            members[row].append(i)
        else:
            row, left = len(members), length
            members.append([i])
        free[left - size].append(row)
        there |= 1 << (left - size)
    return Rows(examples, members, length, True)


def longest(examples: Iterable[Encoded], most: int) -> int:
    """Return the length of rows that hold the longest of these examples: a multiple of MULTIPLE, `most` at most."""
    size = max(len(own.ids) - 1 for own in examples)
    return min(-(-size // MULTIPLE) * MULTIPLE, most)
