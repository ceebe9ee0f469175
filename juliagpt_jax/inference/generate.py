"""Prompts in, text out: prefill once, then a jitted loop of a fixed length over a cache of a fixed size.

Prompts of different lengths share a batch: they are padded on the right, and each row gets what it would get alone.

When a row has filled its cache, half a context of tokens is prefilled again and the row goes on (`window.py`). That
costs a token's share of one parallel pass for each token written, and in return the text is exactly what a forward pass
over these tokens says, with every mixer and every kind of position. With `evict` the cache lets go of its oldest token
at each step instead (`models/evicting.py`): a whole context is in sight at all times and nothing is read twice, but it
wants plain attention with rotary positions, and what is kept still knows of what is gone.

A model with an encoder (`models/t5.py`) reads a prompt with that, once, and its decoder writes behind START; it sees
all of both, so prompt and answer each need as many slots as they are long.
"""

import functools
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs.model import ABSENT, START
from juliagpt_jax.inference import beginning
from juliagpt_jax.inference.beginning import NOTHING, Begun
from juliagpt_jax.inference.sampling import Rule, draw
from juliagpt_jax.inference.window import Window
from juliagpt_jax.models.evicting import PAD
from juliagpt_jax.models.interface import Model
from juliagpt_jax.models.precision import cast

BLOCK = 32  # tokens between two visits to the host: short enough to stream, long enough not to matter
SMALLEST_BUCKET = 16
FEWEST_SLOTS = 512
ENDED = -1  # stands for every token behind the end of a row


class Guide(Protocol):
    """A say in what B rows write, before and after each token (`search/`: answers of a given form, a calculator)."""

    def allowed(self) -> np.ndarray:
        """Return which tokens each row may take next, (B, V) bool, at least one a row."""
        ...

    def take(self, tokens: np.ndarray) -> np.ndarray:
        """Note the tokens (B,) that the rows took and return them, with ENDED for a row that had come to its end."""
        ...


# `guided(prompts, new_tokens)` is the guide of rows that begin now.
Guided = Callable[[Sequence[np.ndarray], int], Guide]


