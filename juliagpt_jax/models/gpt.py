"""The baseline: a decoder-only transformer on one page. It imports nothing else of this package.

Pre-norm residual blocks of causal attention (rotary positions, grouped key/value heads as an option) and SwiGLU,
RMSNorm, no biases, a tied head. `models/decoder.py` builds the same network from tables of parts; a test holds the two
together, with the same parameters. Read this file; experiment there.

Shape letters, the same in the whole package:
    B batch    T new tokens    S cache slots    D width     H query heads    K key/value heads    G = H / K
    C head channels            F hidden width   V vocabulary                 L layers

One function serves training, prefill and decoding. Without a cache it is the training forward pass; with one it
continues each cached sequence by T tokens. A token at position p lives in slot p; a position past the last slot marks a
pad: it is never written, so nobody ever sees it. Dropout acts when, and only when, the caller passes a "dropout" random
key.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

Cache = tuple[dict[str, jax.Array], ...]  # one {"k", "v"} a block, each (B, K, S, C)


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

    The product is two-dimensional on purpose: XLA's CPU backend computes the weight gradient of a (B, T, D) operand
    four times slower than that of a (B * T, D) one.
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
    """Rotate channel pairs (i, i + C/2) of x (B, heads, T, C) by positions * base^(-2i/C) (RoFormer, arXiv 2104.09864,
    eq. 15, in the half-split layout of Llama)."""
    half = x.shape[-1] // 2
    frequencies = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions.astype(jnp.float32)[:, None, :, None] * frequencies[None, None, None]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    a, b = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def split_heads(x: jax.Array, heads: int) -> jax.Array:
    """(B, T, heads * C) -> (B, heads, T, C)."""
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def attend(q, k, v, positions, cache, drop):
    """softmax(q k' / sqrt(C)) v over the tokens at or before each position, the softmax in float32.

    q (B, H, T, C), k and v (B, K, T, C), positions (B or 1, T); query head h reads key/value head h // G. With a cache
    the new keys and values are written first, and every slot up to a token's own position is seen.
    `drop` is applied to the attention weights. Returns (B, T, H * C) and the continued cache.

    What makes it fast on a CPU: every product has its batch axes (B, K) first and one axis beside the summed one, so
    that neither it nor its gradients transpose a (T, T) array; the division by the sum of the exponentials comes after
    the product with v, on (T, C) numbers instead of (T, T); and nothing reads the old cache, so it is written in place
    (an index for the heads, too, keeps XLA from rewriting the scatter of a single row, which would bring the copy
    back).
    """
    B, H, T, C = q.shape
    K = k.shape[1]
    slots = positions
    if cache is not None:
        place = jnp.arange(B)[:, None, None], jnp.arange(K)[None, :, None], positions[:, None, :]
        k = cache["k"].at[place].set(k, mode="drop")
        v = cache["v"].at[place].set(v, mode="drop")
        cache = {"k": k, "v": v}
        slots = jnp.arange(k.shape[2])[None, :]
    q = (q * C**-0.5).reshape(B, K, H // K * T, C)
    scores = jnp.einsum("bkmc,bksc->bkms", q, k, preferred_element_type=jnp.float32).reshape(B, K, H // K, T, -1)
    visible = slots[:, None, :] <= positions[:, :, None]  # (B or 1, T, T or S)
    scores = jnp.where(visible[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
    total = jnp.sum(weights, axis=-1).reshape(B, K, -1, 1)
    weights = drop(weights).astype(v.dtype).reshape(B, K, H // K * T, -1)
    y = jnp.einsum("bkms,bksc->bkmc", weights, v, preferred_element_type=jnp.float32) / total
    return y.astype(v.dtype).reshape(B, H, T, C).swapaxes(1, 2).reshape(B, T, H * C), cache


class Attention(nn.Module):
    """Causal multi-head attention with rotary positions; K = H is multi-head, K < H grouped-query attention."""

    heads: int
    kv_heads: int
    rope_base: float
    gain: float
    dropout: float

    @nn.compact
    def __call__(self, x, positions, cache=None):
        D, H, K = x.shape[-1], self.heads, self.kv_heads
        q = split_heads(Linear(D, name="query")(x), H)
        k = split_heads(Linear(K * D // H, name="key")(x), K)
        v = split_heads(Linear(K * D // H, name="value")(x), K)
        q, k = rotary(q, positions, self.rope_base), rotary(k, positions, self.rope_base)
        drop = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))
        y, cache = attend(q, k, v, positions, cache, drop)
        return Linear(D, gain=self.gain, name="out")(y), cache


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
        """tokens (B, T) int, positions (B, T) or None for 0 .. T-1 -> float32 logits (B, T, V) and the continued
        cache."""
        if positions is None:
            positions = jnp.arange(tokens.shape[1])[None, :]
        embedding = self.param("embedding", nn.initializers.normal(self.width**-0.5), (self.vocab, self.width))
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
        shape = (batch, self.kv_heads or self.heads, slots, self.width // self.heads)
        return tuple({"k": jnp.zeros(shape, self.dtype), "v": jnp.zeros(shape, self.dtype)} for _ in range(self.layers))
