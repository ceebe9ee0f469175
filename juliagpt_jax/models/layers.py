"""The pieces that the parts of a model are made of: Linears, norms, a short convolution. RMSNorm, the rotary embedding
and the dense Linear are the baseline's own.

A Linear whose weights `models/capture.py` can tap computes each of its products in a method `product(x, weight, name)`,
name being the weight's.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs import model as knobs
from juliagpt_jax.models.frozen import FrozenLinear
from juliagpt_jax.models.gpt import Linear, RMSNorm, rotary, split_heads
from juliagpt_jax.models.quantized import levels_product, ternary_product
from juliagpt_jax.models.tt import TTLinear

__all__ = [
    "INITS",
    "LINEARS",
    "NORMS",
    "InitLinear",
    "Int8Linear",
    "LayerNorm",
    "Linear",
    "MonarchLinear",
    "RMSNorm",
    "ShortConv",
    "SubLNLinear",
    "WordDropout",
    "biased",
    "block_product",
    "linears",
    "monarch",
    "rotary",
    "split_heads",
]


class WordDropout(nn.Module):
    """Embeddings, those of some tokens 0, and the others over the share that is kept: a token is dropped wherever it
    stands in its row (Gal and Ghahramani 2016, arXiv 1512.05287, section 4.2). It acts with a "dropout" key alone."""

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, tokens: jax.Array) -> jax.Array:
        """x (B, T, D) of tokens (B, T) -> (B, T, D)."""
        if not (self.rate and self.has_rng("dropout")):
            return x
        keys = jax.random.split(self.make_rng("dropout"), len(tokens))
        drawn = lambda key, token: jax.random.bernoulli(jax.random.fold_in(key, token), 1 - self.rate)
        kept = jax.vmap(jax.vmap(drawn, (None, 0)))(keys, tokens)  # by the token, so that equal ones share their lot
        return jnp.where(kept[..., None], x / (1 - self.rate), 0)


class LayerNorm(nn.Module):
    """(x - mean x) / sqrt(var x + eps) * scale + bias, in float32 (Ba et al. 2016, arXiv 1607.06450, eq. 4)."""

    eps: float
    bias: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        row = (1,) * (x.ndim - 1) + (-1,)
        wide = x.astype(jnp.float32)
        wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
        wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + self.eps)
        wide = wide * self.param("scale", nn.initializers.ones, (x.shape[-1],)).reshape(row)
        if self.bias:
            wide = wide + self.param("bias", nn.initializers.zeros, (x.shape[-1],)).reshape(row)
        return wide.astype(x.dtype)


def _normal(fan_in: int, fan_out: int, gain: float) -> Any:
    return nn.initializers.normal(gain * fan_in**-0.5)


def _xavier(fan_in: int, fan_out: int, gain: float) -> Any:
    """Uniform within gain * sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16)."""
    bound = gain * (6 / (fan_in + fan_out)) ** 0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


class InitLinear(Linear):
    """The baseline's Linear with initial weights of another kind, a name of INITS."""

    kind: str = "normal"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = INITS[self.kind](x.shape[-1], self.features, self.gain)
        kernel = self.param("kernel", init, (x.shape[-1], self.features))
        y = x.reshape(-1, x.shape[-1]) @ kernel.astype(x.dtype)
        return y.reshape(*x.shape[:-1], self.features)


def _truncated(fan_in: int, fan_out: int, gain: float) -> Any:
    """Normal within two standard deviations, widened so that its variance is the normal's."""
    return nn.initializers.truncated_normal(gain * fan_in**-0.5 / 0.87962566103423978)


def block_product(x: jax.Array, factor: jax.Array) -> jax.Array:
    """x (k, N, p) times the transposed blocks (k, q, p) -> (k, N, q)."""
    return jnp.matmul(x, factor.swapaxes(1, 2))


def monarch(
    x: jax.Array,
    right: jax.Array,
    left: jax.Array,
    product: Callable[[jax.Array, jax.Array], jax.Array] = block_product,
) -> jax.Array:
    """Multiply x (N, k * p) by a Monarch matrix: right (k, q, p) and left (l, s, r), l * r = k * q -> (N, s * l).

    Two block-diagonal products with a transposition between them (Fu et al. 2023, arXiv 2310.12109, section 3): the
    k * q numbers of the first are read as (r, l), the result as (s, l). Both products have their blocks as the leading
    batch axis and two axes beside it, which XLA's CPU backend hands to its matrix product as they are.
    """
    k, _, p = right.shape
    l, s, r = left.shape  # noqa: E741
    y = product(x.reshape(-1, k, p).swapaxes(0, 1), right)  # (k, N, q)
    y = y.swapaxes(0, 1).reshape(-1, r, l).transpose(2, 0, 1)
    y = product(y, left)  # (l, N, s)
    return y.transpose(1, 2, 0).reshape(-1, s * l)


