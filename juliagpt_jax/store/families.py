"""Models as Hugging Face's transformers stores them: what a family's config.json says and what its tensors are called.

`FAMILIES[model_type]` has `fields`, our knobs from a config.json; `facts`, the way back; and `places`, where each of
our parameters lies. transformers' Linear is (out, in), ours (in, out); its GPT-2 has (in, out), too.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs.names import BEFORE
from juliagpt_jax.ground.words import near

Arrays = Mapping[str, np.ndarray]  # by our paths, "block_0/mixer/query/kernel", or by their names
# Knobs, and groups of them, without effect in a model of plain blocks, or in one that is not trained.
UNUSED = ("ode", "monarch", "kda", "moe", "sparse", "tt", "recursive", "dropout", "dropout_on", "init", "zero_init")
UNUSED += ("window", "sink_tokens", "scan_layers")
# What all families have in common. A knob that stands neither here nor in `fields` keeps a model from being exported,
# unless it has the value that every model had before the knob existed.
PLAIN = {
    "kind": "decoder",
    "mixer": "attention",
    "mask": "causal",
    "sink": "none",
    "depth": "stack",
    "linear": "dense",
    "qk_norm": False,
    "x0_skip": False,
    "unet": False,
    "value_embedding": "none",
    "qkv_bias": False,
    "head_gate": False,
    "softcap": 0.0,
}
# Buffers, not weights: tables of the rotary embedding, causal masks.
BUFFERS = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias")


class Place(NamedTuple):
    """The place of one of our parameters: in which tensor, turned or not, and which of how many parts of its last
    axis."""

    ours: str
    name: str
    turned: bool = False
    part: int = 0
    parts: int = 1


class Llama:
    """LlamaForCausalLM (Touvron et al. 2023, arXiv 2302.13971), with grouped key/value heads."""

    architecture = "LlamaForCausalLM"
    prefix = ""  # that a file may leave out
    # Settings that change what is computed, with the one value that is known here; it is also the default.
    only: Mapping[str, Any] = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "rope_scaling": None}

    @staticmethod
    def fields(facts: Mapping[str, Any]) -> dict[str, Any]:
        rope = facts.get("rope_parameters") or {"rope_theta": facts.get("rope_theta", 10_000.0)}  # transformers 5, or 4
        plain = {"rope_type": "default", "partial_rotary_factor": 1.0}
        _hold(rope, plain)
        width, heads = _whole(facts, "hidden_size"), _whole(facts, "num_attention_heads")
        kv_heads = _whole(facts, "num_key_value_heads", heads)
        _hold(facts, {"head_dim": width // heads})
        return PLAIN | {
            "width": width,
            "layers": _whole(facts, "num_hidden_layers"),
            "heads": heads,
            "kv_heads": 0 if kv_heads == heads else kv_heads,
            "context": _whole(facts, "max_position_embeddings"),
            "ffn_mult": _whole(facts, "intermediate_size") / width,
            "tie": facts.get("tie_word_embeddings", False),
            "rope_base": rope.get("rope_theta", 10_000.0),
            "norm_eps": facts.get("rms_norm_eps", 1e-6),
            "norm": "rms",
            "positions": "rotary",
            "bias": False,
            "channel": "swiglu",
        }

    @staticmethod
    def facts(model: config.Model, vocab: int) -> dict[str, Any]:
        return {
            "model_type": "llama",
            "vocab_size": vocab,
            "hidden_size": model.width,
            "intermediate_size": model.hidden,
            "num_hidden_layers": model.layers,
            "num_attention_heads": model.heads,
            "num_key_value_heads": model.kv_heads or model.heads,
            "head_dim": model.width // model.heads,
            "hidden_act": "silu",
            "max_position_embeddings": model.context,
            "rms_norm_eps": model.norm_eps,
            "rope_parameters": {"rope_type": "default", "rope_theta": model.rope_base},
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": model.tie,
        }

    @staticmethod
    def places(layers: int, tie: bool) -> Iterator[Place]:
        yield Place("embedding", "model.embed_tokens.weight")
        yield Place("norm/scale", "model.norm.weight")
        if not tie:
            yield Place("head", "lm_head.weight", turned=True)
        for i in range(layers):
            ours, theirs = f"block_{i}", f"model.layers.{i}"
            yield Place(f"{ours}/mixer_norm/scale", f"{theirs}.input_layernorm.weight")
            yield Place(f"{ours}/channel_norm/scale", f"{theirs}.post_attention_layernorm.weight")
            for linear, name in [("query", "q"), ("key", "k"), ("value", "v"), ("out", "o")]:
                yield Place(f"{ours}/mixer/{linear}/kernel", f"{theirs}.self_attn.{name}_proj.weight", turned=True)
            for linear in ("gate", "up", "down"):
                yield Place(f"{ours}/channel/{linear}/kernel", f"{theirs}.mlp.{linear}_proj.weight", turned=True)


class Mistral(Llama):
    """MistralForCausalLM (Jiang et al. 2023, arXiv 2310.06825), without its sliding window."""

    architecture = "MistralForCausalLM"
    only: Mapping[str, Any] = {**Llama.only, "sliding_window": None}

    @staticmethod
    def facts(model: config.Model, vocab: int) -> dict[str, Any]:
        return Llama.facts(model, vocab) | {"model_type": "mistral", "sliding_window": None}


class Qwen2(Llama):
    """Qwen2ForCausalLM (Yang et al. 2024, arXiv 2407.10671): Llama with biases of queries, keys and values."""

    architecture = "Qwen2ForCausalLM"
    only: Mapping[str, Any] = {"hidden_act": "silu", "rope_scaling": None, "use_sliding_window": False}

    @staticmethod
    def fields(facts: Mapping[str, Any]) -> dict[str, Any]:
        return Llama.fields(facts) | {"qkv_bias": True}

    @staticmethod
    def facts(model: config.Model, vocab: int) -> dict[str, Any]:
        llama = Llama.facts(model, vocab)
        kept = {key: own for key, own in llama.items() if key not in ("attention_bias", "mlp_bias", "head_dim")}
        return kept | {"model_type": "qwen2", "use_sliding_window": False}

    @staticmethod
    def places(layers: int, tie: bool) -> Iterator[Place]:
        yield from Llama.places(layers, tie)
        for i in range(layers):
            for linear, name in [("query", "q"), ("key", "k"), ("value", "v")]:
                yield Place(f"block_{i}/mixer/{linear}/bias", f"model.layers.{i}.self_attn.{name}_proj.bias")


class Qwen3(Llama):
    """Qwen3ForCausalLM (Yang et al. 2025, arXiv 2505.09388, section 2): Llama with normalised queries and keys."""

    architecture = "Qwen3ForCausalLM"
    only: Mapping[str, Any] = {
        "hidden_act": "silu",
        "attention_bias": False,
        "rope_scaling": None,
        "use_sliding_window": False,
    }

    @staticmethod
    def fields(facts: Mapping[str, Any]) -> dict[str, Any]:
        return Llama.fields(facts) | {"qk_norm": True}

    @staticmethod
    def facts(model: config.Model, vocab: int) -> dict[str, Any]:
        llama = {key: own for key, own in Llama.facts(model, vocab).items() if key != "mlp_bias"}
        return llama | {"model_type": "qwen3", "use_sliding_window": False}

    @staticmethod
    def places(layers: int, tie: bool) -> Iterator[Place]:
        yield from Llama.places(layers, tie)
        for i in range(layers):
            for norm, name in [("query", "q"), ("key", "k")]:
                yield Place(f"block_{i}/mixer/{norm}_norm/scale", f"model.layers.{i}.self_attn.{name}_norm.weight")


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
        width = _whole(facts, "n_embd")
        return PLAIN | {
            "width": width,
            "layers": _whole(facts, "n_layer"),
            "heads": _whole(facts, "n_head"),
            "kv_heads": 0,
            "context": _whole(facts, "n_positions"),
            "ffn_mult": _whole(facts, "n_inner", 4 * width) / width,
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


def _whole(facts: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = facts.get(key)
    value = default if value is None else value
    if type(value) is not int or not 0 < value < 2**31:
        raise UserError(f"{key} must be a whole number above 0, not {value!r}")
    return value


def _hold(facts: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise a UserError where a setting is there and is none that is known."""
    for key, value in known.items():
        if facts.get(key, value) not in (value, None):
            raise UserError(f"{key}={facts[key]!r} is not known here, only {value!r}")


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
        _hold(facts, family.only)
        return family, family.fields(facts)
    except (TypeError, ValueError, AttributeError) as error:  # a group where a number belongs, and the like
        raise UserError(f"not a config of a {kind} model: {error}") from error


