"""Token files written by many workers, a block of datatrove's (`books/workers.py`) and the index behind them."""

import dataclasses
import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from juliagpt_jax.data import reading, shard_writer, sharding, shards
from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.ground.files import write_json


@dataclasses.dataclass
class Count:
    """Count the tokens of a text by a tokenizer's file, or its words."""

    tokenizer: str  # "": words

    def __call__(self, text: str) -> int:
        if not self.tokenizer:
            return len(text.split())
        return len(_loaded(self.tokenizer).encode(text, "skip"))


@functools.lru_cache(maxsize=2)
def _loaded(path: str) -> tokenizers.Tokenizer:
    return tokenizers.load(Path(path))


@dataclasses.dataclass
class Shard:
    """Write the ids of documents as token files of the rank, training and validation text apart by their hash."""

    folder: str
    tokenizer: str
    share: float
    most: int

    def __call__(self, data: Iterable[Any], rank: int = 0, world: int = 1) -> None:
        own = tokenizers.load(Path(self.tokenizer))
        folder = Path(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        writers = {
            side: shard_writer.Writer(folder, side, f"{rank:05d}", own, True, "error", self.most)
            for side in shards.SIDES
        }
        for document in data:
            writers[sharding.side_of(document.text, self.share)].write_one(reading.ended(document.text))
        for writer in writers.values():
            writer.end()
        made = {side: [shard._asdict() for shard in writer.shards] for side, writer in writers.items()}
        write_json(folder / f"{rank:05d}.json", made)


@dataclasses.dataclass
class Index:
    """Write the index of the token files of all ranks."""

    folder: str
    tokenizer: str
    ranks: int
    source: dict[str, Any]

    def __call__(self, data: Any = None, rank: int = 0, world: int = 1) -> None:
        folder = Path(self.folder)
        made = [json.loads((folder / f"{r:05d}.json").read_text()) for r in range(self.ranks)]
        sides = {side: [shards.read_shard(row) for part in made for row in part[side]] for side in shards.SIDES}
        shard_writer.write_index(folder, tokenizers.load(Path(self.tokenizer)), True, sides, 0, self.source)
