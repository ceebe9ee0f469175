"""Measurements of a run's checkpoints by what it learns from: a table that `evaluate --every` picks from."""

import argparse
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

from juliagpt_jax.data.examples import build as example_sets
from juliagpt_jax.data.puzzles import build as puzzle_sets
from juliagpt_jax.evaluation import examples, puzzles
from juliagpt_jax.evaluation.every import Measure
from juliagpt_jax.evaluation.measure import Asked, Text
from juliagpt_jax.evaluation.tasks import asked
from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference import solving
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.opened import open_model
from juliagpt_jax.models import parameters
from juliagpt_jax.models.recursive import Recursive
from juliagpt_jax.store.workdir import Found, open_run

BATCH = 32  # examples that are scored at once
LEFT_OUT = ("workdir", "words", "counted", "compilations", "protocol")  # of a report: what is no number, or the same


class Given(NamedTuple):
    """The means to measure checkpoints.

    Attributes:
        settings: the run's config.
        find: looks for a checkpoint, by its step.
        asked: of a text.
        precision: as of `open_model`.
        note: is told what a reader of the numbers must know.
    """

    settings: config.Config
    find: Callable[[int], Found]
    asked: Asked
    precision: str | None
    note: Callable[[str], Any]


def build(given: Given) -> Measure:
    """Return the measurement of a run's checkpoints.

    Raises:
        UserError: what is asked for is not of such a run.
    """
    return MEASURES[given.settings.reads](given)


def of_examples(given: Given) -> Measure:
    """Score the dev examples of the run, and answer as many of them as its own report does."""
    if given.asked.source:
        raise UserError("--data: of models of texts; this one answers the dev examples of its run")
    known = example_sets.load(given.settings)
    some, held = known.spread(given.settings.data.examples.written), {}

    def measure(step: int) -> tuple[dict[str, Any], str]:
        opened = open_model(given.find(step), given.precision)
        if held.get("model") != opened.model:
            held.update(model=opened.model, generator=Generator(opened.model, opened.params))
        held["generator"].load(opened.params)
        every = range(len(known.dev))
        values: dict[str, Any] = examples.losses(opened.model, opened.params, known, every, BATCH)
        values |= {"params": parameters.count(opened.run.params)}
        line = f"loss of the answers {values['loss']:.4f} nats a token"
        if some:
            judged = examples.judge(known, some, examples.write(held["generator"], known, some))
            values |= {name: value for name, value in judged.items() if name != "answers"}
            line += f", {values['right']:.1%} of {values['answered']:,} right"
        return values, line

    return measure


def of_text(given: Given) -> Measure:
    """Measure on a text, the run's or another, all that `evaluate` says of one checkpoint."""
    held: list[Text] = []

    def measure(step: int) -> tuple[dict[str, Any], str]:
        opened = open_model(given.find(step), given.precision)
        if not held:
            held.append(Text(opened.run, given.asked, given.note))
        values = held[0].measure(opened, held[0].score(opened), "")
        line = f"perplexity {values['perplexity']:.4f}, {values['bpc']:.4f} bits per character"
        return {name: value for name, value in values.items() if name not in LEFT_OUT}, line

    return measure


def of_puzzles(given: Given) -> Measure:
    """Solve the run's test puzzles."""
    if given.precision or given.asked.source:
        raise UserError("--precision and --data: of models of texts; this one solves the puzzles of its run")
    known = puzzle_sets.load(given.settings)

    def measure(step: int) -> tuple[dict[str, Any], str]:
        run = open_run(given.find(step))
        assert isinstance(run.model, Recursive)
        test, steps = known.test, given.settings.train.recursive.steps
        solved = solving.solve(run.model, run.params, test.inputs, test.ids, steps, test.targets)
        values = puzzles.score(solved, test, known) | {"params": parameters.count(run.params)}
        return values, f"{values['solved']:.1%} of {values['puzzles']:,} puzzles solved"

    return measure


def of_task(options: Any, questions: asked.Questions) -> tuple[Measure, dict[str, Any]]:
    """Return the measurement by a task's questions, and what decides its numbers.

    Args:
        options: of the command line, as `evaluation/tasks/asked.py` takes them.
    """

    def measure(step: int) -> tuple[dict[str, Any], str]:
        one = argparse.Namespace(**{**vars(options), "checkpoint": str(step)})
        answered = asked.answer(one, questions)
        row = asked.describe(one, answered)
        values: dict[str, Any] = {name: own.value for name, own in answered.values.items()}
        values["intervals"] = {name: [own.low, own.high] for name, own in answered.values.items()}
        values |= {name: row[name] for name in ("questions", "prompts_without_all_shots", "prompts_cut", "seconds")}
        return values, ", ".join(f"{name} {own.value:.4f}" for name, own in answered.values.items())

    names = ("task", "split", "instruction", "chat", "by", "samples", "max_new_tokens", "shots", "limit", "unknown")
    each = repr([(example.prompt, example.answer) for example in questions.asked])
    how = {name: getattr(options, name) for name in names} | {"temperature": options.temperature}
    return measure, how | {"questions": hashlib.sha256(each.encode("utf-8", "surrogatepass")).hexdigest()}


# `MEASURES[word](given)` makes the measurement of a run that learns from what the word says.
MEASURES: dict[str, Callable[[Given], Measure]] = {"text": of_text, "puzzles": of_puzzles, "examples": of_examples}
