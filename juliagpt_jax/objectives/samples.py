"""Answers of a finished run to the questions of examples, marked by the task's verifier: written once, and kept in the
cache by the hash of the examples and of the run."""

import functools

import numpy as np

from juliagpt_jax.data.examples.build import Examples
from juliagpt_jax.data.examples.rows import Encoded
from juliagpt_jax.ground import files
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.answering import NEXT, answers
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.opened import open_model
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.objectives.beforehand import Arrays, in_parts
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
    form, rows = examples.form, ROWS - ROWS % count
    each = {
        side: [example for example in asked for _ in range(count)]
        for side, asked in (("train", examples.train), ("dev", examples.dev))
    }
    parts = {f"{side}-{i}": (side, i) for side, all_ in each.items() for i in range(-(-len(all_) // rows))}

    @functools.cache
    def writer() -> Generator:
        opened = open_model(found)
        if opened.tokenizer.to_dict() != examples.tokenizer.to_dict():
            raise UserError(f"{found.workdir}, which is to write answers: its tokenizer is not this run's")
        print(f"{found.workdir} writes {sum(map(len, each.values())):,} answers to be marked", flush=True)
        return Generator(opened.model, opened.params)

    @functools.cache
    def prompts(side: str) -> list[np.ndarray]:
        return [form.asked(example) for example in each[side]]

    def make(name: str) -> Arrays:
        side, i = parts[name]
        own, asked = each[side][i * rows : (i + 1) * rows], prompts(side)[i * rows : (i + 1) * rows]
        room = min(context, writer().slots) - max(map(len, prompts(side)))
        if room < 1:
            raise UserError(f"config.model.context={context}: no room for an answer to the longest question")
        most, seed = min(examples.longest_answer + SPARE, room), (SEED + i * NEXT) % 2**32
        written = answers(writer(), asked, most, form.ended, Rule(temperature=1.0), seed, rows)
        right = [
            form.ended(ids) is not None and examples.verify(example, form.answered(ids))
            for example, ids in zip(own, written, strict=True)
        ]
        whole = [np.concatenate(pair) for pair in zip(asked, written, strict=True)]
        sizes = np.array([[len(prompt), len(ids)] for prompt, ids in zip(asked, written, strict=True)], np.int64)
        return {"ids": np.concatenate(whole).astype(np.int32), "sizes": sizes, "right": np.array(right)}

    named = [known_by(found), examples.fingerprint, str(count), str(context)]
    kept = in_parts("samples", named, parts, make, lambda _, arrays: set(arrays) == {"ids", "sizes", "right"})
    sides: dict[str, list[Arrays]] = {side: [] for side in each}
    for (side, _), arrays in zip(parts.values(), kept, strict=True):
        sides[side].append(arrays)
    return [
        ([own for part in held for own in _encoded(part)], np.concatenate([part["right"] for part in held]))
        for held in sides.values()
    ]


def _encoded(part: Arrays) -> list[Encoded]:
    sizes = part["sizes"]
    each = np.split(part["ids"], np.cumsum(sizes.sum(axis=1))[:-1])
    return [Encoded(ids, np.arange(len(ids)) >= asked) for ids, (asked, _) in zip(each, sizes.tolist(), strict=True)]