class MonarchLinear(nn.Module):
    """A Linear whose kernel is a Monarch matrix of `blocks` + `blocks` blocks, each input with a way to each output.

    It has 1 / blocks of the weights of two dense Linears, over the smaller of its two sides: for a square one,
    2 / blocks of the dense kernel's.
    """

    features: int
    blocks: int
    gain: float = 1.0  # as of the dense Linear
    kind: str = "normal"  # of INITS, for each block

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x (..., D) -> (..., features).

        Raises:
            UserError: the blocks do not divide D and features, or are more than the square root of the smaller one.
        """
        fan_in, n = x.shape[-1], self.blocks
        inner = min(fan_in, self.features)
        if fan_in % n or self.features % n or n * n > inner:
            why = "are more than the square root of a side" if n * n > inner else "do not divide a side"
            raise UserError(f"config.model.monarch.blocks: {n} blocks {why} of a {fan_in} x {self.features} Linear")
        p, q, s = fan_in // n, inner // n, self.features // n
        right = self.param("right", INITS[self.kind](p, q, 1.0), (n, q, p))
        left = self.param("left", INITS[self.kind](q, s, self.gain), (n, s, q))
        names = iter(("right", "left"))
        product = lambda x, factor: self.product(x, factor, next(names))
        y = monarch(x.reshape(-1, fan_in), right.astype(x.dtype), left.astype(x.dtype), product)
        return y.reshape(*x.shape[:-1], self.features)

    def product(self, x: jax.Array, factor: jax.Array, name: str) -> jax.Array:
        """Return x (blocks, N, in) times the factor of that name (blocks, out, in): (blocks, N, out)."""
        return block_product(x, factor)


class SubLNLinear(nn.Module):
    """A Linear behind an RMSNorm of its own, as BitNet's are (SubLN: Wang et al. 2022, arXiv 2210.06423, section 2).

    With `ternary` its product is that of ternary weights and int8 activations (BitLinear, see `quantized.py`), and the
    float32 kernel is what training moves; without, it is the dense one of the same parameters.
    """

    features: int
    eps: float
    ternary: bool
    gain: float = 1.0  # as of the dense Linear
    kind: str = "normal"  # of INITS

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x (..., D) -> (..., features)."""
        x = RMSNorm(self.eps, name="norm")(x)
        init = INITS[self.kind](x.shape[-1], self.features, self.gain)
        return self.product(x, self.param("kernel", init, (x.shape[-1], self.features)), "kernel")

    def product(self, x: jax.Array, kernel: jax.Array, name: str) -> jax.Array:
        """Return x (..., D), behind the norm, times the kernel."""
        flat = x.reshape(-1, x.shape[-1])
        y = ternary_product(flat, kernel) if self.ternary else flat @ kernel.astype(x.dtype)
        return y.reshape(*x.shape[:-1], self.features)


class Int8Linear(nn.Module):
    """A Linear whose kernel is kept as int8 (`models/precision.py`): for inference, and for adapters beside it.

    `kernel_int8` (D, features) are levels, `kernel_scale` is the size of one: for each output, or, of `ternary`
    weights, one number for all. Where the Linear has a norm of its own, `eps` is that norm's; else 0.
    """

    features: int
    eps: float = 0.0
    ternary: bool = False
    gain: float = 1.0  # of the kernel that was; nothing here begins with it

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x (..., D) -> (..., features)."""
        if self.eps:
            x = RMSNorm(self.eps, name="norm")(x)
        levels = self.param("kernel_int8", nn.initializers.zeros, (x.shape[-1], self.features), jnp.int8)
        scale = self.param("kernel_scale", nn.initializers.ones, () if self.ternary else (self.features,))
        return levels_product(x.reshape(-1, x.shape[-1]), levels, scale).reshape(*x.shape[:-1], self.features)


class ShortConv(nn.Module):
    """Depthwise causal convolution over the last `width` tokens: y[t] = sum_j taps[j] x[t - width + 1 + j] + bias."""

    width: int
    bias: bool = True

    @nn.compact
    def __call__(
        self, x: jax.Array, past: jax.Array, count: jax.Array | int, reach: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """x (B, T, D) behind past (B, width - 1, D) -> y (B, T, D), and the past behind the first `count` (B,) tokens
        of x. `reach` (B or 1, T) says how many earlier tokens each may meet; None for all that there are."""
        B, _, D = x.shape
        taps = self.param("taps", nn.initializers.normal(self.width**-0.5), (self.width, D)).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (D,)) if self.bias else jnp.zeros(D)
        x = jnp.concatenate([past, x], axis=1)
        y = _convolved(x, taps) if reach is None else _within(x, taps, reach)
        y = y + bias.astype(x.dtype)[None, None]
        last = jnp.broadcast_to(count, (B,))[:, None] + jnp.arange(self.width - 1)[None]
        return y, jnp.take_along_axis(x, last[:, :, None], axis=1)


@jax.custom_vjp
def _convolved(x: jax.Array, taps: jax.Array) -> jax.Array:
    """y[t] = sum_j taps[j] x[t + j]: x (B, T + width - 1, D), taps (width, D) -> (B, T, D)."""
    T = x.shape[1] - len(taps) + 1
    return _weighed(taps, lambda j: x[:, j : j + T])


def _convolved_forward(x: jax.Array, taps: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolved(x, taps), (x, taps)


def _convolved_backward(kept: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The convolution backwards, of a gradient with room at both ends. Only the gradient is cut into slices, in loops
    that hold none of them: the derivative of the sum above would hold one for each tap, and slices of x from the
    forward pass on."""
    x, taps = kept
    more = len(taps) - 1
    wide = jnp.pad(dy, ((0, 0), (more, more), (0, 0)))
    behind = [wide[:, more - j : more - j + x.shape[1]] for j in range(len(taps))]  # the gradient j tokens earlier
    dtaps = [jnp.sum((x * part).astype(jnp.float32), axis=(0, 1)) for part in behind]
    return _convolved(wide, taps[::-1]), jnp.stack(dtaps).astype(taps.dtype)


