"""The form of a task: what training, prompting, search and evaluation know of its examples."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from juliagpt_jax.ground import words
from juliagpt_jax.ground.errors import UserError

SPLITS = ("train", "dev", "test")


class Example(NamedTuple):
    """A question and its answer, as text.

    Attributes:
        prompt: what a model is given. The answer stands right behind it, so that one of them has the space between.
        answer: what it is to write; the target of training.
        choices: all answers that there are, in the task's order, the right one among them; () where it writes freely.
        facts: what a verifier, a metric or a report needs: {"number": 42, "id": "..."}.
    """

    prompt: str
    answer: str
    choices: tuple[str, ...] = ()
    facts: Mapping[str, Any] = MappingProxyType({})


# Draws an example; before it, what it is told apart by, such as its operands.
Draw = Callable[[np.random.Generator], tuple[str, Example]]


class Task(NamedTuple):
    """A kind of questions.

    Attributes:
        read: (split, path of the user's file or folder, None where nothing was given) -> its examples, always in one
            order. A UserError says what is wrong with a file, with its line, or where to get one.
        metric: a word of `evaluation/tasks/metrics.py`.
        verify: tells whether a written answer is right, exactly and without a model; None where only a metric can.
        licence: of the examples.
        says: one line for --help and docs.
        stop: the text at which a written answer ends. No answer has it; training writes it behind each.
        most: characters that an answer may have when it is written; in tokens those of so many characters of answers.
    """

    read: Callable[[str, str | None], list[Example]]
    metric: str
    verify: Callable[[Example, str], bool] | None
    licence: str
    says: str
    stop: str = "\n"
    most: int = 64


def check_split(split: str) -> None:
    """Raise a UserError where no part of a task is called so."""
    if split not in SPLITS:
        raise UserError(f"no part of a task is called {split!r}{words.near(split, SPLITS)}")


def side(key: str) -> str:
    """Return the part of a made-up task that something belongs to, by its text alone: in 20 there are one of "test",
    one of "dev" and 18 of "train". So no part has what another has, whatever their sizes."""
    return {0: "test", 1: "dev"}.get(zlib.crc32(key.encode()) % 20, "train")


def made(
    split: str, sizes: Mapping[str, int], draw: Callable[[np.random.Generator], tuple[str, Example]]
) -> list[Example]:
    """Return the made-up examples of a part: so many as `sizes` says, all different."""
    check_split(split)
    return list(_different(split, sizes[split], draw))


def _different(split: str, count: int, draw: Draw) -> Iterator[Example]:
    rng, seen = np.random.default_rng([zlib.crc32(b"tasks"), SPLITS.index(split)]), set()
    while len(seen) < count:
        key, example = draw(rng)
        if key not in seen and side(key) == split:
            seen.add(key)
            yield example
