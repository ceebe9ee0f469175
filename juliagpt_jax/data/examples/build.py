"""From a config to the examples that it names, as rows."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from juliagpt_jax.data import bpe, chat
from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.data.examples import jsonl, pairs
from juliagpt_jax.data.examples.rows import Encoded, Form, Rows, fitted, lay, longest
from juliagpt_jax.data.examples.wrong import rejected
from juliagpt_jax.data.tasks import build as tasks
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
        rejected, dev_rejected: the same questions with answers that are not preferred, where pairs were asked for.
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
    rejected: Sequence[Encoded] = ()
    dev_rejected: Sequence[Encoded] = ()
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
        """Those to measure with, one a row: the numbers do not depend on packing, and rows that need not hold several
        are as long as the longest of these."""
        if isinstance(self.form, pairs.PairForm):
            return pairs.pair(self.measured, self.encoded)
        return lay(self.measured, longest(self.measured, self.length) if self.pack else self.length, False)

    @functools.cached_property
    def rejected_rows(self) -> Rows:
        """The rejected answers of those to train on, one a row."""
        return lay(self.rejected, self.length, False)

    @functools.cached_property
    def dev_rejected_rows(self) -> Rows:
        """The rejected answers of those to measure with."""
        return lay(self.dev_rejected, self.length, False)

    @property
    def pairs(self) -> tuple[Rows, Rows, Rows, Rows]:
        """The chosen and the rejected answers to train on, and those to measure with."""
        return self.rows, self.rejected_rows, self.dev_rows, self.dev_rejected_rows

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
        train, dev = jsonl.read(data.path)
    else:
        path = None if data.path in NO_FILE else data.path
        train, dev = tasks.read(data.task, "train", path), tasks.read(data.task, "dev", path)
    return few(train, data.examples.most), dev


def few(examples: list[Example], most: int) -> list[Example]:
    """Return so many of the examples in their order, or all where most is 0: the same for every seed, and the fewer
    among the more, so that what runs differ by is the number alone."""
    if not 0 < most < len(examples):
        return examples
    return [examples[i] for i in sorted(np.random.default_rng(0).permutation(len(examples))[:most])]


def form(data: config.Data, tokenizer: Tokenizer) -> Form:
    """Return the way in which a config's examples become ids of a tokenizer.

    Raises:
        UserError: it has no id that ends an answer.
    """
    return Form(tokenizer, _end(data, tokenizer), data.examples.chat, data.unknown)


def load(settings: config.Config, paired: bool = False) -> Examples:
    """Return the examples of a config.

    Args:
        paired: with a rejected answer beside each (`wrong.py`); a pair whose answers are the same is left out.

    Raises:
        UserError: as `read`; the tokenizer lacks characters of theirs, or has no id that ends an answer; they are too
            long; the chat template does not do; or there is nothing to reject.
    """
    data = settings.data
    train, dev = read(data)
    sides = {"training": train, "dev": dev}
    for name, own in sides.items():
        if not own:
            raise UserError(f"config.data.path={data.path}: no {name} example in it")
    tokenizer = _tokenizer(data, train)
    how = pairs.form(tokenizer, data.unknown) if settings.model.kind == "t5" else form(data, tokenizer)
    if data.examples.chat or any("messages" in own.facts for own in (*train, *dev)):
        chat.check(tokenizer)
    notes = _lacking(data, tokenizer, "".join(_texts([*train, *dev])))
    task = TASKS.get(data.task)
    others = {name: rejected(own, task) if paired else [] for name, own in sides.items()}
    encoded = {name: _encoded(how, own, others[name], name) for name, own in sides.items()}
    length = _length(settings, encoded)
    notes += _leaked(train, dev)
    kept, answers = [], []
    for name, own in encoded.items():
        fit, which, said = fitted(own, length, data.examples.too_long, f"{name} examples of {data.task}")
        kept.append([sides[name][i] for i in which])
        answers.append([*zip(*fit, strict=True), ()])
        notes += said
    if isinstance(how, pairs.PairForm):
        length = pairs.pair(answers[0][0], answers[1][0]).length
    told = [json.dumps([own.prompt, own.answer, dict(own.facts)], default=str) for own in (*train, *dev)]
    named = [data.task, str(len(train)), str(length), json.dumps(tokenizer.to_dict()), *told]
    digest = hashlib.sha256(json.dumps([named, others]).encode()).hexdigest()
    verify = task.verify if task else None
    return Examples(
        *(how, kept[0], kept[1], answers[0][0], answers[1][0], length, data.examples.pack),
        *(verify or _same, verify is not None, digest, tuple(notes), answers[0][1], answers[1][1]),
    )


def _length(settings: config.Config, encoded: Mapping[str, Sequence[tuple[Encoded, ...]]]) -> int:
    """Return the inputs of a row."""
    own, context = settings.data.examples, settings.model.context
    if own.length > context:
        raise UserError(f"config.data.examples.length={own.length} is above model.context={context}")
    if own.length or own.pack:
        return own.length or context
    return longest((one for side in encoded.values() for each in side for one in each), context)


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


def _encoded(form: Form, examples: Sequence[Example], others: Sequence[str], name: str) -> list[tuple[Encoded, ...]]:
    """Return of each example its answer, and the other one beside it, if there are any."""
    found = []
    for i, example in enumerate(examples):
        try:
            found.append((form.encode(example), *(form.encode(example, other) for other in others[i : i + 1])))
        except UserError as error:
            raise UserError(f"{name} example {i + 1:,}: {error}") from error
    return found


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
