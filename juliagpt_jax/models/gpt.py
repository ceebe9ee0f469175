"""The baseline: a decoder-only transformer on one page. It imports nothing else of this package.

Pre-norm residual blocks of causal attention (rotary positions, grouped key/value heads as an option) and SwiGLU, RMSNorm,
no biases, a tied head. `models/decoder.py` builds the same network from tables of parts; a test holds the two together, with
the same parameters. Read this file; experiment there.

Shape letters, the same in the whole package:
    B batch    T new tokens    S cache slots    D width     H query heads    K key/value heads    G = H / K
    C head channels            F hidden width   V vocabulary                 L layers

One function serves training, prefill and decoding. Without a cache it is the training forward pass; with one it continues
each cached sequence by T tokens. A token at position p lives in slot p; a position past the last slot marks a pad: it is
never written, so nobody ever sees it. Dropout acts when, and only when, the caller passes a "dropout" random key.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

Cache = tuple[dict[str, jax.Array], ...]  # one {"k", "v"} a block, each (B, S, K, C)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * scale, computed in float32 (Zhang & Sennrich 2019, arXiv 1910.07467, eq. 4)."""

    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],)).reshape((1,) * (x.ndim - 1) + (-1,))
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + self.eps)
        return (wide * scale).astype(x.dtype)


class Linear(nn.Module):
    """x @ kernel, without bias. The kernel is float32 and is cast to the dtype of x.

    The product is two-dimensional on purpose: XLA's CPU backend computes the weight gradient of a (B, T, D) operand four
    times slower than that of a (B * T, D) one.
    """

    features: int
    gain: float = 1.0  # the kernel's standard deviation is gain / sqrt(fan_in)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.initializers.normal(self.gain * x.shape[-1] ** -0.5)
        kernel = self.param("kernel", init, (x.shape[-1], self.features))
        y = x.reshape(-1, x.shape[-1]) @ kernel.astype(x.dtype)
        return y.reshape(*x.shape[:-1], self.features)


