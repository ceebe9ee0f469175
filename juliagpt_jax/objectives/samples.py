"""Answers of a finished run to the questions of examples, marked by the task's verifier: written once, and kept in the
cache by the hash of the examples and of the run."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from juliagpt_jax.data.examples.build import Examples
from juliagpt_jax.data.examples.rows import Encoded
from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.ground import files, sealed
from juliagpt_jax.ground.devices import cache_folder
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.answering import answers
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.opened import open_model
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.objectives.written import SPARE
from juliagpt_jax.store.manifest import MANIFEST
from juliagpt_jax.store.workdir import Found

SEED = 0  # of what is written
ROWS = 256  # answers that are written at once


def known_by(found: Found) -> str:
    """Return the SHA-256 that a model on the disk is known by."""
    return files.sha256(found.folders[0] / MANIFEST if found.folders else found.workdir)


def marked(examples: Examples, found: Found, count: int, context: int) -> list[tuple[list[Encoded], np.ndarray]]:
    """Return a model's answers to the examples to train on, and to those to measure with, `count` to each, question by
    question: the ids of question and answer, of which the answer's are to be learned, and which are right.

    Args:
        context: tokens that a question with its answer may have.

    Raises:
        UserError: the model's tokenizer is not that of the examples, or no answer has room.
        StorageError: it has no sound checkpoint.
    """
    named = [known_by(found), examples.fingerprint, str(count), str(context)]
    path = cache_folder() / "samples" / f"{sealed.digest(named)[:32]}.npz"
    kept = _kept(path)
    if kept is None:
        opened = open_model(found)
        if opened.tokenizer.to_dict() != examples.tokenizer.to_dict():
            raise UserError(f"{found.workdir}, which is to write answers: its tokenizer is not this run's")
        total = count * (len(examples.train) + len(examples.dev))
        print(f"{found.workdir} writes {total:,} answers to be marked", flush=True)
        generator = Generator(opened.model, opened.params)
        kept = {}
        for side, asked in (("train", examples.train), ("dev", examples.dev)):
            kept |= _written(side, generator, examples, asked, count, context)
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
