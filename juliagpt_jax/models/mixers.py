"""Mixers: the part of a block in which tokens see each other.

A mixer is a module `y, cache = mixer(x, positions, cache)` on x (B, T, D), built from the model's config, the gain of
its last projection and the maker of its Linears, with

    init_cache(batch, slots, dtype)  the empty pytree that it continues
    slots(cache)                     how many slots a cache has, () or (B,): a token at that position, or behind it, is
                                     a pad
    flops(model)                     what one layer of it computes for a token beside its Linears, forward, in a full
                                     context
    rewindable                       tokens can be taken back from its cache by their positions alone: what is cached of
                                     a token lies in the slot of its position, and no earlier position looks there.
                                     False where it is not said
    loops                            it computes in a loop, of which a compiler counts one turn; False where it is not
                                     said
    masks                            the words of MASKS that it takes, as the field `mask`; the causal one alone where
                                     it is not said, and then it has no such field
"""

from typing import Any

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs import model as knobs
from juliagpt_jax.models import masks
from juliagpt_jax.models.attention import Attention
from juliagpt_jax.models.kda import GatedDeltaNet, KimiDeltaAttention
from juliagpt_jax.models.monarch import MonarchHeads, MonarchMixer


def of_layers(model: knobs.Model) -> list[Any]:
    """Return the mixer of each layer, of MIXERS: the words of `model.mixer` are repeated over the layers."""
    words = model.mixer.split()
    return [MIXERS[words[i % len(words)]] for i in range(model.layers)]


def makers(model: knobs.Model) -> list[tuple[Any, dict[str, str]]]:
    """Return the mixer of each layer and what it is told beside its usual parts: its mask, where that is not causal.

    Raises:
        UserError: a layer's mixer does not take its mask.
    """
    made = []
    for i, (mixer, mask) in enumerate(zip(of_layers(model), masks.of_layers(model), strict=True)):
        takes = getattr(mixer, "masks", ("causal",))
        if mask not in takes:
            word = model.mixer.split()[i % len(model.mixer.split())]
            raise UserError(f"config.model.mask: layer {i} is {word}, which takes {', '.join(takes)} and not {mask}")
        made.append((mixer, {} if mask == "causal" else {"mask": mask}))
    return made


def rewindable(model: knobs.Model) -> bool:
    """Tokens can be taken back from a model's cache by their positions alone."""
    return all(getattr(mixer, "rewindable", False) for mixer in of_layers(model))


def loops(model: knobs.Model) -> bool:
    """Some layer's mixer computes in a loop."""
    return any(getattr(mixer, "loops", False) for mixer in of_layers(model))


MIXERS = {
    "attention": Attention,
    "monarch": MonarchMixer,
    "monarch_heads": MonarchHeads,
    "kda": KimiDeltaAttention,
    "gated_deltanet": GatedDeltaNet,
}
