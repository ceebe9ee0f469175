"""Search on a task: answers to its questions, several to each, and what each way to choose among them is worth, by the
number of answers and by what they cost."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from juliagpt_jax.data.tasks.task import Example, Task
from juliagpt_jax.evaluation import cost
from juliagpt_jax.evaluation.tasks import metrics
from juliagpt_jax.evaluation.tasks.answers import most_tokens
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.judging import open_judge
from juliagpt_jax.inference.opened import Opened
from juliagpt_jax.search import choosing, revising
from juliagpt_jax.search.revising import Held
from juliagpt_jax.search.verifying import Verifier, Verify
from juliagpt_jax.search.writing import Answer, Writer, asked


@dataclasses.dataclass(frozen=True)
class Searched:
    """Questions with n answers each.

    Attributes:
        right: (P, n) bool.
        parsed: as `choosing.parsed`, P lists of n.
        scores: by a word of `choosing.CHOICES`, (P, n): log-likelihoods, the verifier's probabilities, or zeros.
        tokens: (P, n), read and written.
        characters: (P, n), of prompt and answer, which a verifier reads.
    """

    examples: Sequence[Example]
    answers: Sequence[Sequence[Answer]]
    right: np.ndarray
    parsed: Sequence[Sequence[str]]
    scores: dict[str, np.ndarray]
    tokens: np.ndarray
    characters: np.ndarray

    @property
    def samples(self) -> int:
        return self.right.shape[1]

    def chances(self, word: str, k: int) -> np.ndarray:
        """Return the chance (P,) that a way to choose is right with k answers; "any" is right if one of them is."""
        if word == "any":
            return choosing.pass_at(self.samples, self.right.sum(axis=1), k)
        return choosing.CHOICES[word](self.right, self.parsed, self.scores[word], k)

    def chosen(self, word: str) -> np.ndarray:
        """Return which of all its answers each question is given, (P,)."""
        if word == "vote":
            return np.array([choosing.vote(own) for own in self.parsed])
        return self.scores[word].argmax(axis=1)


def search(
    writer: Writer,
    task: Task,
    examples: Sequence[Example],
    samples: int,
    seed: int,
    verifier: Verify | None = None,
) -> Searched:
    """Write answers and score them.

    Raises:
        UserError: the task has no verifier, so that nobody knows what is right; or as `Writer.write`.
    """
    if task.verify is None:
        raise UserError("the task has no exact verifier: whether an answer is right cannot be told")
    answers = writer.write([example.prompt for example in examples], samples, seed)
    pairs = list(zip(examples, answers, strict=True))
    right = np.array([[task.verify(example, own.text) for own in row] for example, row in pairs])
    likelihood = writer.log_likelihoods([own for row in answers for own in row]).reshape(right.shape)
    tokens = np.array([[own.tokens for own in row] for row in answers])
    result = found(task, examples, answers, right, likelihood, tokens)
    if verifier is not None:
        result.scores["verifier"] = judged(result, verifier)
    return result


def judged(searched: Searched, verifier: Verify) -> np.ndarray:
    """Return the verifier's scores (P, n)."""
    pairs = [(e.prompt, own.text) for e, row in zip(searched.examples, searched.answers, strict=True) for own in row]
    prompts, texts = zip(*pairs, strict=True)
    return np.asarray(verifier(prompts, texts), np.float64).reshape(searched.right.shape)


def found(
    task: Task,
    examples: Sequence[Example],
    answers: Sequence[Sequence[Answer]],
    right: np.ndarray,
    likelihood: np.ndarray,
    tokens: np.ndarray,
) -> Searched:
    """Return answers with what is known of each, (P, n)."""
    parsed = [[choosing.parsed(own.text, task.metric) for own in row] for row in answers]
    pairs = zip(examples, answers, strict=True)
    characters = np.array([[len(example.prompt) + len(own.text) for own in row] for example, row in pairs])
    scores = {"vote": np.zeros(right.shape), "likelihood": likelihood}
    return Searched(examples, answers, right, parsed, scores, tokens, characters)


def most(opened: Opened, task: Task, examples: Sequence[Example], as_chat: bool = False) -> int:
    """Return how many tokens an answer may have: those of the task, or what the context leaves behind the longest
    prompt.

    Args:
        as_chat: as `writing.asked`.

    Raises:
        UserError: it leaves none, or as `writing.asked`.
    """
    longest = max(len(asked(opened.tokenizer, example.prompt, as_chat=as_chat)) for example in examples)
    room = opened.model.config.context - longest
    if room < 1:
        raise UserError(f"a prompt of {longest} tokens leaves no room in a context of {opened.model.config.context}")
    return min(most_tokens(opened.tokenizer, task, examples), room)


def flops(opened: Opened) -> float:
    """Return the FLOPs of a token that a model reads or writes: a third of those of training on it."""
    model, params = opened.run.config.model, opened.run.params
    return cost.train_flops_per_token(model, cost.multiplied(model, params), opened.tokenizer.vocab_size) / 3


