"""Metrics of answers, each with a 95% interval: one table for models that were trained, finetuned or prompted."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from juliagpt_jax.data.tasks.task import Example, Task
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.search.choosing import pass_at

RESAMPLES = 2_000  # of the bootstrap
BINS = 15  # of the calibration (Guo et al. 2017, arXiv 1706.04599)
NORMALISED = ("sum", "length", "unconditional")  # ways to choose between continuations


class Value(NamedTuple):
    """A metric over all examples, and its 95% interval over examples like these."""

    value: float
    low: float
    high: float


class Chosen(NamedTuple):
    """Log-probabilities of continuations, in nats.

    Attributes:
        logs: (n, C) of each choice behind its prompt.
        lengths: (n, C) bytes of the choices.
        alone: (n, C) of each choice behind a prompt without a question; nan where nobody asked.
        greedy: (n, C) whether greedy decoding writes the choice.
        by: a word of NORMALISED: what chooses.
    """

    logs: np.ndarray
    lengths: np.ndarray
    alone: np.ndarray
    greedy: np.ndarray
    by: str = "sum"

    def scores(self, by: str = "") -> np.ndarray:
        """Return what the choices are compared by, (n, C): log p(choice | question); that for each byte; or
        log p(choice | question) - log p(choice), which takes out what a model likes to say anyway (Holtzman et al.
        2021, arXiv 2104.08315)."""
        by = by or self.by
        return self.logs / self.lengths if by == "length" else self.logs - (self.alone if by != "sum" else 0)


class Written(NamedTuple):
    """Answers as text.

    Attributes:
        texts: for each example its samples, up to where the answer ends.
        ended: for each sample whether it came to an end of its own.
    """

    texts: list[list[str]]
    ended: list[list[bool]]


def interval(values: np.ndarray, of: Callable[..., Any] = np.mean, seed: int = 0) -> Value:
    """Return a statistic of values (n,) or (n, k) over examples with its percentile bootstrap interval (Efron 1979).

    Where all values are 0 or all 1, no resample differs: then the interval is Wilson's (1927) for a share.
    """
    from scipy import stats

    value, n = float(of(values, axis=0)), len(values)
    if n < 2 or math.isnan(value):
        return Value(value, math.nan, math.nan)
    if values.ndim == 1 and (values == values[0]).all() and values[0] in (0, 1):
        found = stats.binomtest(int(values.sum()), n).proportion_ci(method="wilson")
        return Value(value, float(found.low), float(found.high))
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(RESAMPLES // 100):  # (100, n) at a time
        drawn.append(of(values[rng.integers(n, size=(100, n))], axis=1))
    low, high = np.percentile(np.concatenate(drawn), [2.5, 97.5])
    return Value(value, float(low), float(high))


def macro_f1(pairs: np.ndarray, axis: int, classes: int) -> np.ndarray:
    """Return the mean F1 of the classes for pairs (..., n, 2) of the class that is right and the one that was chosen.
    A class that nobody has and nobody chose counts as 0."""
    right, said = np.moveaxis(pairs, -1, 0)
    each = []
    for c in range(classes):
        hits = ((right == c) & (said == c)).sum(axis=axis)
        both = (right == c).sum(axis=axis) + (said == c).sum(axis=axis)
        each.append(np.where(both > 0, 2 * hits / np.maximum(both, 1), 0.0))
    return np.mean(each, axis=0)


def calibration(probabilities: np.ndarray, right: np.ndarray) -> list[tuple[float, float, int]]:
    """Return for each bin of confidence that has examples: the mean confidence, the share that is right, and how many
    there are.

    Args:
        probabilities: (n, C), adding up to 1.
        right: (n,) whether the most likely one is right.
    """
    confidence = probabilities.max(axis=1)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    members = [bins == b for b in range(BINS)]
    return [(float(confidence[m].mean()), float(right[m].mean()), int(m.sum())) for m in members if m.any()]


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Return the chances (n, C) of choices among themselves."""
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def right_choices(examples: Sequence[Example]) -> np.ndarray:
    """Return (n,) which choice is the answer."""
    return np.array([example.choices.index(example.answer) for example in examples])


