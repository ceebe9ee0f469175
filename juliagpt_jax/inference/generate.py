"""Prompts in, text out: prefill once, then a jitted loop of a fixed length over a cache of a fixed size.

Prompts of different lengths share a batch: they are padded on the right, and each row gets what it would get alone.
When a row has filled its cache, its last half is prefilled again and the row goes on (a rolling window of half to all
the context).
"""

import functools
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.errors import UserError
from juliagpt_jax.inference.sampling import Rule, draw
from juliagpt_jax.models.decoder import DTYPES, Decoder

BLOCK = 32  # tokens between two visits to the host: short enough to stream, long enough not to matter
SMALLEST_BUCKET = 16


class Generator:
    """A model ready to write. Matrices are cast to the model's precision once, here, but for those of a filter, which
    is computed in float32.

    `compilations` counts the programs compiled so far, by kind: one "decode" for a batch size and rule, one "prefill"
    for a batch size and prompt bucket.
    """

    def __init__(self, model: Decoder, params: Any):
        self.model = model
        self.slots = model.model.context
        self.load(params)
        self._prefill = jax.jit(self._prefill_rows, donate_argnums=(3,))
        self._decode = jax.jit(self._decode_block, static_argnums=0, donate_argnums=(2,))

    def load(self, params: Any) -> None:
        """Take other parameters of the same model, without compiling anything again."""
        dtype = DTYPES[self.model.precision]

        def cast(path, p):
            whole = p.ndim < 2 or "filter" in jax.tree_util.keystr(path, simple=True, separator="/").split("/")
            return p if whole else p.astype(dtype)

        self.params = jax.device_put(jax.tree_util.tree_map_with_path(cast, params), jax.devices()[0])

    @property
    def compilations(self) -> dict[str, int]:
        return {"prefill": compiled_programs(self._prefill), "decode": compiled_programs(self._decode)}

    def _prefill_rows(self, params, tokens, lengths, state, chosen):
        """Start the chosen rows afresh from tokens (B, P) of which `lengths` (B,) exist; leave the others as they
        are."""
        B, P = tokens.shape
        slots = jnp.arange(P)[None, :]
        positions = jnp.where(slots < lengths[:, None], slots, self.slots)
        fresh = self.model.init_cache(B, self.slots)
        logits, fresh = self.model.apply({"params": params}, tokens, positions, fresh)
        last = jnp.take_along_axis(logits, lengths[:, None, None] - 1, axis=1)[:, 0]
        new = (fresh, last, lengths)
        return jax.tree.map(lambda a, b: jnp.where(chosen.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, state)

    def _decode_block(self, rule, params, state, uniforms):
        """One token for each row of uniforms (N, B) -> the continued state and the tokens (N, B)."""

        def one(state, uniform):
            cache, logits, positions = state
            token = draw(rule, logits, uniform)
            logits, cache = self.model.apply({"params": params}, token[:, None], positions[:, None], cache)
            return (cache, logits[:, 0], positions + 1), token

        return jax.lax.scan(one, state, uniforms)

    def stream(
        self, prompts: Sequence[np.ndarray], new_tokens: int, rule: Rule, seed: int = 0, block: int = BLOCK
    ) -> Iterator[np.ndarray]:
        """Yield arrays (B, n) of new tokens until each of the B prompts has `new_tokens` of them.

        Args:
            prompts: one-dimensional id arrays, none empty. Of one longer than the context the last half context is
            read. new_tokens: past the context, when the window rolls (and so the text) depends on this number too.
            seed: draws depend on it, on the prompt and on how many equal prompts stand before it; not on the other
            rows.

        Raises:
            UserError: no prompt, or an empty one.
        """
        if not prompts or any(len(p) == 0 for p in prompts):
            raise UserError("a prompt needs at least one character")
        B, S = len(prompts), self.slots
        block = min(block, S - S // 2)  # so that a block fits behind a prefilled half
        history = [
            np.asarray(p, np.int32)[-S:] if len(p) <= S else np.asarray(p, np.int32)[-(S // 2) :] for p in prompts
        ]
        keys = _row_keys(prompts, seed)
        state = (
            self.model.init_cache(B, S),
            jnp.zeros((B, self.model.vocab), jnp.float32),
            jnp.zeros(B, jnp.int32),
        )
        state = jax.device_put(state, jax.devices()[0])
        state = self._start(state, history, np.ones(B, bool), bucket_for(max(map(len, history)), S))
        filled = np.array([len(h) for h in history])
        done = 0
        while done < new_tokens:
            needed = min(block, new_tokens - done)
            full = filled + needed > S
            if full.any():
                history = [h[-(S // 2) :] if f else h for h, f in zip(history, full, strict=True)]
                state = self._start(state, history, full, S // 2)
                filled = np.where(full, [len(h) for h in history], filled)
            uniforms = _uniforms(keys, done, block)
            state, tokens = self._decode(rule, self.params, state, uniforms)
            fresh = np.asarray(tokens).T[:, :needed]
            history = [np.concatenate([h, t])[-S:] for h, t in zip(history, fresh, strict=True)]
            filled = filled + needed
            done += needed
            yield fresh

    def _start(self, state, history, chosen, bucket):
        tokens = np.zeros((len(history), bucket), np.int32)
        lengths = np.ones(len(history), np.int32)
        for row, (tail, wanted) in enumerate(zip(history, chosen, strict=True)):
            if wanted:
                lengths[row] = len(tail)
                tokens[row, : len(tail)] = tail
        return self._prefill(self.params, tokens, lengths, state, chosen)

    def generate(self, prompts: Sequence[np.ndarray], new_tokens: int, rule: Rule, seed: int = 0) -> np.ndarray:
        """All new tokens at once, (B, new_tokens) int32. See `stream`."""
        return np.concatenate(list(self.stream(prompts, new_tokens, rule, seed)), axis=1)


def compiled_programs(function: Any) -> int:
    """How many programs a jitted function has been compiled to in this process."""
    return function._cache_size()


def bucket_for(length: int, slots: int) -> int:
    """The padded length of a prompt: a power of two from SMALLEST_BUCKET, at most `slots`; so few programs are
    compiled."""
    bucket = SMALLEST_BUCKET
    while bucket < length:
        bucket *= 2
    return min(bucket, slots)


def _row_keys(prompts: Sequence[np.ndarray], seed: int) -> jax.Array:
    seen: dict[bytes, int] = {}
    numbers = []
    for prompt in prompts:
        text = np.asarray(prompt, "<i4").tobytes()
        numbers.append((zlib.crc32(text), seen.setdefault(text, 0)))
        seen[text] += 1
    fold = lambda pair: jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), pair[0]), pair[1])
    return jax.vmap(fold)(jnp.array(numbers, jnp.uint32))


@functools.partial(jax.jit, static_argnums=2)
def _uniforms(keys: jax.Array, first: jax.Array, count: int) -> jax.Array:
    """(count, B) numbers in [0, 1): row b's n-th depends on its key and on first + n alone."""
    one = lambda key, n: jax.random.uniform(jax.random.fold_in(key, n))
    return jax.vmap(lambda n: jax.vmap(one, (0, None))(keys, n))(first + jnp.arange(count))
