"""T5 as transformers stores it: versions 1.0, 1.1 and FLAN.

Its files say less than they seem to. `tie_word_embeddings` in config.json says that logits are scaled, and not whether
there is a head of its own, which the tensors show; encoder and decoder always share their embeddings. Old files also
have copies of these, and a table of biases for the decoder's look at the source, which no version of T5 reads.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs.model import START
from juliagpt_jax.models.t5 import PLAIN
from juliagpt_jax.store.places import Place, whole

CHANNELS = {"relu": "relu", "gated-gelu": "geglu"}
HEAD, EMBEDDING = "lm_head.weight", "shared.weight"
COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
UNREAD = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"


class T5:
    """T5ForConditionalGeneration (Raffel et al. 2020, arXiv 1910.10683)."""

    architecture = "T5ForConditionalGeneration"
    prefix = ""
    only: Mapping[str, Any] = {
        "is_encoder_decoder": True,
        "decoder_start_token_id": START,
        "pad_token_id": START,
    }

    @staticmethod
    def fields(facts: Mapping[str, Any]) -> dict[str, Any]:
        width, layers, channel = whole(facts, "d_model"), whole(facts, "num_layers"), facts.get("feed_forward_proj")
        if str(channel or "relu") not in CHANNELS:
            raise UserError(f"feed_forward_proj={channel!r} is not known here, only {' and '.join(CHANNELS)}")
        scaled = facts.get("scale_decoder_outputs")  # of transformers 5, whose flag of ties then says nothing
        own = {
            "encoder_layers": layers,
            "head_width": whole(facts, "d_kv", 64),
            "channel": CHANNELS[str(channel or "relu")],
            "buckets": whole(facts, "relative_attention_num_buckets", 32),
            "distance": whole(facts, "relative_attention_max_distance", 128),
            "scale_head": facts.get("tie_word_embeddings") is not False if scaled is None else bool(scaled),
        }
        return PLAIN | {
            "kind": "t5",
            "linear": "dense",
            "width": width,
            "layers": whole(facts, "num_decoder_layers", layers),
            "heads": whole(facts, "num_heads"),
            "context": whole(facts, "n_positions", 512),
            "ffn_mult": whole(facts, "d_ff") / width,
            "tie": True,
            "norm_eps": facts.get("layer_norm_epsilon", 1e-6),
            "t5": own,
        }

    @staticmethod
    def facts(model: config.Model, vocab: int) -> dict[str, Any]:
        own = model.t5
        return {
            "model_type": "t5",
            "is_encoder_decoder": True,
            "vocab_size": vocab,
            "d_model": model.width,
            "d_kv": own.head_width or model.width // model.heads,
            "d_ff": model.hidden,
            "num_layers": own.encoder_layers or model.layers,
            "num_decoder_layers": model.layers,
            "num_heads": model.heads,
            "relative_attention_num_buckets": own.buckets,
            "relative_attention_max_distance": own.distance,
            "feed_forward_proj": next(theirs for theirs, ours in CHANNELS.items() if ours == own.channel),
            "layer_norm_epsilon": model.norm_eps,
            "dropout_rate": 0.0,
            "n_positions": model.context,
            "tie_word_embeddings": own.scale_head,
            "decoder_start_token_id": START,
            "pad_token_id": START,
        }

    @staticmethod
    def settled(fields: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the knobs with what the tensors decide, and the tensors that a T5 reads.

        Raises:
            UserError: a copy of the embeddings is none.
        """
        kept = {name: array for name, array in tensors.items() if name not in (*COPIES, UNREAD)}
        embedding = tensors.get(EMBEDDING, next((tensors[name] for name in COPIES if name in tensors), None))
        if embedding is not None:
            kept[EMBEDDING] = embedding
            for name in COPIES:
                if name in tensors and not np.array_equal(tensors[name], embedding):
                    raise UserError(f"{name} is not {EMBEDDING}: in a T5 both sides share their embeddings")
        tie = HEAD not in kept or (embedding is not None and np.array_equal(kept[HEAD], embedding))
        if tie:
            kept.pop(HEAD, None)
        return fields | {"tie": tie}, kept

    @staticmethod
    def check(model: config.Model) -> None:
        """Refuse a model that no file of theirs can hold.

        Raises:
            UserError: naming the knob.
        """
        if model.linear != "dense":
            raise UserError(f"transformers has no such model: model.linear={model.linear} is not in its t5")
        if model.t5.scale_head and not model.tie:
            raise UserError("transformers has no such model: its t5 with model.t5.scale_head ties the head (model.tie)")

    @staticmethod
    def places(model: Mapping[str, Any]) -> Iterator[Place]:
        own = model["t5"]
        yield Place("embedding", EMBEDDING)
        if not model["tie"]:
            yield Place("head", HEAD, turned=True)
        elif not own["scale_head"]:  # where the flag of ties is false, older transformers want a head in the file
            yield Place("embedding", HEAD)
        for ours, theirs, layers in [
            ("encoder/", "encoder", own["encoder_layers"] or model["layers"]),
            ("", "decoder", model["layers"]),
        ]:
            first = f"{theirs}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
            yield Place(f"{ours}bias/buckets", first)
            yield Place(f"{ours}norm/scale", f"{theirs}.final_layer_norm.weight")
            parts = [("mixer", "SelfAttention"), *([("cross", "EncDecAttention")] if theirs == "decoder" else [])]
            gated = own["channel"] == "geglu"
            channel = [("gate", "wi_0"), ("up", "wi_1"), ("down", "wo")] if gated else [("up", "wi"), ("down", "wo")]
            for i in range(layers):
                block, named = f"{ours}block_{i}", f"{theirs}.block.{i}.layer"
                for number, (part, name) in enumerate(parts):
                    yield Place(f"{block}/{part}_norm/scale", f"{named}.{number}.layer_norm.weight")
                    for linear in ("query", "key", "value", "out"):
                        place = f"{named}.{number}.{name}.{linear[0]}.weight"
                        yield Place(f"{block}/{part}/{linear}/kernel", place, turned=True)
                last = f"{named}.{len(parts)}"
                yield Place(f"{block}/channel_norm/scale", f"{last}.layer_norm.weight")
                for linear, name in channel:
                    place = f"{last}.DenseReluDense.{name}.weight"
                    yield Place(f"{block}/channel/{linear}/kernel", place, turned=True)
