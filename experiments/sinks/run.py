"""What stays in sight of a long text, and what heads look at, with a learnt sink and without.

python experiments/sinks/run.py --out=experiments/sinks/results/run ARM=WORKDIR [ARM=WORKDIR ...]

An arm is given once for each of its seeds. Streams of --contexts contexts are cut from the validation text, the same
for all models, and every way of `juliagpt_jax/evaluation/streams.py` reads them. The share of the attention is that of
the second half of --windows windows. Writes rows.jsonl, heads.jsonl, table.md, curves.png: means over seeds, with half
the range between the smallest and the largest; of one seed with the standard error over streams.
"""

import argparse
import json
from pathlib import Path

import jax
import numpy as np

from juliagpt_jax.data import corpus as corpora
from juliagpt_jax.evaluation import attention, streams
from juliagpt_jax.inference import scoring
from juliagpt_jax.store.workdir import open_run

A_SINK = 0.3  # share of the first token from which on Gu et al. (2024, arXiv 2410.10781) speak of a sink


def measure(arm: str, workdir: Path, options: argparse.Namespace) -> tuple[list[dict], list[dict]]:
    run = open_run(workdir)
    name = {"arm": arm, "seed": run.config.seed, "step": run.step}
    context, text = run.config.model.context, corpora.load(run.config.data, run.config.model.context).val
    found = streams.curves(run.model, run.params, text, run.tokenizer.newline, options.contexts, options.streams)
    rows = [name | {"streams": found["streams"]} | row for row in found["rows"]]
    windows, _ = scoring.spread(text, context, options.windows, run.tokenizer.lead)
    shares = attention.shares(run.model, run.params, windows, 16)
    heads = [
        name | {"layer": layer, "head": head, "first": float(first), "sink": float(sink)}
        for layer, own in zip(attention.layers_with_heads(run.model), shares, strict=True)
        for head, (first, sink) in enumerate(own)
    ]
    print(json.dumps(name), f"first token: at most {max(h['first'] for h in heads):.3f} of a head", flush=True)
    return rows, heads


def spread(values: list[float], sign: str = "") -> str:
    """A mean, with half the range where there are several."""
    half = f" ± {(max(values) - min(values)) / 2:.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):{sign}.4f}{half}"


def loss_table(rows: list[dict]) -> list[str]:
    stretches = list(dict.fromkeys((row["from"], row["to"]) for row in rows))
    lines = [f"| model | in sight | {' | '.join(f'{a} to {b}' for a, b in stretches)} |"]
    lines.append("|---" * (len(stretches) + 2) + "|")
    for arm, way in dict.fromkeys((row["arm"], row["way"]) for row in rows):
        cells = []
        for low, high in stretches:
            own = [r for r in rows if (r["arm"], r["way"], r["from"], r["to"]) == (arm, way, low, high)]
            window = way.startswith("window")
            cell = spread([r["loss"] if window else r["difference"] for r in own], "" if window else "+")
            cells.append(cell if window or len(own) > 1 else f"{cell} ± {own[0]['standard_error']:.4f}")
        lines.append(f"| {arm} | {way} | {' | '.join(cells)} |")
    return lines


def share_table(heads: list[dict], alike: float) -> list[str]:
    lines = ["| model | layer | on the first token: mean, largest head | on the learnt sink: mean, largest head |"]
    lines.append("|---" * 4 + "|")
    for arm, layer in dict.fromkeys((head["arm"], head["layer"]) for head in heads):
        own = [head for head in heads if (head["arm"], head["layer"]) == (arm, layer)]
        cells = [f"{np.mean([h[key] for h in own]):.2%}, {max(h[key] for h in own):.2%}" for key in ("first", "sink")]
        lines.append(f"| {arm} | {layer} | {cells[0]} | {cells[1] if arm != 'none' else ''} |")
    above = {arm: [head["first"] > A_SINK for head in heads if head["arm"] == arm] for arm in {h["arm"] for h in heads}}
    counted = ", ".join(f"{arm} {sum(found)} of {len(found)}" for arm, found in sorted(above.items()))
    return [*lines, "", f"Heads with more than {A_SINK} on the first token: {counted}. Everywhere alike: {alike:.2%}."]


def draw(rows: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    arms = list(dict.fromkeys(row["arm"] for row in rows))
    figure, grid = plt.subplots(1, len(arms), figsize=(4.2 * len(arms), 3.6), layout="constrained", squeeze=False)
    for arm, part in zip(arms, grid[0], strict=True):
        own = [row for row in rows if row["arm"] == arm]
        for way in dict.fromkeys(row["way"] for row in own):
            ends = list(dict.fromkeys(row["to"] for row in own))
            losses = [np.mean([row["loss"] for row in own if (row["way"], row["to"]) == (way, end)]) for end in ends]
            part.plot(ends, losses, marker="o", markersize=3, label=way)
        part.set_xscale("log", base=2)
        part.set(title=f"sink: {arm}", xlabel="tokens before, up to", ylabel="nats")
        part.grid(alpha=0.3)
        part.legend(fontsize=6)
    figure.savefig(path, dpi=110)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("runs", nargs="+", metavar="ARM=WORKDIR")
    flags.add_argument("--out", required=True, type=Path)
    flags.add_argument("--contexts", type=int, default=8, metavar="N", help="of a stream")
    flags.add_argument("--streams", type=int, default=50, metavar="N")
    flags.add_argument("--windows", type=int, default=64, metavar="N", help="on which the heads are watched")
    options = flags.parse_args()
    rows, heads = [], []
    for given in options.runs:
        arm, workdir = given.split("=", 1)
        more, seen = measure(arm, Path(workdir), options)
        rows, heads = rows + more, heads + seen
    options.out.mkdir(parents=True, exist_ok=True)
    for name, values in (("rows", rows), ("heads", heads)):
        (options.out / f"{name}.jsonl").write_text("".join(json.dumps(value) + "\n" for value in values))
    context = open_run(Path(options.runs[0].split("=", 1)[1])).config.model.context
    alike = float(np.mean(1 / (np.arange(context // 2, context) + 1)))
    title = f"{rows[0]['streams']} streams of {options.contexts} contexts of {context}; nats by the tokens before one; "
    lines = [title + "of all ways but the first of a model, against it", "", *loss_table(rows), ""]
    lines += share_table(heads, alike)
    (options.out / "table.md").write_text("\n".join(lines) + "\n")
    draw(rows, options.out / "curves.png")
    print("\n".join(lines), f"\n{jax.devices()[0].device_kind}, jax {jax.__version__}")


if __name__ == "__main__":
    main()