_convolved.defvjp(_convolved_forward, _convolved_backward)


def _within(x: jax.Array, taps: jax.Array, reach: jax.Array) -> jax.Array:
    """Convolve so that a token meets none further back than its reach (B or 1, T)."""
    more, T = len(taps) - 1, reach.shape[-1]
    return _weighed(taps, lambda j: jnp.where((reach >= more - j)[..., None], x[:, j : j + T], 0))


def _weighed(taps: jax.Array, part: Callable[[int], jax.Array]) -> jax.Array:
    """Add up taps[j] part(j), each part (B, T, D)."""
    return sum((tap[None, None] * part(j) for j, tap in enumerate(taps[1:], 1)), taps[0][None, None] * part(0))


class Biased(nn.Module):
    """A Linear of any kind, plus a bias that lies beside its weights and begins at 0."""

    features: int
    gain: float
    linear: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        inner = self.linear(self.features, gain=self.gain)
        nn.share_scope(self, inner)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype)
        return inner(x) + bias.reshape((1,) * (x.ndim - 1) + (-1,))


def _dense(model: knobs.Model) -> Callable[..., nn.Module]:
    return Linear if model.init == "normal" else functools.partial(InitLinear, kind=model.init)


def _monarch_linear(model: knobs.Model) -> Callable[..., nn.Module]:
    return functools.partial(MonarchLinear, blocks=model.monarch.blocks, kind=model.init)


def _tt_linear(model: knobs.Model) -> Callable[..., nn.Module]:
    return functools.partial(TTLinear, cores=model.tt.cores, ranks=model.tt.ranks, initial=INITS[model.init])


def _subln(model: knobs.Model, ternary: bool) -> Callable[..., nn.Module]:
    return functools.partial(SubLNLinear, eps=model.norm_eps, ternary=ternary, kind=model.init)


def linears(model: knobs.Model, word: str = "", int8: bool = False, base: str = "float") -> Callable[..., nn.Module]:
    """Return the maker of a model's Linears, of the kind `word` or `model.linear`, with biases where it has them; with
    `int8` of those whose kernels are kept so, with another `base` than float of those that are frozen in that form."""
    linear = (INT8 if int8 else LINEARS)[word or model.linear](model)
    if base != "float" and not int8:
        linear = functools.partial(FrozenLinear, form=base)
    return biased(linear) if model.bias else linear


def biased(linear: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Return the maker of Linears that `linear` makes, each with a bias."""
    return functools.partial(_biased, linear)


def _biased(linear: Callable[..., nn.Module], features: int, gain: float = 1.0, **names: Any) -> Biased:
    return Biased(features, gain, linear, **names)


# `LINEARS[word](model)` makes Linears: `linear(features, gain=..., name=...)` maps (..., D) to (..., features).
LINEARS = {
    "dense": _dense,
    "ternary": lambda model: _subln(model, ternary=True),
    "subln": lambda model: _subln(model, ternary=False),
    "monarch": _monarch_linear,
    "tt": _tt_linear,
}
# ... and here those whose kernels are int8. Monarch factors and cores of tensor trains stay as they are.
INT8 = {
    "dense": lambda model: Int8Linear,
    "ternary": lambda model: functools.partial(Int8Linear, eps=model.norm_eps, ternary=True),
    "subln": lambda model: functools.partial(Int8Linear, eps=model.norm_eps),
    "monarch": _monarch_linear,
    "tt": _tt_linear,
}
# `INITS[word](fan_in, fan_out, gain)` draws initial matrices; gain makes them smaller where many branches add up.
INITS = {"normal": _normal, "xavier": _xavier, "truncated": _truncated}
# `NORMS[word](model)` makes norms: `norm(name=...)` maps (..., D) to (..., D).
NORMS = {
    "rms": lambda model: functools.partial(RMSNorm, model.norm_eps),
    "layer": lambda model: functools.partial(LayerNorm, model.norm_eps, model.bias),
}
