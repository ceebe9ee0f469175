"""A model as llama.cpp reads it: one GGUF file, weights, settings and tokenizer."""

from pathlib import Path
from typing import Any

import numpy as np

from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.files import replacing
from juliagpt_jax.store import families
from juliagpt_jax.store.tensors import cast

OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write(path: Path, params: families.Arrays, model: Any, tokenizer: Any, precision: str, name: str) -> None:
    """Write params (by path) as a GGUF file of the architecture "llama".

    Raises:
        UserError: a model of another form, another tokenizer than the character one, or a number that has no place in
            the precision.
    """
    try:
        import gguf
    except ImportError as error:
        raise UserError("--format=gguf needs the library gguf: pip install 'juliagpt-jax[gguf]'") from error
    if families.family_of(model) is not families.Llama:
        raise UserError(
            "--format=gguf takes models of Llama's form; --format=hf and llama.cpp's own converter take others"
        )
    if not isinstance(tokenizer, CharTokenizer):
        raise UserError("--format=gguf has the character tokenizer only; llama.cpp's own converter takes --format=hf")
    kinds = {"f32": gguf.GGMLQuantizationType.F32, "f16": gguf.GGMLQuantizationType.F16}
    kinds["bf16"] = gguf.GGMLQuantizationType.BF16
    files = {"f32": gguf.LlamaFileType.ALL_F32, "f16": gguf.LlamaFileType.MOSTLY_F16}
    files["bf16"] = gguf.LlamaFileType.MOSTLY_BF16
    with replacing(path) as temporary:
        out = gguf.GGUFWriter(temporary, "llama")
        out.add_name(name)
        out.add_file_type(files[precision])
        out.add_context_length(model.context)
        out.add_embedding_length(model.width)
        out.add_block_count(model.layers)
        out.add_feed_forward_length(model.hidden)
        out.add_head_count(model.heads)
        out.add_head_count_kv(model.kv_heads or model.heads)
        out.add_layer_norm_rms_eps(model.norm_eps)
        out.add_rope_dimension_count(model.width // model.heads)
        out.add_rope_freq_base(model.rope_base)
        out.add_vocab_size(tokenizer.vocab_size)
        # llama.cpp's RWKV tokenizer takes the longest token that fits and has no special ones: with tokens of one
        # character it is ours. Its tokens are Python's bytes literals without the quotes.
        out.add_tokenizer_model("rwkv")
        out.add_token_list([_escaped(character) for character in tokenizer.characters])
        out.add_token_types([gguf.TokenType.NORMAL] * tokenizer.vocab_size)
        for theirs, array in families.to_tensors(families.Llama, params, model).items():
            kind = precision if array.ndim > 1 else "f32"  # llama.cpp wants norms in f32
            stored = cast(theirs, _paired(theirs, array, model), kind)
            raw = stored.view(np.uint8) if kind == "bf16" else stored
            out.add_tensor(_named(theirs), raw, raw_dtype=kinds[kind])
        out.write_header_to_file()
        out.write_kv_data_to_file()
        out.write_tensors_to_file()
        out.close()


def _named(theirs: str) -> str:
    if theirs in OUTSIDE:
        return OUTSIDE[theirs]
    layer, rest = theirs.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{BLOCK[rest.removesuffix('.weight')]}.weight"


def _paired(theirs: str, array: np.ndarray, model: Any) -> np.ndarray:
    """Rows of the query and key matrices in llama.cpp's order: it rotates neighbours (2i, 2i + 1), we (i, i + C/2)."""
    heads = {"q_proj": model.heads, "k_proj": model.kv_heads or model.heads}.get(theirs.split(".")[-2])
    if heads is None:
        return array
    return array.reshape(heads, 2, -1, array.shape[-1]).swapaxes(1, 2).reshape(array.shape)


def _escaped(character: str) -> bytes:
    return character.encode("unicode_escape") if character in "\\\n\r\t\0" else character.encode()
