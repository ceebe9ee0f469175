"""Embed -> depth(blocks) -> head, with the parts picked by name: the model that every run trains.

With the default names it has the parameters of `gpt.py` and computes the same numbers. See there for the shape letters,
the meaning of positions and the cache.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs import model as knobs
from juliagpt_jax.ground.knobs.adapter import Adapter
from juliagpt_jax.ground.knobs.model import PASSAGE
from juliagpt_jax.models import evicting, masks, mixers, roles, rolled
from juliagpt_jax.models.adapters import beside, check_targets
from juliagpt_jax.models.channels import CHANNELS
from juliagpt_jax.models.depth import Stack, evaluations, layers
from juliagpt_jax.models.gathered import Cuts
from juliagpt_jax.models.layers import INITS, NORMS, WordDropout, linears
from juliagpt_jax.models.parameters import paths

DTYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16, "f16": jnp.float16}


class Block(nn.Module):
    """x + mixer(norm x), then x + channel(norm x). Without `residual`: what that adds to x, the field of an ODE."""

    mixer: nn.Module
    channel: nn.Module
    norm: Callable[..., nn.Module]
    dropout: float
    residual: bool = True

    @nn.compact
    def __call__(
        self, x: jax.Array, positions: jax.Array, cache: Any = None, start: jax.Array | None = None
    ) -> tuple[jax.Array, Any, dict[str, Any]]:
        """x (B, T, D), positions (B or 1, T) -> (B, T, D), the continued cache, and what the channel has to say.
        `start` (B, T, D), what the first layer was given, is for a mixer that asks for it."""
        drop = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))
        real = (positions if cache is not None else positions % PASSAGE) < self._end(x, cache)
        more = {} if start is None else {"start": start}
        y, cache = self.mixer(self.norm(name="mixer_norm")(x), positions, cache, **more)
        y = drop(y)
        x = x + y
        z, aux = self.channel(self.norm(name="channel_norm")(x), real)
        return (x if self.residual else y) + drop(z), cache, aux

    @nn.nowrap
    def _end(self, x: jax.Array, cache: Any) -> Any:
        """The position from which on tokens are pads, () or (B, 1): behind the last slot, and without a cache every
        token has one."""
        if cache is None:
            return x.shape[1]
        slots = self.mixer.slots(cache)  # pyright: ignore[reportAttributeAccessIssue]
        return slots[:, None] if jnp.ndim(slots) else slots


class Decoder(nn.Module):
    """Token ids to next-token logits.

    Attributes:
        config: the model's part of the config.
        vocab: V.
        precision: of activations and matrix products; parameters, norms, softmax and logits are float32.
        remat: recompute each block in the backward pass instead of keeping its activations.
        schedule: for each layer the times 0 .. 1 of an ODE's steps, () where it has none; () for all as configured.
        energy: measure the kinetic energy of ODE layers.
        int8: the kernels of Linears are kept as int8, as `models/precision.py` makes them; for inference.
        adapter: knobs of the adapters that Linears may have beside them; None for none.
        packed: rows hold several passages, PASSAGE positions apart, which do not see each other; without a cache.
        cuts: where parameters are cut over devices; each layer puts its own together. None: they are whole.
    """

    config: knobs.Model
    vocab: int
    precision: str = "f32"
    remat: bool = False
    schedule: tuple[tuple[float, ...], ...] = ()
    energy: bool = False
    int8: bool = False
    adapter: Adapter | None = None
    packed: bool = False
    encodes: ClassVar[bool] = False
    cuts: Cuts | None = None

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array | None = None,
        cache: tuple | None = None,
        at: jax.Array | None = None,
    ) -> tuple[jax.Array, tuple | None, dict[str, Any]]:
        """tokens (B, T) int, positions (B, T) or None for 0 .. T-1 -> float32 logits (B, T, V), the continued cache
        (None without one), and what else there is to say of the pass, by name: a tuple of one entry for each layer that
        has such a thing. "ode" is a `Solve` of each ODE layer that was solved without a cache; the others are what
        channels have to say. Given `at` (B,), logits (B, 1, V) of that token of each row alone."""
        if positions is None:
            positions = jnp.arange(tokens.shape[1])[None, :]
        width, dtype = self.config.width, DTYPES[self.precision]
        embedding = self.param("embedding", INITS[self.config.init](width, self.vocab, 1.0), (self.vocab, width))
        x = WordDropout(self.config.word_dropout, name="words")(embedding[tokens].astype(dtype), tokens)
        if self.config.sink == "token":
            sink = self.param("sink_token", nn.initializers.normal(width**-0.5), (width,)).astype(dtype)
            x = jnp.where((tokens == self.vocab)[..., None], sink.reshape(1, 1, -1), x)
        if self.config.positions == "learned":
            x = x + self._learned(positions % PASSAGE if self.packed else positions).astype(dtype)
        x = start = nn.Dropout(self.config.inner_dropout, deterministic=not self.has_rng("dropout"))(x)

        kinds = layers(self.config, self.schedule, self.energy)
        given, run, used, outputs = [], [], 0, []
        parts = zip(self.blocks(), kinds, mixers.starts(self.config), strict=True)
        for i, (block, layer, starts) in enumerate(parts):
            own: dict[str, Any] = {}
            if self.config.unet and i > self.config.layers - 1 - i:
                own["unet"] = self.param(f"unet_{i}", nn.initializers.ones, (1,))
            if self.config.x0_skip:
                own["skip"] = self.param(f"skip_{i}", lambda _: jnp.array([1.0, 0.0]))
            fed = start if starts else None
            init = lambda key, b=block, k=layer, x=x, s=fed: k.init(key, b.init(key, x, positions, None, s)["params"])
            # Not `param` for what is there: it would compare shapes leaf by leaf, which the block's own modules do, and
            # refuse what capture.py lays beside their weights.
            name = f"block_{i}"
            there = self.has_variable("params", name)
            own["params"] = self.get_variable("params", name) if there else self.param(name, init)
            own["keys"] = {name: self.make_rng(name) for name in ("dropout", "steps", "capacity") if self.has_rng(name)}
            if cache is not None:
                own["caches"] = tuple(cache[used : used + layer.evaluations])
                used += layer.evaluations
            given.append(own)
            run.append(functools.partial(self._layer, name, block, layer, start, starts, positions, outputs))
        x, gives = rolled.run(run, given, x, rolled.unit(self.config, kinds) if self.config.scan_layers else ())
        continued = [part for parts, _ in gives for part in parts]
        said: dict[str, Any] = {}
        for _, aux in gives:
            for what, value in aux.items():
                said[what] = (*said.get(what, ()), value)

        if at is not None:
            x = jnp.take_along_axis(x, at[:, None, None], axis=1)
        x = NORMS[self.config.norm](self.config)(name="norm")(x)
        head = (
            embedding.T
            if self.config.tie
            else self.param("head", INITS[self.config.init](width, self.vocab, 1.0), (width, self.vocab))
        )
        logits = self.product(x, head.astype(dtype), "head")
        if self.config.softcap:  # (Gemma 2, arXiv 2408.00118, section 2)
            logits = self.config.softcap * jnp.tanh(logits / self.config.softcap)
        return logits, None if cache is None else tuple(continued), said

    @nn.nowrap
    def _layer(
        self,
        name: str,
        block: Block,
        layer: Stack,
        start: jax.Array,
        starts: bool,
        positions: jax.Array,
        outputs: list[jax.Array],
        x: jax.Array,
        own: dict[str, Any],
    ) -> tuple[jax.Array, tuple[Sequence[Any], dict[str, Any]]]:
        """x behind a layer, its continued caches, and what it has to say. `outputs` are those of the layers before it,
        where a U-Net's skips want them (arXiv 1505.04597; on layers as in U-ViT, arXiv 2209.12152)."""
        if "unet" in own:
            (weight,) = own["unet"].astype(x.dtype)
            x = x + weight * outputs[self.config.layers - 1 - len(outputs)]
        if "skip" in own:
            kept, fed = own["skip"].astype(x.dtype)
            x = kept * x + fed * start
        run: Any = lambda p, x, at, cache, keys, start: block.apply({"params": p}, x, at, cache, start, rngs=keys)
        run = jax.checkpoint(run) if self.remat else run
        solve: Any = functools.partial(layer.run, run)
        solve = self.cuts.layer(solve, name) if self.cuts else solve
        x, caches, aux = solve(own["params"], x, positions, own.get("caches"), own["keys"], start if starts else None)
        if self.config.unet:
            outputs.append(x)
        return x, (caches, aux)

    @nn.nowrap
    def apply(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        variables: Any,
        tokens: jax.Array,
        positions: jax.Array | None = None,
        cache: Any = None,
        *,
        at: jax.Array | None = None,
        rngs: dict[str, jax.Array] | None = None,
    ) -> tuple[jax.Array, Any, dict[str, Any]]:
        """Flax's `apply`, of which a reader and a type checker know here what it takes and gives. With a sink token
        it reads that first, as id V at position 0; the caller's positions, slots and logits are those of the text."""
        if self.cuts:
            variables = {"params": self.cuts.beside_layers(variables["params"])}
        run: Any = functools.partial(super().apply, variables, rngs=rngs)
        if self.config.sink != "token":
            return run(tokens, positions, cache, at)
        if positions is None:
            positions = jnp.arange(tokens.shape[1])[None, :]
        tokens = jnp.asarray(tokens, jnp.int32)  # which can hold V
        sink = jnp.full((len(tokens), 1), self.vocab)
        if cache is None:
            behind = jnp.concatenate([jnp.zeros_like(positions[:, :1]), positions + 1], axis=1)
            logits, _, said = run(jnp.concatenate([sink, tokens], axis=1), behind, None, None if at is None else at + 1)
            return logits if at is not None else logits[:, 1:], None, said
        # Where a row begins its sink goes before it; in the other rows, whose cache has it, it is a pad.
        begins = jnp.any(positions == 0, axis=1, keepdims=True)
        first = jnp.broadcast_to(jnp.where(begins, 0, evicting.PAD), sink.shape)
        cache = jax.lax.cond(jnp.any(begins), lambda held: run(sink, first, held)[1], lambda held: held, cache)
        return run(tokens, positions + 1, cache, at)

    def product(self, x: jax.Array, head: jax.Array, name: str) -> jax.Array:
        """x (B, T, D) times the head (D, V) -> float32 (B, T, V)."""
        logits = jnp.matmul(x.reshape(-1, x.shape[-1]), head, preferred_element_type=jnp.float32)
        return logits.reshape(*x.shape[:-1], -1)

    def _learned(self, positions: jax.Array) -> jax.Array:
        """GPT-2's vectors of the positions, half as large as a token's; a pad, past the end, gets the last."""
        context, width = self.config.context + (self.config.sink == "token"), self.config.width
        if positions.shape[1] > context:
            raise ValueError(f"{positions.shape[1]} tokens, but there are vectors for {context} positions")
        table = self.param("positions", INITS[self.config.init](width, context, 0.5), (context, width))
        return jnp.take(table, positions, axis=0, mode="clip")

    @nn.nowrap
    def blocks(self) -> list[Block]:
        """Return the block of each layer, without parameters; `model.mixer`, `model.mask` and `model.channel` are
        repeated over them.

        Raises:
            UserError: a mixer does not take its mask.
        """
        kinds, channels = layers(self.config), self.config.by_layer(self.config.channel)
        made = mixers.makers(self.config, self.packed)
        # 2 L branches add up in the residual stream (GPT-2, section 2.3)
        gain = (2 * sum(kind.blocks_worth for kind in kinds)) ** -0.5
        gain *= not self.config.zero_init  # (Fixup, arXiv 1901.09321, section 3)
        own = self.adapter
        linear = linears(self.config, int8=self.int8, base=own.base if own else "float")
        each = lambda i, room: beside(linear, own, room, i, self.config.layers) if own else linear
        return [
            Block(
                mixer(self.config, gain, each(i, "mixer"), **mask, name="mixer", parent=None),
                CHANNELS[channel](self.config, gain, each(i, "channel"), name="channel", parent=None),
                NORMS[self.config.norm](self.config),
                self.config.dropout,
                kind.residual,
                parent=None,
            )
            for i, (kind, channel, (mixer, mask)) in enumerate(zip(kinds, channels, made, strict=True))
        ]

    @nn.nowrap
    def check(self) -> None:
        """Refuse parts that do not go together, a width that one cannot be built for, and parameters without a role.

        Raises:
            UserError: what a part says.
        """
        mixers.check_sink(self.config)
        mixers.check_qkv_bias(self.config)
        words = self.config.mixer, self.config.channel, self.config.value_embedding
        different = math.lcm(*(len(word.split()) for word in words))
        key, x = jax.ShapeDtypeStruct((2,), jnp.uint32), jax.ShapeDtypeStruct((1, 2, self.config.width), jnp.float32)
        parts = zip(self.blocks(), mixers.starts(self.config), strict=True)
        seen: set[str] = set()
        for block, starts in itertools.islice(parts, different):  # only shapes: no device is started for a bad config
            at = jax.ShapeDtypeStruct((1, 2), jnp.int32)
            made = jax.eval_shape(block.init, key, x, at, None, x if starts else None)
            for path in paths(made["params"]):
                roles.of(path)
            seen |= {*paths(made["params"])}
        if self.adapter:
            check_targets(self.adapter.targets, seen)

    @nn.nowrap
    def init_cache(self, batch: int, slots: int, first: int | None = None) -> tuple[Any, ...]:
        """Return an empty cache for `batch` sequences of at most `slots` tokens: one part for each evaluation of a
        block. Given `first`, one for texts of any length that keeps so many first tokens and the newest
        (`evicting.py`). A sink token has a slot of its own, and stays.

        Raises:
            UserError: a layer is an adaptive ODE, whose steps look ahead, or has a mask that does: nothing can be
                cached; or the model cannot have a cache that evicts.
        """
        if not masks.causal(self.config):
            raise UserError(
                f"config.model.mask: {self.config.mask} lets tokens see later ones, so that nothing can be cached: "
                "such a model writes no text"
            )
        dtype = DTYPES[self.precision]
        counted = zip(self.blocks(), evaluations(self.config, self.schedule), strict=True)
        more = self.config.sink == "token"
        kept: tuple[int, ...] = ()
        if first is not None:
            mixers.check_evicting(self.config)
            kept = (first + more,)
        make = lambda block: block.mixer.init_cache(batch, slots + more, dtype, *kept)
        return tuple(make(block) for block, count in counted for _ in range(count))
