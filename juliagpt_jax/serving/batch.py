"""The rows of a server's one batch, each with a prompt, a rule and a key of its own, all in one compiled step.

A rule is static to `sampling.draw`, so that every rule is another program; here its fields are arrays over the rows.
A row's numbers come from its own prompt, rule, seed and count of drawn tokens, whoever has the other rows.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.inference.generate import Generator, bucket_for, compiled_programs, fingerprint, row_key, uniforms
from juliagpt_jax.inference.sampling import Rule, nucleus, pick
from juliagpt_jax.models.adapters import merge

TOP = 20  # alternatives that are looked up for a token, where a request asks for any


class Row(NamedTuple):
    """The numbers that decide a row's draws: scalars for one row, (B,) for a batch."""

    temperature: Any
    top_k: Any  # 0: all
    top_p: Any
    greedy: Any
    seed: Any
    prompt: Any  # its fingerprint
    nth: Any  # how many equal prompts stand before it in its request
    drawn: Any  # tokens so far
    adapter: Any = np.int32(0)  # which of those that are laid side by side; 0: none

    @classmethod
    def of(cls, rule: Rule, prompt: np.ndarray, seed: int, nth: int, adapter: int = 0) -> "Row":
        """Return the row that draws what `Generator.stream` would, with this rule and seed, for the nth such prompt."""
        top_k = min(rule.top_k, 2**31 - 1)
        return cls(
            np.float32(rule.temperature),
            np.int32(top_k),
            np.float32(rule.top_p),
            np.bool_(rule.greedy),
            *map(np.uint32, (seed, fingerprint(prompt), nth, 0)),
            adapter=np.int32(adapter),
        )


class Scores(NamedTuple):
    """Natural logarithms of the model's own probabilities, before temperature and cuts: of N tokens that were taken
    (N,), and of the TOP likeliest (N, TOP) with their ids."""

    taken: Any
    top: Any
    ids: Any


class State(NamedTuple):
    cache: Any
    logits: jax.Array  # (B, V) of the next token
    positions: jax.Array  # (B,) of the next token; a pad's, which is never written, of a row that is full or long idle
    rows: Row


def draw_rows(rows: Row, logits: jax.Array, uniform: jax.Array, cut: jax.Array) -> jax.Array:
    """Return the next token (B,) int32 as `sampling.draw` takes it, by the rule of each row.

    Args:
        cut: whether any row has a top_k or top_p; without, nothing is sorted.
    """
    column = lambda values: values[:, None]
    best = jnp.argmax(logits, axis=-1)
    logits = (logits - jnp.max(logits, axis=-1, keepdims=True)) / column(jnp.maximum(rows.temperature, 1e-30))

    def restricted(logits):
        V = logits.shape[-1]
        kth = jnp.where(rows.top_k == 0, V, jnp.minimum(rows.top_k, V)) - 1
        kth = jnp.take_along_axis(jnp.sort(logits, axis=-1)[:, ::-1], column(kth), axis=-1)
        every = jax.nn.softmax(jnp.where(logits < kth, -jnp.inf, logits), axis=-1)
        return jnp.where(column(rows.top_p < 1), nucleus(every, column(rows.top_p)), every)

    probabilities = jax.lax.cond(cut, restricted, lambda logits: jax.nn.softmax(logits, axis=-1), logits)
    return jnp.where(rows.greedy, best, pick(probabilities, uniform)).astype(jnp.int32)


def score(wanted: jax.Array, logits: jax.Array, tokens: jax.Array) -> Scores:
    """Return the scores of tokens (N,) taken at logits (N, V); zeros, for next to nothing, unless `wanted`."""
    top = min(TOP, logits.shape[-1])

    def found(logits):
        log_probabilities = jax.nn.log_softmax(logits, axis=-1)
        taken = jnp.take_along_axis(log_probabilities, tokens[:, None], axis=-1)[:, 0]
        return Scores(taken, *jax.lax.top_k(log_probabilities, top))

    N = len(tokens)
    nothing = Scores(jnp.zeros(N), jnp.zeros((N, top)), jnp.zeros((N, top), jnp.int32))
    return jax.lax.cond(wanted, found, lambda _: nothing, logits)


def with_adapter(params: tuple[Any, Any], which: Any) -> Any:
    """Return the parameters of a model, and of adapters side by side the one of a row, or of each row (B,)."""
    base, adapters = params
    return merge(jax.tree.map(lambda leaf: leaf[which], adapters), base) if adapters else base


