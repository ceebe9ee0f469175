"""Measurements of a run's checkpoints by what it learns from: a table that `evaluate --every` picks from."""

from collections.abc import Callable
from typing import Any, NamedTuple

from juliagpt_jax.data.puzzles import build as puzzle_sets
from juliagpt_jax.evaluation import puzzles
from juliagpt_jax.evaluation.every import Measure
from juliagpt_jax.evaluation.measure import Asked, Text
from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference import solving
from juliagpt_jax.inference.opened import open_model
from juliagpt_jax.models import parameters
from juliagpt_jax.models.recursive import Recursive
from juliagpt_jax.store.workdir import Found, open_run

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
    return MEASURES[kind(given.settings)](given)


def kind(settings: config.Config) -> str:
    """Return the word of MEASURES for a run: what it learns from."""
    return "puzzles" if settings.data.puzzle.kind != "none" else "text"


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


# `MEASURES[word](given)` makes the measurement of a run that learns from what the word says.
MEASURES: dict[str, Callable[[Given], Measure]] = {"text": of_text, "puzzles": of_puzzles}
