"""A pipeline: trainings that build on each other, then search at the time of writing, all measured on one task.

The file of a pipeline, such as configs/pipeline_sums.py, is a config, and defines `get_pipeline(scale: str) ->
Pipeline` beside. It is Python and runs as such. The trainings are arms of a suite, each a run of `main` in a workdir of
its own, that begin with each other's weights; what they write is measured when they are done, and kept for each.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from juliagpt_jax.data.tasks import build as tasks
from juliagpt_jax.evaluation.tasks import searching
from juliagpt_jax.evaluation.tasks.searching import Price, Searched
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.sealed import Changed, read_json, seal, write_json
from juliagpt_jax.ground.words import near
from juliagpt_jax.inference.opened import open_model
from juliagpt_jax.inference.rule import Rule
from juliagpt_jax.search import guides
from juliagpt_jax.search.writing import Answer, Writer
from juliagpt_jax.store.workdir import find
from juliagpt_jax.study.suite import Cell, Suite, defined


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Trainings and what is measured of them.

    Args:
        suite: the trainings. An arm that goes on from another has `"train.init": "{run[OTHER]}"`.
        task: a word of data/tasks/build.py; `path` is the user's file of one that is not made up.
        writers: arms whose models answer the task, in their order; search builds on the last.
        verifier: the arm whose model scores answers; "" for none.
        split, examples: which questions are asked, so many, evenly spread; 0: all.
        samples: answers to each question.
        chat: ask in the models' chat template.
        calculator: measure the last writer with a calculator, too, and search with it.
        rounds, gate: of revising; see `search/revising.py`.
        shown: questions that the report shows.
    """

    suite: Suite
    task: str
    writers: tuple[str, ...]
    verifier: str = ""
    path: str | None = None
    split: str = "test"
    examples: int = 200
    samples: int = 16
    temperature: float = 1.0
    calculator: bool = False
    chat: bool = False
    rounds: int = 1
    gate: float = 0.5
    shown: int = 6

    def __post_init__(self):
        tasks.find(self.task)
        for arm in (*self.writers, *((self.verifier,) if self.verifier else ())):
            if arm not in self.suite.arms:
                raise UserError(f"no training of the pipeline is called {arm!r}{near(arm, self.suite.arms)}")
        if not self.writers or self.samples < 1 or self.examples < 0 or self.rounds < 0 or not 0 < self.gate <= 1:
            raise UserError("a pipeline has writers, samples from 1, examples and rounds from 0, and a gate in (0, 1]")

    @property
    def asked(self) -> dict[str, Any]:
        """Everything but the trainings that decides what is measured."""
        return {
            own.name: getattr(self, own.name)
            for own in dataclasses.fields(self)
            if own.name not in ("suite", "writers", "verifier", "shown")
        }


def load(path: str, scale: str) -> Pipeline:
    """Return the pipeline that a file defines for a scale.

    Raises:
        UserError: as `suite.defined`, or the pipeline is not sound.
    """
    return defined(path, "get_pipeline", scale, Pipeline)