def open_verifier(workdir: Path, examples: Sequence[Example]) -> tuple[Verifier, float]:
    """Open a verifier; return it and the FLOPs of a character that it reads, by how many tokens it has for these
    examples.

    Raises:
        UserError, StorageError: as `judging.open_judge`.
    """
    verifier = Verifier(open_judge(workdir))
    texts = [example.prompt + example.answer for example in examples[:100]]
    tokens = sum(len(verifier.opened.tokenizer.encode(text)) for text in texts)
    return verifier, flops(verifier.opened) * tokens / sum(map(len, texts))


@dataclasses.dataclass(frozen=True)
class Price:
    """FLOPs of a token that the model reads or writes, and of a character that the verifier reads."""

    token: float
    character: float = 0.0

    def of(self, searched: Searched, word: str, k: int) -> float:
        """Return what k answers to a question cost on average, by formula. A prompt is read for each of its answers.
        The likelihood costs another pass; to compare answers costs nothing."""
        passes = 2 if word == "likelihood" else 1
        judged = searched.characters.mean() * self.character if word == "verifier" else 0.0
        return float(k * (passes * searched.tokens.mean() * self.token + judged))


def curve(searched: Searched, price: Price) -> list[dict[str, Any]]:
    """Return for each number of answers what each way to choose is worth: accuracy, its interval over questions, and
    FLOPs a question; "any" is pass@k."""
    rows = []
    for k in choosing.counts(searched.samples):
        row: dict[str, Any] = {"samples": k}
        for word in [*searched.scores, "any"]:
            chances = searched.chances(word, k)
            row[word] = {
                "accuracy": float(chances.mean()),
                "interval": metrics.interval(chances)[1:],
                "flops": price.of(searched, word, k),
            }
        rows.append(row)
    return rows


def revised(
    searched: Searched,
    writer: Writer,
    task: Task,
    verifier: Verify,
    rounds: int,
    gate: float,
    samples: int,
    seed: int,
    price: Price,
) -> list[dict[str, Any]]:
    """Return what the verifier's choice is worth before and after each round of revising; see `revising.revise`. Each
    has its accuracy, interval, FLOPs a question, the number of answers that were doubted, and the answers themselves.
    """
    verify: Callable[[Example, str], bool] = task.verify  # pyright: ignore[reportAssignmentType]  # see `search`
    prompts = [example.prompt for example in searched.examples]
    best = searched.chosen("verifier")
    held = [
        Held(row[n].text, float(scores[n]))
        for row, scores, n in zip(searched.answers, searched.scores["verifier"], best, strict=True)
    ]
    base, rows = price.of(searched, "verifier", searched.samples), []
    for round_ in range(rounds + 1):
        doubted = sum(own.score < gate for own in held)
        right = np.array([verify(example, own.text) for example, own in zip(searched.examples, held, strict=True)])
        spent = [own.read * price.token + own.judged * price.character for own in held]
        rows.append(
            {
                "round": round_,
                "accuracy": float(right.mean()),
                "interval": metrics.interval(right.astype(float))[1:],
                "flops": base + float(np.mean(spent)),
                "doubted": doubted,
                "right": right.tolist(),
                "answers": [own.text for own in held],
            }
        )
        if round_ < rounds:
            held = revising.revise(writer, verifier, prompts, held, samples, gate, (seed + 1 + round_) % 2**32)
    return rows


def pairs(searched: Searched) -> Iterator[dict[str, Any]]:
    """Yield preferences of the model's own answers, a right one and a wrong one to each question that has both; where
    none is right, the task's answer stands for it."""
    for example, answers, right in zip(searched.examples, searched.answers, searched.right, strict=True):
        good = [own.text for own, fine in zip(answers, right, strict=True) if fine] or [example.answer]
        bad = [own.text for own, fine in zip(answers, right, strict=True) if not fine]
        if bad:
            yield {"prompt": example.prompt, "chosen": good[0], "rejected": bad[0]}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a curve as lines for a reader."""
    words = [word for word in rows[0] if word != "samples"]
    name = lambda word: "pass@n" if word == "any" else word
    lines = ["answers   " + "".join(f"{name(word):<26}" for word in words).rstrip()]
    for row in rows:
        cells = [f"{100 * row[word]['accuracy']:5.1f}% at {row[word]['flops']:.2e} FLOPs" for word in words]
        lines.append(f"{row['samples']:>7}   " + "".join(f"{cell:<26}" for cell in cells).rstrip())
    return "\n".join(lines)


def spread(total: int, count: int) -> list[int]:
    """Return `count` numbers below `total`, evenly spread; all, where count is 0 or they are fewer."""
    if not 0 < count < total:
        return list(range(total))
    return (np.arange(count) * total // count).tolist()
