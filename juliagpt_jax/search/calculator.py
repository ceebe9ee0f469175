"""A calculator that fills in results while a model writes: behind `<<2+3=` it puts `5>>` (Cobbe et al. 2021, arXiv
2110.14168, appendix C).

It reckons by `data/tasks/calculator.py`, exactly and within bounds. What cannot be calculated (a division by zero, a
parenthesis too many) is left to the model.
"""

from collections.abc import Sequence

import numpy as np

from juliagpt_jax.data.tasks.calculator import LONGEST, value, written
from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.search.vocabulary import Vocabulary

PLACES = 6  # of a result that does not end before
OPEN, CLOSE, LEGAL = b"<<", ">>", frozenset(b"0123456789+-*/.,()% ")


class Tape:
    """A text as a calculator sees it, byte by byte."""

    def __init__(self) -> None:
        self._last = b""
        self.open: bytearray | None = None  # the expression that is being written

    def add(self, text: bytes) -> str:
        """Go on by a text, and return the result that its last byte asks for; "" for none."""
        asked = ""
        for byte in text:
            asked = ""
            if self.open is not None and byte == ord("="):
                asked, self.open = _result(self.open), None
            elif self.open is not None and byte in LEGAL and len(self.open) < LONGEST:
                self.open.append(byte)
            else:
                self.open = bytearray() if self._last + bytes([byte]) == OPEN else None
            self._last = bytes([byte])
        return asked


def _result(expression: bytes | bytearray) -> str:
    found = value(expression.decode("ascii"))
    return "" if found is None else written(found, PLACES)


class Calculator:
    """A calculator for a model's tokens: begins the guide of rows. What a prompt leaves open is filled in, too. A
    result for which the tokenizer lacks a sign, a point or a minus, is left to the model."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: Vocabulary | None = None):
        """Raise a UserError where the tokenizer lacks a sign that results need."""
        self.vocabulary, self._tokenizer = vocabulary or Vocabulary(tokenizer), tokenizer
        needed = [sign for sign in "0123456789<=>" if self.vocabulary.spell(sign) is None]
        if needed:
            raise UserError(f"a calculator needs the signs {' '.join(needed)}, which the tokenizer lacks")
        texts = self.vocabulary.texts
        # Tokens that pass over the = of an expression, so that a result would come too late.
        self.passing = np.array([b"=" in text[:-1] for text in texts])
        self.own_passing = np.array([_asks_inside(text) for text in texts])

    def spell(self, result: str) -> list[int]:
        """Return the tokens of a result: those that the tokenizer makes of it, as the model knows them from its
        texts, where they spell nothing else; none where it lacks a sign."""
        try:
            ids = [int(token) for token in self._tokenizer.encode(result)]
            if b"".join(self.vocabulary.texts[token] for token in ids) == result.encode():
                return ids
        except UserError:
            pass
        return self.vocabulary.spell(result) or []

    def __call__(self, prompts: Sequence[np.ndarray], new_tokens: int) -> "Calculating":
        """Begin rows."""
        return Calculating(self, prompts)


def _asks_inside(text: bytes) -> bool:
    tape = Tape()
    return any(tape.add(text[n : n + 1]) for n in range(len(text) - 1))


class Calculating:
    """Guide of rows that a calculator fills in.

    Attributes:
        filled: how many results each row was given.
    """

    def __init__(self, calculator: Calculator, prompts: Sequence[np.ndarray]):
        self._of, self._tapes = calculator, [Tape() for _ in prompts]
        self._forced: list[list[int]] = [[] for _ in prompts]
        self.filled = [0] * len(prompts)
        for row, prompt in enumerate(prompts):
            self._read(row, b"".join(calculator.vocabulary.texts[token] for token in prompt))

    def _read(self, row: int, text: bytes) -> None:
        result = self._tapes[row].add(text)
        ids = self._of.spell(result + CLOSE) if result else []
        if ids:
            self._forced[row], self.filled[row] = ids, self.filled[row] + 1

    def allowed(self) -> np.ndarray:
        """See `Guide`."""
        allowed = np.ones((len(self._tapes), len(self._of.vocabulary)), bool) & ~self._of.own_passing
        for row, (tape, forced) in enumerate(zip(self._tapes, self._forced, strict=True)):
            if forced:
                allowed[row] = False
                allowed[row, forced[0]] = True
            elif tape.open is not None:
                allowed[row] &= ~self._of.passing
        return allowed

    def take(self, tokens: np.ndarray) -> np.ndarray:
        """See `Guide`."""
        for row, token in enumerate(tokens.tolist()):
            forced = self._forced[row]
            if forced:
                forced.pop(0)
            text = self._of.vocabulary.texts[token]
            if not forced:
                self._read(row, text)
            else:
                self._tapes[row].add(text)
        return np.asarray(tokens)