class Generator:
    """A model ready to write. Its weights are cast to its precision once, here.

    Attributes:
        window: of its cache, with the tokens from the start of a text that stay in sight when it rolls or evicts.
        slots: of the cache.
        compilations: the programs compiled so far, by kind: one "decode" for a batch size and rule, one "prefill" for
            a batch size and prompt bucket.
    """

    def __init__(self, model: Model, params: Any, sinks: int = 0, slots: int = 0, evict: bool = False):
        """Compile nothing yet. `slots`: 0 for the model's context.

        Raises:
            UserError: the sinks leave no room for newer tokens, or the model cannot have a cache that evicts, or that
                rolls.
        """
        self.model, self.slots = model, slots or model.config.context
        self.window = Window(self.slots, sinks, evict)
        self.window.check()
        self.pad = PAD if evict else self.slots  # the position of what is not there
        if evict:
            jax.eval_shape(lambda: self.cache(1))
        if model.encodes and sinks:
            raise UserError("--sinks: a T5 sees all of the prompt and of its answer")
        self.block = min(BLOCK, self.slots - self.window.half)  # so that a block fits behind a prefilled half
        self.load(params)
        self._prefill = jax.jit(self._prefill_rows, donate_argnums=(3,))
        self._decode = jax.jit(self.decode_block, static_argnums=0, donate_argnums=(2,))

    def load(self, params: Any) -> None:
        """Take other parameters of the same model, without compiling anything again."""
        self.params = jax.device_put(cast(params, self.model.precision), jax.devices()[0])
        self._beginning, self._begun = np.zeros(0, np.int32), NOTHING

    def begin(self, ids: np.ndarray) -> None:
        """Read ids that prompts will begin with, once: of prompts that all begin so, `stream` reads the rest alone. For
        a model and ids that `beginning.shared` allows."""
        self._beginning, self._begun = np.asarray(ids), beginning.read(self.model, self.params, ids, self.slots)

    @property
    def compilations(self) -> dict[str, int]:
        return {"prefill": compiled_programs(self._prefill), "decode": compiled_programs(self._decode)}

    def decode_program(self, batch: int, rule: Rule) -> Any:
        """Return the compiled program that writes a block, to ask the compiler about: its memory, its text."""
        state = jax.eval_shape(lambda: self.empty(batch))
        uniforms = jax.ShapeDtypeStruct((self.block, batch), jnp.float32)
        return self._decode.lower(rule, self.params, state, uniforms).compile()

    def empty(self, batch: int) -> Any:
        """Return the state of rows that have not been started: the cache, the last logits, the number of tokens."""
        logits = jnp.zeros((batch, self.model.vocab), jnp.float32)
        return self.cache(batch), logits, jnp.zeros(batch, jnp.int32)

    def cache(self, batch: int) -> Any:
        """Return an empty cache of so many rows."""
        kept = (self.window.sinks,) if self.window.evict else ()
        return self.model.init_cache(batch, self.slots, *kept)

    def _prefill_rows(self, params, tokens, lengths, state, chosen, begun):
        """Start the chosen rows afresh from tokens (B, P) of which `lengths` (B,) exist, behind what was begun; leave
        the others as they are."""
        B, P = tokens.shape
        slots = jnp.arange(P)[None, :]
        positions = jnp.where(slots < lengths[:, None], begun.length + slots, self.pad)
        fresh = self.cache(B) if begun.cache is None else begun.rows(B)
        if self.model.encodes:
            source = jnp.where(slots < lengths[:, None], tokens, ABSENT)
            tokens, positions = {"source": source, "tokens": jnp.full((B, 1), START)}, jnp.zeros((B, 1), jnp.int32)
            lengths = jnp.ones_like(lengths)  # of what the decoder has read
        logits, fresh, _ = self.model.apply({"params": params}, tokens, positions, fresh, at=lengths - 1)
        new = (fresh, logits[:, 0], begun.length + lengths)
        return jax.tree.map(lambda a, b: jnp.where(chosen.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, state)

    def decode_block(
        self, rule: Rule, params: Any, state: Any, uniforms: jax.Array, allowed: jax.Array | None = None
    ) -> tuple[Any, jax.Array]:
        """Draw one token for each row of uniforms (N, B), of those `allowed` (B, V) -> the continued state and the
        tokens (N, B)."""

        def one(state, uniform):
            cache, logits, positions = state
            token = draw(rule, logits if allowed is None else jnp.where(allowed, logits, -jnp.inf), uniform)
            logits, cache, _ = self.model.apply({"params": params}, token[:, None], positions[:, None], cache)
            return (cache, logits[:, 0], positions + 1), token

        return jax.lax.scan(one, state, uniforms)

    def stream(
        self,
        prompts: Sequence[np.ndarray],
        new_tokens: int,
        rule: Rule,
        seed: int = 0,
        block: int = BLOCK,
        guided: Guided | None = None,
    ) -> Iterator[np.ndarray]:
        """Yield arrays (B, n) of new tokens until each of the B prompts has `new_tokens` of them. Who needs no more
        stops asking: nothing is computed ahead.

        Args:
            prompts: one-dimensional id arrays, none empty. Of one longer than the context what stays in sight is read.
            new_tokens: past the context, when the window rolls (and so the text) depends on this number too. One that
            evicts does not roll.
            seed: draws depend on it, on the prompt and on how many equal prompts stand before it; not on the other
            rows.
            guided: has a say before each token, which then costs a visit to the host; behind the end of a row stands
            ENDED.

        Raises:
            UserError: no prompt, or an empty one, or one of a T5 that does not fit; or as `guided`.
        """
        if not prompts or any(len(p) == 0 for p in prompts):
            raise UserError("a prompt needs at least one character")
        if self.model.encodes and max(1 + new_tokens, *map(len, prompts)) > self.slots:
            raise UserError(f"prompt and answer of a T5 must each fit into the {self.slots} slots of its cache")
        B, window = len(prompts), self.window
        block = min(block, self.block)
        texts = [np.asarray(p, np.int32) for p in prompts]
        windows = [window.begin(text) for text in texts]
        keys, guide = _row_keys(prompts, seed), guided(texts, new_tokens) if guided else None
        state = jax.device_put(self.empty(B), jax.devices()[0])
        begun = self._begun_by(windows)
        rest = [read[begun.length :] for read in windows]
        bucket = bucket_for(max(map(len, rest)), self.slots - begun.length)
        state = self._start(state, rest, np.ones(B, bool), bucket, begun)
        filled = np.array([1 if self.model.encodes else len(read) for read in windows])
        done = 0
        while done < new_tokens:
            needed = min(block, new_tokens - done)
            full = window.rolls(filled, needed)
            if full.any():
                windows = [window.in_sight(text) if f else text[:1] for text, f in zip(texts, full, strict=True)]
                state = self._start(state, windows, full, window.half)
                filled = np.where(full, window.half, filled)
            if guide is None:
                state, tokens = self._advance(rule, state, texts, keys, done, block)
            else:
                state, tokens = self._advance_guided(guide, rule, state, uniforms(keys, done, block)[:needed])
            fresh = np.asarray(tokens).T[:, :needed]
            texts = [np.concatenate(row) for row in zip(texts, np.maximum(fresh, 0), strict=True)]
            filled = filled + needed
            done += needed
            yield fresh

    def _begun_by(self, windows: Sequence[np.ndarray]) -> Begun:
        """Return what was begun, if all windows begin so and go on; else nothing."""
        begins, count = self._beginning, len(self._beginning)
        fits = count and all(len(own) > count and np.array_equal(own[:count], begins) for own in windows)
        return self._begun if fits else NOTHING

    def _start(
        self, state: Any, windows: Sequence[np.ndarray], chosen: np.ndarray, bucket: int, begun: Begun = NOTHING
    ) -> Any:
        """The chosen rows with their windows, at most `bucket` tokens each, in the cache, behind what was begun."""
        tokens = np.zeros((len(windows), bucket), np.int32)
        lengths = np.ones(len(windows), np.int32)
        for row, window in enumerate(windows):
            if chosen[row]:
                lengths[row] = len(window)
                tokens[row, : len(window)] = window
        return self._fill(state, tokens, lengths, chosen, begun)

    def _fill(self, state, tokens, lengths, chosen, begun):
        return self._prefill(self.params, tokens, lengths, state, chosen, begun)

    def _advance(self, rule, state, texts, keys, done, count):
        """Write `count` more tokens of each row, behind texts that have `done` new ones -> the state and (count, B)."""
        return self._decode(rule, self.params, state, uniforms(keys, done, count))

    def _advance_guided(self, guide: Guide, rule: Rule, state: Any, numbers: jax.Array) -> tuple[Any, np.ndarray]:
        """Write a token for each row of numbers (N, B), one at a time -> the state and (N, B)."""
        taken = []
        for number in np.asarray(numbers):
            state, drawn = self._decode(rule, self.params, state, number[None], guide.allowed())
            taken.append(guide.take(np.asarray(drawn)[0]))
        return state, np.stack(taken)

    def generate(self, prompts: Sequence[np.ndarray], new_tokens: int, rule: Rule, seed: int = 0) -> np.ndarray:
        """Return all new tokens at once, (B, new_tokens) int32. See `stream`."""
        return np.concatenate(list(self.stream(prompts, new_tokens, rule, seed)), axis=1)


def compiled_programs(function: Any) -> int:
    """Return how many programs a jitted function has been compiled to in this process.

    JAX has no public count of one function's programs (`jax.monitoring` counts those of the whole process, and traces
    are fewer than programs): this is the only place that reads its private one.
    """
    return function._cache_size()


def bucket_for(length: int, slots: int) -> int:
    """Return the padded length of a prompt: a power of two from SMALLEST_BUCKET, at most `slots`; so few programs are
    compiled."""
    bucket = SMALLEST_BUCKET
    while bucket < length:
        bucket *= 2
    return min(bucket, slots)


def slots_for(model: Model, length: int, window: Window) -> int:
    """Return how many slots a cache needs for texts of that length: a power of two from FEWEST_SLOTS, at most the
    window's.

    A model reads all slots for each token, so one that was made for long texts writes short ones faster with fewer. The
    whole window is taken for texts that do not fit, a cache that evicts, and mixers that are made for one length. A T5
    has as many as it needs: it was made for no length.
    """
    if window.evict or set(model.config.mixer.split()) != {"attention"}:
        return window.slots
    slots = FEWEST_SLOTS
    while slots < length:
        slots *= 2
    return slots if model.encodes else min(slots, window.slots)


def _row_keys(prompts: Sequence[np.ndarray], seed: int) -> jax.Array:
    seen: dict[tuple[int, ...], int] = {}
    numbers = []
    for prompt in prompts:
        text = tuple(prompt)
        numbers.append((fingerprint(prompt), seen.setdefault(text, 0)))
        seen[text] += 1
    return jax.vmap(functools.partial(row_key, seed))(*jnp.array(numbers, jnp.uint32).T)


def fingerprint(prompt: np.ndarray) -> int:
    """Return the CRC-32 of a prompt's ids: what its draws depend on."""
    return zlib.crc32(np.asarray(prompt, "<i4").tobytes())


def row_key(seed: Any, prompt: Any, nth: Any) -> jax.Array:
    """Return the key of a row's draws: of its seed, its prompt's fingerprint, and how many equal prompts stand before
    it."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), prompt), nth)


@functools.partial(jax.jit, static_argnums=(2, 3))
def uniforms(keys: jax.Array, first: Any, count: int, shape: tuple[int, ...] = ()) -> jax.Array:
    """Return (count, B, *shape) numbers in [0, 1): row b's n-th depend on its key and on first + n alone, where `first`
    is one number or (B,)."""
    rows = jax.vmap(lambda key, n: jax.random.uniform(jax.random.fold_in(key, n), shape))
    first = jnp.broadcast_to(jnp.asarray(first, jnp.uint32), keys.shape)
    return jax.vmap(lambda n: rows(keys, first + n))(jnp.arange(count, dtype=jnp.uint32))