class Measures:
    """Answers of the models of one seed, measured once and kept in a folder.

    Args:
        cells: of this seed, by arm.
    """

    def __init__(self, pipeline: Pipeline, cells: Mapping[str, Cell], folder: Path, say: Callable[[str], None]):
        self.pipeline, self.cells, self.folder, self._say = pipeline, cells, folder, say
        self.seed = next(iter(cells.values())).seed
        self.task = tasks.find(pipeline.task)
        every = tasks.read(pipeline.task, pipeline.split, pipeline.path)
        self.examples = [every[i] for i in searching.spread(len(every), pipeline.examples)]

    def writer(self, arm: str, calculator: bool = False) -> Writer:
        """Open the model of an arm."""
        opened = open_model(find(self.cells[arm].run))
        chat = self.pipeline.chat
        most = searching.most(opened, self.task, self.examples, chat)
        guided = guides.guided(opened.tokenizer, None, calculator)
        rule = Rule(self.pipeline.temperature)
        return Writer(opened, rule, most, (self.task.stop,), max(64, self.pipeline.samples), guided, chat)

    def written(self, arm: str, calculator: bool = False) -> dict[str, Any]:
        """Return what the model of an arm answers, as JSON holds it: texts, scores, tokens, and what is right."""
        name = f"{arm}{'+calculator' if calculator else ''}"
        return self._kept(name, {"writer": self.cells[arm].recipe}, lambda: self._write(arm, calculator))

    def judged(self, arm: str, calculator: bool = False) -> dict[str, Any]:
        """Return the verifier's scores of what the model of an arm answers, and what revising makes of it."""
        verifier = self.pipeline.verifier
        made_by = {"writer": self.cells[arm].recipe, "verifier": self.cells[verifier].recipe}
        return self._kept(f"{arm}+{verifier}", made_by, lambda: self._judge(arm, calculator))

    def _kept(self, name: str, made_by: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        path = self.folder / f"{name}-{self.seed}.json"
        recipe = seal({"asked": self.pipeline.asked, "seed": self.seed, **made_by})
        try:
            kept = read_json(path)
            if kept["recipe"] == recipe:
                return kept["values"]
        except (OSError, ValueError, KeyError, TypeError, Changed):
            pass  # none, half of one or another: made anew
        self._say(f"measuring {name}, seed {self.seed}")
        values = seal({"values": make()})["values"]
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {"recipe": recipe, "values": values})
        return values

    def _write(self, arm: str, calculator: bool) -> dict[str, Any]:
        writer = self.writer(arm, calculator)
        found = searching.search(writer, self.task, self.examples, self.pipeline.samples, self.seed)
        return {
            "texts": [[own.text for own in row] for row in found.answers],
            "right": found.right.astype(int).tolist(),
            "likelihood": found.scores["likelihood"].tolist(),
            "tokens": found.tokens.tolist(),
            "flops": searching.flops(writer.opened),
        }

    def _judge(self, arm: str, calculator: bool) -> dict[str, Any]:
        verifier, price = searching.open_verifier(self.cells[self.pipeline.verifier].run, self.examples)
        found = self.searched(self.written(arm, calculator))
        found.scores["verifier"] = searching.judged(found, verifier)
        writer = self.writer(arm, calculator)
        price = Price(searching.flops(writer.opened), price)
        own, how = self.pipeline, (self.pipeline.samples, self.seed, price)
        rounds = searching.revised(found, writer, self.task, verifier, own.rounds, own.gate, *how)
        return {"scores": found.scores["verifier"].tolist(), "rounds": rounds, "price": price.character}

    def searched(self, written: Mapping[str, Any]) -> Searched:
        """Return what was written as what a search finds; the answers have their texts alone."""
        nothing = np.zeros(0, np.int32)
        answers = [[Answer(nothing, nothing, text, True) for text in row] for row in written["texts"]]
        return searching.found(
            self.task,
            self.examples,
            answers,
            np.array(written["right"], bool),
            np.array(written["likelihood"]),
            np.array(written["tokens"]),
        )


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        right: for each seed the chance that each question is answered right, (P,).
        flops: of a question, for each seed.
        answers: for each seed the text that stands for each question.
        before: the line that it builds on; "" for none.
    """

    name: str
    right: Mapping[int, np.ndarray]
    flops: Mapping[int, float]
    answers: Mapping[int, Sequence[str]]
    before: str = ""


def rows(pipeline: Pipeline, measured: Sequence[Measures]) -> list[Row]:
    """Return the lines of the table, measuring what has not been: each training with one answer to a question, then
    search with the last of them."""
    last, n = pipeline.writers[-1], pipeline.samples
    made: list[Row] = []

    def add(name: str, of: Callable[[Measures], tuple[np.ndarray, float, Sequence[str]]], before: str = "") -> None:
        found = {own.seed: of(own) for own in measured}
        part = lambda place: {seed: values[place] for seed, values in found.items()}
        made.append(Row(name, part(0), part(1), part(2), before or (made[-1].name if made else "")))

    def one(arm: str, calculator: bool = False):
        def of(own: Measures):
            written = own.written(arm, calculator)
            found = own.searched(written)
            price = Price(written["flops"])
            return found.right.mean(axis=1), price.of(found, "vote", 1), [row[0] for row in written["texts"]]

        return of

    def chosen(word: str):
        def of(own: Measures):
            written = own.written(last, pipeline.calculator)
            found, price = own.searched(written), Price(written["flops"])
            if word == "verifier":
                judged = own.judged(last, pipeline.calculator)
                found.scores["verifier"] = np.array(judged["scores"])
                price = Price(written["flops"], judged["price"])
            picks = found.chosen(word)
            texts = [row[i] for row, i in zip(written["texts"], picks, strict=True)]
            return found.chances(word, n), price.of(found, word, n), texts

        return of

    def revised(own: Measures):
        last_round = own.judged(last, pipeline.calculator)["rounds"][-1]
        return np.array(last_round["right"], float), last_round["flops"], last_round["answers"]

    for arm in pipeline.writers:
        add(arm, one(arm))
    if pipeline.calculator:
        add("+ calculator", one(last, True))
    single = made[-1].name  # one answer, which both ways to choose among several are held to
    if n > 1:
        add(f"+ vote of {n}", chosen("vote"))
    if pipeline.verifier and n > 1:
        add(f"+ verifier's best of {n}", chosen("verifier"), single)
        if pipeline.rounds:
            add("+ revised", revised)
    return made
