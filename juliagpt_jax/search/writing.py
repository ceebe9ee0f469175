"""Answers to many prompts, several to each, written in batches of one size."""

import bisect
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from juliagpt_jax.data import chat
from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference import answering, continuations
from juliagpt_jax.inference.generate import ENDED, Generator, Guided, slots_for
from juliagpt_jax.inference.opened import Opened
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.inference.stops import first_stop, until
from juliagpt_jax.inference.window import Window

BLOCK = 8  # tokens between two looks at whether all answers have ended: most are short


class Answer(NamedTuple):
    """A text that a model wrote behind a prompt.

    Attributes:
        prompt: its ids (n,).
        ids: (m,) those of the answer and of what ended it.
        text: without what ended it.
        ended: whether it came to an end, and was not cut off.
    """

    prompt: np.ndarray
    ids: np.ndarray
    text: str
    ended: bool

    @property
    def tokens(self) -> int:
        """Tokens that were read and written for it."""
        return len(self.prompt) + len(self.ids)


def asked(tokenizer: Tokenizer, prompt: str, begun: str = "", as_chat: bool = False) -> np.ndarray:
    """Return the ids (n,) int32 of a prompt that begins a text, and of an answer that is begun.

    Args:
        as_chat: the prompt is what a user says, in the model's chat template.

    Raises:
        UserError: characters that the tokenizer lacks, or no chat template.
    """
    if not as_chat:
        return tokenizer.prompt(prompt + begun, begins=True).ids
    ids = chat.encode(tokenizer, [{"role": "user", "content": prompt.strip()}])
    return np.concatenate([ids, tokenizer.encode(begun)]).astype(np.int32) if begun else ids


class Writer:
    """A model that answers.

    Args:
        most: tokens of an answer.
        stops: texts that end an answer, and are no part of it; in a conversation none do.
        rows: answers that are written at the same time.
        guided: see `Generator.stream`.
        as_chat: as `asked`.
    """

    def __init__(
        self,
        opened: Opened,
        rule: Rule,
        most: int,
        stops: Sequence[str] = (),
        rows: int = 64,
        guided: Guided | None = None,
        as_chat: bool = False,
    ):
        self.opened, self.rule, self.most = opened, rule, most
        self.stops = () if as_chat else tuple(stops)  # in a conversation an answer ends where its turn does
        self.rows, self.guided, self.as_chat = rows, guided, as_chat
        self._ends, self._decode = (*opened.stops, ENDED), opened.tokenizer.decode
        self._generator: Generator | None = None

    def write(
        self, prompts: Sequence[str], samples: int, seed: int, begun: Sequence[str] | None = None
    ) -> list[list[Answer]]:
        """Return so many answers to each prompt, each drawn for itself. All depend on the prompt, the seed and their
        number alone, as far as products of other batches round alike.

        Args:
            begun: part of the answer to each prompt, behind which the model goes on. Where the context has not room for
                a whole answer more, what is left of it must do.

        Raises:
            UserError: a prompt has characters that the tokenizer lacks, or is too long to be answered in the context.
        """
        pairs = zip(prompts, begun or [""] * len(prompts), strict=True)
        ids = [asked(self.opened.tokenizer, *pair, self.as_chat) for pair in pairs]
        longest = max(map(len, ids), default=0)
        context = self.opened.model.config.context
        most = min(self.most, context - longest) if begun is not None else self.most
        if longest + most > context or most < 1:
            says = f"a prompt of {longest} tokens and {self.most} of an answer"
            raise UserError(f"{says} are more than the model's context of {context}")
        if self._generator is None or self._generator.slots < longest + most:
            slots = slots_for(self.opened.model, longest + most, Window(context))
            self._generator = Generator(self.opened.model, self.opened.params, slots=slots)
        width = min(samples, self.rows)  # of one prompt's answers in a batch: together, so that their draws differ
        parts = [(which, begin) for which in range(len(ids)) for begin in range(0, samples, width)]
        each = self.rows // width
        answers: list[list[Answer]] = [[] for _ in ids]
        for begin in sorted({begin for _, begin in parts}):
            of = [which for which, at in parts if at == begin]
            for i in range(0, len(of), each):
                batch = [(which, ids[which]) for which in of[i : i + each] for _ in range(width)]
                told = (self._end, self.rule, (seed + begin) % 2**32, each * width, BLOCK, self.guided)
                written = answering.answers(self._generator, [prompt for _, prompt in batch], most, *told)
                for (which, prompt), own in zip(batch, written, strict=True):
                    answers[which].append(self._answer(prompt, own))
        return [found[:samples] for found in answers]

    def _end(self, ids: np.ndarray) -> tuple[int, int] | None:
        """Return where an answer ends in ids, and where its end does: an id, or the token that completes a stop, in
        which the answer may end, too."""
        own, met = until(ids, self._ends)
        complete = lambda n: first_stop(self._decode(own[:n]), self.stops) is not None
        if complete(len(own)):
            at = bisect.bisect_left(range(len(own)), True, key=complete)
            return at, at
        return (len(own), len(own) + 1) if met else None

    def _answer(self, prompt: np.ndarray, ids: np.ndarray) -> Answer:
        own, met = until(ids, self._ends)
        text = self._decode(own)
        found = first_stop(text, self.stops)
        kept = ids[:-1] if met and ids[-1] == ENDED else ids
        return Answer(prompt, kept, text[: found[0]] if found else text, met or found is not None)

    def log_likelihoods(self, answers: Sequence[Answer]) -> np.ndarray:
        """Return the log-probability of each answer behind its prompt, with what ended it, in nats, (N,) float64."""
        found, some = np.zeros(len(answers)), [n for n, answer in enumerate(answers) if len(answer.ids)]
        joined = lambda answer: np.concatenate([answer.prompt, answer.ids]).astype(np.int32)
        pairs = [(joined(answers[n]), len(answers[n].ids)) for n in some]
        found[some] = continuations.last_ids(self.opened.model, self.opened.params, pairs)[0]
        return found
