"""Embed -> depth(blocks) -> head, with the parts picked by name: the model that every run trains.

With the default names it has the parameters of `gpt.py` and computes the same numbers. See there for the shape letters,
the meaning of positions and the cache.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from juliagpt_jax import config
from juliagpt_jax.errors import UserError
from juliagpt_jax.models.channels import CHANNELS
from juliagpt_jax.models.depth import DEPTHS
from juliagpt_jax.models.layers import LINEARS, RMSNorm
from juliagpt_jax.models.mixers import MIXERS

DTYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16, "f16": jnp.float16}


class Block(nn.Module):
    """x + mixer(norm x), then x + channel(norm x)."""

    mixer: nn.Module
    channel: nn.Module
    dropout: float

    @nn.compact
    def __call__(self, x, positions, cache=None):
        drop = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))
        y, cache = self.mixer(RMSNorm(name="mixer_norm")(x), positions, cache)
        x = x + drop(y)
        return x + drop(self.channel(RMSNorm(name="channel_norm")(x))), cache


class Decoder(nn.Module):
    """Token ids to next-token logits.

    Attributes:
        model: the model's part of the config.
        vocab: V.
        precision: of activations and matrix products; parameters, norms, softmax and logits are float32.
        remat: recompute each block in the backward pass instead of keeping its activations.
    """

    model: config.Model
    vocab: int
    precision: str = "f32"
    remat: bool = False

    @nn.compact
    def __call__(
        self, tokens: jax.Array, positions: jax.Array | None = None, cache: tuple | None = None
    ) -> tuple[jax.Array, tuple | None]:
        """tokens (B, T) int, positions (B, T) or None for 0 .. T-1 -> float32 logits (B, T, V) and the continued
        cache."""
        if positions is None:
            positions = jnp.arange(tokens.shape[1])[None, :]
        width, dtype = self.model.width, DTYPES[self.precision]
        embedding = self.param("embedding", nn.initializers.normal(width**-0.5), (self.vocab, width))
        x = embedding[tokens].astype(dtype)
        x = nn.Dropout(self.model.dropout, deterministic=not self.has_rng("dropout"))(x)

        blocks = []
        for i, block in enumerate(self.blocks()):
            params = self.param(f"block_{i}", lambda key, b=block: b.init(key, x, positions)["params"])
            keys = {"dropout": self.make_rng("dropout")} if self.has_rng("dropout") else {}
            run = lambda p, x, positions, cache, b=block, r=keys: b.apply({"params": p}, x, positions, cache, rngs=r)
            run = jax.checkpoint(run) if self.remat else run
            blocks.append(lambda x, positions, cache, f=run, p=params: f(p, x, positions, cache))
        depth = DEPTHS[self.model.depth]
        x, continued = depth.run(blocks, x, positions, cache or [None] * depth.evaluations(self.model.layers))

        x = RMSNorm(name="norm")(x)
        head = (
            embedding.T
            if self.model.tie
            else self.param("head", nn.initializers.normal(width**-0.5), (width, self.vocab))
        )
        logits = jnp.matmul(x.reshape(-1, width), head.astype(dtype), preferred_element_type=jnp.float32)
        return logits.reshape(*tokens.shape, self.vocab), None if cache is None else continued

    @nn.nowrap
    def blocks(self) -> list[Block]:
        """The distinct blocks, without parameters; `model.mixer` and `model.channel` are repeated over them."""
        mixers, channels = self.model.mixer.split(), self.model.channel.split()
        count = DEPTHS[self.model.depth].blocks(self.model.layers)
        gain = (2 * self.model.layers) ** -0.5  # 2 L branches add up in the residual stream (GPT-2, section 2.3)
        parts = (self.model, gain, LINEARS[self.model.linear](self.model))
        return [
            Block(
                MIXERS[mixers[i % len(mixers)]](*parts, name="mixer", parent=None),
                CHANNELS[channels[i % len(channels)]](*parts, name="channel", parent=None),
                self.model.dropout,
                parent=None,
            )
            for i in range(count)
        ]

    @nn.nowrap
    def init_cache(self, batch: int, slots: int) -> tuple[Any, ...]:
        """An empty cache for `batch` sequences of at most `slots` tokens."""
        blocks, evaluations = self.blocks(), DEPTHS[self.model.depth].evaluations(self.model.layers)
        dtype = DTYPES[self.precision]
        return tuple(blocks[i % len(blocks)].mixer.init_cache(batch, slots, dtype) for i in range(evaluations))


def check_names(model: config.Model) -> None:
    """Refuse a word that is in no table, and a width that its parts cannot be built for.

    Raises:
        UserError: naming the key, the word and the words there are; or what a part says.
    """
    for key, table in [("mixer", MIXERS), ("channel", CHANNELS), ("depth", DEPTHS), ("linear", LINEARS)]:
        for word in getattr(model, key).split() if key in ("mixer", "channel") else [getattr(model, key)]:
            if word not in table:
                raise UserError(f"config.model.{key}: no {key} is called {word!r}{config.near(word, table)}")
    different = math.lcm(len(model.mixer.split()), len(model.channel.split()))
    key, x = jax.ShapeDtypeStruct((2,), jnp.uint32), jax.ShapeDtypeStruct((1, 2, model.width), jnp.float32)
    for block in Decoder(model, 2).blocks()[:different]:  # only shapes: no device is started for a bad config
        jax.eval_shape(block.init, key, x, jax.ShapeDtypeStruct((1, 2), jnp.int32))
