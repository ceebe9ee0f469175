"""Memory of the cache, speed of writing, and time of a training step by heads of keys and values, at equal parameters.

python experiments/grouped_query/speed.py --out=experiments/grouped_query/results/speed \
    [--config=configs/tiny.py] [--heads=4] [--contexts=128,1024] [--batches=1,32] [--rounds=3]

The arms are measured one after the other in every round, so that a noisy machine meets all alike; the table has medians
over the rounds and their ratio to as many heads of keys and values as of queries.
"""

import argparse
import json
import math
import runpy
import statistics
from pathlib import Path
from typing import Any

from juliagpt_jax.ground import config_file, devices

VOCAB = 256


def main() -> None:
    options = flags().parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    devices.prepare(config_file.load(options.config))
    suite = runpy.run_path(str(Path(__file__).parent / "suites" / "language.py"))
    suite["grouped"].__globals__["HEADS"] = options.heads
    rows: list[dict[str, Any]] = []
    for context in map(int, options.contexts.split(",")):
        for round_ in range(options.rounds):
            for kv_heads in [k for k in range(options.heads, 0, -1) if options.heads % k == 0]:
                changes = suite["grouped"](kv_heads) | {"model.heads": options.heads, "model.context": context}
                changes |= {"train.batch_size": max(1, options.tokens // context), "train.accumulate": 1}
                row = measure(options, changes) | {"context": context, "kv_heads": kv_heads, "round": round_}
                rows.append(row)
                print(json.dumps(row), flush=True)
            (options.out / "speed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            (options.out / "speed.md").write_text(table(rows) + "\n")
    print(table(rows))


def flags() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", required=True, type=Path)
    made.add_argument("--config", default="configs/tiny.py")
    made.add_argument("--heads", type=int, default=4)
    made.add_argument("--contexts", default="128,1024")
    made.add_argument("--batches", default="1,32")
    made.add_argument("--tokens", type=int, default=2048, help="of a training step")
    made.add_argument("--rounds", type=int, default=3)
    return made


def measure(options: argparse.Namespace, changes: dict[str, Any]) -> dict[str, Any]:
    """Return what one arm takes in one round."""
    import jax

    from juliagpt_jax.models.build import build_model
    from juliagpt_jax.study import speed

    settings = config_file.load(options.config, [f"{key}={value}" for key, value in changes.items()])
    train = speed.train(settings, VOCAB, repeats=3)
    row = {key: train[key] for key in ("params", "step_s", "step_memory_bytes")}
    cache = jax.eval_shape(lambda: build_model(settings, VOCAB).init_cache(1, settings.model.context))
    row["cache_bytes"] = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache))
    for batch in map(int, options.batches.split(",")):
        new = min(256, settings.model.context - 1)
        row[f"tokens_per_s_{batch}"] = speed.generate(settings, VOCAB, 1, batch, new, "f32")["tokens_per_s"]
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Return medians over the rounds, in Markdown, each with its ratio to the first arm of its context."""
    keys = [key for key in rows[0] if key not in ("context", "kv_heads", "round", "params")]
    lines = [
        "| context | heads of keys and values | parameters | " + " | ".join(keys) + " |",
        "|---" * (len(keys) + 3) + "|",
    ]
    middle = lambda context, kv_heads, key: statistics.median(
        row[key] for row in rows if (row["context"], row["kv_heads"]) == (context, kv_heads)
    )
    for context, kv_heads in dict.fromkeys((row["context"], row["kv_heads"]) for row in rows):
        first = next(row["kv_heads"] for row in rows if row["context"] == context)
        cells = [str(context), str(kv_heads), f"{middle(context, kv_heads, 'params'):,}"]
        for key in keys:
            value = middle(context, kv_heads, key)
            cells.append(f"{value:.4g} ({value / middle(context, first, key):.2f})")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
