"""What a model says of a text beyond its context, by what stays in sight when its window rolls.

python experiments/inference/window.py --out=experiments/inference/results/window NAME=WORKDIR [NAME=WORKDIR ...]

Texts of --length tokens are cut from the validation text, each begun at a line. The loss is that of the tokens behind
the first context, each under the window that the generator has when it writes there: half a context at first and all of
it before it rolls again, of the newest tokens alone or with `sinks` from the start of the text. The last row keeps all
but 8 tokens at each roll: what half a window costs. Differences are paired, text by text. Writes window.jsonl and
window.md.
"""

import argparse
import json
import statistics
from pathlib import Path

import jax
import numpy as np

from juliagpt_jax.data import corpus as corpora
from juliagpt_jax.data.batch import IGNORED
from juliagpt_jax.inference import scoring
from juliagpt_jax.store.workdir import open_run

SINKS = (0, 1, 4, 16)
FRESH = 8  # tokens between two rolls in the last row


def texts_of(tokens: np.ndarray, newline: int, length: int, count: int) -> list[np.ndarray]:
    """At most `count` texts, evenly spread and apart, each begun behind a line's end where the vocabulary has one."""
    starts = np.linspace(0, len(tokens) - 2 * length, min(count, len(tokens) // (2 * length))).astype(int)
    found = []
    for start in starts:
        ends = np.flatnonzero(tokens[start : start + length] == newline)
        begin = start + (ends[0] + 1 if len(ends) else 0)
        found.append(np.asarray(tokens[begin : begin + length], np.int32))
    return found


def windows(text: np.ndarray, context: int, kept: int, sinks: int) -> tuple[np.ndarray, np.ndarray]:
    """The inputs (n, context) that score each token behind the first context once, and their targets."""
    inputs, targets = [], []
    for end in range(context, len(text) - (context - kept) + 1, context - kept):
        after = text[end : end + context - kept]
        inputs.append(np.concatenate([text[:sinks], text[end - (kept - sinks) : end], after]))
        target = np.full(context, IGNORED, np.int32)
        target[kept - 1 : -1] = after
        targets.append(target)
    return np.array(inputs, np.int32), np.array(targets)


def measure(name: str, workdir: Path, options: argparse.Namespace) -> list[dict]:
    run = open_run(workdir)
    context = run.config.model.context
    rolled = context - context // 2  # tokens between two rolls
    length = context + (options.length - context) // rolled * rolled
    text = corpora.load(run.config.data, context).val
    texts = texts_of(text, run.tokenizer.newline, length, options.texts)
    if not texts or length == context:
        raise SystemExit(
            f"--length={options.length} must be more than the context of {context}, and at most half of {len(text)}"
        )
    ways = [(f"{sinks} sinks" if sinks else "newest", context // 2, sinks) for sinks in SINKS if sinks < context // 2]
    ways.append((f"newest, rolled every {FRESH}", context - FRESH, 0))
    losses: dict[str, list[float]] = {}
    rows = []
    for way, kept, sinks in ways:
        made = [windows(text, context, kept, sinks) for text in texts]
        inputs, targets = (np.concatenate(parts) for parts in zip(*made, strict=True))
        scored = scoring.losses_of(run.model, run.params, inputs, targets, 32).astype(np.float64)
        sums, counts = scored.sum(axis=1), (targets != IGNORED).sum(axis=1)
        of = np.repeat(np.arange(len(texts)), [len(part) for part, _ in made])
        losses[way] = (np.bincount(of, sums) / np.bincount(of, counts)).tolist()
        differences = [a - b for a, b in zip(losses[way], losses["newest"], strict=True)]
        error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else float("nan")
        loss = float(sums.sum() / counts.sum())
        rows.append(
            {"model": name, "window": way, "kept": kept, "sinks": sinks, "context": context, "length": length}
            | {"texts": len(texts), "scored_tokens": int(counts.sum()), "loss": loss, "perplexity": float(np.exp(loss))}
            | {"difference": statistics.mean(differences), "standard_error": error}
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("runs", nargs="+", metavar="NAME=WORKDIR")
    flags.add_argument("--out", required=True, type=Path)
    flags.add_argument("--length", type=int, default=1024, metavar="N", help="tokens of a text")
    flags.add_argument("--texts", type=int, default=50, metavar="N")
    options = flags.parse_args()
    rows = [row for run in options.runs for row in measure(run.split("=")[0], Path(run.split("=", 1)[1]), options)]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "window.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [
        f"| {row['model']} | {row['window']} | {row['scored_tokens']:,} | {row['loss']:.4f} | "
        f"{row['perplexity']:.4f} | {row['difference']:+.4f} ± {row['standard_error']:.4f} |"
        for row in rows
    ]
    head = "| model | in sight | tokens | loss | perplexity | against newest (standard error) |\n" + "|---" * 6 + "|\n"
    (options.out / "window.md").write_text(head + "\n".join(lines) + "\n")
    print(head + "\n".join(lines), f"\n{jax.devices()[0].device_kind}, jax {jax.__version__}")


if __name__ == "__main__":
    main()
