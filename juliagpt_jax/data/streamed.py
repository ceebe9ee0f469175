"""A text that stays on the disk: a folder of shards, or several by a mixture.toml, as a corpus has it."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from juliagpt_jax.data import leaks, mixture, shards, snapshots
from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.data.counts import TextCounts
from juliagpt_jax.data.metadata import Chunks, column
from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.ground import config, texts
from juliagpt_jax.ground.errors import UserError

_PLAIN = {"scores": "", "filter": "", "keep": "", "phase_weights": "", "order": "random"}


class Streamed(NamedTuple):
    """The parts of a `corpus.Corpus`; passages are the token files, whose field `source` is a word of the mixture."""

    train: shards.Tokens
    val: np.ndarray
    train_chunks: Chunks
    val_chunks: Chunks
    tokenizer: Tokenizer
    fingerprint: str
    notes: tuple[str, ...]
    leaks: leaks.Leaks
    counts: tuple[TextCounts, TextCounts]
    sizes: tuple[int, ...]
    mix: mixture.Mixture


def is_streamed(path: str) -> bool:
    """Tell whether a `data.path` is of shards, or of a mixture of them."""
    there = texts.path(path)
    return (there.suffix == mixture.SUFFIX and there.is_file()) or shards.is_shards(there)


def check(data: config.Data) -> tuple[mixture.Mixture, dict[str, shards.Index]]:
    """Read what the folders say of themselves, and refuse knobs that say nothing of them; no id is read.

    Raises:
        UserError: such a knob, another tokenizer than the shards', or folders of different ones.
        StorageError: a token file is missing or torn.
    """
    for knob, plain in _PLAIN.items():
        if getattr(data, knob) != plain:
            raise UserError(
                f"config.data.{knob}: shards have no fields of passages to go by; choose and filter before the shards "
                "are written, and give weights in a mixture.toml"
            )
    if data.windows == "documents":
        raise UserError("config.data.windows: shards are not shuffled by documents; ring and fixed go with them")
    path = texts.path(data.path)
    mix = mixture.read(path) if path.suffix == mixture.SUFFIX else mixture.alone(path)
    for name, source in mix.sources.items():
        if not shards.is_shards(source.folder):
            raise UserError(f"config.data.path: {path}: {name}: {source.folder} is no folder of shards")
        if source.snapshot:
            snapshots.hold(source.folder, source.snapshot, f"{path}: sources.{name}.snapshot")
    found = {name: shards.open_index(source.folder) for name, source in mix.sources.items()}
    first, *others = found.items()
    for name, index in others:
        if index.tokenizer_sha256 != first[1].tokenizer_sha256:
            raise UserError(
                f"config.data.path: {path}: {name} was made with another tokenizer than {first[0]} "
                f"({index.tokenizer_sha256[:12]} and {first[1].tokenizer_sha256[:12]}); make both with one"
            )
    if data.tokenizer == "bpe" or (
        data.tokenizer != "char"
        and tokenizers.digest(tokenizers.load(Path(data.tokenizer))) != first[1].tokenizer_sha256
    ):
        raise UserError(
            f"config.data.tokenizer: {data.tokenizer} is not what the shards at {data.path} were made with; leave it "
            f"at char, and theirs is taken, or give {first[1].folder / 'tokenizer.json'}"
        )
    return mix, found


def read(data: config.Data) -> Streamed:
    """Open the folders; validation text is read, training text is not.

    Raises:
        UserError, StorageError: as `check`, or the validation text is damaged.
    """
    mix, found = check(data)
    side = lambda name: shards.Tokens([(index, index.sides[name]) for index in found.values()])
    chunks = {}
    for name in shards.SIDES:
        sizes = [(word, shard.tokens) for word, index in found.items() for shard in index.sides[name]]
        words = {"source": column([word for word, _ in sizes])}
        chunks[name] = Chunks(np.array([size for _, size in sizes], np.int64), words)
    total = lambda name: TextCounts(*map(sum, zip(*(index.total(name) for index in found.values()), strict=True)))
    sizes = tuple(sum(shard.tokens for shard in index.sides["train"]) for index in found.values())
    documents = [index for index in found.values() if index.documents]
    tokenizer = (documents or [*found.values()])[0].tokenizer()
    passages = sum(shard.documents for index in found.values() for shard in index.sides["val"])
    leaked = sum(index.leaked for index in found.values())
    files = sum(len(index.sides["train"]) for index in found.values())
    notes = [f"{files:,} token files, read as they are drawn; near copies of validation text were not searched for"]
    if data.tokenizer == "char" and tokenizer.type != "char":
        notes.append("the tokenizer is that of the shards")
    for name, size in zip(found, sizes, strict=True) if len(found) > 1 else ():
        i = [*found].index(name)
        shares = " then ".join(f"{stage.weights[i]:.0%}" for stage in mix.stages)
        notes.append(f"{name}: {size:,} tokens, drawn at {shares}")
    digest = hashlib.sha256(mix.fingerprint.encode())
    for index in found.values():
        digest.update(index.fingerprint.encode())
    return Streamed(
        side("train"), np.asarray(side("val")), chunks["train"], chunks["val"], tokenizer, digest.hexdigest(),
        tuple(notes), leaks.Leaks(passages, leaked, 0), (total("train"), total("val")), sizes, mix,
    )  # fmt: skip
