"""Mixers: the part of a block in which tokens see each other.

A mixer is a module `y, cache = mixer(x, positions, cache)` on x (B, T, D), built from the model's config, the gain of
its last projection and the maker of its Linears, with

    init_cache(batch, slots, dtype)  the empty pytree that it continues
    slots(cache)                     how many slots a cache has, () or (B,): a token at that position, or behind it, is
                                     a pad
    flops(model)                     what one layer of it computes for a token beside its Linears, forward, in a full
                                     context; flops(model, mask) where it takes several masks
    rewindable                       tokens can be taken back from its cache by their positions alone: what is cached of
                                     a token lies in the slot of its position, and no earlier position looks there.
                                     False where it is not said
    loops                            it computes in a loop, of which a compiler counts one turn; False where it is not
                                     said
    masks                            the words of MASKS that it takes, as the field `mask`; the causal one alone where
                                     it is not said, and then it has no such field
    takes_start                      it takes a fourth argument, `start`: what the first layer was given. False where it
                                     is not said
    sinks                            the words of `model.sink` that it takes beside "none": "token", one more token than
                                     the context before all others; "logit", a learnt logit in its softmax. None where
                                     it is not said
    evicts                           `init_cache` takes a fourth, `first`, for a cache that evicts (`evicting.py`).
                                     False where it is not said
    any_context                      its weights are not of a context, so a model reads less than it was trained on.
                                     False where it is not said
    packs                            it has a field `packed`, with which a token sees none of another passage of a row.
                                     False where it is not said
"""

from typing import Any

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs import model as knobs
from juliagpt_jax.models.attention import VALUE_EMBEDDINGS, Attention
from juliagpt_jax.models.kda import GatedDeltaNet, KimiDeltaAttention
from juliagpt_jax.models.monarch import MonarchHeads, MonarchMixer
from juliagpt_jax.models.sparse import BlockSparse, TopK


def of_layers(model: knobs.Model) -> list[Any]:
    """Return the mixer of each layer, of MIXERS: the words of `model.mixer` are repeated over the layers."""
    return [MIXERS[word] for word in model.by_layer(model.mixer)]


def makers(model: knobs.Model, packed: bool = False) -> list[tuple[Any, dict[str, Any]]]:
    """Return the mixer of each layer and what it is told beside its usual parts: its mask, where that is not causal,
    and that rows are packed, where they are.

    Raises:
        UserError: a layer's mixer does not take its mask.
    """
    made, more = [], {"packed": True} if packed else {}
    for i, (word, mask) in enumerate(zip(model.by_layer(model.mixer), model.by_layer(model.mask), strict=True)):
        mixer = MIXERS[word]
        takes = getattr(mixer, "masks", ("causal",))
        if mask not in takes:
            raise UserError(f"config.model.mask: layer {i} is {word}, which takes {', '.join(takes)} and not {mask}")
        made.append((mixer, more if mask == "causal" else more | {"mask": mask}))
    return made


def read_less(model: knobs.Model) -> bool:
    """Return whether a model's weights serve a shorter context than its own."""
    return model.positions != "learned" and all(getattr(mixer, "any_context", False) for mixer in of_layers(model))


def flops(model: knobs.Model) -> list[float]:
    """Return for each layer what its mixer computes for a token beside its Linears."""
    return [mixer.flops(model, *mask.values()) for mixer, mask in makers(model)]


def starts(model: knobs.Model) -> list[bool]:
    """Return for each layer whether its mixer is given what the first layer was: the words of `model.value_embedding`
    are repeated over the layers.

    Raises:
        UserError: a mixer has no use for it.
    """
    given = [VALUE_EMBEDDINGS[word] for word in model.by_layer(model.value_embedding)]
    for i, (word, one) in enumerate(zip(model.by_layer(model.mixer), given, strict=True)):
        if one and not getattr(MIXERS[word], "takes_start", False):
            raise UserError(f"config.model.value_embedding: layer {i} is {word}, which has no values to add to")
    return given


def check_sink(model: knobs.Model) -> None:
    """Raise a UserError when the mixers do not take `model.sink`: a logit wants one softmax at least, a token all."""
    takes = [model.sink in ("none", *getattr(mixer, "sinks", ())) for mixer in of_layers(model)]
    if model.sink == "logit" and not any(takes):
        raise UserError(
            f"config.model.sink: no layer of model.mixer={model.mixer} has a softmax that a logit could join; "
            "attention has"
        )
    if model.sink == "token" and not all(takes):
        layer = takes.index(False)
        raise UserError(
            f"config.model.sink: layer {layer} is {model.by_layer(model.mixer)[layer]}, made for model.context tokens: "
            "a token before them would be one too many"
        )


def check_qkv_bias(model: knobs.Model) -> None:
    """Raise a UserError when a layer has no queries, keys and values that `model.qkv_bias` could be of."""
    if model.qkv_bias and set(model.mixer.split()) != {"attention"}:
        raise UserError(f"config.model.qkv_bias is of attention, and model.mixer={model.mixer} has other layers")


def check_evicting(model: knobs.Model) -> None:
    """Raise a UserError when a model cannot have a cache that evicts."""
    why = "a cache that evicts moves tokens to new positions, and"
    if model.positions != "rotary":
        raise UserError(f"{why} model.positions={model.positions} are added to them once and for all")
    if set(model.mask.split()) != {"causal"}:
        raise UserError(f"{why} model.mask={model.mask} goes by those in the text; the cache is such a mask itself")
    for word in model.mixer.split():
        if not getattr(MIXERS[word], "evicts", False):
            raise UserError(f"a cache that evicts drops keys one by one, which model.mixer={word} does not do")


def check_packed(model: knobs.Model, flag: str) -> None:
    """Raise a UserError when the passages of a row would not be apart in a model; `flag` asks for such rows."""
    why = f"{flag}: the passages of a row see nothing of each other, and"
    for word in model.mixer.split():
        if not getattr(MIXERS[word], "packs", False):
            raise UserError(f"{why} model.mixer={word} carries on from one to the next")
    if set(model.mask.split()) != {"causal"}:
        raise UserError(f"{why} model.mask={model.mask} goes by the places in the row")
    if model.sink == "token":
        raise UserError(f"{why} model.sink=token stands before the first alone")
    if model.has_experts and model.moe.capacity:
        raise UserError(f"{why} with model.moe.capacity={model.moe.capacity:g} they take places from each other")


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
    "topk": TopK,
    "blocksparse": BlockSparse,
}
