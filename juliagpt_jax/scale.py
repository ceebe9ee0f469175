"""Prepare a text that one process would take days for: over many workers, with datatrove (pip install -e '.[scale]').

python -m juliagpt_jax.scale --source=data/crawl --out=data/web --tasks=64 --workers=16 --kind=prose \
    --tokenizer=data/words/tokenizer.json

The same command goes on where it was stopped. data/web/texts has the documents, data/web/shards is a data.path.
"""

import argparse
from pathlib import Path

from juliagpt_jax.ground import command, texts
from juliagpt_jax.ground.errors import UserError


def parser() -> command.Parser:
    flags = command.Parser("scale", "Files of documents in; cleaned documents without copies, and shards, out.")
    add = flags.add_argument
    source = "a folder or a file: .jsonl, .jsonl.gz, .jsonl.zst, .parquet, .txt (each a document), .warc, .warc.gz"
    add("--source", required=True, metavar="PATH", help=source)
    add("--out", required=True, metavar="DIR", help="a new folder, or one that this command has begun to fill")
    add("--tasks", type=int, default=8, metavar="N", help="parts of the work; each takes every N-th file. Default 8")
    add("--workers", type=int, default=0, metavar="N", help="tasks at a time; 0: one a core")
    add("--executor", choices=["local", "slurm", "ray"], default="local", help="who runs the tasks")
    add("--partition", default="", metavar="NAME", help="of Slurm")
    add("--time", default="24:00:00", metavar="H:M:S", help="that Slurm gives a task")
    add("--memory", type=int, default=4, metavar="GB", help="that Slurm or Ray gives a core")
    dedup = "leave out near copies and exact ones; exact ones alone, as prepare does of documents; or none"
    add("--dedup", choices=["minhash", "exact", "none"], default="minhash", help=dedup)
    kind = "documents that don't look like it are dropped"
    add("--kind", choices=["any", "prose", "code", "mathematics"], default="any", help=kind)
    add("--min_tokens", type=int, default=10, metavar="N", help="documents with fewer are dropped; 0: none is")
    add("--max_tokens", type=int, default=0, metavar="N", help="documents with more are dropped; 0: none is")
    add("--count", default="", metavar="FILE", help="a tokenizer.json whose tokens these are; default: words")
    add("--blocklist", default="", metavar="FILE", help="words, one a line: a document that holds one is dropped")
    reference = "a text that documents are scored against; scores are fields of the texts"
    add("--reference", default="", metavar="FILE", help=reference)
    add("--min_quality", type=float, default=0.5, metavar="X", help="with --reference: what is below it is dropped")
    add("--tokenizer", default="", metavar="FILE", help="write shards of its ids, too")
    add("--val_share", type=float, default=0.01, metavar="X", help="of the documents of shards, for validation")
    add("--shard_tokens", type=int, default=100_000_000, metavar="N", help="tokens of a file of shards")
    add("--licence", default="not stated", metavar="TEXT", help="of the texts, for the index of shards")
    add("--json", action="store_true", help="print the report as one JSON object on the last line")
    return flags


def main(options: argparse.Namespace) -> None:
    least = [("tasks", 1), ("workers", 0), ("memory", 1), ("min_tokens", 0), ("max_tokens", 0), ("shard_tokens", 1)]
    for name, low in least:
        if getattr(options, name) < low:
            raise UserError(f"--{name}={getattr(options, name)} must be at least {low}")
    if not 0 < options.val_share < 1 or not 0 <= options.min_quality <= 1:
        raise UserError("--val_share must be above 0 and below 1, and --min_quality from 0 to 1")
    if options.executor == "slurm" and not options.partition:
        raise UserError("--executor=slurm needs --partition=NAME")
    source = texts.path(options.source)
    if not source.exists():
        raise UserError(f"--source={options.source} does not exist")

    from juliagpt_jax.books import documents, trove, workers
    from juliagpt_jax.data import ranked, tokenizer
    from juliagpt_jax.ground.devices import cores
    from juliagpt_jax.ground.files import sha256

    full = lambda name: str(texts.path(name).absolute()) if name else ""
    for name in filter(None, (options.tokenizer, options.count)):
        tokenizer.load(texts.path(name))
    blocked, listed = frozenset(), ""
    if options.blocklist:
        blocked, listed = documents.blocklist(texts.path(options.blocklist))
    counted = sha256(texts.path(options.count)) if options.count else "words"
    rules = documents.Options(
        "row", True, options.min_tokens, options.max_tokens, counted, listed, options.val_share, kind=options.kind
    )
    out = texts.path(options.out).absolute()
    last, after, more = [], [], {}
    if options.tokenizer:
        to, own, share = str(out / "shards"), full(options.tokenizer), options.val_share
        notes = [f"validation is {share:g} of the documents, by their hash"]
        found = {"files": {file.name: file.stat().st_size for file in trove.listed(source)}, "notes": notes}
        found |= {"licence": options.licence, "options": vars(rules) | {"dedup": options.dedup}}
        last, after = (
            [ranked.Shard(to, own, share, options.shard_tokens)],
            [ranked.Index(to, own, options.tasks, found)],
        )
        more = {"tokenizer": sha256(Path(own)), "shard_tokens": options.shard_tokens}
    work = workers.Work(
        source.absolute(), out, options.tasks, options.dedup, rules, blocked, ranked.Count(full(options.count)),
        full(options.reference), options.min_quality, last, after, more,
    )  # fmt: skip
    at_once = options.workers or cores()
    machines = workers.Machines(options.executor, at_once, options.partition, options.time, options.memory)
    report = workers.run(work, machines)
    if report is None:
        print(f"{options.out}: Slurm has been asked; when its jobs are done, the same command prints the report")
        return
    fates = {"kept": "kept", "near": "nearly another document"} | documents.FATES
    for fate, count in report["documents"].items():
        print(f"{count:>12,}  {fates.get(fate, 'quality under --min_quality')}")
    print(f"{options.out}/texts has the documents" + (f", {options.out}/shards the ids" if options.tokenizer else ""))
    if options.json:
        command.print_json(report)


if __name__ == "__main__":
    command.run(parser(), main)
