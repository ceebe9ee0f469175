"""A verifier that is a language model: it reads a question with an answer, whole or only begun, and says whether that
is right, or will be (generative verifiers: Zhang et al. 2024, arXiv 2408.15240).

It is trained as every model on examples: what it is given is the text and a line's end, what it is to write a word for
right or for wrong. Its score is the chance of the one word among the two. A whole answer has its stop behind it, so
that it is not taken for the beginning of another.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference import scoring
from juliagpt_jax.inference.opened import Opened

WORDS = (("yes", "no"), ("1", "0"))  # for right and wrong; the first that the tokenizer has
STEP = re.compile(r"\S+\s*")  # of an answer: a word and the blanks behind it
RECKONING = re.compile(r".*?(?:>>|\s+)")  # where there are reckonings, up to the end of each


def words(tokenizer: Tokenizer) -> tuple[str, str]:
    """Return the words for right and wrong.

    Raises:
        UserError: the tokenizer has none of WORDS.
    """
    for pair in WORDS:
        if not tokenizer.unknown("".join(pair) + "\n"):
            return pair
    raise UserError(f"the tokenizer writes none of {', '.join(map('/'.join, WORDS))}: it has no words for a verdict")


def asked(text: str) -> str:
    """Return what a verifier is given of a text."""
    return f"{text}\n"


def begun(answer: str) -> list[str]:
    """Return the beginnings of an answer, step by step, without the whole: up to each reckoning's end, where it has
    reckonings in << and >>, else up to each word's."""
    pattern = RECKONING if ">>" in answer else STEP
    found = [answer[: step.end()] for step in pattern.finditer(answer)]
    return [own for own in found if own != answer]


def labelled(
    prompt: str, answers: Sequence[str], right: Sequence[bool], stop: str, said: tuple[str, str], seed: int
) -> Iterator[dict[str, Any]]:
    """Yield examples for a verifier from answers to a question: each different answer, whole and, where it has several
    steps, up to one of them; a beginning is as right as what came of it."""
    rng, seen = np.random.default_rng(seed), set()
    for answer, good in zip(answers, right, strict=True):
        if answer in seen:
            continue
        seen.add(answer)
        steps = begun(answer)
        cuts = [answer + stop, *([steps[int(rng.integers(len(steps)))]] if steps else [])]
        for own in cuts:
            yield {"prompt": asked(prompt + own), "answer": said[0 if good else 1]}


class Verifier:
    """A model that was trained on `labelled` examples, as what scores texts: a `revising.Judge`."""

    def __init__(self, opened: Opened):
        """Raise a UserError where its tokenizer has no words for a verdict."""
        self.opened = opened
        pair = words(opened.tokenizer)
        first = [opened.tokenizer.encode(word)[0] for word in pair]
        self._first = np.array(first, np.int32)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return the probability (N,) that each text is right.

        Raises:
            UserError: a text has characters that the tokenizer lacks, or is longer than the context.
        """
        if not len(texts):
            return np.zeros(0)
        opened = self.opened
        ids = [opened.tokenizer.prompt(asked(text), begins=True).ids for text in texts]
        longest, context = max(map(len, ids)), opened.model.config.context
        if longest > context:
            raise UserError(f"a text of {longest} tokens is longer than the verifier's context of {context}")
        both = scoring.next_ids(opened.model, opened.params, ids, np.tile(self._first, (len(ids), 1)))
        return 1 / (1 + np.exp(both[:, 1] - both[:, 0]))