def accuracy(task: Task, examples: Sequence[Example], chosen: Chosen) -> dict[str, Value]:
    """Accuracy by the way that was asked for and by the others, macro F1, and the calibration error."""
    right, values = right_choices(examples), {}
    hit = lambda by: (chosen.scores(by).argmax(axis=1) == right).astype(float)
    values["accuracy"] = interval(hit(chosen.by))
    pairs = np.stack([right, chosen.scores().argmax(axis=1)], axis=1)
    classes = chosen.logs.shape[1]
    values["f1"] = interval(pairs, lambda pairs, axis: macro_f1(pairs, axis, classes))
    ways = [by for by in NORMALISED if by != chosen.by and not np.isnan(chosen.scores(by)).any()]
    values |= {f"accuracy_by_{by}": interval(hit(by)) for by in ways}
    found = probabilities(chosen.scores())
    packed = np.stack([found.max(axis=1), hit(chosen.by)], axis=1)
    values["calibration_error"] = interval(packed, _errors)
    return values


def _errors(packed: np.ndarray, axis: int) -> np.ndarray:
    """Return the expected calibration error of confidences and hits (n, 2), or of each of (R, n, 2): the mean distance
    of confidence and accuracy in bins."""
    each = packed.reshape(-1, *packed.shape[-2:])
    confidence, hit = each[..., 0], each[..., 1]
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1) + BINS * np.arange(len(each))[:, None]
    gaps = np.bincount(bins.ravel(), (confidence - hit).ravel(), minlength=len(each) * BINS).reshape(-1, BINS)
    errors = np.abs(gaps).sum(axis=1) / each.shape[1]
    return errors if packed.ndim == 3 else errors[0]


def last_word(task: Task, examples: Sequence[Example], chosen: Chosen) -> dict[str, Value]:
    """Share of last words that greedy decoding writes, and the perplexity of a last word."""
    spoken = lambda logs, axis: np.exp(-logs.mean(axis=axis))
    return {
        "accuracy": interval(chosen.greedy[:, 0].astype(float)),
        "perplexity": interval(chosen.logs[:, 0], spoken),
    }


def right(task: Task, examples: Sequence[Example], written: Written) -> dict[str, Value]:
    """Share of right answers, by the task's verifier, and of answers that came to an end; of several samples also
    pass@k."""
    assert task.verify is not None
    verdicts = verify(task, examples, written)
    values = {task.metric: interval(verdicts.mean(axis=1))}
    n, k = verdicts.shape[1], 2
    while k <= n:
        values[f"pass@{k}"] = interval(pass_at(n, verdicts.sum(axis=1), k))
        k *= 2
    return values | {"ended": interval(np.array([np.mean(own) for own in written.ended]))}


def verify(task: Task, examples: Sequence[Example], written: Written) -> np.ndarray:
    """Return (n, samples) 1 for a right answer, 0 for another."""
    assert task.verify is not None
    rows = zip(examples, written.texts, strict=True)
    return np.array([[float(task.verify(example, text)) for text in texts] for example, texts in rows])


def rouge(task: Task, examples: Sequence[Example], written: Written) -> dict[str, Value]:
    """F-measures of ROUGE-1, 2 and L (Lin 2004) with stemmed words, the mean over an example's references; where there
    are several, also by the nearest of them. Of several samples the first counts."""
    texts = [texts[0] for texts in written.texts]
    means, nearest = rouge_scores(examples, texts)
    values = {name: interval(own) for name, own in means.items()}
    if any(len(example.facts["references"]) > 1 for example in examples):
        values |= {f"{name}_nearest": interval(own) for name, own in nearest.items()}
    return values | {"ended": interval(np.array([np.mean(own) for own in written.ended]))}


def rouge_scores(examples: Sequence[Example], texts: Sequence[str]) -> tuple[Mapping[str, np.ndarray], ...]:
    """Return the F-measures of one text for each example: the mean over its references, and the best.

    Raises:
        UserError: the library is missing.
    """
    try:
        from rouge_score import rouge_scorer
    except ImportError as error:
        raise UserError("summaries are measured by rouge-score: pip install 'juliagpt-jax[tasks]'") from error
    names = ["rouge1", "rouge2", "rougeL"]
    scorer = rouge_scorer.RougeScorer(names, use_stemmer=True)
    all_scores = [
        [[scorer.score(reference, text)[name].fmeasure for name in names] for reference in example.facts["references"]]
        for example, text in zip(examples, texts, strict=True)
    ]
    means = np.array([np.mean(own, axis=0) for own in all_scores])
    nearest = np.array([np.max(own, axis=0) for own in all_scores])
    return tuple({name: values[:, i] for i, name in enumerate(names)} for values in (means, nearest))


# `METRICS[task.metric](task, examples, answers)`: answers are Chosen where examples have choices, and of last words;
# else Written.
METRICS: dict[str, Callable[..., dict[str, Value]]] = {
    "accuracy": accuracy,
    "last_word": last_word,
    "exact": right,
    "number": right,
    "rouge": rouge,
}
