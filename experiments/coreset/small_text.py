"""Is a part of the corpus, picked by scores of a first pass, as good as the whole at the same number of steps?

Command:   python experiments/coreset/small_text.py --data=DIR --out=experiments/coreset/results/small_text
           DIR holds train.txt and val.txt, one passage a line, as prepare writes them
Hardware:  one core of an Intel Xeon with AVX-512
Time:      about 15 s a cell, 24 cells; a run with other --arms adds to the table

Each seed draws its own 800 lines, so that the whole is gone through 4 times, 60% of it 7 times and 30% 14 times: with
data to spare, any part of it would do.
"""

import argparse
import functools
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from juliagpt_jax.ground import config_file, devices

OVERRIDES = ["train.steps=600", "train.warmup=60", "mesh.data=1"]  # configs/micro.py else
LINES, VALIDATION, CURVE_EVERY = 800, 600, 100
SCORES = ("loss", "el2n", "grad_norm")
ARMS = (
    "full, random 60%, top 60% by loss, middle 60% by loss, bottom 60% by loss, middle 60% by el2n, "
    "middle 60% by grad_norm, bottom 60% by grad_norm"
)


def keep(scores, which: str, share: float):
    """Ids, in reading order, of the top, the middle or the bottom share by score."""
    import numpy as np

    order, count = np.argsort(scores, kind="stable"), round(len(scores) * share)
    first = {"bottom": 0, "middle": (len(scores) - count) // 2, "top": len(scores) - count}[which]
    return np.sort(order[first : first + count])


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("--data", type=Path, required=True)
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--seeds", default="1,2,3")
    flags.add_argument("--arms", default=ARMS, help="such as: full, random 30%%, top 30%% by el2n")
    options = flags.parse_args()
    settings = config_file.load(str(Path(__file__).parents[2] / "configs" / "micro.py"), OVERRIDES)
    devices.prepare(settings)

    import jax
    import numpy as np

    from juliagpt_jax.data.tokenizer import CharTokenizer
    from juliagpt_jax.evaluation import chunk_scores, cost
    from juliagpt_jax.inference import scoring
    from juliagpt_jax.models.parameters import count
    from juliagpt_jax.store.machine import describe_run
    from juliagpt_jax.study import plots, tables
    from juliagpt_jax.study.retraining import Retrainer

    options.out.mkdir(parents=True, exist_ok=True)
    texts = [(options.data / f"{name}.txt").read_text(encoding="utf-8").splitlines() for name in ("train", "val")]
    tokenizer = CharTokenizer.train("\n".join(texts[0]) + "\n")
    lead, context = tokenizer.lead, settings.model.context
    encode = lambda lines: chunk_scores.lines(tokenizer.encode("".join(t + "\n" for t in lines)), lead)
    draw = lambda lines, n, seed: [lines[i] for i in np.sort(np.random.default_rng(seed).permutation(len(lines))[:n])]
    held = encode(draw(texts[1], VALIDATION, 0)).tokens
    windows = scoring.spread(held, context, settings.train.eval_windows, lead)
    retrainer = Retrainer(settings, tokenizer.vocab_size, lead)
    facts = describe_run(0, jax.devices()[:1])
    path = options.out / "results.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @functools.cache
    def first_pass(seed: int):
        """The seed's lines, their scores after a run with other weights and order than its cells', and the seconds."""
        train, then = encode(draw(texts[0], LINES, seed)), time.perf_counter()
        _, params = retrainer.train(train, 1000 + seed)[-1]
        values = chunk_scores.score(retrainer.model, params, train, context, lead, SCORES).values
        print(seed, {name: np.corrcoef(values["loss"], values[name])[0, 1] for name in (*SCORES, "tokens")}, flush=True)
        return train, values, time.perf_counter() - then

    for arm, seed in [(arm, seed) for seed in map(int, options.seeds.split(",")) for arm in options.arms.split(", ")]:
        if any((r["arm"], r["seed"]) == (arm, seed) for r in rows):
            continue
        train, values, before_s = first_pass(seed)
        which, *rest = arm.split()
        share = float(rest[0].rstrip("%")) / 100 if rest else 1.0
        ids = np.arange(LINES)
        if which == "random":
            ids = np.sort(np.random.default_rng(100 + seed).permutation(LINES)[: round(LINES * share)])
        elif which != "full":
            ids = keep(values[rest[-1]], which, share)
        part, then = train.take(ids), time.perf_counter()
        kept = retrainer.train(part, seed, CURVE_EVERY)
        train_s = time.perf_counter() - then
        curve = [
            [step, scoring.mean_loss(scoring.losses_of(retrainer.model, params, *windows, 32), windows[1])]
            for step, params in kept
        ]
        score = scoring.score_text(retrainer.model, kept[-1][1], held, lead, tokenizer=tokenizer)
        params = count(kept[-1][1])
        tokens = settings.train.steps * settings.train.batch_size * context
        rows.append(
            {"arm": arm, "seed": seed, "status": "done", **score.to_dict(), "curve": curve, "params": params}
            | {"tokens": tokens, "chunks": len(ids), "characters_of_text": int(part.lengths.sum())}
            | {"mean_length": float(part.lengths.mean()), "epochs": tokens / int(part.lengths.sum())}
            | {"flops": tokens * cost.train_flops_per_token(settings.model, params, tokenizer.vocab_size)}
            | {"seconds": train_s, "tokens_per_s": tokens / train_s, "first_pass_and_scores_s": before_s}
            | {"overrides": OVERRIDES, **{k: facts[k] for k in ("versions", "commit", "device", "machine")}}
        )
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        print(f"{arm}, seed {seed}: loss {score.loss:.4f}, {train_s:.0f} s", flush=True)
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    lines = tables.compare(rows, arms, "full")
    text = tables.markdown(tables.cells(lines, "full", ("epochs", "mean_length")), tables.notes(lines, "full"))
    (options.out / "table.md").write_text(text, encoding="utf-8")
    plots.draw(lines, "full", options.out)
    print(text)


if __name__ == "__main__":
    main()