def rotary(x: jax.Array, positions: jax.Array, base: float) -> jax.Array:
    """Rotate channel pairs (i, i + C/2) of x (B, T, heads, C) by positions * base^(-2i/C) (RoFormer, arXiv 2104.09864,
    eq. 15, in the half-split layout of Llama)."""
    half = x.shape[-1] // 2
    frequencies = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions.astype(jnp.float32)[:, :, None, None] * frequencies[None, None, None]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    a, b = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def attend(q, k, v, positions, cache, drop):
    """softmax(q k' / sqrt(C)) v over the tokens at or before each position, the softmax in float32.

    q (B, T, H, C), k and v (B, T, K, C), positions (B or 1, T); query head h reads key/value head h // G. With a cache the
    new tokens attend to the slots before them and to each other. Their own keys and values are written last, and the
    barrier makes that write wait for the read: otherwise XLA copies the whole cache at every step.
    `drop` is applied to the attention weights. Returns (B, T, H, C) and the continued cache.
    """
    B, T, H, C = q.shape
    K = k.shape[2]
    q = q.reshape(B, T, K, H // K, C)
    scores = jnp.einsum("btkgc,bskc->bkgts", q, k, preferred_element_type=jnp.float32)
    visible = positions[:, None, :] <= positions[:, :, None]  # (B or 1, T, T)
    if cache is not None:
        S = cache["k"].shape[1]
        old = jnp.einsum("btkgc,bskc->bkgts", q, cache["k"], preferred_element_type=jnp.float32)
        filled = jnp.arange(S)[None, None, :] < positions[:, :1, None]  # what was there before this call
        scores = jnp.concatenate([old, scores], axis=-1)
        visible = jnp.concatenate([jnp.broadcast_to(filled, (B, T, S)), jnp.broadcast_to(visible, (B, T, T))], axis=-1)
    scores = jnp.where(visible[:, None, None], scores * C**-0.5, jnp.finfo(jnp.float32).min)
    weights = drop(jax.nn.softmax(scores, axis=-1).astype(v.dtype))
    y = jnp.einsum("bkgts,bskc->btkgc", weights[..., -T:], v)
    if cache is not None:
        y = y + jnp.einsum("bkgts,bskc->btkgc", weights[..., :-T], cache["v"])
        y, k, v = jax.lax.optimization_barrier((y, k, v))
        rows = jnp.arange(B)[:, None]
        cache = {
            "k": cache["k"].at[rows, positions].set(k, mode="drop"),
            "v": cache["v"].at[rows, positions].set(v, mode="drop"),
        }
    return y.reshape(B, T, H, C), cache


class Attention(nn.Module):
    """Causal multi-head attention with rotary positions; K = H is multi-head, K < H grouped-query attention."""

    heads: int
    kv_heads: int
    rope_base: float
    gain: float
    dropout: float

    @nn.compact
    def __call__(self, x, positions, cache=None):
        B, T, D = x.shape
        H, K, C = self.heads, self.kv_heads, D // self.heads
        q = Linear(H * C, name="query")(x).reshape(B, T, H, C)
        k = Linear(K * C, name="key")(x).reshape(B, T, K, C)
        v = Linear(K * C, name="value")(x).reshape(B, T, K, C)
        q, k = rotary(q, positions, self.rope_base), rotary(k, positions, self.rope_base)
        drop = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))
        y, cache = attend(q, k, v, positions, cache, drop)
        return Linear(D, gain=self.gain, name="out")(y.reshape(B, T, D)), cache


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x) (Shazeer 2020, arXiv 2002.05202, eq. 6)."""

    hidden: int
    gain: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        gate = Linear(self.hidden, name="gate")(x)
        up = Linear(self.hidden, name="up")(x)
        return Linear(x.shape[-1], gain=self.gain, name="down")(jax.nn.silu(gate) * up)


class Block(nn.Module):
    """x + mixer(norm x), then x + channel(norm x)."""

    heads: int
    kv_heads: int
    hidden: int
    rope_base: float
    gain: float
    dropout: float

    @nn.compact
    def __call__(self, x, positions, cache=None):
        drop = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))
        mixer = Attention(self.heads, self.kv_heads, self.rope_base, self.gain, self.dropout, name="mixer")
        y, cache = mixer(RMSNorm(name="mixer_norm")(x), positions, cache)
        x = x + drop(y)
        channel = SwiGLU(self.hidden, self.gain, name="channel")
        return x + drop(channel(RMSNorm(name="channel_norm")(x))), cache


class GPT(nn.Module):
    """Token ids to next-token logits.

    Attributes:
        vocab, width, layers, heads: V, D, L, H; heads divides width.
        kv_heads: K, a divisor of heads; 0 means as many as heads.
        hidden: F, the width inside SwiGLU.
        tie: the head is the transposed embedding.
        dtype: of activations and matrix products; parameters, norms, softmax and logits are float32.
    """

    vocab: int
    width: int
    layers: int
    heads: int
    hidden: int
    kv_heads: int = 0
    rope_base: float = 10_000.0
    dropout: float = 0.0
    tie: bool = True
    dtype: jnp.dtype = jnp.float32  # pyright: ignore[reportArgumentType]

    @nn.compact
    def __call__(
        self, tokens: jax.Array, positions: jax.Array | None = None, cache: Cache | None = None
    ) -> tuple[jax.Array, Cache | None]:
        """tokens (B, T) int, positions (B, T) or None for 0 .. T-1 -> float32 logits (B, T, V) and the continued cache."""
        if positions is None:
            positions = jnp.arange(tokens.shape[1])[None, :]
        embedding = self.param("embedding", nn.initializers.normal(0.02), (self.vocab, self.width))
        x = embedding[tokens].astype(self.dtype)
        x = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(x)
        gain = (2 * self.layers) ** -0.5  # 2 L branches add up in the residual stream (GPT-2, section 2.3)
        caches = []
        for i in range(self.layers):
            kv_heads = self.kv_heads or self.heads
            block = Block(self.heads, kv_heads, self.hidden, self.rope_base, gain, self.dropout, name=f"block_{i}")
            x, continued = block(x, positions, None if cache is None else cache[i])
            caches.append(continued)
        x = RMSNorm(name="norm")(x)
        if self.tie:
            head = embedding.T
        else:
            head = self.param("head", nn.initializers.normal(self.width**-0.5), (self.width, self.vocab))
        flat = x.reshape(-1, self.width)
        logits = jnp.matmul(flat, head.astype(self.dtype), preferred_element_type=jnp.float32)
        return logits.reshape(*tokens.shape, self.vocab), None if cache is None else tuple(caches)

    def init_cache(self, batch: int, slots: int) -> Cache:
        """An empty cache for `batch` sequences of at most `slots` tokens."""
        shape = (batch, slots, self.kv_heads or self.heads, self.width // self.heads)
        return tuple({"k": jnp.zeros(shape, self.dtype), "v": jnp.zeros(shape, self.dtype)} for _ in range(self.layers))
