"""Solve puzzles with a recursive model: many supervision steps, each of which improves the answer.

With noise and several samples the states are pushed at random before each step, and of the trajectories that this gives
the one counts that the halting head trusts most (PTRM: 2026, arXiv 2605.19943). Nothing is trained for it. Nor is it
for the vote of a puzzle's forms: turned, and with other names for its symbols, it is asked again.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.data.batch import IGNORED
from juliagpt_jax.data.puzzles.puzzles import FIRST, Pairs, Puzzles
from juliagpt_jax.inference.stablemax import stablemax_losses
from juliagpt_jax.models.recursive import Carry, Recursive

ROWS = 128  # puzzles that are solved together


class Solved(NamedTuple):
    """Answers to puzzles: `answers` (S, N, L) after each step, what the halting head says of them,
    `halts` (S, N) float32, and, given solutions, the loss of the symbols of the last answer, `losses` (N,)."""

    answers: np.ndarray
    halts: np.ndarray
    losses: np.ndarray


@functools.partial(jax.jit, static_argnums=(0, 6))
def _solve(
    model: Recursive, params: Any, tokens: Any, targets: Any, ids: Any, given: tuple[Any, Any], steps: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Answers (S, B, L), halts (S, B), and the losses (B,) of the last step."""
    noise, key = given
    apply: Any = model.apply

    def step(held: tuple[Carry, jax.Array], at: jax.Array) -> tuple[Any, Any]:
        carry, _ = held
        keys = jax.random.split(jax.random.fold_in(key, at))
        push = lambda part, key: part + (noise * jax.random.normal(key, part.shape)).astype(part.dtype)
        pushed = Carry(push(carry.high, keys[0]), push(carry.low, keys[1]))
        fresh = jnp.broadcast_to(at == 0, tokens.shape[:1])
        logits, carry, aux = apply({"params": params}, tokens, ids, pushed, fresh)
        return (carry, logits), (jnp.argmax(logits, axis=-1).astype(jnp.int32), aux["halt"])

    begin = model.begin(len(tokens)), jnp.zeros((*tokens.shape, model.vocab), jnp.float32)
    (_, logits), (answers, halts) = jax.lax.scan(step, begin, jnp.arange(steps))
    asked = jnp.maximum(jnp.sum(targets != IGNORED, axis=1), 1)
    return answers, halts, jnp.sum(stablemax_losses(logits, targets), axis=1) / asked


def solve(
    model: Recursive,
    params: Any,
    tokens: np.ndarray,
    ids: np.ndarray,
    steps: int,
    targets: np.ndarray | None = None,
    samples: int = 1,
    noise: float = 0.0,
    seed: int = 0,
    place: Any = None,
) -> Solved:
    """Solve puzzles (N, L).

    Args:
        steps: S; more than in training may find more.
        targets: (N, L) the solutions; None where they are not known, whose losses are then of no use.
        samples: trajectories, of which the one with the highest halt at its last step is returned.
        noise: standard deviation of what is added to the states before each step of all samples but the first.
        place: the sharding of rows over devices.
    """
    targets = tokens if targets is None else targets
    put = jnp.asarray if place is None else functools.partial(jax.device_put, device=place)
    parts = []
    for at in range(0, len(tokens), ROWS):
        some = [array[at : at + ROWS] for array in (tokens, targets, ids)]
        real = len(some[0])
        padded = [put(np.concatenate([array, np.repeat(array[-1:], ROWS - real, axis=0)])) for array in some]
        best: Solved | None = None
        for sample in range(samples):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), at), sample)
            given = jnp.float32(noise if sample else 0.0), key
            found = Solved(*(np.asarray(out) for out in jax.device_get(_solve(model, params, *padded, given, steps))))
            best = found if best is None else _better(best, found)
        assert best is not None
        parts.append(Solved(best.answers[:, :real], best.halts[:, :real], best.losses[:real]))
    return Solved(*(np.concatenate(kind, axis=-1 if i == 2 else 1) for i, kind in enumerate(zip(*parts, strict=True))))


def _better(one: Solved, other: Solved) -> Solved:
    """Return for each puzzle the trajectory that ends more trusted."""
    takes = other.halts[-1] > one.halts[-1]
    return Solved(
        np.where(takes[None, :, None], other.answers, one.answers),
        np.where(takes[None], other.halts, one.halts),
        np.where(takes, other.losses, one.losses),
    )


def solve_forms(
    model: Recursive, params: Any, puzzles: Puzzles, test: Pairs, steps: int, count: int, seed: int = 0, **how: Any
) -> list[Solved]:
    """Solve puzzles in `count` forms each, the first as they are; the answers are turned back.

    Args:
        how: `samples`, `noise` and `place` of `solve`.
    """
    found = [solve(model, params, test.inputs, test.ids, steps, test.targets, seed=seed, **how)]
    for number in range(1, count):
        form = puzzles.forms(np.random.default_rng([FIRST, seed, number]), len(test.inputs))
        assert form is not None, "the command refuses kinds without"
        inputs, targets = form.of(test.inputs), form.of(test.targets)
        own = solve(model, params, inputs, test.ids, steps, targets, seed=seed, **how)
        found.append(own._replace(answers=np.array([form.back(answer) for answer in own.answers])))
    return found


def vote(found: Sequence[Solved]) -> Solved:
    """Return after each step the answer to a puzzle that most of its forms give, of equally many the more trusted, and
    the mean of what the halting head says of it; the losses are those of the first form."""
    if len(found) == 1:
        return found[0]
    answers, halts = np.array([one.answers for one in found]), np.array([one.halts for one in found])
    votes, trust = np.zeros(halts.shape, int), np.zeros(halts.shape)
    for one in range(len(found)):
        same = (answers == answers[one]).all(-1)  # (K, S, N)
        votes[one] = same.sum(0)
        trust[one] = (same * halts).sum(0) / votes[one]
    best = np.where(votes == votes.max(0), trust, -np.inf).argmax(0)
    take = lambda array: np.take_along_axis(array, best[None], axis=0)[0]
    return Solved(
        np.take_along_axis(answers, best[None, ..., None], axis=0)[0], take(trust).astype(np.float32), found[0].losses
    )