def family_of(model: config.Model) -> Any:
    """Return the family whose form a model of ours has.

    Raises:
        UserError: none; names what stands against the nearest.
    """
    against = {name: _against(family, model) for name, family in FAMILIES.items()}
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
    for place in family.places(model.layers, model.tie):
        array = params[place.ours]
        parts.setdefault(place.name, []).append(array.T if place.turned else array)
    return {name: np.concatenate(arrays, axis=-1) if len(arrays) > 1 else arrays[0] for name, arrays in parts.items()}


def from_tensors(family: Any, tensors: Arrays, layers: int, tie: bool) -> dict[str, np.ndarray]:
    """Return the family's tensors as our parameters, by path. Their shapes are for the caller to check.

    Raises:
        UserError: a tensor is missing, left over, or not to be divided.
    """
    if family.prefix and not any(name.startswith(family.prefix) for name in tensors):
        tensors = {
            name if name.startswith("lm_head") else family.prefix + name: array for name, array in tensors.items()
        }
    params, used = {}, set()
    for place in family.places(layers, tie):
        if place.name not in tensors:  # also what ends the loop where config.json has too many layers
            raise UserError(f"there is no tensor {place.name}, as config.json has it")
        array = tensors[place.name]
        if array.ndim == 0 or array.shape[-1] % place.parts:
            raise UserError(f"{place.name} has the shape {array.shape}")
        array = np.split(array, place.parts, axis=-1)[place.part]
        params[place.ours] = array.T if place.turned else array
        used.add(place.name)
    left = [name for name in tensors if name not in used]
    if tie and "lm_head.weight" in left and np.array_equal(tensors["lm_head.weight"], params["embedding"]):
        left.remove("lm_head.weight")
    if left:
        raise UserError(f"{len(left)} tensors have no place in such a model: {', '.join(sorted(left)[:3])}"[:300])
    return params


FAMILIES = {"llama": Llama, "gpt2": GPT2, "mistral": Mistral, "qwen2": Qwen2, "qwen3": Qwen3}
