"""Models as Hugging Face's transformers stores them: what a family's config.json says and what its tensors are called.

`FAMILIES[model_type]` has `fields`, our knobs from a config.json; `facts`, the way back; and `places`, where each of
our parameters lies. transformers' Linear is (out, in), ours (in, out); its GPT-2 has (in, out), too.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs.names import BEFORE
from juliagpt_jax.ground.words import near
from juliagpt_jax.store.llama import PLAIN, Llama, Mistral, Qwen2, Qwen3
from juliagpt_jax.store.places import Place, hold, whole
from juliagpt_jax.store.t5 import T5

Arrays = Mapping[str, np.ndarray]  # by our paths, "block_0/mixer/query/kernel", or by their names
# Knobs, and groups of them, without effect in a model of plain blocks, or in one that is not trained.
UNUSED = ("ode", "monarch", "kda", "moe", "sparse", "tt", "recursive", "t5", "dropout", "dropout_on", "init")
UNUSED += ("word_dropout", "zero_init", "window", "sink_tokens", "scan_layers")
# Buffers, not weights: tables of the rotary embedding, causal masks.
BUFFERS = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias")


class GPT2:
    """GPT2LMHeadModel (Radford et al. 2019): learned positions, LayerNorm, biases, a GELU MLP."""

    architecture = "GPT2LMHeadModel"
    prefix = "transformer."
    only: Mapping[str, Any] = {
        "activation_function": "gelu_new",
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    }

    @staticmethod
    def fields(facts: Mapping[str, Any]) -> dict[str, Any]:
        width = whole(facts, "n_embd")
        return PLAIN | {
            "width": width,
            "layers": whole(facts, "n_layer"),
            "heads": whole(facts, "n_head"),
            "kv_heads": 0,
            "context": whole(facts, "n_positions"),
            "ffn_mult": whole(facts, "n_inner", 4 * width) / width,
            "tie": facts.get("tie_word_embeddings", True),
            "norm_eps": facts.get("layer_norm_epsilon", 1e-5),
            "norm": "layer",
            "positions": "learned",
            "bias": True,
            "channel": "gelu",
        }

    @staticmethod
    def facts(model: config.Model, vocab: int) -> dict[str, Any]:
        return {
            "model_type": "gpt2",
            "vocab_size": vocab,
            "n_embd": model.width,
            "n_inner": model.hidden,
            "n_layer": model.layers,
            "n_head": model.heads,
            "n_positions": model.context,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": model.norm_eps,
            "tie_word_embeddings": model.tie,
        }

    @staticmethod
    def places(layers: int, tie: bool) -> Iterator[Place]:
        yield Place("embedding", "transformer.wte.weight")
        yield Place("positions", "transformer.wpe.weight")
        yield from _pair("norm/scale", "norm/bias", "transformer.ln_f")
        if not tie:
            yield Place("head", "lm_head.weight", turned=True)
        for i in range(layers):
            ours, theirs = f"block_{i}", f"transformer.h.{i}"
            yield from _pair(f"{ours}/mixer_norm/scale", f"{ours}/mixer_norm/bias", f"{theirs}.ln_1")
            yield from _pair(f"{ours}/channel_norm/scale", f"{ours}/channel_norm/bias", f"{theirs}.ln_2")
            for part, linear in enumerate(("query", "key", "value")):
                path = f"{ours}/mixer/{linear}"
                yield from _pair(f"{path}/kernel", f"{path}/bias", f"{theirs}.attn.c_attn", part, 3)
            for linear, name in [
                ("mixer/out", "attn.c_proj"),
                ("channel/up", "mlp.c_fc"),
                ("channel/down", "mlp.c_proj"),
            ]:
                yield from _pair(f"{ours}/{linear}/kernel", f"{ours}/{linear}/bias", f"{theirs}.{name}")


def _pair(weight: str, bias: str, name: str, part: int = 0, parts: int = 1) -> Iterator[Place]:
    yield Place(weight, f"{name}.weight", False, part, parts)
    yield Place(bias, f"{name}.bias", False, part, parts)


def read_fields(facts: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the family of a config.json and our knobs.

    Raises:
        UserError: another family, or settings that it cannot have here.
    """
    kind = facts.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise UserError(f"model_type {kind!r} is not known here{near(str(kind), FAMILIES)}")
    family = FAMILIES[kind]
    try:
        hold(facts, family.only)
        return family, family.fields(facts)
    except (TypeError, ValueError, AttributeError) as error:  # a group where a number belongs, and the like
        raise UserError(f"not a config of a {kind} model: {error}") from error


