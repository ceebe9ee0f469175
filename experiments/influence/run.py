"""Do influence scores foretell what training on a part of the corpus does? And is it more than a likeness of texts?

Command:   python experiments/influence/run.py --out=experiments/influence [--parts=24] [--seeds=2]
Hardware:  one core of an Intel Xeon with AVX-512
"""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from juliagpt_jax import config, devices

TRAIN_CHUNKS, QUERIES, SHARE = 1500, 100, 0.5
CHECKPOINT_EVERY = 100
OVERRIDES = ["train.steps=400", "train.warmup=50"]  # configs/micro.py else; 4 epochs of a part
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
    flags.add_argument("--arrays", type=Path, help="keep scores, parts and losses here")
    options = flags.parse_args()
    settings = config.load(str(Path(__file__).parents[2] / "configs" / "micro.py"), [*OVERRIDES, "mesh.data=1"])
    devices.prepare(settings.mesh)

    import numpy as np
    from scipy import stats

    from juliagpt_jax.data import schoolroom
    from juliagpt_jax.data.tokenizer import CharTokenizer
    from juliagpt_jax.evaluation import chunk_scores, influence
    from juliagpt_jax.study import retraining
    from juliagpt_jax.training.optimizers import schedule
    from juliagpt_jax.training.workdir import processor

    options.out.mkdir(parents=True, exist_ok=True)
    drawn, held = schoolroom.corpus(CORPUS_SEED, 600_000)
    texts = [p.text for p in drawn[:TRAIN_CHUNKS]]
    asked = [p.text for p in held[:QUERIES]]
    tokenizer = CharTokenizer(schoolroom.ALPHABET)
    lead = tokenizer.characters.index("\n")
    encode = lambda rows: chunk_scores.lines(tokenizer.encode("".join(t + "\n" for t in rows)), lead)
    train, queries = encode(texts), encode(asked)
    retrainer = retraining.Retrainer(settings, tokenizer.vocab_size, lead)
    rate, context = schedule(settings.train), settings.model.context

    rows = []

    def note(**row):
        rows.append(row)
        print(json.dumps(row), flush=True)
        (options.out / "results.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))

    note(what="setting", hardware=f"one core of {processor()}", train_chunks=len(texts), tokens=len(train.tokens),
         queries=len(asked), parts=options.parts, share=SHARE, seeds=options.seeds, overrides=OVERRIDES)  # fmt: skip

    # Scores, from a run on all chunks, with a seed that no run on a part has.
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
        "overlap of 5-grams": overlap(texts, asked),
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
    mean = losses.mean(axis=0)
    for name, values in scores.items():
        per_query = retraining.lds(values, chosen, mean)
        low, high = retraining.interval(values, chosen, mean, 500, 0)
        whole = retraining.lds(values.mean(axis=1, keepdims=True), chosen, mean.mean(axis=1, keepdims=True))[0]
        note(what="lds", method=name, lds=float(per_query.mean()), low=low, high=high, of_the_mean_loss=float(whole))
    halves = [losses[: options.seeds // 2].mean(axis=0), losses[options.seeds // 2 :].mean(axis=0)]
    same = [stats.spearmanr(halves[0][:, q], halves[1][:, q]).statistic for q in range(len(asked))]
    note(what="agreement of two seeds on the same part", correlation=float(np.mean(same)))


if __name__ == "__main__":
    main()
