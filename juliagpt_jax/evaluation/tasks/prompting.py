"""Questions as ids: zero or a few examples with their answers, then the question, as text or as a conversation."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from juliagpt_jax.data import chat, folding
from juliagpt_jax.data.examples.rows import Encoded
from juliagpt_jax.data.tasks.task import Example, Task
from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.ground.errors import UserError

BETWEEN = "\n\n"  # two examples


@dataclasses.dataclass
class Prompter:
    """Says a question to a model.

    Attributes:
        most: ids of an answer that is written.
        shots: examples that stand before it with their answers.
        room: ids that prompt and answer may have together.
        instruction: a text before everything; of a conversation its system message.
        chat: whether it is said in the model's chat template.
        encodes: the model reads the question apart from its answer, as a T5 does: `room` is the question's alone.
        unknown: what becomes of characters that the tokenizer lacks; see `folding.encode`.
        dropped, cut: how many prompts lost shots, and how many their own beginning, since they had no room.
    """

    tokenizer: Tokenizer
    task: Task
    room: int
    most: int = 1
    shots: Sequence[Example] = ()
    instruction: str = ""
    chat: bool = False
    encodes: bool = False
    unknown: str = "error"
    dropped: int = 0
    cut: int = 0

    def prompt(self, example: Example) -> np.ndarray:
        """Return the ids before an answer that is written.

        Raises:
            UserError: characters that the tokenizer lacks, no chat template, or no room for the answer alone.
        """
        return self._fitting(example, 0 if self.encodes else self.most)[0]

    def pair(self, example: Example, choice: str) -> Encoded:
        """Return a question and an answer, with what ends it, as a model reads them that encodes the question.

        Raises:
            UserError: as `prompt`.
        """
        asked, answer = self._fitting(example, 0)[0], [*self._answer(choice).tolist(), self.tokenizer.ending]
        learned = np.arange(len(asked) + len(answer)) >= len(asked)
        return Encoded(np.array([*asked.tolist(), *answer], np.int32), learned)

    def continued(self, example: Example, choices: Sequence[str]) -> list[tuple[np.ndarray, int]]:
        """Return for each choice the ids of prompt and choice together, and how many at their end are the choice's: of
        a text those that it has more with the choice than without, as lm-evaluation-harness counts.

        Raises:
            UserError: as `prompt`, or a choice is nothing.
        """
        own = [self._answer(choice) for choice in choices]
        before, shots = self._fitting(example, max(map(len, own)))
        if not self.chat:
            whole = [self._ids(shots, example._replace(prompt=example.prompt + choice)) for choice in choices]
            start = len(self._ids(shots, example))
            own = [ids[start:] for ids in whole]
        if not all(map(len, own)):
            raise UserError(f"a choice has no token of its own behind {example.prompt[-40:]!r}")
        return [(np.concatenate([before, ids])[-self.room :], len(ids)) for ids in own]

    def alone(self, example: Example) -> list[tuple[np.ndarray, int]]:
        """Return `continued` of an example's choices behind the last line of its prompt alone, such as "Answer:", where
        no question stands."""
        return self.bare.continued(cue(example), example.choices)

    @property
    def bare(self) -> "Prompter":
        """Prompter without shots and instruction."""
        return dataclasses.replace(self, shots=(), instruction="")

    def _fitting(self, example: Example, answer: int) -> tuple[np.ndarray, Sequence[Example]]:
        """Return the ids of a prompt that leave room for an answer, and the shots that are left in it."""
        most, shots = self.room - answer, self.shots
        if most < 1:
            raise UserError(f"an answer of {answer} tokens has no room: with its prompt it may have {self.room}")
        ids = self._ids(shots, example)
        while len(ids) > most and shots:
            shots = shots[1:]
            ids = self._ids(shots, example)
        self.dropped += len(shots) < len(self.shots)
        self.cut += len(ids) > most
        return ids[-most:], shots

    def _answer(self, choice: str) -> np.ndarray:
        own = choice.strip() if self.chat else choice
        return np.asarray(folding.encode(self.tokenizer, own, self.unknown), np.int32)

    def _ids(self, shots: Sequence[Example], example: Example) -> np.ndarray:
        if not self.chat:
            before = [self.instruction] if self.instruction else []
            texts = [*before, *(shot.prompt + shot.answer for shot in shots), example.prompt]
            if self.encodes:
                return self.tokenizer.source(BETWEEN.join(texts), self.unknown)
            return self.tokenizer.prompt(BETWEEN.join(texts), self.unknown, begins=True).ids
        said = [{"role": "system", "content": self.instruction}] if self.instruction else []
        for shot in shots:
            said += [{"role": "user", "content": shot.prompt.strip()}]
            said += [{"role": "assistant", "content": shot.answer.strip()}]
        said += [{"role": "user", "content": example.prompt.strip()}]
        return chat.encode(self.tokenizer, said, unknown=self.unknown)


def cue(example: Example) -> Example:
    """Return the last line of a prompt alone, such as "Answer:"."""
    return Example(example.prompt.rpartition("\n")[2], "")


def shots_of(pool: Sequence[Example], count: int, seed: int) -> list[Example]:
    """Return examples to show, drawn by a seed: where there are choices, each in turn is the answer, so that none is
    shown more often than another.

    Raises:
        UserError: there are too few.
    """
    order = np.random.default_rng([seed, count]).permutation(len(pool)).tolist()
    choices = pool[0].choices if pool else ()
    kinds = [[i for i in order if pool[i].answer == choice] for choice in choices] or [order]
    found = [kind[n] for n in range(-(-count // len(kinds))) for kind in kinds if n < len(kind)][:count]
    if len(found) < count:
        raise UserError(f"--shots={count}: there are {len(found)} examples to show")
    return [pool[i] for i in found]