def family_of(model: config.Model) -> Any:
    """Return the family whose form a model of ours has.

    Raises:
        UserError: none; names what stands against the nearest.
    """
    if model.kind == "t5":
        T5.check(model)
        return T5
    against = {name: _against(family, model) for name, family in FAMILIES.items() if family is not T5}
    name = min(against, key=lambda name: len(against[name]))
    if against[name]:
        raise UserError(
            f"transformers has no such model: {', '.join(against[name])} is not in its {name}; "
            "--format=safetensors takes every model"
        )
    return FAMILIES[name]


def _against(family: Any, model: config.Model) -> list[str]:
    """Return the knobs of a model, "model.mixer=monarch", that a config.json of the family would not bring back."""
    known = family.fields(family.facts(model, 1))
    same_as = {"ffn_mult": model.hidden / model.width, "kv_heads": model.kv_heads % model.heads}
    rows = []
    for key, own in config.flatten(config.to_dict(model)).items():
        value = same_as.get(key, own)
        words = set(value.split()) if isinstance(value, str) else {value}
        unused = key.split(".")[0] in UNUSED or (key == "rope_base" and known["positions"] != "rotary")
        as_before = f"model.{key}" in BEFORE and own == BEFORE[f"model.{key}"]
        if not unused and not as_before and words != {known.get(key)}:  # a knob that no family knows is against it
            rows.append(f"model.{key}={own}")
    return rows


def to_tensors(family: Any, params: Arrays, model: config.Model) -> dict[str, np.ndarray]:
    """Return our parameters as the family's tensors."""
    parts: dict[str, list[np.ndarray]] = {}
    for place in _places(family, config.to_dict(model)):
        array = params[place.ours]
        parts.setdefault(place.name, []).append(array.T if place.turned else array)
    return {name: np.concatenate(arrays, axis=-1) if len(arrays) > 1 else arrays[0] for name, arrays in parts.items()}


def settled(family: Any, fields: dict[str, Any], tensors: Arrays) -> tuple[dict[str, Any], Arrays]:
    """Return the knobs that config.json gives, with what the tensors alone decide, and the tensors that are read.

    Raises:
        UserError: they contradict each other.
    """
    return T5.settled(fields, tensors) if family is T5 else (fields, tensors)


def _places(family: Any, model: Mapping[str, Any]) -> Iterator[Place]:
    return T5.places(model) if family is T5 else family.places(model["layers"], model["tie"])


def from_tensors(family: Any, tensors: Arrays, model: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the family's tensors as our parameters, by path. Their shapes are for the caller to check.

    Args:
        model: our knobs of it.

    Raises:
        UserError: a tensor is missing, left over, or not to be divided.
    """
    if family.prefix and not any(name.startswith(family.prefix) for name in tensors):
        tensors = {
            name if name.startswith("lm_head") else family.prefix + name: array for name, array in tensors.items()
        }
    params, used = {}, set()
    for place in _places(family, model):
        if place.ours in params:  # in a second place, of which `settled` knows that it has the same
            continue
        if place.name not in tensors:  # also what ends the loop where config.json has too many layers
            raise UserError(f"there is no tensor {place.name}, as config.json has it")
        array = tensors[place.name]
        if array.ndim == 0 or array.shape[-1] % place.parts:
            raise UserError(f"{place.name} has the shape {array.shape}")
        array = np.split(array, place.parts, axis=-1)[place.part]
        params[place.ours] = array.T if place.turned else array
        used.add(place.name)
    left = [name for name in tensors if name not in used]
    if model["tie"] and "lm_head.weight" in left and np.array_equal(tensors["lm_head.weight"], params["embedding"]):
        left.remove("lm_head.weight")
    if left:
        raise UserError(f"{len(left)} tensors have no place in such a model: {', '.join(sorted(left)[:3])}"[:300])
    return params


FAMILIES = {"llama": Llama, "gpt2": GPT2, "mistral": Mistral, "qwen2": Qwen2, "qwen3": Qwen3, "t5": T5}
