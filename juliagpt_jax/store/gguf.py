"""A model as llama.cpp has it: one GGUF file, weights, settings and tokenizer.

Files of ours have keys, which llama.cpp passes over, that hold the whole config, and a SHA-256 of all other bytes of
the file: so it comes back as it left, or is refused. Of other programs' files the same is read as of a folder of
transformers: what its config.json would say, the tensors by their names there, a tokenizer.json.
"""

import hashlib
import mmap
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from juliagpt_jax.data import gguf_tokens
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground.errors import UserError, about
from juliagpt_jax.ground.files import replacing
from juliagpt_jax.ground.sealed import KEY, Changed
from juliagpt_jax.store import families
from juliagpt_jax.store.gguf_file import MAGIC, File
from juliagpt_jax.store.tensors import cast

__all__ = ["MAGIC", "Contents", "read", "tokens", "write"]
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
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
# An architecture's name in transformers, and whether its file has the query and key matrices turned.
ARCHITECTURES = {"llama": ("llama", True), "qwen2": ("qwen2", False), "qwen3": ("qwen3", False)}
SETTINGS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
    "vocab_size": "vocab_size",
}
IDLE = ("tensor_data_layout",)  # settings that change no number


class Contents(NamedTuple):
    """A file that was read.

    Attributes:
        tensors: by their names in transformers, float32.
        facts: what a config.json of transformers would say of the model.
        metadata: texts under our own keys; {} in a file of another program.
        values: all of its key-value pairs.
    """

    tensors: dict[str, np.ndarray]
    facts: dict[str, Any]
    metadata: dict[str, str]
    values: dict[str, Any]


def write(
    path: Path,
    params: families.Arrays,
    model: Any,
    tokenizer: Any,
    precision: str,
    name: str,
    metadata: Mapping[str, str],
) -> None:
    """Write params (by path) as a GGUF file of one of ARCHITECTURES.

    Args:
        metadata: texts under our own keys, for `read`.

    Raises:
        UserError: a model of another form, a tokenizer that llama.cpp has no rule for, or a number that has no place
            in the precision.
    """
    gguf = _library("--format=gguf")
    family = families.family_of(model)
    architecture = family.facts(model, tokenizer.vocab_size)["model_type"]
    if architecture not in ARCHITECTURES:
        raise UserError(
            "--format=gguf takes models of Llama's form; --format=hf and llama.cpp's own converter take others"
        )
    turned = ARCHITECTURES[architecture][1]
    words = {} if isinstance(tokenizer, CharTokenizer) else gguf_tokens.values(tokenizer)
    kinds = {"f32": gguf.GGMLQuantizationType.F32, "f16": gguf.GGMLQuantizationType.F16}
    kinds["bf16"] = gguf.GGMLQuantizationType.BF16
    files = {"f32": gguf.LlamaFileType.ALL_F32, "f16": gguf.LlamaFileType.MOSTLY_F16}
    files["bf16"] = gguf.LlamaFileType.MOSTLY_BF16
    with replacing(path) as temporary:
        out = gguf.GGUFWriter(temporary, architecture)
        out.add_name(name)
        out.add_file_type(files[precision])
        out.add_context_length(model.context)
        out.add_embedding_length(model.width)
        out.add_block_count(model.layers)
        out.add_feed_forward_length(model.hidden)
        out.add_head_count(model.heads)
        out.add_head_count_kv(model.kv_heads or model.heads)
        out.add_layer_norm_rms_eps(model.norm_eps)
        head = model.width // model.heads
        out.add_key_length(head)
        out.add_value_length(head)
        out.add_rope_dimension_count(head)
        out.add_rope_freq_base(model.rope_base)
        out.add_vocab_size(tokenizer.vocab_size)
        if isinstance(tokenizer, CharTokenizer):
            # llama.cpp's RWKV tokenizer takes the longest token that fits and has no special ones: with tokens of one
            # character it is ours. Its tokens are Python's bytes literals without the quotes.
            out.add_tokenizer_model("rwkv")
            out.add_token_list([_escaped(character) for character in tokenizer.characters])
            out.add_token_types([gguf.TokenType.NORMAL] * tokenizer.vocab_size)
        for key, own in words.items():
            add = {bool: out.add_bool, int: out.add_uint32, str: out.add_string}.get(type(own), out.add_array)
            add(key, own)
        for key, text in metadata.items():
            out.add_string(f"{PREFIX}{key}", text)
        out.add_string(f"{PREFIX}{KEY}", "0" * 64)
        for theirs, array in families.to_tensors(family, params, model).items():
            kind = precision if array.ndim > 1 else "f32"  # llama.cpp wants norms in f32
            stored = cast(theirs, _paired(theirs, array, model) if turned else array, kind)
            raw = stored.view(np.uint8) if kind == "bf16" else stored
            out.add_tensor(_named(theirs), raw, raw_dtype=kinds[kind])
        out.write_header_to_file()
        out.write_kv_data_to_file()
        out.write_tensors_to_file()
        out.close()
        place, _, digest = _hash(temporary)
        with open(temporary, "r+b") as file:
            file.seek(place)
            file.write(digest)


