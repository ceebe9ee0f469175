"""The page of a pipeline: a table of gains, curves, examples, the kinds of errors, and how far the verifier is to be
trusted."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from juliagpt_jax.evaluation.tasks import metrics
from juliagpt_jax.evaluation.tasks.errors import CATEGORIES
from juliagpt_jax.search import choosing
from juliagpt_jax.study.pipeline import Measures, Pipeline, Row
from juliagpt_jax.study.statistics import Difference, paired
from juliagpt_jax.study.tables import markdown

BINS = 5  # of the verifier's calibration
HEAD = ["stage", "right", "95% over questions", "gain on", "gain [95% over seeds]", "[95% over questions]", "", "FLOPs"]


def table(rows: Sequence[Row], measured: Sequence[Measures], pipeline: Pipeline) -> list[list[str]]:
    """Return the table of gains as texts, the first row its head."""
    made, by_name = [HEAD], {row.name: row for row in rows}
    for row in rows:
        mean = np.mean([*row.right.values()], axis=0)
        low, high = metrics.interval(mean)[1:]
        cells = [row.name, _percent(mean.mean()), f"{_percent(low)} .. {_percent(high)}"]
        if row.before:
            gain, over = gains(row, by_name[row.before])
            cells += [row.before, f"{_points(gain.mean)} {_range(gain.low, gain.high)}", _range(*over[1:])]
            cells.append(verdict(gain, over))
        else:
            cells += ["", "", "", ""]
        made.append([*cells, f"{np.mean([*row.flops.values()]):.2e}"])
    any_ = ceiling(measured, pipeline)
    low, high = metrics.interval(any_)[1:]
    name = f"one of {pipeline.samples} is right (pass@{pipeline.samples})"
    made.append([name, _percent(any_.mean()), f"{_percent(low)} .. {_percent(high)}", "", "", "", "", ""])
    return made


def gains(row: Row, before: Row) -> tuple[Difference, metrics.Value]:
    """Return what a line is better than another by: over seeds, each paired with itself, and over questions, for the
    mean of the seeds."""
    share = lambda own: {seed: float(right.mean()) for seed, right in own.right.items()}
    apart = np.mean([row.right[seed] - before.right[seed] for seed in row.right], axis=0)
    return paired(share(before), share(row)), metrics.interval(apart)


def verdict(gain: Difference, over: metrics.Value) -> str:
    """Say whether a stage shows an effect: where there are seeds to tell, by the interval over them; else over
    questions."""
    low, high = (gain.low, gain.high) if gain.n > 1 else over[1:]
    return "helps" if low > 0 else "harms" if high < 0 else "none shown"


def ceiling(measured: Sequence[Measures], pipeline: Pipeline) -> np.ndarray:
    """Return the chance that one of all answers of the last writer is right, for each question (P,)."""
    found = [own.searched(own.written(pipeline.writers[-1], pipeline.calculator)) for own in measured]
    return np.mean([own.chances("any", own.samples) for own in found], axis=0)


def curves(measured: Sequence[Measures], pipeline: Pipeline) -> list[dict[str, float]]:
    """Return the share of right answers of the last writer for each number of answers, by each way to choose."""
    last, found = pipeline.writers[-1], []
    for own in measured:
        searched = own.searched(own.written(last, pipeline.calculator))
        if pipeline.verifier:
            searched.scores["verifier"] = np.array(own.judged(last, pipeline.calculator)["scores"])
        found.append(searched)
    share = lambda word, k: float(np.mean([own.chances(word, k).mean() for own in found]))
    words = [*found[0].scores, "any"]
    return [{"answers": k} | {word: share(word, k) for word in words} for k in choosing.counts(pipeline.samples)]


def draw(points: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw `curves` into a file."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.4), layout="constrained")
    for word in [word for word in points[0] if word != "answers"]:
        name, style = ("one is right (pass@n)", "--") if word == "any" else (word, "-")
        axes.plot([p["answers"] for p in points], [100 * p[word] for p in points], style, marker="o", label=name)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("answers to a question")
    axes.set_ylabel("% right")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def errors(rows: Sequence[Row], measured: Sequence[Measures], pipeline: Pipeline) -> list[list[str]]:
    """Return for each kind of answer the share of all answers that are of it, stage by stage; () where the task has no
    kinds."""
    kinds = CATEGORIES.get(pipeline.task)
    if kinds is None:
        return []
    shares = []
    for row in rows:
        counted: dict[str, int] = {}
        for own in measured:
            for example, text in zip(own.examples, row.answers[own.seed], strict=True):
                for kind in kinds(example, text):
                    counted[kind] = counted.get(kind, 0) + 1
        total = sum(len(own.examples) for own in measured)
        shares.append({kind: count / total for kind, count in counted.items()})
    names = sorted({kind for own in shares for kind in own}, key=lambda kind: -max(own.get(kind, 0) for own in shares))
    head = ["kind of answer", *(row.name for row in rows)]
    return [head, *([name, *(_percent(own.get(name, 0.0)) for own in shares)] for name in names)]


def reliability(measured: Sequence[Measures], pipeline: Pipeline) -> tuple[dict[str, float], list[list[str]]]:
    """Return how far the verifier is to be trusted on answers of the last writer: the share of wrong ones that it
    accepts (score from 1/2) and of right ones that it rejects, the chance that it ranks a right answer of a question
    above a wrong one, and by its score how often it is right."""
    last, scores, right, ranked = pipeline.writers[-1], [], [], []
    for own in measured:
        score = np.array(own.judged(last, pipeline.calculator)["scores"])
        good = np.array(own.written(last, pipeline.calculator)["right"], bool)
        for s, g in zip(score, good, strict=True):
            if g.any() and not g.all():
                ranked.append(np.mean((s[g][:, None] > s[~g]) + 0.5 * (s[g][:, None] == s[~g])))
        scores.append(score.ravel())
        right.append(good.ravel())
    score, good = np.concatenate(scores), np.concatenate(right)
    share = lambda of: float(of.mean()) if len(of) else math.nan
    facts = {
        "wrong ones accepted": share(score[~good] >= 0.5),
        "right ones rejected": share(score[good] < 0.5),
        "a right one above a wrong one of the same question": share(np.array(ranked)),
    }
    bins = np.minimum((score * BINS).astype(int), BINS - 1)
    lines = [["score", "answers", "mean score", "right"]]
    for b in range(BINS):
        of = bins == b
        if of.any():
            name = f"{b / BINS:.1f} .. {(b + 1) / BINS:.1f}"
            lines.append([name, f"{of.sum():,}", _percent(score[of].mean()), _percent(good[of].mean())])
    return facts, lines


def examples(rows: Sequence[Row], own: Measures, count: int) -> list[str]:
    """Return questions with what each stage answers, those first on which stages differ."""
    verify: Any = own.task.verify
    texts = [list(row.answers[own.seed]) for row in rows]
    right = np.array([[verify(e, text) for e, text in zip(own.examples, each, strict=True)] for each in texts])
    lines = []
    for i in np.argsort(-right.std(axis=0), kind="stable")[:count]:
        example = own.examples[i]
        lines.append(f"`{_plain(example.prompt)}` (right: `{_plain(example.answer)}`)\n")
        lines += [
            f"- {row.name}: `{_plain(each[i])}` {'right' if good[i] else 'wrong'}"
            for row, each, good in zip(rows, texts, right, strict=True)
        ]
        lines.append("")
    return lines


def page(rows: Sequence[Row], measured: Sequence[Measures], pipeline: Pipeline, title: str) -> str:
    """Return the page as Markdown; the curve is drawn beside it, as curve.png."""
    parts, facts = [f"# {title}\n", markdown(table(rows, measured, pipeline), notes(measured, pipeline))], {}
    points = curves(measured, pipeline)
    head = ["answers", *("pass@n" if word == "any" else word for word in points[0] if word != "answers")]
    lines = [[f"{p['answers']:.0f}", *(_percent(p[word]) for word in p if word != "answers")] for p in points]
    parts += ["## By the number of answers\n\n![Right answers by the number of answers](curve.png)\n"]
    parts += [markdown([head, *lines])]
    if pipeline.verifier:
        facts, bins = reliability(measured, pipeline)
        parts += ["## The verifier\n", markdown(bins, [f"{name}: {_percent(share)}" for name, share in facts.items()])]
    kinds = errors(rows, measured, pipeline)
    if kinds:
        parts += ["## Kinds of answers\n", markdown(kinds, ["Shares of all answers; one may be of several kinds."])]
    parts += ["## Examples\n", *examples(rows, measured[0], pipeline.shown)]
    return "\n".join(parts).rstrip() + "\n"


def notes(measured: Sequence[Measures], pipeline: Pipeline) -> list[str]:
    """Return what a reader of the table must know."""
    seeds = "seed " + ", ".join(str(own.seed) for own in measured)
    asked = f"{len(measured[0].examples):,} questions of {pipeline.task} ({pipeline.split}), {seeds}"
    return [
        f"{asked}, {pipeline.samples} answers to each at temperature {pipeline.temperature:g}. A training's line is "
        "the mean over them: one answer to a question. Gains are in points. Over seeds they are paired, with t "
        "intervals; over questions, bootstrap intervals of the mean of the seeds. FLOPs are by formula, of a question: "
        "a prompt is read for each of its answers, and the verifier reads each answer."
    ]


def _plain(text: str) -> str:
    """Return a text for a line of Markdown."""
    line = " | ".join(text.strip().splitlines()).replace("`", "'")
    return line if len(line) <= 200 else f"{line[:200]} ..."


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f}%"


def _points(gain: float) -> str:
    return f"{100 * gain:+.1f}"


def _range(low: float, high: float) -> str:
    return "(one seed)" if math.isnan(low) else f"[{_points(low)}, {_points(high)}]"
