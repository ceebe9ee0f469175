"""From a config to the examples that it names, as rows."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from juliagpt_jax.data import bpe, chat
from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.data.examples import jsonl, pairs
from juliagpt_jax.data.examples.rows import Encoded, Form, Rows, fitted, lay, longest
from juliagpt_jax.data.tasks.build import TASKS
from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.data.tokenizer import CharTokenizer, Tokenizer
from juliagpt_jax.ground import config, words
from juliagpt_jax.ground.errors import UserError

NO_FILE = ("schoolroom", "generated")  # values of data.path with which a made-up task is given no file
Verify = Callable[[Example, str], bool]


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Examples that a run learns from: what a `Corpus` is to one that learns from a text.

    Attributes:
        form: how they become ids.
        train, dev: as they were read, without those that were left out; `encoded` and `measured` are their ids.
        length: inputs of a row.
        verify: whether an answer is right; without one of the task's own, whether it is the example's, to the letter.
        exact: the task has a verifier of its own.
        fingerprint: SHA-256 of all examples, and of how they become rows.
        notes: what a reader of the numbers must know.
    """

    form: Form
    train: Sequence[Example]
    dev: Sequence[Example]
    encoded: Sequence[Encoded]
    measured: Sequence[Encoded]
    length: int
    pack: bool
    verify: Verify
    exact: bool
    fingerprint: str
    notes: tuple[str, ...]
    entropy: float = float("nan")

    @property
    def tokenizer(self) -> Tokenizer:
        return self.form.tokenizer

    @functools.cached_property
    def rows(self) -> Rows:
        """Those to train on."""
        if isinstance(self.form, pairs.PairForm):
            return pairs.pair(self.encoded, self.measured)
        return lay(self.encoded, self.length, self.pack)

    @functools.cached_property
    def dev_rows(self) -> Rows:
        """Those to measure with, one a row: the numbers do not depend on packing."""
        if isinstance(self.form, pairs.PairForm):
            return pairs.pair(self.measured, self.encoded)
        return lay(self.measured, max(self.length, longest(self.measured, self.length)), False)

    @property
    def longest_answer(self) -> int:
        """Tokens of the longest answer to learn."""
        return max(int(own.learned.sum()) for own in self.encoded)

    def spread(self, count: int) -> list[Example]:
        """Return so many examples to measure with, evenly spread; all, where they are fewer."""
        return [self.dev[i] for i in spread(len(self.dev), count)]


