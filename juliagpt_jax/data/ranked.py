"""Token files written by many workers, a block of datatrove's (`books/workers.py`) and the index behind them."""

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from juliagpt_jax.data import reading, shard_writer, sharding, shards
from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.ground import sealed
from juliagpt_jax.ground.errors import StorageError


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
        sealed.write_json(folder / f"{rank:05d}.json", made)


@dataclasses.dataclass
class Index:
    """Write the index of the token files of all ranks."""

    folder: str
    tokenizer: str
    ranks: int
    source: dict[str, Any]

    def __call__(self, data: Any = None, rank: int = 0, world: int = 1) -> None:
        folder = Path(self.folder)
        made = [self._of(folder / f"{r:05d}.json") for r in range(self.ranks)]
        sides = {side: [shard for part in made for shard in part[side]] for side in shards.SIDES}
        shard_writer.write_index(folder, tokenizers.load(Path(self.tokenizer)), True, sides, 0, self.source)

    def _of(self, path: Path) -> dict[str, list[shards.Shard]]:
        """Return the token files that a rank says it wrote.

        Raises:
            UserError, StorageError: that was changed, or is damaged.
        """
        try:
            rows = sealed.read_json(path)
            return {side: [shards.read_shard(row) for row in rows[side]] for side in shards.SIDES}
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise StorageError(f"{path}: damaged: {error}; put a sound copy back, or begin again") from error
