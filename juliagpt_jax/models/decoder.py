"""Embed -> depth(blocks) -> head, with the parts picked by name: the model that every run trains.

With the default names it has the parameters of `gpt.py` and computes the same numbers. See there for the shape letters,
the meaning of positions and the cache.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from juliagpt_jax.ground import config
from juliagpt_jax.models.channels import CHANNELS
from juliagpt_jax.models.depth import evaluations, layers
from juliagpt_jax.models.layers import NORMS, linears
from juliagpt_jax.models.mixers import MIXERS

DTYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16, "f16": jnp.float16}


class Block(nn.Module):
    """x + mixer(norm x), then x + channel(norm x). Without `residual`: what that adds to x, the field of an ODE."""

    mixer: nn.Module
    channel: nn.Module
    norm: Callable[..., nn.Module]
    dropout: float
    residual: bool = True

    @nn.compact
    def __call__(self, x, positions, cache=None):
        drop = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))
        y, cache = self.mixer(self.norm(name="mixer_norm")(x), positions, cache)
        y = drop(y)
        x = x + y
        z = drop(self.channel(self.norm(name="channel_norm")(x)))
        return (x if self.residual else y) + z, cache


class Decoder(nn.Module):
    """Token ids to next-token logits.

    Attributes:
        model: the model's part of the config.
        vocab: V.
        precision: of activations and matrix products; parameters, norms, softmax and logits are float32.
        remat: recompute each block in the backward pass instead of keeping its activations.
        schedule: for each layer the times 0 .. 1 of an ODE's steps, () where it has none; () for all as configured.
        energy: measure the kinetic energy of ODE layers.
        int8: the kernels of Linears are kept as int8, as `models/precision.py` makes them; for inference.
    """

    model: config.Model
    vocab: int
    precision: str = "f32"
    remat: bool = False
    schedule: tuple[tuple[float, ...], ...] = ()
    energy: bool = False
    int8: bool = False

    @nn.compact
    def __call__(
        self, tokens: jax.Array, positions: jax.Array | None = None, cache: tuple | None = None
    ) -> tuple[jax.Array, tuple | None, dict[str, Any]]:
        """tokens (B, T) int, positions (B, T) or None for 0 .. T-1 -> float32 logits (B, T, V), the continued cache
        (None without one), and what else there is to say of the pass: "ode", a `Solve` for each ODE layer that was
        solved without a cache."""
        if positions is None:
            positions = jnp.arange(tokens.shape[1])[None, :]
        width, dtype = self.model.width, DTYPES[self.precision]
        embedding = self.param("embedding", nn.initializers.normal(width**-0.5), (self.vocab, width))
        x = embedding[tokens].astype(dtype)
        if self.model.positions == "learned":
            x = x + self._learned(positions).astype(dtype)
        x = start = nn.Dropout(self.model.dropout, deterministic=not self.has_rng("dropout"))(x)

        solves, continued = [], []
        schedule = self.schedule or ((),) * self.model.layers
        for i, (block, layer, times) in enumerate(zip(self.blocks(), layers(self.model), schedule, strict=True)):
            if self.model.x0_skip:
                kept, fed = self.param(f"skip_{i}", lambda _: jnp.array([1.0, 0.0])).astype(dtype)
                x = kept * x + fed * start
            init = lambda key, b=block, k=layer, x=x: k.init(key, b.init(key, x, positions)["params"], self.model)
            # Not `param` for what is there: it would compare shapes leaf by leaf, which the block's own modules do, and
            # refuse what capture.py lays beside their weights.
            name = f"block_{i}"
            params = self.get_variable("params", name) if self.has_variable("params", name) else self.param(name, init)
            keys = {name: self.make_rng(name) for name in ("dropout", "steps") if self.has_rng(name)}
            run = lambda p, x, positions, cache, r, b=block: b.apply({"params": p}, x, positions, cache, rngs=r)
            run = jax.checkpoint(run) if self.remat else run
            caches = None
            if cache is not None:
                caches = cache[len(continued) :][: layer.evaluations(self.model, times)]
            x, more = layer.run(run, params, x, positions, caches, keys, self.model, times, self.energy)
            continued += more if caches else []
            solves += [] if caches or more is None else [more]

        x = NORMS[self.model.norm](self.model)(name="norm")(x)
        head = (
            embedding.T
            if self.model.tie
            else self.param("head", nn.initializers.normal(width**-0.5), (width, self.vocab))
        )
        logits = self.unembed(x, head.astype(dtype))
        if self.model.softcap:  # (Gemma 2, arXiv 2408.00118, section 2)
            logits = self.model.softcap * jnp.tanh(logits / self.model.softcap)
        return logits, None if cache is None else tuple(continued), {"ode": tuple(solves)} if solves else {}

    def unembed(self, x: jax.Array, head: jax.Array) -> jax.Array:
        """x (B, T, D) times the head (D, V) -> float32 (B, T, V)."""
        logits = jnp.matmul(x.reshape(-1, x.shape[-1]), head, preferred_element_type=jnp.float32)
        return logits.reshape(*x.shape[:-1], -1)

    def _learned(self, positions: jax.Array) -> jax.Array:
        """GPT-2's vectors of the positions, half as large as a token's; a pad, past the end, gets the last."""
        context, width = self.model.context, self.model.width
        if positions.shape[1] > context:
            raise ValueError(f"{positions.shape[1]} tokens, but there are vectors for {context} positions")
        table = self.param("positions", nn.initializers.normal(0.5 * width**-0.5), (context, width))
        return jnp.take(table, positions, axis=0, mode="clip")

    @nn.nowrap
    def blocks(self) -> list[Block]:
        """The block of each layer, without parameters; `model.mixer` and `model.channel` are repeated over them."""
        mixers, channels = self.model.mixer.split(), self.model.channel.split()
        kinds = layers(self.model)
        # 2 L branches add up in the residual stream (GPT-2, section 2.3)
        gain = (2 * sum(kind.blocks_worth(self.model) for kind in kinds)) ** -0.5
        gain *= not self.model.zero_init  # (Fixup, arXiv 1901.09321, section 3)
        parts = (self.model, gain, linears(self.model, int8=self.int8))
        return [
            Block(
                MIXERS[mixers[i % len(mixers)]](*parts, name="mixer", parent=None),
                CHANNELS[channels[i % len(channels)]](*parts, name="channel", parent=None),
                NORMS[self.model.norm](self.model),
                self.model.dropout,
                kind.residual,
                parent=None,
            )
            for i, kind in enumerate(kinds)
        ]

    @nn.nowrap
    def init_cache(self, batch: int, slots: int) -> tuple[Any, ...]:
        """An empty cache for `batch` sequences of at most `slots` tokens: one part for each evaluation of a block.

        Raises:
            UserError: a layer is an adaptive ODE: its steps look ahead, so nothing can be cached.
        """
        dtype = DTYPES[self.precision]
        counted = zip(self.blocks(), evaluations(self.model, self.schedule), strict=True)
        return tuple(block.mixer.init_cache(batch, slots, dtype) for block, count in counted for _ in range(count))
