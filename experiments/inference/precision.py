"""What a precision costs in quality and saves in memory: one table for a trained model.

python experiments/inference/precision.py --workdir=runs/tiny --out=experiments/inference/results/precision/precision
    [--precisions=f32,bf16,f16] [--windows=0] [--batch=1]

A row for each word of models/precision.py, each in a process of its own, since a peak is not reset: perplexity on
the validation text, its difference to f32, bytes of the weights, memory of the decoding program (its compiler's count:
weights, cache, everything between), and the peak of the process after writing three contexts of text, of which
`runtime` was there before the model was read. On a GPU the peak is the device's. Beside each peak stands which of the
lines of 500 MB and 6 GB it is below.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from juliagpt_jax.ground import config, devices

LINES = [("500 MB", 500e6), ("6 GB", 6e9)]


def measure(word: str, options: argparse.Namespace) -> dict:
    devices.prepare(config.read(options.workdir / "config.json"))

    import jax
    import numpy as np

    from juliagpt_jax.data import corpus as corpora
    from juliagpt_jax.inference import scoring
    from juliagpt_jax.inference.generate import Generator
    from juliagpt_jax.inference.sampling import Rule
    from juliagpt_jax.models import precision
    from juliagpt_jax.store.workdir import open_run

    jax.devices()
    runtime = devices.peak_memory_bytes()
    run = open_run(options.workdir)
    model, params = precision.prepare(run.model, run.params, word)
    lead, context = run.tokenizer.lead, run.config.model.context
    generator = Generator(model, params)
    generator.generate([np.array([lead])] * options.batch, 3 * context, Rule())
    peak = devices.peak_memory_bytes()
    memory = generator.decode_program(options.batch, Rule()).memory_analysis()
    text = corpora.load(run.config.data, context).val
    score = scoring.score_text(model, generator.params, text, lead, windows=options.windows)
    return {
        "precision": word,
        "loss": score.loss,
        "perplexity": score.perplexity,
        "scored_tokens": score.scored_tokens,
        "weight_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(generator.params)),
        "decode_memory_bytes": memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes,
        "runtime_bytes": runtime,
        "peak_memory_bytes": peak,
        "scoring_peak_memory_bytes": devices.peak_memory_bytes(),
        "batch": options.batch,
        "step": run.step,
        "device": jax.devices()[0].device_kind,
    }


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--workdir", required=True, type=Path)
    flags.add_argument("--out", type=Path, metavar="PREFIX", help="writes PREFIX.jsonl and PREFIX.md")
    flags.add_argument("--precisions", default="f32,bf16,f16", metavar="WORD,WORD")
    flags.add_argument("--windows", type=int, default=0, metavar="N", help="validation windows scored; 0: all")
    flags.add_argument("--batch", type=int, default=1, metavar="B")
    flags.add_argument("--one", metavar="WORD", help="measure this one here and print JSON")
    options = flags.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options)))
        return
    rows = []
    for word in options.precisions.split(","):
        own = [
            f"--one={word}",
            f"--workdir={options.workdir}",
            f"--windows={options.windows}",
            f"--batch={options.batch}",
        ]
        done = subprocess.run([sys.executable, __file__, *own], stdout=subprocess.PIPE, encoding="utf-8", check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    wide = next((row["perplexity"] for row in rows if row["precision"] == "f32"), float("nan"))
    lines = [
        "| precision | perplexity | against f32 | weights, MB | decoding, MB | runtime, MB | peak, MB | below | "
        "scoring, MB |",
        "|" + "---|" * 9,
    ]
    for row in rows:
        megabytes = lambda key, row=row: f"{row[key] / 1e6:,.1f}"
        below = ", ".join(name for name, size in LINES if row["peak_memory_bytes"] < size) or "neither"
        lines.append(
            f"| {row['precision']} | {row['perplexity']:.5f} | {row['perplexity'] / wide - 1:+.3%} | "
            f"{megabytes('weight_bytes')} | {megabytes('decode_memory_bytes')} | {megabytes('runtime_bytes')} | "
            f"{megabytes('peak_memory_bytes')} | {below} | {megabytes('scoring_peak_memory_bytes')} |"
        )
    print("\n".join(lines))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        options.out.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