def read(path: Path) -> Contents:
    """Read a file of this project or of another program.

    Raises:
        UserError: it is not there, torn, damaged, of a form that is not known, or gguf is not installed.
    """
    library = _library(str(path))
    try:
        place, stated, digest = _hash(path)
        if stated != digest:
            raise Changed(
                f"{path}: changed since it was written: the {KEY} in its metadata is of other contents; put a sound "
                "copy back, or export it again"
            )
        file = File(path, library)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    metadata = {key.removeprefix(PREFIX): own for key, own in file.values.items() if key.startswith(PREFIX)}
    if metadata and not place:
        raise UserError(f"{path}: a damaged file: it has other keys of this project, and no {PREFIX}{KEY}")
    with about(path):
        tie = "output.weight" not in file.tensors
        facts, turned = _facts(file.values, tie)
        heads = {"attn_q": facts["num_attention_heads"], "attn_k": facts["num_key_value_heads"]} if turned else {}
        tensors = {_theirs(name): _halves(name, file.array(name), heads) for name in file.tensors}
    return Contents(tensors, facts, metadata, file.values)


def tokens(contents: Contents) -> tuple[dict[str, Any], dict[str, Any], str | None]:
    """Return the tokenizer.json of a file, the ids with a task as a config.json has them, and its chat template.

    Raises:
        UserError: it has none that is known.
    """
    template = contents.values.get(gguf_tokens.TEMPLATE)
    if not isinstance(template, str | None):
        raise UserError(f"{gguf_tokens.TEMPLATE} is no text")
    return gguf_tokens.content(contents.values), gguf_tokens.special(contents.values), template


def _facts(values: Mapping[str, Any], tie: bool) -> tuple[dict[str, Any], bool]:
    """Return what a config.json of transformers would say of the model in a file, and whether the rows of its query and
    key matrices are turned to rotate as neighbours.

    Raises:
        UserError: another architecture, or a setting that is not known here.
    """
    kind = values.get("general.architecture")
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise UserError(f"general.architecture={kind!r} is not known here, only {known}")
    settings = {key.removeprefix(f"{kind}."): own for key, own in values.items() if key.startswith(f"{kind}.")}
    facts = {name: settings.pop(key, None) for key, name in SETTINGS.items()}
    if facts["num_key_value_heads"] is None:
        facts["num_key_value_heads"] = facts["num_attention_heads"]
    for key in ("hidden_size", "num_attention_heads", "num_key_value_heads"):
        if type(facts[key]) is not int or facts[key] < 1:
            raise UserError(f"the setting of {kind} for {key} must be a whole number above 0, not {facts[key]!r}")
    head = facts["hidden_size"] // facts["num_attention_heads"]
    only = {"rope.dimension_count": head, "attention.key_length": head, "attention.value_length": head}
    only |= {"rope.scaling.type": "none", "attention.causal": True, "expert_count": 0, "expert_used_count": 0}
    for key, own in settings.items():
        if key not in IDLE and (key not in only or not np.array_equal(own, only[key])):
            known = f", only {only[key]}" if key in only else ""
            raise UserError(f"{kind}.{key}={str(own)[:40]} is not known here{known}")
    given = {name: own for name, own in facts.items() if own is not None}
    model_type, turned = ARCHITECTURES[kind]
    return given | {"model_type": model_type, "tie_word_embeddings": tie}, turned


def _theirs(name: str) -> str:
    """Return the name in transformers of a tensor; one that has none there keeps its own, which its reader refuses."""
    if name in OUTSIDE.values():
        return next(theirs for theirs, ours in OUTSIDE.items() if ours == name)
    found = re.fullmatch(r"blk\.(\d{1,6})\.(\w+)\.(weight|bias)", name)
    theirs = found and {ours: theirs for theirs, ours in BLOCK.items()}.get(found[2])
    return f"model.layers.{int(found[1])}.{theirs}.{found[3]}" if found and theirs else name


def _halves(name: str, array: np.ndarray, heads: Mapping[str, int]) -> np.ndarray:
    """Return a matrix whose rows rotate as (i, i + C/2), of one of `heads` whose rows rotate as neighbours; a bias has
    rows of one number. Any other as it is.

    Raises:
        UserError: its rows are no heads of an even width.
    """
    count = heads.get(name.split(".")[-2]) if "." in name else None
    if not count:
        return array
    if len(array) % (2 * count):
        raise UserError(f"{name} has {len(array)} rows, which are no {count} heads of an even width")
    return array.reshape(count, -1, 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def _hash(path: Path) -> tuple[int, bytes, bytes]:
    """Return where the hash of a file stands, what stands there, and the hash of the file with zeros there; 0 and
    nothing where it has none.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        own = _HASH.search(raw)
        if own is None:
            return 0, b"", b""
        place, end = own.span(1)
        found = hashlib.sha256(raw[:place])
        found.update(b"0" * 64)
        found.update(raw[end:])
        return place, raw[place:end], found.hexdigest().encode()


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
    part, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{BLOCK[part]}.{kind}"


def _paired(theirs: str, array: np.ndarray, model: Any) -> np.ndarray:
    """Rows of the query and key matrices in llama.cpp's order: it rotates neighbours (2i, 2i + 1), we (i, i + C/2)."""
    heads = {"q_proj": model.heads, "k_proj": model.kv_heads or model.heads}.get(theirs.split(".")[-2])
    if heads is None:
        return array
    return array.reshape(heads, 2, -1, array.shape[-1]).swapaxes(1, 2).reshape(array.shape)


def _escaped(character: str) -> bytes:
    return character.encode("unicode_escape") if character in "\\\n\r\t\0" else character.encode()
