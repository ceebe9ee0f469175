"""Revise and retry: what a verifier doubts is written anew, from the place on where it began to doubt.

An answer whose score is below the gate is looked at step by step: the longest beginning that the verifier still
believes in stays, the rest is written again, and the verifier's best of old and new is kept. An answer whose first step
is doubted is written anew from its start. Nothing is trained for this, and nobody sees the right answer.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from juliagpt_jax.search.verifying import Verify
from juliagpt_jax.search.writing import Writer

_WORD = re.compile(r"\S+\s*")  # with the blanks behind it
_RECKONING = re.compile(r".*?(?:>>|\s+)")  # up to the end of one


class Held(NamedTuple):
    """The answer that stands for a question at some time.

    Attributes:
        text: of the answer.
        score: the verifier's, in [0, 1].
        read: tokens that the model has read and written for it, beside those of the first answers.
        judged: characters that the verifier has read for it, beside those of the first answers.
    """

    text: str
    score: float
    read: int = 0
    judged: int = 0


def revise(
    writer: Writer,
    verify: Verify,
    prompts: Sequence[str],
    held: Sequence[Held],
    samples: int,
    gate: float,
    seed: int,
) -> list[Held]:
    """Return what stands after one round.

    Args:
        samples: new ends for each doubted answer.
        gate: score below which an answer is doubted.
    """
    doubted = [n for n, own in enumerate(held) if own.score < gate]
    if not doubted:
        return list(held)
    after = list(held)
    kept, looked = _believed(verify, [prompts[n] for n in doubted], [held[n].text for n in doubted], gate)
    answers = writer.write([prompts[n] for n in doubted], samples, seed, kept)
    texts = [[begin + answer.text for answer in own] for begin, own in zip(kept, answers, strict=True)]
    repeated = [prompts[n] for n in doubted for _ in range(samples)]
    scores = verify(repeated, [text for own in texts for text in own]).reshape(len(doubted), samples)
    for n, own, written, score, extra in zip(doubted, texts, answers, scores, looked, strict=True):
        best = int(score.argmax())
        read = held[n].read + sum(answer.tokens for answer in written)
        judged = held[n].judged + extra + sum(len(prompts[n] + text) for text in own)
        better = score[best] > held[n].score
        text, chance = (own[best], float(score[best])) if better else (held[n].text, held[n].score)
        after[n] = Held(text, chance, read, judged)
    return after


def _believed(
    verify: Verify, prompts: Sequence[str], answers: Sequence[str], gate: float
) -> tuple[list[str], list[int]]:
    """Return for each answer the longest beginning of whole steps no step of which the verifier doubts, and the
    characters that it read to tell."""
    begins = [begun(text) for text in answers]
    repeated = [prompt for prompt, own in zip(prompts, begins, strict=True) for _ in own]
    scores = iter(verify(repeated, [begin for own in begins for begin in own], whole=False).tolist())
    kept = []
    for own in begins:
        fine = [score >= gate for score in (next(scores) for _ in own)]
        count = fine.index(False) if False in fine else len(fine)
        kept.append(own[count - 1] if count else "")
    read = [sum(len(prompt + begin) for begin in own) for prompt, own in zip(prompts, begins, strict=True)]
    return kept, read


def begun(answer: str) -> list[str]:
    """Return the beginnings of an answer, step by step, without the whole: up to the end of each reckoning, where it
    has reckonings in << and >>, else of each word."""
    found = [answer[: step.end()] for step in (_RECKONING if ">>" in answer else _WORD).finditer(answer)]
    return [own for own in found if own != answer]
