"""T5: an encoder that reads a text and a decoder that writes the answer (Raffel et al. 2020, arXiv 1910.10683).

Version 1.0 has `t5.channel=relu`, a tied head and `t5.scale_head`; version 1.1 and FLAN have `geglu`, a head of their
own and no scale. What else T5 has of its own: products of queries and keys are not divided by sqrt(C), which the
initial queries make up for; a learnt bias of each head says how far a key is from a query, by a table for the encoder
and one for the decoder that all layers share, and none where the decoder looks at the source; heads may be wider or
narrower than D / H; norms have neither mean nor bias.

The encoder's text is the `source` (B, S): every token of it sees all of them, ABSENT ones are seen by none. The
decoder's tokens begin with START and end with the id that ends a text. For the shape letters see `gpt.py`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs import model as knobs
from juliagpt_jax.ground.knobs.model import ABSENT
from juliagpt_jax.models.channels import gelu
from juliagpt_jax.models.decoder import DTYPES
from juliagpt_jax.models.interface import check_no_decoder
from juliagpt_jax.models.layers import INITS, RMSNorm, WordDropout, linears, split_heads

# What a T5 does not have, by knob, and what the knob must say.
PLAIN = {"kv_heads": 0, "norm": "rms", "bias": False, "qkv_bias": False, "qk_norm": False, "positions": "none"}
PLAIN |= {"zero_init": False, "x0_skip": False, "unet": False, "value_embedding": "none", "head_gate": False}
PLAIN |= {"softcap": 0.0, "mixer": "attention", "mask": "causal", "sink": "none", "channel": "swiglu"}
PLAIN |= {"depth": "stack", "scan_layers": False}


def bucket_table(buckets: int, distance: int) -> np.ndarray:
    """Return the bucket of each distance 0 .. `distance`: the first half of the buckets have one distance each, the
    others grow with its logarithm, rounded down; all from `distance` on share the last one."""
    exact = buckets // 2
    far = np.maximum(np.arange(distance + 1), 1).astype(np.float32)
    grown = np.log(far / np.float32(exact)) / np.float32(np.log(distance / exact)) * np.float32(buckets - exact)
    return np.where(far < exact, np.arange(distance + 1), np.minimum(exact + grown.astype(int), buckets - 1))


def bucket(model: knobs.Model, queries: jax.Array, keys: jax.Array, both_ways: bool) -> jax.Array:
    """Return the bucket of each key (B or 1, S) for each query (B or 1, T), both by their positions: (B or 1, T, S). An
    encoder's keys behind a query have the second half of the buckets; a decoder sees none."""
    own, behind = model.t5, keys[:, None, :] - queries[:, :, None]
    ways = 2 if both_ways else 1
    far = jnp.abs(behind) if both_ways else jnp.maximum(-behind, 0)
    table = jnp.asarray(bucket_table(own.buckets // ways, own.distance))
    found = table[jnp.minimum(far, own.distance)]
    return found + jnp.where(behind > 0, own.buckets // 2, 0) if both_ways else found


class Bias(nn.Module):
    """Numbers that are added to the products of queries and keys, one for each bucket and head."""

    model: knobs.Model
    both_ways: bool

    @nn.compact
    def __call__(self, queries: jax.Array, keys: jax.Array) -> jax.Array:
        """Positions of queries (B or 1, T) and keys (B or 1, S) -> (B or 1, H, T, S) float32."""
        init = nn.initializers.normal(self.model.width**-0.5)
        table = self.param("buckets", init, (self.model.t5.buckets, self.model.heads))
        return table[bucket(self.model, queries, keys, self.both_ways)].transpose(0, 3, 1, 2)


class Attend(nn.Module):
    """Attention of T5: softmax(q k' + bias) v, the softmax in float32."""

    model: knobs.Model
    linear: Callable[..., nn.Module]

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        source: jax.Array | None,
        seen: jax.Array,
        bias: jax.Array | None = None,
        cache: Any = None,
        positions: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """Return (B, T, D), 0 where nothing is seen, and the continued cache.

        Args:
            x: (B, T, D) the queries'.
            source: (B, S, D) the keys' and values'; None: they are all in the cache.
            seen: (B or 1, T, S) bool.
            cache: of keys and values; None: nothing is kept.
            positions: (B or 1, T) the slots of the source's tokens in the cache; None: from the first on, in order.
        """
        H = self.model.heads
        inner = H * (self.model.t5.head_width or self.model.width // H)
        q = split_heads(self.linear(inner, gain=(inner // H) ** -0.5, name="query")(x), H)
        k = v = None
        if source is not None:
            k, v = (split_heads(self.linear(inner, name=name)(source), H) for name in ("key", "value"))
        if cache is not None:
            if k is not None and v is not None:
                put = _begun if positions is None else functools.partial(_at, positions)
                cache = {"k": put(cache["k"], k), "v": put(cache["v"], v)}
            k, v = cache["k"], cache["v"]
        assert k is not None and v is not None
        scores = jnp.einsum("bhtc,bhsc->bhts", q, k, preferred_element_type=jnp.float32)
        seen = seen[:, None]
        scores = jnp.where(seen, scores if bias is None else scores + bias, jnp.finfo(jnp.float32).min)
        weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))) * seen
        weights /= jnp.maximum(jnp.sum(weights, axis=-1, keepdims=True), jnp.finfo(jnp.float32).tiny)
        weights = nn.Dropout(self.model.inner_dropout, deterministic=not self.has_rng("dropout"))(weights)
        y = jnp.einsum("bhts,bhsc->bhtc", weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
        y = y.astype(x.dtype).swapaxes(1, 2).reshape(*x.shape[:2], inner)
        return self.linear(x.shape[-1], name="out")(y), cache


def _begun(held: jax.Array, new: jax.Array) -> jax.Array:
    """Put new keys or values (B, H, S, C) into the first slots; of the others nothing is there."""
    return held.at[:, :, : new.shape[2]].set(new)


def _at(positions: jax.Array, held: jax.Array, new: jax.Array) -> jax.Array:
    """Put new keys or values (B, H, T, C) into the slots (B, T) of what is held; one past the last is dropped."""
    B, H = new.shape[:2]
    index = jnp.arange(B)[:, None, None], jnp.arange(H)[None, :, None], positions[:, None, :]
    return held.at[index].set(new, mode="drop")


class ReLU(nn.Module):
    """down(relu(up x))."""

    model: knobs.Model
    linear: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.linear(x.shape[-1], name="down")(jax.nn.relu(self.linear(self.model.hidden, name="up")(x)))


class GEGLU(nn.Module):
    """down(gelu(gate x) * up x) (Shazeer 2020, arXiv 2002.05202, eq. 6)."""

    model: knobs.Model
    linear: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        gate, up = (self.linear(self.model.hidden, name=name)(x) for name in ("gate", "up"))
        return self.linear(x.shape[-1], name="down")(gelu(gate) * up)


class Block(nn.Module):
    """x + mixer(norm x); in a decoder x + cross(norm x), where it looks at the source; x + channel(norm x)."""

    model: knobs.Model
    linear: Callable[..., nn.Module]

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        seen: jax.Array,
        bias: jax.Array,
        there: jax.Array | None = None,
        source: jax.Array | None = None,
        cache: Any = None,
        positions: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """x (B, T, D), what it sees of itself and with which bias; for a decoder also which tokens of the source are
        there (B, S), the encoded source (B, S, D), None where the cache has it, and the cache -> x and the cache."""
        norm = lambda name: RMSNorm(self.model.norm_eps, name=name)
        drop = nn.Dropout(self.model.dropout, deterministic=not self.has_rng("dropout"))
        own, other = (None, None) if cache is None else cache
        y = norm("mixer_norm")(x)
        y, own = Attend(self.model, self.linear, name="mixer")(y, y, seen, bias, own, positions)
        x = x + drop(y)
        if there is not None:
            y = norm("cross_norm")(x)
            y, other = Attend(self.model, self.linear, name="cross")(y, source, there[:, None, :], None, other)
            x = x + drop(y)
        y = CHANNELS[self.model.t5.channel](self.model, self.linear, name="channel")(norm("channel_norm")(x))
        return x + drop(y), None if cache is None else (own, other)


class Encoder(nn.Module):
    """A source, embedded and read by all layers."""

    model: knobs.Model
    linear: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array, there: jax.Array) -> jax.Array:
        """x (B, S, D) of which the tokens `there` (B, S) exist -> (B, S, D)."""
        places = jnp.arange(x.shape[1])[None, :]
        bias = Bias(self.model, True, name="bias")(places, places)
        seen = jnp.broadcast_to(there[:, None, :], (x.shape[0], x.shape[1], x.shape[1]))
        for i in range(self.model.t5.encoder_layers or self.model.layers):
            x, _ = Block(self.model, self.linear, name=f"block_{i}")(x, seen, bias)
        x = RMSNorm(self.model.norm_eps, name="norm")(x)
        return nn.Dropout(self.model.inner_dropout, deterministic=not self.has_rng("dropout"))(x)


class T5(nn.Module):
    """A source and the tokens of an answer so far to logits of the next one. Attributes as of `Decoder`; the config's
    `layers` are the decoder's."""

    config: knobs.Model
    vocab: int
    precision: str = "f32"
    remat: bool = False
    schedule: tuple[tuple[float, ...], ...] = ()
    energy: bool = False
    int8: bool = False
    encodes: ClassVar[bool] = True

    @nn.compact
    def __call__(
        self, tokens: Any, positions: jax.Array | None = None, cache: Any = None, at: jax.Array | None = None
    ) -> tuple[jax.Array, Any, dict[str, Any]]:
        """Return float32 logits (B, T, V), the continued cache (None without one), and {}.

        Args:
            tokens: {"source": (B, S), "tokens": (B, T)}: the source is read first, and begins the cache anew. Or
                (B, T) alone: behind the source that the cache has; without a cache there is none to look at.
            positions, cache, at: of the answer's tokens, as of `Decoder`.
        """
        source, tokens = (tokens["source"], tokens["tokens"]) if isinstance(tokens, Mapping) else (None, tokens)
        if source is None and cache is None:
            source = jnp.full((tokens.shape[0], 1), ABSENT)
        if positions is None:
            positions = jnp.arange(tokens.shape[1])[None, :]
        model, dtype = self.config, DTYPES[self.precision]
        linear = linears(model, int8=self.int8)
        drop = nn.Dropout(model.inner_dropout, deterministic=not self.has_rng("dropout"))
        words = WordDropout(model.word_dropout, name="words")
        embedding = self.param("embedding", nn.initializers.normal(1.0), (self.vocab, model.width))
        read = there = None
        if source is not None:
            there = source != ABSENT
            x = drop(words(embedding[jnp.maximum(source, 0)].astype(dtype), source))
            read = Encoder(model, linear, name="encoder")(x, there)
        layers, slots = [None] * model.layers, positions
        if cache is not None:
            layers, slots = cache["layers"], jnp.arange(cache["layers"][0][0]["k"].shape[2])[None, :]
            there = cache["there"] if there is None else _widened(there, cache["there"].shape[1])
        assert there is not None
        bias = Bias(model, False, name="bias")(positions, slots)
        seen = slots[:, None, :] <= positions[:, :, None]
        x, continued = drop(words(embedding[tokens].astype(dtype), tokens)), []
        for i in range(model.layers):
            block = Block(model, linear, name=f"block_{i}")
            x, held = block(x, seen, bias, there, read, layers[i], positions)
            continued.append(held)
        if at is not None:
            x = jnp.take_along_axis(x, at[:, None, None], axis=1)
        x = drop(RMSNorm(model.norm_eps, name="norm")(x))
        if model.t5.scale_head:
            x = x * model.width**-0.5
        init = INITS[model.init](model.width, self.vocab, 1.0)
        head = embedding.T if model.tie else self.param("head", init, (model.width, self.vocab))
        logits = jnp.matmul(x.reshape(-1, model.width), head.astype(dtype), preferred_element_type=jnp.float32)
        kept = None if cache is None else {"layers": tuple(continued), "there": there}
        return logits.reshape(*x.shape[:-1], self.vocab), kept, {}

    @nn.nowrap
    def check(self) -> None:
        """Refuse what a T5 does not have.

        Raises:
            UserError: naming the key.
        """
        own = self.config.t5
        if own.buckets % 2 or own.buckets < 4 or own.distance <= own.buckets // 2:
            raise UserError(
                f"config.model.t5.buckets: {own.buckets} must be even, at least 4, and less than twice "
                f"t5.distance={own.distance}"
            )
        check_no_decoder(self.config, self.init, {key: (value,) for key, value in PLAIN.items()}, "a T5")

    @nn.nowrap
    def init_cache(self, batch: int, slots: int, first: int | None = None) -> Any:
        """Return an empty cache for `batch` sources and answers of at most `slots` tokens each: keys and values of the
        answer and of the source for each layer of the decoder, and which tokens of the source are there.

        Raises:
            UserError: it should evict.
        """
        if first is not None:
            raise UserError("--evict: a T5 has no cache that evicts; an answer may be of any length")
        model, H = self.config, self.config.heads
        shape = batch, H, slots, model.t5.head_width or model.width // H
        empty = lambda: {name: jnp.zeros(shape, DTYPES[self.precision]) for name in ("k", "v")}
        layers = tuple((empty(), empty()) for _ in range(model.layers))
        return {"layers": layers, "there": jnp.zeros((batch, slots), bool)}


def _widened(there: jax.Array, slots: int) -> jax.Array:
    return jnp.pad(there, ((0, 0), (0, slots - there.shape[1])))


# `model.t5.channel`
CHANNELS = {"relu": ReLU, "geglu": GEGLU}
