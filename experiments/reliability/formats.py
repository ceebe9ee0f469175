"""Every format that comes from outside: a small sound example (sound.py), what reads one as a command does, and what
holds of anything that is accepted (readers.py).

A new format is one line of FORMATS.
"""

import dataclasses
import gzip
import json
import math
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import readers
import sound
from sound import GOLDEN, golden

from juliagpt_jax.books import documents, sources
from juliagpt_jax.data import query, sharding, shards, snapshots, vocabularies
from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import CommandError
from juliagpt_jax.search import forms
from juliagpt_jax.serving.asked import Refused
from juliagpt_jax.serving.chat import ChatCompletion
from juliagpt_jax.serving.completions import Completion
from juliagpt_jax.store import export, peft
from juliagpt_jax.store.workdir import open_run
from juliagpt_jax.training import metrics

# Ends that are meant: one line for a user, or an answer of the server.
MEANT = (CommandError, Refused)


def nothing(_: Path) -> None:
    """Lay nothing beside a file."""


@dataclasses.dataclass(frozen=True)
class Format:
    """A format: the file's name, its sound content, what reads it, what must hold of a result, and what lays the files
    that it needs beside it into its folder."""

    name: str
    make: Callable[[], bytes]
    read: Callable[[Path], Any]
    holds: Callable[[Any], bool]
    beside: Callable[[Path], None] = nothing


# What stands beside a file.


def model(name: str, letters: int) -> Callable[[Path], None]:
    """Lay a golden model as transformers has it, with a tokenizer of so many letters."""

    def beside(folder: Path) -> None:
        for file in ("config.json", "model.safetensors"):
            shutil.copy(GOLDEN / name / file, folder)
        (folder / "tokenizer.json").write_bytes(sound.letters(letters))

    return beside


def copies(*parts: str) -> Callable[[Path], None]:
    """Lay the files of a golden folder."""

    def beside(folder: Path) -> None:
        shutil.copytree(GOLDEN.joinpath(*parts), folder, dirs_exist_ok=True)

    return beside


def tasks_of_arc(folder: Path) -> None:
    for side in ("training", "evaluation"):
        (folder / f"{side}.jsonl").write_text(json.dumps(sound.task()) + "\n")


def turns(folder: Path) -> None:
    """Lay a tokenizer with a chat template."""
    tokenizers.save(sound.tokenizer(sound.TURNS), folder / "tokenizer.json")


def two_texts(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / f"{name}.txt").write_bytes(sound.text())


def sharded(folder: Path) -> None:
    """Make a folder one of shards."""
    own = tokenizers.CharTokenizer.train(sound.text().decode())
    with tempfile.TemporaryDirectory() as other:
        (Path(other) / "a.txt").write_bytes(sound.text())
        sharding.make(f"{other}/a.txt", own, folder, 0.2)


def two_of_shards(folder: Path) -> None:
    for name in ("one", "two"):
        sharded(folder / name)


def frozen(folder: Path) -> None:
    two_texts(folder)
    snapshots.freeze(folder, "MIT")


def unsealed(beside: Callable[[Path], None], name: str) -> Callable[[], bytes]:
    """Make a file of ours without its hashes, as by hand: else every edit would be refused by these."""

    def make() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            beside(Path(folder))
            text = (Path(folder) / name).read_text()
        rows = [text] if name.endswith(".json") else text.splitlines()
        bare = [{key: value for key, value in json.loads(row).items() if key != "sha256"} for row in rows]
        return sound.lines_of(*bare)

    return make


