"""Gather finished runs into a folder of results: results.jsonl, table.md, loss.png, samples.txt.

python experiments/collect.py --out=experiments/real_text/results/shakespeare runs/shakespeare_*
"""

import argparse
import json
import math
import statistics
from pathlib import Path

from juliagpt_jax.ground.config import flatten, to_dict
from juliagpt_jax.ground.config import read as read_config
from juliagpt_jax.training.metrics import read

KEPT = [
    "loss",
    "bpc",
    "perplexity",
    "characters",
    "context",
    "stride",
    "params",
    "tokens",
    "flops",
    "wall_s",
    "compile_s",
]
KEPT += ["distinct_1", "distinct_2", "distinct_3", "repetition_4", "peak_memory_bytes", "skipped_steps"]


def row(workdir: Path) -> dict:
    """What is kept of a run: its numbers, and where they come from."""
    report, facts = (json.loads((workdir / f"{name}.json").read_text()) for name in ("report", "run"))
    config = flatten(to_dict(read_config(workdir / "config.json")))
    config["data.path"] = Path(config["data.path"]).name
    return {
        "run": workdir.name,
        **{key: report[key] for key in KEPT},
        "notes": report["notes"],
        **facts,
        "config": config,
    }


def spread(values: list[float]) -> str:
    """Mean and standard deviation over the runs."""
    return f"{statistics.mean(values):.4f}" + (f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else "")


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("workdirs", nargs="+", type=Path)
    flags.add_argument("--out", required=True, type=Path)
    options = flags.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = [row(workdir) for workdir in options.workdirs]
    (options.out / "results.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))

    first = rows[0]
    lines = [
        "| runs | loss (nats) | bits per character | perplexity | parameters | training tokens | seconds in all |",
        "|---|---|---|---|---|---|---|",
        f"| {len(rows)} seeds: {', '.join(str(r['seed']) for r in rows)} | {spread([r['loss'] for r in rows])} "
        f"| {spread([r['bpc'] for r in rows])} | {spread([r['perplexity'] for r in rows])} | {first['params']:,} "
        f"| {first['tokens']:,} | {', '.join(format(r['wall_s'], '.0f') for r in rows)} |",
        "",
        f"Validation: {first['characters']:,} characters, each scored once, "
        f"context {first['context']}, stride {first['stride']}. "
        f"{'; '.join(first['notes'])}. Mean ± standard deviation over seeds.",
        f"Machine: {first['machine']}, {first['device']}; "
        f"{', '.join(f'{k} {v}' for k, v in first['versions'].items())}.",
    ]
    (options.out / "table.md").write_text("\n".join(lines) + "\n")

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for number, workdir in enumerate(options.workdirs):
        history = read(workdir / "metrics.jsonl")
        for key, style in [("loss", {"alpha": 0.35, "linewidth": 0.8}), ("val_loss", {"linewidth": 1.8})]:
            points = [(r["step"], r[key] / math.log(2)) for r in history if key in r]
            name = f"{'validation' if key == 'val_loss' else 'training'}, seed {rows[number]['seed']}"
            axes.plot(*zip(*points, strict=True), color=f"C{number}", label=name, **style)
    axes.set(xlabel="step", ylabel="bits per character", title=options.out.name)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(options.out / "loss.png", dpi=120)

    samples = json.loads((options.workdirs[0] / "report.json").read_text())["passages"]
    (options.out / "samples.txt").write_text("\n\n".join(samples) + "\n")


if __name__ == "__main__":
    main()