def spread(total: int, count: int) -> list[int]:
    """Return `count` numbers below `total`, evenly spread; all, where they are fewer."""
    return (np.arange(min(count, total)) * total // max(1, min(count, total))).tolist()


def check(data: config.Data) -> None:
    """Refuse at once a task, a file or a tokenizer that is not there; no example is read.

    Raises:
        UserError: naming the key.
    """
    if data.task == "none":
        raise UserError("config.data.task: none; a T5 learns from examples: a name of data/tasks/build.py, or jsonl")
    if data.task == "jsonl":
        jsonl.check(data.path)
    elif data.task not in TASKS:
        known = [*TASKS, "jsonl"]
        raise UserError(f"config.data.task: no task is called {data.task!r}{words.near(data.task, known)}")
    if data.tokenizer not in config.LEARNED:
        tokenizers.load(Path(data.tokenizer))


def read(data: config.Data) -> tuple[list[Example], list[Example]]:
    """Return the examples of a config to train on and to measure with.

    Raises:
        UserError: as `check`, or a file is not sound.
    """
    check(data)
    if data.task == "jsonl":
        return jsonl.read(data.path)
    path = None if data.path in NO_FILE else data.path
    task = TASKS[data.task]
    return task.read("train", path), task.read("dev", path)


def load(settings: config.Config) -> Examples:
    """Return the examples of a config.

    Raises:
        UserError: as `read`; the tokenizer lacks characters of theirs, or has no id that ends an answer; they are too
            long; or the chat template does not do.
    """
    data = settings.data
    train, dev = read(data)
    sides = {"training": train, "dev": dev}
    for name, own in sides.items():
        if not own:
            raise UserError(f"config.data.path={data.path}: no {name} example in it")
    tokenizer = _tokenizer(data, train)
    if settings.model.kind == "t5":
        form = pairs.form(tokenizer, data.unknown)
    else:
        form = Form(tokenizer, _end(data, tokenizer), data.examples.chat, data.unknown)
    if data.examples.chat or any("messages" in own.facts for own in (*train, *dev)):
        chat.check(tokenizer)
    notes = _lacking(data, tokenizer, "".join(_texts([*train, *dev])))
    encoded = {name: [_encode(form, own, name, i) for i, own in enumerate(all_)] for name, all_ in sides.items()}
    context = settings.model.context
    length = data.examples.length or (
        context if data.examples.pack else longest([*encoded["training"], *encoded["dev"]], context)
    )
    if length > context:
        raise UserError(f"config.data.examples.length={length} is above model.context={context}")
    notes += _leaked(train, dev)
    kept: dict[str, tuple[list[Example], list[Encoded]]] = {}
    for name, own in encoded.items():
        fit, which, said = fitted(own, length, data.examples.too_long, f"{name} examples of {data.task}")
        kept[name] = [sides[name][i] for i in which], fit
        notes += said
    if isinstance(form, pairs.PairForm):
        length = pairs.pair(*(own for _, own in kept.values())).length
    verify = TASKS[data.task].verify if data.task in TASKS else None
    told = [json.dumps([own.prompt, own.answer, dict(own.facts)], default=str) for own in (*train, None, *dev) if own]
    digest = hashlib.sha256(
        "\n".join([data.task, str(len(train)), str(length), json.dumps(tokenizer.to_dict()), *told]).encode()
    )
    (train, encoded_train), (dev, encoded_dev) = kept.values()
    found = Examples(
        *(form, train, dev, encoded_train, encoded_dev, length, data.examples.pack),
        *(verify or _same, verify is not None, digest.hexdigest(), tuple(notes)),
    )
    return found


def _same(example: Example, written: str) -> bool:
    return written.strip() == example.answer.strip()


def _texts(examples: Sequence[Example]) -> Iterator[str]:
    """Yield all that examples say."""
    for own in examples:
        yield from (own.prompt, own.answer, str(own.facts.get("rejected", "")))
        yield from (message["content"] for message in own.facts.get("messages", ()))


def _tokenizer(data: config.Data, train: Sequence[Example]) -> Tokenizer:
    """Return the tokenizer of a config: a file, or made of the examples to train on and of what ends them."""
    if data.tokenizer not in config.LEARNED:
        return tokenizers.load(Path(data.tokenizer))
    if data.tokenizer == "bpe":
        return bpe.train(bpe.Bound().of(_texts(train)), data.vocab)
    return CharTokenizer.train("".join(_texts(train)) + "\n" + _stop(data))


def _stop(data: config.Data) -> str:
    return TASKS[data.task].stop if data.task in TASKS else ""


def _end(data: config.Data, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the ids that end an answer: those of the task's own sign, or of the end of a text, or of a line.

    Raises:
        UserError: there is none.
    """
    stop = _stop(data)
    if stop in ("", "\n"):
        ids = [tokenizer.newline if stop or tokenizer.eos is None else tokenizer.eos]
    else:
        ids = [] if tokenizer.unknown(stop) or tokenizer.marks_start else tokenizer.encode(stop).tolist()
    if not ids or min(ids) < 0:
        raise UserError("config.data.tokenizer: it has no token that could end an answer, such as the end of a line")
    return tuple(ids)


def _encode(form: Form, example: Example, name: str, number: int) -> Encoded:
    try:
        return form.encode(example)
    except UserError as error:
        raise UserError(f"{name} example {number + 1:,}: {error}") from error


def _leaked(train: Sequence[Example], dev: Sequence[Example]) -> list[str]:
    told = lambda own: (own.prompt, json.dumps(own.facts.get("messages"), default=str))
    known = {*map(told, train)}
    leaked = sum(told(own) in known for own in dev)
    return [f"of {len(dev):,} dev examples {leaked:,} ask what a training example asks"] if leaked else []


def _lacking(data: config.Data, tokenizer: Tokenizer, text: str) -> list[str]:
    """Return a note of characters that are left out.

    Raises:
        UserError: they may not be.
    """
    lacking = tokenizer.unknown(text)
    if lacking and data.unknown == "error":
        raise UserError(
            f"config.data.tokenizer: it lacks characters of the examples: {tokenizer.describe(lacking)}; "
            "--config.data.unknown=skip leaves them out"
        )
    return [f"{sum(map(text.count, lacking)):,} characters left out: {tokenizer.describe(lacking)}"] if lacking else []