ADAPTERS = ("peft", "llama_gqa_untied")
LLAMA, T5 = model("llama_gqa_untied", 61), model("t5/v1_1", 40)
FORMATS = {
    "a text": Format("a.txt", sound.text, readers.corpus, readers.is_corpus),
    "a text in UTF-16": Format(
        "a.txt", lambda: sound.text().decode().encode("utf-16"), readers.corpus, readers.is_corpus
    ),
    "rows with fields": Format("a.jsonl", sound.enriched, readers.corpus, readers.is_corpus),
    "a page": Format("a.html", sound.page, readers.books, readers.are_texts),
    "Markdown": Format("a.md", sound.marked, readers.books, readers.are_texts),
    "an e-book": Format("a.epub", sound.e_book, readers.books, readers.are_texts),
    "a zip": Format(
        "a.zip",
        lambda: sound.zipped(("a.txt", sound.text()), ("b/c.html", sound.page())),
        readers.books,
        readers.are_texts,
    ),
    "a tar": Format(
        "a.tar.gz",
        lambda: sound.tarred(("a.txt", sound.text()), ("b/c.md", sound.marked())),
        readers.books,
        readers.are_texts,
    ),
    "a gz": Format("a.txt.gz", lambda: gzip.compress(sound.text(), mtime=0), readers.books, readers.are_texts),
    "rows of documents": Format("a.jsonl", sound.enriched, readers.rows_of_documents, readers.plain),
    "a list of words": Format("a.txt", lambda: "\n".join(sound.WORDS).encode(), documents.blocklist, readers.plain),
    "characters": Format("tokenizer.json", sound.character_tokenizer, tokenizers.load, readers.sized),
    "a tokenizer": Format(
        "tokenizer.json", lambda: json.dumps(sound.tokenizer().to_dict()).encode(), tokenizers.load, readers.sized
    ),
    "a tokenizer to take": Format("tokenizer.json", golden("chat", "tokenizer.json"), vocabularies.read, readers.sized),
    "transformers' tokenizer.json": Format("tokenizer.json", sound.letters, readers.given, readers.is_model, LLAMA),
    "config.json": Format("config.json", sound.own_config, config.read, readers.plain),
    "overrides": Format("words", sound.words_of_overrides, readers.override, readers.plain),
    "transformers' config.json": Format(
        "config.json", golden("llama_gqa_untied", "config.json"), readers.given, readers.is_model, LLAMA
    ),
    "safetensors": Format(
        "model.safetensors", golden("llama_gqa_untied", "model.safetensors"), readers.given, readers.is_model, LLAMA
    ),
    "GGUF": Format("m.gguf", sound.gguf, export.read, readers.is_model),
    "sudokus": Format(
        "a.csv",
        sound.sudokus,
        readers.solved("sudoku", "data.puzzle.side=4", "model.context=16"),
        lambda found: len(found) > 0,
    ),
    "mazes": Format(
        "a.jsonl", sound.mazes, readers.solved("maze", "data.puzzle.side=7", "model.context=49"), readers.plain
    ),
    "ARC": Format(
        "a.json",
        sound.grids,
        readers.solved("arc", "data.puzzle.side=7", "model.context=49"),
        readers.plain,
        tasks_of_arc,
    ),
    "a chat template": Format(
        "template",
        lambda: json.loads(golden("chat", "cases.json")())["template"].encode(),
        readers.templated,
        readers.plain,
    ),
    "a completion": Format("body", sound.body, readers.asked(Completion), readers.are_requests),
    "a chat": Format("body", sound.conversation, readers.asked(ChatCompletion), readers.are_requests),
    "filters and weights": Format("words", sound.asks, readers.queries, readers.are_shares),
    "metrics": Format("metrics.jsonl", sound.log, metrics.read, readers.plain),
    "a T5's config.json": Format(
        "config.json", golden("t5", "v1_1", "config.json"), readers.given, readers.is_model, T5
    ),
    "a T5's safetensors": Format(
        "model.safetensors", golden("t5", "v1_1", "model.safetensors"), readers.given, readers.is_model, T5
    ),
    "adapter_config.json": Format(
        peft.SETTINGS, golden(*ADAPTERS, peft.SETTINGS), readers.adapted, readers.are_adapters, copies(*ADAPTERS)
    ),
    "adapters": Format(
        peft.WEIGHTS, golden(*ADAPTERS, peft.WEIGHTS), readers.adapted, readers.are_adapters, copies(*ADAPTERS)
    ),
    "a packed model": Format("m.safetensors", golden("before", "int8.safetensors"), open_run, readers.is_packed),
    "GPT-2's encoder.json": Format(
        "encoder.json", golden("gpt2_bpe", "encoder.json"), readers.pair, readers.sized, copies("gpt2_bpe")
    ),
    "GPT-2's vocab.bpe": Format(
        "vocab.bpe", golden("gpt2_bpe", "vocab.bpe"), readers.pair, readers.sized, copies("gpt2_bpe")
    ),
    "questions with answers": Format("a.jsonl", sound.questions, readers.learned(), readers.are_learned),
    "preferences": Format("a.jsonl", sound.preferences, readers.learned(paired=True), readers.are_learned),
    "conversations": Format(
        "a.jsonl",
        sound.conversations,
        readers.learned("data.tokenizer={folder}/tokenizer.json"),
        readers.are_learned,
        turns,
    ),
    "a task's .tsv": Format("a.tsv", sound.reviews, readers.of_task("sst2", "train"), readers.are_asked),
    "a task's .csv": Format("a.csv", sound.problems, readers.of_task("mawps_text", "test"), readers.are_asked),
    "a task's .jsonl": Format("a.jsonl", sound.solutions, readers.of_task("gsm8k", "test"), readers.are_asked),
    "a task's .json": Format("a.json", sound.dialogues, readers.of_task("samsum", "train"), readers.are_asked),
    "a mixture": Format("mixture.toml", sound.mixture, readers.mixed, readers.is_mixture, two_of_shards),
    "an index of shards": Format(
        shards.INDEX, unsealed(sharded, shards.INDEX), readers.sharded_text, readers.is_sharded, sharded
    ),
    "a snapshot": Format(
        snapshots.FILE,
        unsealed(frozen, snapshots.FILE),
        lambda path: snapshots.verify(path.parent, "--verify"),
        readers.plain,
        two_texts,
    ),
    "a manifest of works": Format(
        sources.MANIFEST, sound.works, lambda path: sources.read_manifest(path, path.parent), readers.plain, two_texts
    ),
    "weights in a file": Format(
        "a.json",
        sound.shares,
        lambda path: query.parse_weights(str(path), "phase"),
        lambda w: math.isclose(sum(w.values()), 1),
    ),
    "a schema": Format(
        "a.json", sound.schema, lambda path: forms.form(f"json:{path}"), lambda found: found.accepting.any()
    ),
}


def lay(form: Format, folder: Path) -> Path:
    """Write a sound file, with what stands beside it, into a new folder in this one; return its path."""
    own = Path(tempfile.mkdtemp(dir=folder))
    form.beside(own)
    path = own / form.name
    path.write_bytes(form.make())
    return path
