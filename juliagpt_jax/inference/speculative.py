"""Speculative decoding: a small model guesses some tokens, the large one reads them all at once and keeps the first
that it agrees with (Leviathan et al. 2023, arXiv 2211.17192, algorithm 1).

What is written has exactly the distribution of the large model under the same rule; greedy text is the same text, as
far as reading several tokens at once rounds as reading one does.
"""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.generate import Generator, compiled_programs, uniforms
from juliagpt_jax.inference.opened import Opened
from juliagpt_jax.inference.sampling import Rule, distribution, pick
from juliagpt_jax.models.interface import Model
from juliagpt_jax.models.mixers import rewindable
from juliagpt_jax.models.windowed import SPARE


class SpeculativeGenerator(Generator):
    """A model that writes with the help of a smaller one, the draft, of the same vocabulary.

    A row keeps its last token out of both caches' reach: each round feeds it again, behind it the draft's guesses. A
    cache goes back by going on: the slots of rejected guesses lie past the row's position, where nothing looks, and the
    next tokens are written over them.

    Attributes:
        proposed: guesses that rows made which were not done yet.
        accepted: how many of them the model kept.
    """

    def __init__(self, model: Model, params: Any, draft: Model, draft_params: Any, draft_tokens: int, sinks: int = 0):
        """Raise a UserError when one of the two cannot go back, the draft has fewer learned positions than the model,
        or it guesses fewer than 1 or more than 16 tokens a round."""
        for name, decoder in (("model", model), ("draft", draft)):
            if not rewindable(decoder.config):
                raise UserError(
                    f"speculative decoding: the {name}'s mixer={decoder.config.mixer} has a cache that can't go back"
                )
        if draft.vocab != model.vocab:
            raise UserError(f"speculative decoding: the draft has {draft.vocab} tokens, the model {model.vocab}")
        if draft.config.positions == "learned" and draft.config.context < model.config.context:
            raise UserError(
                f"speculative decoding: the draft has learned {draft.config.context} positions, fewer than the model's "
                f"context of {model.config.context}"
            )
        if not 1 <= draft_tokens < SPARE:
            raise UserError(f"draft_tokens={draft_tokens} is outside 1 .. {SPARE - 1}")
        super().__init__(model, params, sinks)
        self.draft = Generator(draft, draft_params, sinks, self.slots)
        self.draft_tokens = draft_tokens
        self.proposed = self.accepted = 0
        self._rounds = jax.jit(self._decode_rounds, static_argnums=0, donate_argnums=(2,))

    @property
    def compilations(self) -> dict[str, int]:
        both = super().compilations["prefill"] + self.draft.compilations["prefill"]
        return {"prefill": both, "decode": compiled_programs(self._rounds)}

    def decode_program(self, batch: int, rule: Rule) -> Any:
        state = jax.eval_shape(lambda: self.empty(batch))
        tails = jax.ShapeDtypeStruct((batch, 2), jnp.int32)
        numbers = jax.ShapeDtypeStruct((self.block, batch, 2 * self.draft_tokens + 1), jnp.float32)
        return self._rounds.lower(rule, (self.params, self.draft.params), state, tails, numbers).compile()

    def empty(self, batch: int) -> Any:
        return super().empty(batch), self.draft.empty(batch)

    def begin(self, ids: np.ndarray) -> None:
        """Read nothing beforehand: every prompt is read whole, by both models."""

    def _fill(self, state, tokens, lengths, chosen, begun):
        large, small = state
        read = tokens, lengths, chosen, begun
        return super()._fill(large, *read), self.draft._fill(small, *read)

    def _advance(self, rule, state, texts, keys, done, count):
        tails = np.array([text[-2:] if len(text) > 1 else [0, text[0]] for text in texts], np.int32)
        numbers = uniforms(keys, done, count, (2 * self.draft_tokens + 1,))
        params = self.params, self.draft.params
        state, tokens, (proposed, accepted) = self._rounds(rule, params, state, tails, numbers)
        self.proposed += int(proposed)
        self.accepted += int(accepted)
        return state, tokens

    def _advance_guided(self, guide, rule, state, numbers):
        raise UserError("speculative decoding: guesses are not held to a form, nor filled in by a calculator")

    def _decode_rounds(self, rule: Rule, params: Any, state: Any, tail: jax.Array, numbers: jax.Array):
        """Rounds until each row has N more tokens: numbers (N, B, 2 g + 1), g guesses a round, and tail (B, 2), the
        last two tokens of each row -> the continued state, the tokens (N, B), and (proposed, accepted).

        A row that has its N tokens waits: what it would add is dropped. The numbers of a round are those of the row's
        next token, so a row does not depend on how many rounds the others need.
        """
        (N, B, _), g = numbers.shape, self.draft_tokens
        rows, ahead = jnp.arange(B), jnp.arange(g + 1)[None]

        def guess(cache, tail, last, number):
            """g tokens (B, g) of the draft and the distributions (B, g, V) that they were drawn from."""

            def feed(cache, tokens, positions, number):
                logits, cache, _ = self.draft.model.apply({"params": params[1]}, tokens, positions, cache)
                chances = distribution(rule, logits[:, -1])
                return cache, pick(chances, number), chances

            def one(carry, number):
                cache, token, position = carry
                cache, drawn, chances = feed(cache, token[:, None], position[:, None], number)
                return (cache, drawn, position + 1), (drawn, chances)

            # The one before the last, too: where all guesses were kept, the draft has not read the last of them yet.
            before = jnp.where(last > 0, last - 1, self.slots)
            cache, token, chances = feed(cache, tail, jnp.stack([before, last], axis=1), number[:, 0])
            (cache, _, _), more = jax.lax.scan(one, (cache, token, last + 1), number[:, 1:g].T)
            join = lambda first, rest: jnp.concatenate([first[:, None], rest.swapaxes(0, 1)], axis=1)
            return cache, join(token, more[0]), join(chances, more[1])

        def round_(carry):
            (large, small, filled), tail, written, tokens, counted = carry
            number, last = numbers[jnp.minimum(written, N - 1), rows], filled - 1
            small, guesses, q = guess(small, tail, last, number)
            read = jnp.concatenate([tail[:, 1:], guesses], axis=1)
            logits, large, _ = self.model.apply({"params": params[0]}, read, last[:, None] + ahead, large)
            p = distribution(rule, logits)
            kept, token = accept(p, q, guesses, number[:, g:])
            new = jnp.where(ahead < kept[:, None], jnp.pad(guesses, ((0, 0), (0, 1))), token[:, None])
            tokens = tokens.at[rows[:, None], written[:, None] + ahead].set(new)  # a round too far is written over
            count = jnp.minimum(kept + 1, N - written)
            tail = jnp.take_along_axis(jnp.concatenate([tail, new], axis=1), count[:, None] + ahead[:, :2], axis=1)
            going = written < N
            counted = counted[0] + g * jnp.sum(going), counted[1] + jnp.sum(jnp.where(going, kept, 0))
            return (large, small, filled + count), tail, written + count, tokens, counted

        (large, _, filled), (small, _, _) = state
        zero = jnp.zeros((), jnp.int32)
        start = (
            (large, small, filled),
            tail,
            jnp.zeros(B, jnp.int32),
            jnp.zeros((B, N + g + 1), jnp.int32),
            (zero, zero),
        )
        (large, small, filled), _, _, tokens, counted = jax.lax.while_loop(lambda c: jnp.any(c[2] < N), round_, start)
        state = (large, state[0][1], filled), (small, state[1][1], filled)
        return state, tokens[:, :N].T, counted


