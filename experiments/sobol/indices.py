"""Which of five knobs of the recipe matters, at an equal number of training tokens? Sobol indices by a surrogate.

Command:   python experiments/sobol/indices.py --data=DIR --out=experiments/sobol/results/indices
           DIR holds train_enriched.jsonl and val_enriched.jsonl, as prepare writes them
Hardware:  one core of an Intel Xeon with AVX-512
Time:      about 10 s a run, 32 runs and 6 of the middle of the box with other seeds
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from juliagpt_jax.ground import config_file, devices
from juliagpt_jax.study.sobol import GaussianProcess, Knob, design, surrogate_indices

MODEL = ["model.layers=1", "model.width=96", "mesh.data=1"]  # configs/micro.py else
TOKENS, LINES, VALIDATION, REPEATS = 2**17, 300, 100, 6  # 300 lines: about 2.5 epochs
PHASES = ("trivium", "quadrivium", "philosophy")
PHILOSOPHY = "share of philosophy"  # of the lines; the rest is half trivium, half quadrivium
KNOBS = [
    Knob("train.lr", 5e-4, 1.6e-2, log=True),
    Knob("train.batch_size", levels=(4, 8, 16, 32)),
    Knob("model.context", levels=(32, 64, 128)),
    Knob("model.dropout", 0.0, 0.3),
    Knob(PHILOSOPHY, 0.1, 0.8),
]


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("--data", type=Path, required=True)
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--runs", type=int, default=32, help="a power of 2; a longer study goes on with a shorter one")
    options = flags.parse_args()
    devices.prepare(config_file.load("configs/micro.py", MODEL))

    import numpy as np

    from juliagpt_jax.data.tokenizer import CharTokenizer
    from juliagpt_jax.evaluation import chunk_scores
    from juliagpt_jax.inference import scoring
    from juliagpt_jax.store.machine import processor
    from juliagpt_jax.study.retraining import Retrainer

    options.out.mkdir(parents=True, exist_ok=True)
    read = lambda name: [json.loads(line) for line in (options.data / name).read_text(encoding="utf-8").splitlines()]
    by_phase = lambda rows: {p: [r["text"] for r in rows if r["phase"] == p] for p in PHASES}
    train, val = by_phase(read("train_enriched.jsonl")), by_phase(read("val_enriched.jsonl"))
    tokenizer = CharTokenizer.train("".join("".join(texts) for texts in train.values()) + "\n")
    lead = tokenizer.lead
    pick = lambda texts, n, rng: [texts[i] for i in np.sort(rng.permutation(len(texts))[:n])]
    encode = lambda lines: chunk_scores.lines(tokenizer.encode("".join(t + "\n" for t in lines)), lead)
    rng = np.random.default_rng(0)
    held = encode([t for p in PHASES for t in pick(val[p], VALIDATION, rng)]).tokens

    def run(place, seed: int) -> dict:
        values = {knob.key: knob.value(float(u)) for knob, u in zip(KNOBS, place, strict=True)}
        share = values[PHILOSOPHY]
        overrides = [f"{k}={v}" for k, v in values.items() if k != PHILOSOPHY]
        steps = TOKENS // (values["train.batch_size"] * values["model.context"])
        overrides += [f"train.steps={steps}", f"train.warmup={steps // 10}", f"train.min_lr={values['train.lr'] / 10}"]
        settings = config_file.load("configs/micro.py", [*MODEL, *overrides])
        counts = [round(LINES * (1 - share) / 2)] * 2 + [round(LINES * share)]
        rng = np.random.default_rng(seed)
        lines = encode([t for p, n in zip(PHASES, counts, strict=True) for t in pick(train[p], n, rng)])
        then = time.perf_counter()
        retrainer = Retrainer(settings, tokenizer.vocab_size, lead)
        ((_, params),) = retrainer.train(lines, seed)
        score = scoring.score_text(retrainer.model, params, held, lead, tokenizer=tokenizer)
        return {"u": [float(u) for u in place], "seed": seed, **values, "steps": steps, "bpc": score.bpc,
                "seconds": time.perf_counter() - then, "machine": processor()}  # fmt: skip

    path = options.out / "results.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    middle = [knob.snap(np.array([0.5]))[0] for knob in KNOBS]
    places = [*[middle] * REPEATS, *design(KNOBS, options.runs, 0)]
    for number in range(len(rows), len(places)):
        rows.append(run(places[number], number))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        print(json.dumps(rows[-1]), flush=True)
    report(rows[: len(places)], options.out)


def report(rows: list[dict], out: Path) -> None:
    """table.md and indices.png from the runs."""
    import matplotlib
    import numpy as np

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    x, y = np.array([r["u"] for r in rows]), np.array([r["bpc"] for r in rows])
    repeats, x, y = y[:REPEATS], x[REPEATS:], y[REPEATS:]
    table, process = surrogate_indices(KNOBS, x, y, 0)
    folds = np.arange(len(y)) % 8  # how well the surrogate foretells runs that it has not seen
    foretold = np.concatenate(
        [GaussianProcess(x[folds != f], y[folds != f]).draws(x[folds == f], 0, 0)[0] for f in range(8)]
    )
    seen = np.concatenate([y[folds == f] for f in range(8)])
    explained = 1 - ((foretold - seen) ** 2).sum() / ((seen - seen.mean()) ** 2).sum()
    lines = ["| knob | range | S1 [95%] | ST [95%] |", "|---|---|---|---|"]
    for knob, row in zip(KNOBS, table, strict=True):
        span = ", ".join(map(str, knob.levels)) or f"{knob.low:g} to {knob.high:g}" + (" (log)" if knob.log else "")
        lines.append(
            f"| {row.key} | {span} | {row.S1:.2f} [{row.S1_low:.2f}, {row.S1_high:.2f}] "
            f"| {row.ST:.2f} [{row.ST_low:.2f}, {row.ST_high:.2f}] |"
        )
    lines += [
        "",
        f"Result: bits per character of validation text after {TOKENS:,} training tokens. {len(y)} runs: "
        f"{y.min():.3f} to {y.max():.3f}, standard deviation {y.std(ddof=1):.3f}. "
        f"The surrogate explains {explained:.0%} of the variance of runs it has not seen (8 folds); its noise is "
        f"{process.noise:.3f}. {len(repeats)} runs of the middle of the box with other seeds and lines: "
        f"{repeats.mean():.3f} ± {repeats.std(ddof=1):.3f}. The noise is in none of the indices. "
        f"Machine: {rows[0]['machine']}, one core.",
    ]
    (out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))

    figure, axes = plt.subplots(1, len(KNOBS) + 1, figsize=(14, 2.8), layout="constrained")
    place = np.arange(len(KNOBS))
    for name, shift, color in [("S1", -0.15, "C0"), ("ST", 0.15, "C1")]:
        mid = np.array([getattr(r, name) for r in table])
        ends = [np.maximum(0, mid - [getattr(r, f"{name}_low") for r in table]),
                np.maximum(0, np.array([getattr(r, f"{name}_high") for r in table]) - mid)]  # fmt: skip
        axes[0].errorbar(mid, place + shift, xerr=ends, fmt="o", color=color, label=name, capsize=2)
    axes[0].set_yticks(place, [r.key for r in table], fontsize=7)
    axes[0].invert_yaxis()
    axes[0].legend(fontsize=7)
    others = np.random.default_rng(0).uniform(size=(256, len(KNOBS)))
    for i, knob in enumerate(KNOBS):
        grid = np.unique(knob.snap(np.linspace(0, 1, 25)))
        mean = []
        for u in grid:
            at = others.copy()
            at[:, i] = u
            mean.append(process.draws(at, 0, 0)[0].mean())
        values = [knob.value(float(u)) for u in grid]
        axes[i + 1].plot([knob.value(float(u)) for u in x[:, i]], y, ".", color="0.7")
        axes[i + 1].plot(values, mean, "-o" if knob.levels else "-", color="C0")
        axes[i + 1].set_xlabel(knob.key, fontsize=8)
        if knob.log or knob.levels:
            axes[i + 1].set_xscale("log", base=2 if knob.levels else 10)
    axes[1].set_ylabel("bits per character")
    figure.savefig(out / "indices.png", dpi=110)


if __name__ == "__main__":
    main()
