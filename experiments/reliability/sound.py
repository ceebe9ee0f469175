"""Small sound examples of each format that comes from outside (formats.py)."""

import io
import json
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.data.library import LibraryTokenizer
from juliagpt_jax.ground import config, config_file

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
WORDS = "the nature of number and of line is one truth that goes on".split()
LINES = [" ".join(WORDS[i % 7 :] + WORDS[: i % 5]) + "." for i in range(80)]
# A template that says where answers stand.
TURNS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content + '<|im_end|>\n' }}{% endgeneration %}{% else %}{{ m.content + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tokenizer(template: str = "") -> LibraryTokenizer:
    content = json.loads((GOLDEN / "chat" / "tokenizer.json").read_text())
    own = template or json.loads((GOLDEN / "chat" / "cases.json").read_text())["template"]
    return LibraryTokenizer(content, 300, 1, {"eos": 2}, (0,), own)


def zipped(*members: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content)
    return out.getvalue()


def tarred(*members: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def text() -> bytes:
    return "\n".join(LINES).encode() + b"\n"


def page() -> bytes:
    body = "".join(f"<p>{line} <i>&amp;</i> caf&eacute;</p>\n" for line in LINES[:8])
    return (
        f'<!DOCTYPE html><html><head><meta charset="utf-8"><title>T</title></head><body>{body}</body></html>'.encode()
    )


def marked() -> bytes:
    return ("# Title\n\n" + "\n\n".join(LINES[:6]) + "\n\n- a\n- b[^1]\n\n[^1]: note\n").encode()


def e_book() -> bytes:
    container = b'<container><rootfiles><rootfile full-path="o/c.opf"/></rootfiles></container>'
    package = (
        b'<package><metadata><title>T</title></metadata><manifest><item id="a" href="a.xhtml" '
        b'media-type="application/xhtml+xml"/></manifest><spine><itemref idref="a"/></spine></package>'
    )
    return zipped(("META-INF/container.xml", container), ("o/c.opf", package), ("o/a.xhtml", page()))


def enriched() -> bytes:
    rows = [{"text": line, "phase": ("a", "b")[i % 2], "difficulty": i / 80} for i, line in enumerate(LINES)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def character_tokenizer() -> bytes:
    return json.dumps(tokenizers.CharTokenizer.train("".join(LINES) + "\n").to_dict()).encode()


def letters(count: int = 61) -> bytes:
    """A tokenizer of so many letters in the library's form: as many as a golden model has embeddings."""
    alphabet = "\n !" + "".join(map(chr, range(65, 123)))
    return json.dumps(tokenizers.CharTokenizer(alphabet[:count]).to_huggingface()).encode()


def golden(*parts: str) -> Callable[[], bytes]:
    return lambda: GOLDEN.joinpath(*parts).read_bytes()


def own_config() -> bytes:
    return json.dumps(config.to_dict(config_file.load(str(ROOT / "configs" / "micro.py"), []))).encode()


def gguf() -> bytes:
    """A file of llama.cpp's, without a hash: two kinds of tensors, and a vocabulary."""
    import gguf as library

    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        out = library.GGUFWriter(f"{folder}/m.gguf", "llama")
        numbers = {"context_length": 16, "embedding_length": 32, "feed_forward_length": 64, "block_count": 1}
        for name, value in numbers.items():
            getattr(out, f"add_{name}")(value)
        out.add_head_count(2)
        out.add_head_count_kv(2)
        out.add_layer_norm_rms_eps(1e-5)
        out.add_rope_freq_base(10_000.0)
        out.add_vocab_size(300)
        content = json.loads((GOLDEN / "chat" / "tokenizer.json").read_text())
        names = sorted(content["model"]["vocab"], key=content["model"]["vocab"].get)
        out.add_tokenizer_model("gpt2")
        out.add_tokenizer_pre("smollm")
        out.add_token_list(names)
        out.add_token_types([3, 3, 3] + [1] * (len(names) - 3))
        out.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in content["model"]["merges"]])
        out.add_eos_token_id(2)
        out.add_tensor("token_embd.weight", draw(300, 32))
        out.add_tensor("output_norm.weight", draw(32))
        for name, shape in [
            ("attn_q", (32, 32)),
            ("attn_k", (32, 32)),
            ("attn_v", (32, 32)),
            ("attn_output", (32, 32)),
        ]:
            out.add_tensor(f"blk.0.{name}.weight", draw(*shape))
        for name, shape in [("ffn_gate", (64, 32)), ("ffn_up", (64, 32)), ("ffn_down", (32, 64))]:
            quantized = library.quantize(draw(*shape), library.GGMLQuantizationType.Q8_0)
            out.add_tensor(f"blk.0.{name}.weight", quantized, raw_dtype=library.GGMLQuantizationType.Q8_0)
        for name in ("attn_norm", "ffn_norm"):
            out.add_tensor(f"blk.0.{name}.weight", draw(32))
        out.write_header_to_file()
        out.write_kv_data_to_file()
        out.write_tensors_to_file()
        out.close()
        return Path(folder, "m.gguf").read_bytes()


def sudokus() -> bytes:
    return b"puzzle,solution\n1..4..........2.,\n.234341221434321,1234341221434321\n# a note\n"


def mazes() -> bytes:
    wall, rows = "#######", ["#S....#", "#####.#", "#...#.#", "#.#.#.#", "#.#..G#"]
    return (json.dumps({"grid": [wall, *rows, wall]}) + "\n").encode()


def grids() -> bytes:
    return json.dumps({"one": task()}).encode()


def task() -> dict[str, Any]:
    pair = {"input": [[1, 2], [3, 4]], "output": [[4, 3], [2, 1]]}
    return {"id": "one", "train": [pair, pair], "test": [pair]}


def body() -> bytes:
    asked = {"prompt": ["the nature", "of"], "max_tokens": 5, "n": 2, "stop": [".", "x"], "seed": 3, "logprobs": 2}
    return json.dumps(asked | {"temperature": 0.5, "top_p": 0.9, "stream": False}).encode()


def conversation() -> bytes:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    return json.dumps({"messages": messages, "max_tokens": 5, "temperature": 0.5, "logprobs": True}).encode()


def asks() -> bytes:
    return b'quality >= 0.6; phase in "a, b", c; length < 250\ntop 0.5 of quality\ntrivium:0.4, "x, y":0.6\n'


def words_of_overrides() -> bytes:
    words = ["model.width=48", "train.lr=1e-3", "model.tie=true", "data.order=easy_first", "train.steps=300", "seed=7"]
    return " ".join([*words, "data.curriculum.parts=3"]).encode()


def log() -> bytes:
    return "".join(json.dumps({"step": i, "loss": 2.5 / i, "val_loss": None}) + "\n" for i in range(1, 30)).encode()


def lines_of(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def questions() -> bytes:
    return lines_of(*({"prompt": f"{i}+{i}=", "answer": str(2 * i), "level": i} for i in range(60)))


def preferences() -> bytes:
    rows = [{"prompt": f"{i}+{i}=", "chosen": str(2 * i), "rejected": str(2 * i + 1)} for i in range(60)]
    asked = "\n\nHuman: How much?\n\nAssistant:"
    return lines_of(*rows, {"chosen": f"{asked} 5", "rejected": f"{asked} 6"})


def conversations() -> bytes:
    said = lambda i: [("system", "Be short."), ("user", f"How much is {i}?"), ("assistant", f"It is {i}.")][i % 2 :]
    return lines_of(*({"messages": [{"role": a, "content": b} for a, b in said(i)]} for i in range(24)))


def reviews() -> bytes:
    return ("sentence\tlabel\n" + "".join(f"{line}\t{i % 2}\n" for i, line in enumerate(LINES[:30]))).encode()


def problems() -> bytes:
    rows = [
        f'"There are number0 lines, {line} Take number1 times more, how many?",{i + 2}.0 3.0,* number0 number1,'
        f'{3 * (i + 2)}.0,"There are number0 lines, {line}"\n'
        for i, line in enumerate(LINES[:20])
    ]
    return ("Question,Numbers,Equation,Answer,Body\n" + "".join(rows)).encode()


def solutions() -> bytes:
    return lines_of(
        *({"question": f"{line} How many?", "answer": f"It is <<2+{i}={2 + i}>>.\n\n#### {2 + i}"}
          for i, line in enumerate(LINES[:40]))
    )  # fmt: skip


def dialogues() -> bytes:
    rows = [
        {"id": str(i), "dialogue": f"A: {line}\r\nB: {line}", "summary": f"They say {i}."}
        for i, line in enumerate(LINES[:20])
    ]
    return json.dumps(rows).encode()


def schema() -> bytes:
    choice = {"anyOf": [{"type": "integer"}, {"enum": ["one", 2, None]}]}
    numbers = {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 3}
    properties = {"name": {"type": "string", "maxLength": 5}, "of": choice, "numbers": numbers}
    return json.dumps({"type": "object", "properties": properties, "required": [*properties]}).encode()


def mixture() -> bytes:
    return (
        b'[sources]\none = "one"\ntwo = {path = "two"}\n\n'
        b"[[stages]]\nsteps = 8_000\nlr = 6e-4\nweights = {one = 70, two = 30}\n\n"
        b"[[stages]]\nsteps = 2_000\nlr = 6e-4\nmin_lr = 6e-5\nweights = {one = 0.4e2, two = 60}\n"
    )


def works() -> bytes:
    about = {"title": "T", "author": "A", "phase": "trivium", "tier": "core", "source_bytes": 20}
    return json.dumps([{"file": f"{name}.txt", "sha256": "", **about} for name in ("a", "b")]).encode()


def shares() -> bytes:
    return json.dumps({"by": "phase", "weights": {"trivium": 0.4, "x, y": 0.6}}).encode()
