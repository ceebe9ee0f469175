"""Every format that comes from outside: small sound examples, the function that reads one as a command does, and what
holds of anything that it accepts.

A new format is one line of FORMATS.
"""

import dataclasses
import gzip
import io
import json
import math
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from juliagpt_jax.books import archives, documents, parsers
from juliagpt_jax.data import chat, mixture, query, vocabularies
from juliagpt_jax.data import corpus as corpora
from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.data.puzzles import build as puzzles
from juliagpt_jax.ground import config, config_file
from juliagpt_jax.ground.errors import CommandError
from juliagpt_jax.serving.asked import Limits, Refused
from juliagpt_jax.serving.chat import ChatCompletion
from juliagpt_jax.serving.completions import Completion
from juliagpt_jax.store import export
from juliagpt_jax.training import metrics

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
# Ends that are meant: one line for a user, or an answer of the server.
MEANT = (CommandError, Refused)
LIMITS = Limits(max_tokens=100, max_prompt=1_000, max_body=10_000, texts=8, context=64)
BUDGET = archives.Budget(1 << 24, 1 << 22, 200)
WORDS = "the nature of number and of line is one truth that goes on".split()
MIXTURE = b'[sources]\na = "a"\nb = {path = "b"}\n[[stages]]\nsteps = 9\nlr = 1e-3\nweights = {a = 70, b = 30}\n'
LINES = [" ".join(WORDS[i % 7 :] + WORDS[: i % 5]) + "." for i in range(80)]


@dataclasses.dataclass(frozen=True)
class Format:
    """A format: the file's name, its sound content, what reads it, and what must hold of a result."""

    name: str
    make: Callable[[], bytes]
    read: Callable[[Path], Any]
    holds: Callable[[Any], bool]


def data_of(path: Path, *more: str) -> config.Data:
    overrides = [f"data.path={path}", "data.max_leak=1", *more]
    return config_file.load(str(ROOT / "configs" / "micro.py"), overrides).data


def corpus(path: Path) -> Any:
    return corpora.load(data_of(path), 8)


def is_corpus(found: Any) -> bool:
    size = found.tokenizer.vocab_size
    return len(found.train) > 0 and all(0 <= t.min() and t.max() < size for t in (found.train, found.val))


def books(path: Path) -> Any:
    return parsers.read(path, dataclasses.replace(BUDGET))


def are_texts(found: Any) -> bool:
    return all(isinstance(document.text, str) and "\0" not in document.text for document in found)


def rows_of_documents(path: Path) -> Any:
    options = documents.Options(unit="row", val_share=0.2, min_tokens=0, max_tokens=0, seed=0, errors="strict")
    return documents._rows(path, options, dataclasses.replace(BUDGET), [])


def given(path: Path) -> Any:
    return export.read(path.parent if path.parent.name == "folder" else path)


