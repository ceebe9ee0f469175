"""Llama's form, and the models that differ from it by a flag: what their config.json says, where their tensors lie."""

from collections.abc import Iterator, Mapping
from typing import Any

from juliagpt_jax.ground import config
from juliagpt_jax.store.places import Place, hold, whole

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
        hold(rope, plain)
        width, heads = whole(facts, "hidden_size"), whole(facts, "num_attention_heads")
        kv_heads = whole(facts, "num_key_value_heads", heads)
        hold(facts, {"head_dim": width // heads})
        return PLAIN | {
            "width": width,
            "layers": whole(facts, "num_hidden_layers"),
            "heads": heads,
            "kv_heads": 0 if kv_heads == heads else kv_heads,
            "context": whole(facts, "max_position_embeddings"),
            "ffn_mult": whole(facts, "intermediate_size") / width,
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
