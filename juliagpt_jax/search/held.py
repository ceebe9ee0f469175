"""Rows that are held to a form while they are written: before each token, only those may come with which the text can
still be brought to its end in the tokens that are left."""

import functools
from collections.abc import Sequence

import numpy as np

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.generate import ENDED
from juliagpt_jax.search.automaton import DEAD, START, Automaton
from juliagpt_jax.search.vocabulary import Vocabulary

FAR = np.iinfo(np.int32).max
KEPT = 256  # states whose tokens are kept


class Form:
    """A form over a model's tokens.

    A token of several bytes may come where all of them may. Where a text may end and no longer one must follow, a row
    ends. Where it may end or go on, a token that does not go on ends it, and is no part of it: so the end is as likely
    as the model finds it.

    Attributes:
        left: (S,) int32, for each state the most tokens that it takes to bring a text to its end, FAR where it cannot.
    """

    def __init__(self, automaton: Automaton, vocabulary: Vocabulary, says: str = "this form"):
        """Raise a UserError where the tokens lack what a text of the form needs."""
        self.automaton, self.vocabulary, self.says = automaton, vocabulary, says
        self.left = _left(automaton, vocabulary.characters())
        if self.left[START] == FAR:
            raise UserError(f"{says} cannot be written: the tokenizer lacks characters that it needs")
        self.next = functools.lru_cache(KEPT)(self._next)

    def _next(self, state: int) -> np.ndarray:
        return self.vocabulary.walk(self.automaton.table, state)

    def over(self, state: int) -> bool:
        """Tell whether nothing can follow."""
        return not self.automaton.table[state].any()

    def allowed(self, state: int, tokens: int) -> np.ndarray:
        """Return which tokens (V,) may come where so many are left, the next one among them."""
        after = self.next(state)
        going = self.left[after] < tokens
        return going | (after == DEAD) if self.automaton.accepting[state] else going

    def __call__(self, prompts: Sequence[np.ndarray], new_tokens: int) -> "Held":
        """Begin rows of so many tokens at most.

        Raises:
            UserError: they are too few for any text of the form.
        """
        if self.left[START] > new_tokens:
            raise UserError(f"max_new_tokens={new_tokens}: {self.says} may take {self.left[START]} tokens at the least")
        return Held(self, len(prompts), new_tokens)


class Held:
    """Guide of rows that are held to a form."""

    def __init__(self, form: Form, rows: int, new_tokens: int):
        self._form, self._left = form, new_tokens
        self._states: list[int | None] = [START] * rows  # None: ended

    def allowed(self) -> np.ndarray:
        """See `Guide`."""
        free = np.ones(len(self._form.vocabulary), bool)
        each = [free if state is None else self._form.allowed(state, self._left) for state in self._states]
        return np.stack(each)

    def take(self, tokens: np.ndarray) -> np.ndarray:
        """See `Guide`."""
        self._left -= 1
        taken = np.array(tokens, np.int32)
        for row, state in enumerate(self._states):
            after = None if state is None else int(self._form.next(state)[tokens[row]])
            if not after:  # it had ended, or the token does not go on
                self._states[row], taken[row] = None, ENDED
            else:
                self._states[row] = None if self._form.over(after) else after
        return taken


def _left(automaton: Automaton, characters: list[bytes]) -> np.ndarray:
    """Return how many tokens of one character or byte each state is away from an end. With the longer ones an end is
    no further away."""
    table, states = automaton.table, np.arange(len(automaton.table))
    steps = []
    for character in characters:
        at = states
        for byte in character:
            at = table[at, byte]
        steps.append(at)
    reached, left = np.stack(steps) if steps else np.zeros((1, len(states)), np.int32), np.full(len(states), FAR)
    left[automaton.accepting] = 0
    for distance in range(1, len(states)):
        nearer = (left == distance - 1)[reached].any(axis=0) & (left == FAR)
        if not nearer.any():
            break
        left[nearer] = distance
    left[DEAD] = FAR
    return left.astype(np.int32)