def is_model(found: Any) -> bool:
    return all(isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f" for leaf in found.params.values())


def solved(kind: str, *more: str) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        words = [f"data.puzzle.kind={kind}", "data.puzzle.train=1", "data.puzzle.test=1", "data.puzzle.least=0"]
        words += [f"data.path={path.parent}", "model.recursive.ids=9"]
        settings = config_file.load(str(ROOT / "configs" / "trm_sudoku6.py"), [*words, *more])
        return puzzles.build_puzzles(settings, files=False).read(path)

    return read


def templated(path: Path) -> str:
    messages = [{"role": role, "content": f"what {role} says"} for role in ("system", "user", "assistant", "user")]
    return chat.render(path.read_bytes().decode(errors="replace"), messages, True, {"bos_token": "<s>"})


def asked(kind: type) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        return kind.read(path.read_bytes()).requests(tokenizer(), LIMITS)

    return read


def are_requests(found: Any) -> bool:
    return 0 < len(found) <= LIMITS.texts


def tokenizer() -> Any:
    values = json.loads((GOLDEN / "chat" / "cases.json").read_text())
    content = json.loads((GOLDEN / "chat" / "tokenizer.json").read_text())
    from juliagpt_jax.data.library import LibraryTokenizer

    return LibraryTokenizer(content, 300, 1, {"eos": 2}, (0,), values["template"])


def queries(path: Path) -> Any:
    lines = (path.read_bytes().decode(errors="replace").split("\n") + [""] * 3)[:3]
    return query.parse_filter(lines[0]), query.parse_keep(lines[1]), query.parse_weights(lines[2], "phase")


def are_shares(found: Any) -> bool:
    return not found[2] or math.isclose(sum(found[2].values()), 1)


def override(path: Path) -> Any:
    """A line of overrides, as on the command line, each after a blank."""
    words = path.read_bytes().decode(errors="replace").split()
    return config_file.load(str(ROOT / "configs" / "micro.py"), words)


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


def letters() -> bytes:
    """A tokenizer of 61 letters in the library's form, as many as the golden model has embeddings."""
    return json.dumps(tokenizers.CharTokenizer("\n !" + "".join(map(chr, range(65, 123)))).to_huggingface()).encode()


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


def sized(found: Any) -> bool:
    return found.vocab_size > 0


def plain(_: Any) -> bool:
    return True


FORMATS = {
    "a text": Format("a.txt", text, corpus, is_corpus),
    "a text in UTF-16": Format("a.txt", lambda: text().decode().encode("utf-16"), corpus, is_corpus),
    "rows with fields": Format("a.jsonl", enriched, corpus, is_corpus),
    "a page": Format("a.html", page, books, are_texts),
    "Markdown": Format("a.md", marked, books, are_texts),
    "an e-book": Format("a.epub", e_book, books, are_texts),
    "a zip": Format("a.zip", lambda: zipped(("a.txt", text()), ("b/c.html", page())), books, are_texts),
    "a tar": Format("a.tar.gz", lambda: tarred(("a.txt", text()), ("b/c.md", marked())), books, are_texts),
    "a gz": Format("a.txt.gz", lambda: gzip.compress(text(), mtime=0), books, are_texts),
    "rows of documents": Format("a.jsonl", enriched, rows_of_documents, plain),
    "a list of words": Format("a.txt", lambda: "\n".join(WORDS).encode(), documents.blocklist, plain),
    "characters": Format("tokenizer.json", character_tokenizer, tokenizers.load, sized),
    "a tokenizer": Format("tokenizer.json", lambda: json.dumps(tokenizer().to_dict()).encode(), tokenizers.load, sized),
    "a tokenizer to take": Format("tokenizer.json", golden("chat", "tokenizer.json"), vocabularies.read, sized),
    "transformers' tokenizer.json": Format("folder/tokenizer.json", letters, given, is_model),
    "config.json": Format("config.json", own_config, config.read, plain),
    "overrides": Format("words", words_of_overrides, override, plain),
    "transformers' config.json": Format(
        "folder/config.json", golden("llama_gqa_untied", "config.json"), given, is_model
    ),
    "safetensors": Format("folder/model.safetensors", golden("llama_gqa_untied", "model.safetensors"), given, is_model),
    "GGUF": Format("m.gguf", gguf, given, is_model),
    "sudokus": Format(
        "a.csv", sudokus, solved("sudoku", "data.puzzle.side=4", "model.context=16"), lambda found: len(found) > 0
    ),
    "mazes": Format("a.jsonl", mazes, solved("maze", "data.puzzle.side=7", "model.context=49"), plain),
    "ARC": Format("a.json", grids, solved("arc", "data.puzzle.side=7", "model.context=49"), plain),
    "a chat template": Format(
        "template", lambda: json.loads(golden("chat", "cases.json")())["template"].encode(), templated, plain
    ),
    "a completion": Format("body", body, asked(Completion), are_requests),
    "a chat": Format("body", conversation, asked(ChatCompletion), are_requests),
    "filters and weights": Format("words", asks, queries, are_shares),
    "a mixture": Format("a.toml", lambda: MIXTURE, mixture.read, lambda m: math.isclose(sum(m.stages[0].weights), 1)),
    "metrics": Format("metrics.jsonl", log, metrics.read, plain),
}


def lay(form: Format, folder: Path) -> Path:
    """Write a sound file, with what stands beside it; return its path."""
    path = folder / form.name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent.name == "folder":
        for other in ("config.json", "model.safetensors"):
            (path.parent / other).write_bytes(golden("llama_gqa_untied", other)())
        (path.parent / "tokenizer.json").write_bytes(letters())
    if form.name == "a.json":
        for side in ("training", "evaluation"):
            (path.parent / f"{side}.jsonl").write_text(json.dumps(task()) + "\n")
    path.write_bytes(form.make())
    return path