def accept(p: jax.Array, q: jax.Array, guesses: jax.Array, number: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Count the guesses (B, g) that are kept, (B,), and draw the token (B,) that follows them.

    Guess i, drawn from q[:, i], is kept with probability min(1, p[:, i] / q[:, i]) if those before it are; the first
    that is not is drawn anew from what p has more than q, and behind g kept ones a token is drawn from p. So every
    token is distributed as p.

    Args:
        p: (B, g + 1, V), the model's chances of each guess and of what follows the last; q: (B, g, V), the draft's.
        number: (B, g + 1), uniform in [0, 1).
    """
    g = guesses.shape[1]
    chance = lambda of: jnp.take_along_axis(of[:, :g], guesses[:, :, None], axis=2)[:, :, 0]
    good = number[:, :g] * chance(q) < chance(p)
    kept = jnp.sum(jnp.cumprod(good, axis=1, dtype=jnp.int32), axis=1)
    here = lambda of: jnp.take_along_axis(of, kept[:, None, None], axis=1)[:, 0]
    whole, rest = here(p), here(p) - here(jnp.pad(q, ((0, 0), (0, 1), (0, 0))))
    rest = jnp.maximum(rest, 0)
    rest = jnp.where(jnp.any(rest > 0, axis=1, keepdims=True), rest, whole)  # equal but for rounding
    return kept, pick(rest, number[:, g])


def check_draft(opened: Opened, draft: Opened) -> None:
    """Refuse a draft of other tokens, and note one of a shorter context.

    Raises:
        UserError: naming the draft.
    """
    name = f"--draft={draft.run.workdir}"
    if draft.tokenizer.to_dict() != opened.tokenizer.to_dict():
        raise UserError(f"{name}: its tokenizer is not the one of {opened.run.workdir}")
    mine, own = opened.run.config.model.context, draft.run.config.model.context
    if own < mine:
        print(f"note: {name} was trained on {own} tokens: beyond, it guesses badly", file=sys.stderr)
