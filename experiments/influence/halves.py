"""Do influence scores foretell what training on a part of the corpus does? And is it more than a likeness of texts?

Command:   python experiments/influence/halves.py --out=experiments/influence/results/halves --arrays=FILE.npz
Hardware:  one core of an Intel Xeon with AVX-512
"""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from juliagpt_jax.ground import config_file, devices

TRAIN_CHUNKS, QUERIES, SHARE = 1500, 100, 0.5
CHECKPOINT_EVERY = 100
OVERRIDES = ["train.steps=400", "train.warmup=50"]  # configs/micro.py else; 4 epochs of a part
OVERLAP = "overlap of 5-grams"
CORPUS_SEED = 11  # another draw of the schoolroom than the one every other study trains on


def overlap(train, queries, n=5):
    """Cosine of counts of character n-grams, weighted by rarity: no model has a hand in it."""
    import numpy as np

    texts = [*train, *queries]
    grams = sorted({text[i : i + n] for text in texts for i in range(len(text) - n + 1)})
    index = {gram: i for i, gram in enumerate(grams)}
    counts = np.zeros((len(texts), len(grams)), np.float32)
    for row, text in enumerate(texts):
        for i in range(len(text) - n + 1):
            counts[row, index[text[i : i + n]]] += 1
    counts *= np.log(len(texts) / (counts > 0).sum(axis=0))
    counts /= np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)
    return counts[: len(train)] @ counts[len(train) :].T


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--parts", type=int, default=24)
    flags.add_argument("--seeds", type=int, default=2)
    flags.add_argument(
        "--arrays", type=Path, required=True, help=".npz for scores, parts and losses, used if it is there"
    )
    options = flags.parse_args()
    if options.arrays.exists():
        analyse(options.out, options.arrays)
        return
    settings = config_file.load(str(Path(__file__).parents[2] / "configs" / "micro.py"), [*OVERRIDES, "mesh.data=1"])
    devices.prepare(settings)

    import numpy as np

    from juliagpt_jax.data.tokenizer import CharTokenizer
    from juliagpt_jax.evaluation import chunk_scores, influence
    from juliagpt_jax.schoolroom import passages as schoolroom
    from juliagpt_jax.store.machine import processor
    from juliagpt_jax.study import retraining
    from juliagpt_jax.training.schedules import learning_rate

    options.out.mkdir(parents=True, exist_ok=True)
    drawn, held = schoolroom.corpus(CORPUS_SEED, 600_000)
    texts = [p.text for p in drawn[:TRAIN_CHUNKS]]
    asked = [p.text for p in held[:QUERIES]]
    tokenizer = CharTokenizer(schoolroom.ALPHABET)
    lead = tokenizer.characters.index("\n")
    encode = lambda rows: chunk_scores.lines(tokenizer.encode("".join(t + "\n" for t in rows)), lead)
    train, queries = encode(texts), encode(asked)
    retrainer = retraining.Retrainer(settings, tokenizer.vocab_size, lead)
    rate, context = learning_rate(settings), settings.model.context

    rows = []

    def note(**row):
        rows.append(row)
        print(json.dumps(row), flush=True)
        (options.out / "results.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))

    note(what="setting", hardware=f"one core of {processor()}", train_chunks=len(texts), tokens=len(train.tokens),
         queries=len(asked), parts=options.parts, share=SHARE, seeds=options.seeds, overrides=OVERRIDES)  # fmt: skip

    # Scores, from a run on all passages, with a seed that no run on a part has.
    begun = time.perf_counter()
    kept = retrainer.train(train, 1000, CHECKPOINT_EVERY)
    note(
        what="full run", seconds=time.perf_counter() - begun, loss=float(retrainer.losses(kept[-1][1], queries).mean())
    )
    points = [influence.Checkpoint(params, float(rate(step - 1))) for step, params in kept]
    question = influence.Question(retrainer.model, context, lead, train, queries, np.eye(len(asked), dtype=np.float32))
    final = chunk_scores.score(retrainer.model, points[-1].params, train, context, lead, chunk_scores.SCORES).values
    each = lambda column: np.repeat(column[:, None], len(asked), axis=1)
    scores = {
        "random": np.random.default_rng(0).normal(size=(len(texts), len(asked))),
        "loss": each(final["loss"]),
        "gradient norm": each(final["grad_norm"]),
        OVERLAP: overlap(texts, asked),
    }
    jobs = {name: (method, points[-1:]) for name, method in influence.METHODS.items()}
    jobs |= {
        f"{name}, {len(points)} checkpoints": (influence.METHODS[name], points) for name in ("tracin", "cosine", "trak")
    }
    for name, (method, used) in jobs.items():
        then = time.perf_counter()
        scores[name] = method(question, used)
        note(what="scores", method=name, seconds=time.perf_counter() - then)
    for damping in (0.01, 1.0):
        for name in ("trak", "ekfac"):
            scores[f"{name}, damping {damping:g}"] = influence.METHODS[name](
                dataclasses.replace(question, damping=damping), points[-1:]
            )

    # Losses, of runs on random parts.
    chosen = retraining.parts(len(texts), options.parts, SHARE, 3)
    losses = np.zeros((options.seeds, options.parts, len(asked)))
    for part in range(options.parts):
        for seed in range(options.seeds):
            ((_, params),) = retrainer.train(train.take(np.flatnonzero(chosen[part])), 1 + part * options.seeds + seed)
            losses[seed, part] = retrainer.losses(params, queries)
        note(what="part", part=part, loss=losses[:, part].mean(axis=1).tolist())
    if options.arrays:
        np.savez_compressed(
            options.arrays, losses=losses, chosen=chosen, **{f"score {k}": v for k, v in scores.items()}
        )
    analyse(options.out, options.arrays)


PAIRS = [
    ("ekfac", "tracin"),
    ("ekfac", "trak"),
    ("trak", "tracin"),
    (OVERLAP, "ekfac"),
    (f"ekfac + {OVERLAP}", OVERLAP),
]


def analyse(out: Path, arrays: Path) -> None:
    """Rank correlations with intervals from the arrays, added to results.jsonl; table.md and lds.png."""
    import matplotlib
    import numpy as np
    from scipy import stats

    from juliagpt_jax.study.retraining import interval, lds

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with np.load(arrays) as file:
        losses, chosen = file["losses"], file["chosen"]
        scores = {name.removeprefix("score "): file[name].astype(float) for name in file if name.startswith("score ")}
    unit = lambda values: (values - values.mean(axis=0)) / values.std(axis=0)
    scores[f"ekfac + {OVERLAP}"] = unit(scores["ekfac"]) + unit(scores[OVERLAP])
    mean, (seeds, count, queries) = losses.mean(axis=0), losses.shape
    found = []
    for name, values in scores.items():
        low, high = interval(values, chosen, mean, 500, 0)
        whole = lds(values.mean(axis=1, keepdims=True), chosen, mean.mean(axis=1, keepdims=True))[0]
        own = float(lds(values, chosen, mean).mean())
        found.append({"what": "lds", "method": name, "lds": own, "low": low, "high": high, "mean_loss": float(whole)})
    rng, gaps = np.random.default_rng(0), {pair: [] for pair in PAIRS}
    for _ in range(500):
        rows, columns = rng.integers(count, size=count), rng.integers(queries, size=queries)
        part = {n: lds(scores[n][:, columns], chosen[rows], mean[rows][:, columns]).mean() for p in PAIRS for n in p}
        for pair in PAIRS:
            gaps[pair].append(part[pair[0]] - part[pair[1]])
    value = {row["method"]: row["lds"] for row in found}
    for one, other in PAIRS:
        low, high = np.percentile(gaps[one, other], [2.5, 97.5])
        row = {"one": one, "other": other, "difference": value[one] - value[other]}
        found.append({"what": "difference", **row, "low": float(low), "high": float(high)})
    half = [losses[: seeds // 2].mean(axis=0), losses[seeds // 2 :].mean(axis=0)]
    same = float(np.mean([stats.spearmanr(half[0][:, q], half[1][:, q]).statistic for q in range(queries)]))
    most = float(np.sqrt(2 * same / (1 + same)))  # Spearman-Brown: what a perfect forecast of the mean could reach
    found.append({"what": "agreement of two seeds on the same part", "correlation": same, "ceiling": most})

    path = out / "results.jsonl"
    kept = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    kept = [row for row in kept if row["what"] not in {r["what"] for r in found}]
    path.write_text("".join(json.dumps(row) + "\n" for row in kept + found), encoding="utf-8")
    ranked = sorted((row for row in found if row["what"] == "lds"), key=lambda row: -row["lds"])
    lines = ["| scores | LDS [95%] | of the mean loss |", "|---|---|---|"]
    lines += [
        f"| {r['method']} | {r['lds']:+.3f} [{r['low']:+.3f}, {r['high']:+.3f}] | {r['mean_loss']:+.2f} |"
        for r in ranked
    ]
    lines += ["", "| difference in LDS | [95%] |", "|---|---|"]
    lines += [
        f"| {r['one']} - {r['other']} | {r['difference']:+.3f} [{r['low']:+.3f}, {r['high']:+.3f}] |"
        for r in found
        if r["what"] == "difference"
    ]
    lines += [
        "",
        f"Mean rank correlation over {queries} queries and {count} random parts, losses averaged over {seeds} seeds; "
        "intervals from drawing parts and queries again 500 times. Two seeds on the same part agree to "
        f"{same:.2f}, so a perfect forecast would reach about {most:.2f}. The last column is one number over {count} "
        f"parts: beyond ±{1.96 / np.sqrt(count - 1):.2f} it would tell.",
    ]
    (out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    figure, axes = plt.subplots(figsize=(7, 4.6), layout="constrained")
    for place, row in enumerate(reversed(ranked)):
        axes.plot([row["low"], row["high"]], [place, place], color="C0")
        axes.plot(row["lds"], place, "o", color="C0")
    axes.set_yticks(range(len(ranked)), [row["method"] for row in reversed(ranked)], fontsize=8)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.axvline(most, color="0.5", linestyle=":", label="a perfect forecast, with the noise of the seeds")
    axes.set_xlabel("linear datamodeling score")
    axes.legend(fontsize=7, loc="lower right")
    figure.savefig(out / "lds.png", dpi=110)


if __name__ == "__main__":
    main()