class Batch:
    """B rows over one cache of a fixed size, which a block of steps continues together.

    Attributes:
        block: tokens of a block: the largest number up to the one asked for that divides the stride, so that a row's
            window can roll where Generator's does.
        stride: tokens between two points where a window may roll: Generator's block.
        slots: S, tokens that the cache of one row holds.
        window: of a row.
    """

    def __init__(self, generator: Generator, rows: int, block: int, adapters: Any = ()):
        """`adapters`: of rows that name one, side by side as `models.adapters.stack` lays them; () for none."""
        self.model, self.slots, self.rows = generator.model, generator.slots, rows
        self.params = generator.params, jax.device_put(adapters, jax.devices()[0])
        self.stride, self.window, self.pad, self._cache = (
            generator.block,
            generator.window,
            generator.pad,
            generator.cache,
        )
        self.block = max(n for n in range(1, min(block, self.stride) + 1) if self.stride % n == 0)
        self._start = jax.jit(self._start_row, donate_argnums=(1,))
        self._advance = jax.jit(self._advance_block, donate_argnums=(1,))
        self._guided = jax.jit(self._advance_block, donate_argnums=(1,))  # apart, to be counted apart
        self.reset()

    def reset(self) -> None:
        """Forget all rows."""
        zeros = lambda dtype: jnp.zeros(self.rows, dtype)
        rule = (zeros(jnp.float32), zeros(jnp.int32), zeros(jnp.float32), zeros(bool))
        rows = Row(*rule, *(zeros(jnp.uint32) for _ in range(4)), adapter=zeros(jnp.int32))
        logits = jnp.zeros((self.rows, self.model.vocab), jnp.float32)
        state = State(self._cache(self.rows), logits, zeros(jnp.int32), rows)
        self._state = jax.device_put(state, jax.devices()[0])

    def compile(self) -> None:
        """Build all programs, one for a prompt's bucket and one for the block, so that no request waits for one."""
        row = Row.of(Rule(), np.zeros(1), 0, 0)
        for bucket in sorted({bucket_for(length, self.slots) for length in range(1, self.slots + 1)}):
            self.start(0, np.zeros(bucket, np.int32), row, scored=False)
        self.advance(cut=False, scored=False)
        self.advance(cut=False, scored=False, allowed=np.ones((self.rows, self.model.vocab), bool))
        self.reset()

    @property
    def compilations(self) -> dict[str, int]:
        return {"prefill": compiled_programs(self._start), "decode": compiled_programs(self._advance)} | {
            "guided": compiled_programs(self._guided)
        }

    def start(self, index: int, tokens: np.ndarray, row: Row, scored: bool) -> Scores | None:
        """Begin the row at `index` anew with 1 .. S tokens; with `scored`, return the scores of all but the first."""
        padded = np.zeros((1, bucket_for(len(tokens), self.slots)), np.int32)
        padded[0, : len(tokens)] = tokens
        at, length = np.int32(index), np.int32(len(tokens))
        self._state, scores = self._start(self.params, self._state, at, padded, length, row, np.bool_(scored))
        return jax.tree.map(lambda leaf: np.asarray(leaf)[: len(tokens) - 1], scores) if scored else None

    def advance(self, cut: bool, scored: bool, allowed: np.ndarray | None = None) -> tuple[np.ndarray, Scores | None]:
        """Write a block of tokens (N, B), or one for each row, of those `allowed` (B, V); and with `scored` their
        scores (N, B), (N, B, TOP): see `draw_rows`."""
        how = self._advance if allowed is None else self._guided
        self._state, tokens, scores = how(self.params, self._state, np.bool_(cut), np.bool_(scored), allowed)
        return np.asarray(tokens), jax.tree.map(np.asarray, scores) if scored else None

    def _start_row(self, params, state, index, tokens, length, row, scored):
        """Compute this row only: prefilling the others, too, would cost B times as much."""
        at = jnp.arange(tokens.shape[1])[None, :]
        positions = jnp.where(at < length, at, self.pad)
        own = with_adapter(params, row.adapter)
        logits, cache, *_ = self.model.apply({"params": own}, tokens, positions, self._cache(1))
        scores = score(scored, logits[0, :-1], tokens[0, 1:])
        last = jax.lax.dynamic_slice_in_dim(logits, length - 1, 1, axis=1)[:, 0]
        one = State(cache, last, length[None], jax.tree.map(lambda value: value[None], row))
        put = lambda all_, new: jax.lax.dynamic_update_slice_in_dim(all_, new.astype(all_.dtype), index, axis=0)
        return jax.tree.map(put, state, one), scores

    def _advance_block(self, params, state, cut, scored, allowed=None):
        rows, count = state.rows, self.block if allowed is None else 1
        own = with_adapter(params, rows.adapter)
        numbers = uniforms(jax.vmap(row_key)(rows.seed, rows.prompt, rows.nth), rows.drawn, count)

        def one(carry, uniform):
            cache, logits, positions = carry
            held = logits if allowed is None else jnp.where(allowed, logits, -jnp.inf)
            token = draw_rows(rows, held, uniform, cut)
            scores = score(scored, logits, token)
            logits, cache, *_ = self.model.apply({"params": own}, token[:, None], positions[:, None], cache)
            return (cache, logits[:, 0], jnp.minimum(positions + 1, self.pad)), (token, scores)

        (cache, logits, positions), (tokens, scores) = jax.lax.scan(one, tuple(state[:3]), numbers)
        rows = rows._replace(drawn=rows.drawn + jnp.uint32(count))
        return State(cache, logits, positions, rows), tokens, scores
