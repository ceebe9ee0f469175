"""Cut a text of any size into shards of ids, which a run reads from the disk as it draws them.

python -m juliagpt_jax.shard --source=data/web --tokenizer=data/mine_words/tokenizer.json --out=data/web_shards
python -m juliagpt_jax.shard --source=generated:graphs:100000 --tokenizer=... --out=data/graphs_shards
python -m juliagpt_jax.main --config=configs/tiny.py --workdir=runs/web --config.data.path=data/web_shards
"""

import argparse
import time
from typing import Any

from juliagpt_jax.ground import command, texts
from juliagpt_jax.ground.errors import UserError


def parser() -> command.Parser:
    flags = command.Parser("shard", "A text in; a folder of token files for config.data.path out.")
    add = flags.add_argument
    source = (
        "a folder or a file: what prepare wrote, .txt, .jsonl, .jsonl.gz, .jsonl.zst, .parquet; or "
        "generated:KIND:COUNT, with grids, graphs, programs, sums or arc"
    )
    add("--source", required=True, metavar="WHAT", help=source)
    add("--tokenizer", required=True, metavar="FILE", help="a tokenizer.json of tokenize, or of a run's workdir")
    add("--out", required=True, metavar="DIR", help="it must not exist yet")
    share = "of documents, for validation, where the source has no validation text; default 0.01"
    add("--val_share", type=float, default=0.01, metavar="X", help=share)
    most = "tokens of a file, after which the next begins; default 100,000,000"
    add("--shard_tokens", type=int, default=100_000_000, metavar="N", help=most)
    errors = "bytes of text files that are no text: refuse; or replace"
    add("--errors", choices=["strict", "replace"], default="strict", help=errors)
    unknown = "characters that the tokenizer lacks: refuse; or leave out"
    add("--unknown", choices=["error", "skip"], default="error", help=unknown)
    add("--json", action="store_true", help="print the index as one JSON object on the last line")
    return flags


def main(options: argparse.Namespace) -> None:
    if not 0 < options.val_share < 1:
        raise UserError(f"--val_share={options.val_share:g} must be above 0 and below 1")
    if options.shard_tokens < 1:
        raise UserError(f"--shard_tokens={options.shard_tokens} must be at least 1")

    from juliagpt_jax.data import sharding, tokenizer

    begun = time.perf_counter()
    made = sharding.make(
        options.source,
        tokenizer.load(texts.path(options.tokenizer)),
        texts.path(options.out),
        options.val_share,
        options.errors,
        options.unknown,
        options.shard_tokens,
    )
    print("\n".join(told(made, options.out, time.perf_counter() - begun)))
    if options.json:
        command.print_json(made)


def told(index: dict[str, Any], out: str, seconds: float) -> list[str]:
    """Return what the terminal says of shards that were written."""
    lines = [f"{out}: shards of ids, {index['dtype']}, in {command.duration(seconds)}"]
    for side, name in (("train", "training"), ("val", "validation")):
        rows = index["sides"][side]
        tokens, passages = (sum(row[key] for row in rows) for key in ("tokens", "documents"))
        characters = sum(row["counts"][0] for row in rows)
        kind = "documents" if index["documents"] else "lines"
        files = f"{len(rows)} file{'s' * (len(rows) != 1)}"
        lines.append(f"{name:<10} {tokens:,} tokens, {characters:,} characters, {passages:,} {kind}, in {files}")
    if index["leaked"]:
        lines.append(f"{index['leaked']:,} training passages stand in the validation text too, word for word")
    return [*lines, *index["source"]["notes"]]


if __name__ == "__main__":
    command.run(parser(), main)
