"""Measure a model on examples that it did not learn from: how likely it finds their answers, and how many of those that
it writes are right."""

import math
from collections.abc import Sequence
from typing import Any

from juliagpt_jax.data.examples.build import Examples
from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.evaluation.puzzles import interval
from juliagpt_jax.inference import scoring
from juliagpt_jax.inference.answering import answers
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.models.interface import Model

PREFERENCES = {"dpo", "ipo", "orpo"}
SHOWN = 4  # examples that a report shows


def losses(
    model: Model, params: Any, examples: Examples, which: Sequence[int], batch: int, place: Any = None
) -> dict[str, float]:
    """Return the loss of the answers of some dev examples, in nats a token and in nats an answer, and the perplexity of
    a token of them: each answer is scored behind its prompt, with the id that ends it."""
    rows = examples.dev_rows.take(which)
    each = scoring.losses_of(model, params, rows.inputs, rows.targets, batch, place)
    loss = scoring.mean_loss(each, rows.targets)
    return {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),
        "answer_nats": float(each.sum(dtype=float) / len(which)),
        "scored_tokens": int((rows.targets >= 0).sum()),
    }


def write(generator: Generator, examples: Examples, asked: Sequence[Example]) -> list[str]:
    """Return what the model answers, greedily, and with a few tokens more than the longest answer that it learned."""
    form = examples.form
    prompts = [form.asked(own) for own in asked]
    most = min(examples.longest_answer + 8, generator.slots - 1)
    return [form.answered(ids) for ids in answers(generator, prompts, most, form.ended)]


def judge(examples: Examples, asked: Sequence[Example], written: Sequence[str]) -> dict[str, Any]:
    """Return the share of answers that are right, with its 95% interval, and the first answers."""
    right = [examples.verify(own, text) for own, text in zip(asked, written, strict=True)]
    share = sum(right) / len(right)
    shown = [
        {"prompt": own.prompt, "answer": own.answer, "written": text, "right": good}
        for own, text, good in list(zip(asked, written, right, strict=True))[:SHOWN]
    ]
    return {
        "right": share,
        "right_interval": list(interval(share, len(right))),
        "answered": len(right),
        "verified": examples.exact,
        "answers": shown,
    }


def describe(report: dict[str, Any]) -> str:
    """Return a report on examples for a reader."""
    lines = []
    for name, values in (("", report), ("averaged weights: ", report.get("averaged") or {})):
        if "answer_nats" in values:
            lines.append(
                f"{name}answers of {report['dev_examples']:,} dev examples: perplexity {values['perplexity']:.4f} a "
                f"token, {values['answer_nats']:.3f} nats an answer ({values['scored_tokens']:,} tokens)"
            )
        if "right" in values:
            low, high = values["right_interval"]
            how = "by the task's verifier" if values["verified"] else "to the letter"
            lines.append(
                f"{name}{values['right']:.1%} of {values['answered']:,} written greedily are right {how} "
                f"(95%: {low:.1%} to {high:.1%})"
            )
        if "value" in values:
            lines.append(name + _trusted(values["value"]))
        for kind in PREFERENCES & values.keys():
            own = values[kind]
            lines.append(
                f"{name}of the dev pairs {own['rewards/accuracies']:.1%} give the chosen answer the higher reward, by "
                f"{own['rewards/margins']:.3f} on average"
            )
    for own in report["answers"]:
        wanted = "" if own["right"] else f"   (wanted: {shown(own['answer'])})"
        lines.append(f"  {shown(own['prompt'])} -> {shown(own['written'])}{wanted}")
    lines.append(
        f"{report['params']:,} parameters; trained on {report['train_examples']:,} examples, {report['epochs']:.3g} "
        f"epochs, {report['flops']:.2g} FLOPs by formula"
    )
    return "\n".join(lines)


def _trusted(own: dict[str, Any]) -> str:
    """Say how far the verdicts of a verifier can be trusted."""
    share = lambda name: "none" if own[name] is None else f"{own[name]:.1%}"
    curve = ", ".join(f"{said:.0%} said {found:.0%} true ({count:,})" for said, found, count in own["calibration"])
    taken = f"accepts {share('false_accepts')} of the wrong ones, rejects {share('false_rejects')} of the right ones"
    return f"{own['judged']:,} answers judged, {own['right']:.1%} of them right: {taken}\n  calibration: {curve}"


def shown(text: str, most: int = 160) -> str:
    """Return a text on one line, its end where it is long."""
    line = " | ".join(text.strip("\n").splitlines())
    return line if len(line) <= most else f"... {line[-most:]}"
