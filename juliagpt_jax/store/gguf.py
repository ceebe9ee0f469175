"""A model as llama.cpp reads it: one GGUF file, weights, settings and tokenizer.

Keys of our own, which llama.cpp passes over, hold the whole config, and a SHA-256 of all other bytes of the file: so it
comes back as it left, or is refused.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.files import replacing
from juliagpt_jax.ground.sealed import KEY, Changed
from juliagpt_jax.store import families
from juliagpt_jax.store.tensors import cast

MAGIC = b"GGUF"
PREFIX = "juliagpt_jax."  # of our own keys
# The key of the hash as it lies in a file: its name, the type (a text), the length, the digits.
_HASH = re.compile(re.escape(f"{PREFIX}{KEY}").encode() + rb"\x08\0\0\0\x40\0\0\0\0\0\0\0([0-9a-f]{64})", re.DOTALL)
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


def write(
    path: Path,
    params: families.Arrays,
    model: Any,
    tokenizer: Any,
    precision: str,
    name: str,
    metadata: Mapping[str, str],
) -> None:
    """Write params (by path) as a GGUF file of the architecture "llama".

    Args:
        metadata: texts under our own keys, for `read`.

    Raises:
        UserError: a model of another form, another tokenizer than the character one, or a number that has no place in
            the precision.
    """
    gguf = _library("--format=gguf")
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
        for key, text in metadata.items():
            out.add_string(f"{PREFIX}{key}", text)
        out.add_string(f"{PREFIX}{KEY}", "0" * 64)
        for theirs, array in families.to_tensors(families.Llama, params, model).items():
            kind = precision if array.ndim > 1 else "f32"  # llama.cpp wants norms in f32
            stored = cast(theirs, _paired(theirs, array, model), kind)
            raw = stored.view(np.uint8) if kind == "bf16" else stored
            out.add_tensor(_named(theirs), raw, raw_dtype=kinds[kind])
        out.write_header_to_file()
        out.write_kv_data_to_file()
        out.write_tensors_to_file()
        out.close()
        own, digest = _hash(temporary)
        with open(temporary, "r+b") as file:
            file.seek(own.start(1))
            file.write(digest.encode())


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the tensors of a file that `write` wrote, by their names in transformers, as float32, and its metadata.

    Raises:
        UserError: it is not there, of another program, damaged, or gguf is not installed.
    """
    gguf = _library(str(path))
    try:
        own, digest = _hash(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    if own[1].decode() != digest:
        raise Changed(
            f"{path}: changed since it was written: the {KEY} in its metadata is of other contents; put a sound copy "
            "back, or export it again"
        )
    reader = gguf.GGUFReader(path)
    metadata = {
        key.removeprefix(PREFIX): field.contents() for key, field in reader.fields.items() if key.startswith(PREFIX)
    }
    value = lambda key: reader.fields[f"llama.attention.{key}"].contents()
    heads = {"q_proj": value("head_count"), "k_proj": value("head_count_kv")}
    inner = {theirs: ours for ours, theirs in BLOCK.items()}
    outer = {theirs: ours for ours, theirs in OUTSIDE.items()}
    tensors = {}
    for tensor in reader.tensors:
        array = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1]).astype(np.float32)
        if tensor.name in outer:
            name = outer[tensor.name]
        else:
            _, layer, rest = tensor.name.split(".", 2)
            name = f"model.layers.{layer}.{inner[rest.removesuffix('.weight')]}.weight"
            if count := heads.get(name.split(".")[-2]):
                array = array.reshape(count, -1, 2, array.shape[-1]).swapaxes(1, 2).reshape(array.shape)
        tensors[name] = array
    return tensors, metadata


def _hash(path: Path) -> tuple[re.Match[bytes], str]:
    """Return where the hash of a file stands, and the hash of the file with zeros there.

    Raises:
        UserError: it has none.
    """
    raw = path.read_bytes()
    own = _HASH.search(raw) if raw.startswith(MAGIC) else None
    if own is None:
        raise UserError(
            f"{path}: a damaged file, or one of another program: it has no {PREFIX}{KEY}; of others' models "
            "import_model takes the folder for transformers"
        )
    found = hashlib.sha256(memoryview(raw)[: own.start(1)])
    found.update(b"0" * 64)
    found.update(memoryview(raw)[own.end(1) :])
    return own, found.hexdigest()


def _library(what: str) -> Any:
    try:
        import gguf
    except ImportError as error:
        raise UserError(f"{what} needs the library gguf: pip install 'juliagpt-jax[gguf]'") from error
    return gguf


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
