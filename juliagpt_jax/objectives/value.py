"""A verifier: a model learns how likely an answer is right, from answers of a generator that are marked (Cobbe et al.
2021, arXiv 2110.14168, section 4.2).

A finished run, the generator, writes several answers to each question; the task's verifier marks them. That is done
once, and kept in the cache by the hash of the examples and of the generator. The model judges behind each token of an
answer, or behind the last (`inference/judging.py` says what its verdict is).
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from juliagpt_jax.data.batch import IGNORED, Batch
from juliagpt_jax.data.examples.build import Examples
from juliagpt_jax.data.examples.rows import MULTIPLE, Encoded, Rows
from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.ground import config, files, sealed
from juliagpt_jax.ground.devices import cache_folder
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.answering import answers
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.judging import ends, reliability, verdicts
from juliagpt_jax.inference.opened import open_model
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.models.interface import Model
from juliagpt_jax.objectives import experts, penalties
from juliagpt_jax.objectives.objective import Apply, Chosen, Memo, Objective, Terms
from juliagpt_jax.objectives.written import SPARE
from juliagpt_jax.store.manifest import MANIFEST
from juliagpt_jax.store.workdir import Found, find

SEED = 0  # of the answers that are judged
ROWS = 256  # answers that are written at once


@dataclasses.dataclass(frozen=True, eq=False)
class Marked(Rows):
    """Answers that are marked, one a row: a row's inputs are all its ids, and its targets 1 where an answer stands that
    is right, 0 where one stands that is wrong.

    Attributes:
        right: (N,) bool.
        last: judge behind the last id alone.
    """

    right: np.ndarray
    last: bool

    def take(self, which: Any) -> Batch:
        """Return some rows, as NumPy arrays."""
        inputs = np.zeros((len(which), self.length), np.int32)
        targets = np.full_like(inputs, IGNORED)
        for row, number in enumerate(which):
            ids, learned = self.examples[number]
            inputs[row, : len(ids)] = ids
            judged = np.arange(len(ids)) == len(ids) - 1 if self.last else learned
            targets[row, : len(ids)][judged] = self.right[number]
        return Batch(inputs, targets)


class Value(Objective):
    """The mean over answers of the cross entropy of the verdict, which is a mean over an answer's tokens.

    Metrics: `accuracy`, the share of tokens behind which the verdict is true.
    """

    answers: ClassVar[bool] = False
    curved: ClassVar[bool] = False
    sampled: Any = None

    def __init__(self, config: config.Config, model: Model, chosen: Chosen | None = None):
        super().__init__(config, model, chosen)
        if not isinstance(chosen, Examples):
            raise UserError("config.train.objective=value: it learns from examples: --config.data.task=...")
        if chosen.pack:
            raise UserError("config.data.examples.pack: value judges rows, which hold one answer each")
        if config.train.ngram.weight:
            raise UserError("config.train.ngram.weight: value has no next tokens that it could weigh")
        self.found = _find_generator(config)
        last, context = config.train.value.level == "solution", config.model.context
        sides = _samples(config, chosen, self.found)
        size = max(len(own.ids) for encoded, _ in sides for own in encoded)  # what ends an answer is read, too
        self.length = min(-(-size // MULTIPLE) * MULTIPLE, context)
        laid = [
            Marked(encoded, [[i] for i in range(len(encoded))], self.length, False, right, last)
            for encoded, right in sides
        ]
        self.rows, self.dev_rows = laid
        self.penalties = penalties.make(config, model, chosen)

    def facts(self) -> dict[str, Any]:
        return {"generator": _hash(self.found)}

    def laid(self) -> Marked:
        return self.rows

    def count(self, batch: Batch) -> jax.Array:
        return jnp.float32(batch.rows)

    def loss(self, apply: Apply, trained: Any, frozen: Any, memo: Memo, batch: Batch, key: jax.Array) -> Terms:
        logits, _, aux = apply(trained, *batch.given, key=key)
        even = batch._replace(weights=1 / jnp.maximum(jnp.sum(batch.scored, axis=1, keepdims=True), 1))
        odds, labels = verdicts(logits), (batch.targets > 0).astype(jnp.float32)
        losses = jnp.where(batch.scored, optax.sigmoid_binary_cross_entropy(odds, labels), 0.0)
        true = batch.scored & ((odds > 0) == (labels > 0))
        total = loss = jnp.sum(even.weighed(losses))
        for penalty in self.penalties:
            total += penalty(logits, aux, even)
        sums = {"loss": loss, "accuracy": jnp.sum(even.weighed(true.astype(jnp.float32)))}
        return Terms(total, sums | experts.told(self.config.model, aux, even))

    def on_dev(self, model: Model, params: Any, which: Any, batch: int, place: Any) -> dict[str, Any]:
        """Return the cross entropy and the reliability of the verdicts behind answers to dev examples."""
        samples = self.config.train.value.samples
        rows = (np.asarray(which)[:, None] * samples + np.arange(samples)).reshape(-1)
        odds = ends(model, params, [self.dev_rows.examples[i].ids for i in rows.tolist()], self.length, batch)
        right = self.dev_rows.right[rows]
        loss = float(np.mean(np.logaddexp(0, np.where(right, -odds, odds))))
        return {"loss": loss} | reliability(1 / (1 + np.exp(-odds.astype(float))), right)


# What is judged.


def _find_generator(settings: config.Config) -> Found:
    name, key = settings.train.value.generator, "config.train.value.generator"
    if name == "none":
        name, key = settings.train.init, "config.train.init"
    if name == "none":
        raise UserError(
            "config.train.value.generator=none: a verifier learns from answers that a model wrote; give its workdir, "
            "or begin with one by config.train.init, which is then the one"
        )
    try:
        return find(Path(name))
    except UserError as error:
        raise UserError(f"{key}={name}: {error}") from error


def _hash(found: Found) -> str:
    return files.sha256(found.folders[0] / MANIFEST if found.folders else found.workdir)


def _samples(settings: config.Config, examples: Examples, found: Found) -> list[tuple[list[Encoded], np.ndarray]]:
    """Return the generator's answers to the examples to train on, and to those to measure with: their ids, and which
    are right."""
    count = settings.train.value.samples
    named = [_hash(found), examples.fingerprint, str(count), str(settings.model.context)]
    path = cache_folder() / "samples" / f"{sealed.digest(named)[:32]}.npz"
    kept = _kept(path)
    if kept is None:
        opened = open_model(found)
        if opened.tokenizer.to_dict() != examples.tokenizer.to_dict():
            raise UserError(f"config.train.value.generator={found.workdir}: its tokenizer is not this run's")
        total = count * (len(examples.train) + len(examples.dev))
        print(f"{found.workdir} writes {total:,} answers to be judged", flush=True)
        generator = Generator(opened.model, opened.params)
        kept = {}
        for side, asked in (("train", examples.train), ("dev", examples.dev)):
            kept |= _written(side, generator, examples, asked, count, settings.model.context)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_arrays(path, kept)
        except OSError as error:
            print(f"note: the answers are not cached: {error}", file=sys.stderr)
    return [_unpacked(kept, side) for side in ("train", "dev")]


def _written(
    side: str, generator: Generator, examples: Examples, asked: Any, count: int, context: int
) -> dict[str, np.ndarray]:
    form = examples.form
    prompts = [form.asked(example) for example in asked for _ in range(count)]
    most = min(examples.longest_answer + SPARE, min(context, generator.slots) - max(map(len, prompts)))
    if most < 1:
        raise UserError(f"config.model.context={context}: no room for an answer to the longest question")
    found = answers(generator, prompts, most, form.ended, Rule(temperature=1.0), SEED, ROWS - ROWS % count)
    each: list[Example] = [example for example in asked for _ in range(count)]
    right = [
        form.ended(ids) is not None and examples.verify(example, form.answered(ids))
        for example, ids in zip(each, found, strict=True)
    ]
    whole = np.concatenate([np.concatenate(pair) for pair in zip(prompts, found, strict=True)]).astype(np.int32)
    sizes = np.array([[len(prompt), len(ids)] for prompt, ids in zip(prompts, found, strict=True)], np.int64)
    return {f"{side}/ids": whole, f"{side}/sizes": sizes, f"{side}/right": np.array(right)}


def _unpacked(arrays: dict[str, np.ndarray], side: str) -> tuple[list[Encoded], np.ndarray]:
    sizes = arrays[f"{side}/sizes"]
    parts = np.split(arrays[f"{side}/ids"], np.cumsum(sizes.sum(axis=1))[:-1])
    learned = [np.arange(a + b) >= a for a, b in sizes.tolist()]
    return [Encoded(ids, own) for ids, own in zip(parts, learned, strict=True)], arrays[f"{side}/right"]


def _kept(path: Path) -> dict[str, np.ndarray] | None:
    try:
        arrays = files.read_arrays(path)
    except (OSError, ValueError):
        return None
    wanted = {f"{side}/{name}" for side in ("train", "dev") for name in ("ids", "sizes", "right")}
    return arrays if set(arrays) == wanted else None
