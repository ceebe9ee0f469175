"""Abilities that the delta rule is for: recall of pairs, copying backwards, parity; two layers,
trained from scratch on each.

python experiments/kda/recall.py \
    --out=experiments/kda/results/recall [--tasks=recall,parity] [--arms=attention,kda] [--seeds=1,2,3] [--rates=1e-3] \
    [--steps=2000] [--minutes=30]

Every arm has each learning rate with each seed; the rate that answers best on one test set, on average over the seeds,
is reported on another. What a folder of results holds already is not run again. Texts: juliagpt_jax/data/tasks.py.
"""

import argparse
import functools
import json
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.data.tasks import TASKS
from juliagpt_jax.ground import config, config_file
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.parameters import count
from juliagpt_jax.training import step
from juliagpt_jax.training.mesh import make_mesh
from juliagpt_jax.training.state import Frozen, initial_state

# Tokens of a text, in training and where it is tested, the vocabulary, and what a task is told beside these.
SIZES = {
    "recall": (64, 64, 128, {"pairs": 8, "vocab": 128}),
    "palindrome": (32, 32, 32, {"vocab": 32}),
    "parity": (32, 64, 2, {}),
}
ARMS = {
    "attention": ["model.mixer=attention"],
    "window": ["model.mixer=attention", "model.mask=window", "model.window=16"],
    "kda": ["model.mixer=kda"],
    "kda negative": ["model.mixer=kda", "model.kda.negative=true"],
    "gated_deltanet": ["model.mixer=gated_deltanet"],
    "gated_deltanet negative": ["model.mixer=gated_deltanet", "model.kda.negative=true"],
    "no delta": ["model.mixer=kda", "model.kda.delta=false"],
    "monarch": ["model.mixer=monarch"],
    "monarch_heads": ["model.mixer=monarch_heads"],
    "hybrid": ["model.mixer=kda kda kda attention", "model.layers=4", "model.positions=none"],  # 3:1 is four layers
}
ROWS, TESTED = 64, 256  # texts of a training step, and of a test set
CHECKED = 250  # steps between two looks at whether every text is answered
SELECTION, TEST = 1_000_000, 1_000_001  # seeds of the two test sets


def settings(task: str, arm: str, rate: float, steps: int) -> config.Config:
    context = max(SIZES[task][:2])
    shape = ["model.width=64", "model.layers=2", "model.heads=2", "model.ffn_mult=2", f"model.context={context}"]
    train = [f"train.steps={steps}", f"train.batch_size={ROWS}", f"train.lr={rate}", f"train.min_lr={rate / 10}"]
    train += [f"train.warmup={steps // 20}", "train.accumulate=1", "mesh.data=1"]
    return config_file.load("configs/micro.py", [*shape, *train, *ARMS[arm]])


def run(task: str, arm: str, rate: float, seeds: list[int], steps: int) -> list[dict[str, Any]]:
    """Train the seeds of one learning rate side by side; a row for each."""
    length, longest, vocab, told = SIZES[task]
    chosen = settings(task, arm, rate, steps)
    model, begun = build_model(chosen, vocab), time.perf_counter()
    fresh = jax.jit(
        lambda seed: initial_state(chosen, model, model.init(jax.random.key(seed), jnp.zeros((1, 2), int))["params"])
    )
    states = tuple(fresh(seed) for seed in seeds)
    joint = step.make_joint_step(chosen, model, make_mesh(chosen), seeds)
    answers = jax.jit(lambda params, inputs: jnp.argmax(model.apply({"params": params}, inputs)[0], axis=-1))
    make = functools.partial(TASKS[task], **told)

    def right(seed: int, tokens: int) -> np.ndarray:
        """The share of right answers of each run, (runs, tokens), nan where nothing is asked."""
        test = make(seed, 0, TESTED, tokens)
        asked = np.asarray(test.scored)
        hits = [(np.asarray(answers(state.params, test.inputs)) == test.targets) & asked for state in states]
        with np.errstate(invalid="ignore"):
            return np.array([hit.sum(0) / asked.sum(0) for hit in hits])

    done, losses = 0, [float("nan")] * len(seeds)
    while done < steps:
        batches = tuple(make(seed, done, ROWS, length) for seed in seeds)
        out = joint(states, batches, Frozen())
        states, losses = tuple(state for state, _ in out), [float(metrics["loss"]) for _, metrics in out]
        done += 1
        if done % CHECKED == 0 and np.nanmin(np.nanmean(right(SELECTION, longest), axis=1)) > 0.999:
            break
    selection, test = right(SELECTION, longest), right(TEST, longest)
    behind = slice(length, None) if longest > length else slice(None)  # at lengths that training did not have
    return [
        {
            "task": task,
            "arm": arm,
            "rate": rate,
            "seed": seed,
            "steps": done,
            "of_steps": steps,
            "parameters": count(states[i].params),
            "loss": losses[i],
            "selection": float(np.nanmean(selection[i, behind])),
            "test": float(np.nanmean(test[i, behind])),
            "within": float(np.nanmean(test[i, :length])),
            "seconds": time.perf_counter() - begun,
        }
        for i, seed in enumerate(seeds)
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """For each task and arm the rate that was best on the selection set, and its runs on the test set."""
    lines = []
    for task in dict.fromkeys(row["task"] for row in rows):
        length, longest, vocab, told = SIZES[task]
        where = f"tokens {length + 1} to {longest}, trained on {length}" if longest > length else f"{length} tokens"
        lines += [f"### {task}: {where}, vocabulary {vocab}{', 8 pairs' if 'pairs' in told else ''}", ""]
        lines += ["| arm | right answers, mean | by seed | best rate (of) | steps | parameters |", "|---" * 6 + "|"]
        for arm in dict.fromkeys(row["arm"] for row in rows if row["task"] == task):
            mine = [row for row in rows if (row["task"], row["arm"]) == (task, arm)]
            rates = sorted({row["rate"] for row in mine})
            mean = lambda rate, mine=mine: statistics.fmean(r["selection"] for r in mine if r["rate"] == rate)
            best = max(rates, key=mean)
            runs = sorted((row for row in mine if row["rate"] == best), key=lambda row: row["seed"])
            shares = [100 * row["test"] for row in runs]
            steps = "-".join(map(str, sorted({row["steps"] for row in runs})))
            lines.append(
                f"| {arm} | {statistics.fmean(shares):.1f}% | {', '.join(f'{s:.1f}' for s in shares)} | "
                f"{best:g} ({', '.join(f'{rate:g}' for rate in rates)}) | {steps} | {runs[0]['parameters']:,} |"
            )
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--out", required=True, type=Path)
    flags.add_argument("--tasks", default=",".join(SIZES))
    flags.add_argument("--arms", default=",".join(ARMS))
    flags.add_argument("--seeds", default="1,2,3")
    flags.add_argument("--rates", default="5e-4,1e-3,3e-3,1e-2")
    flags.add_argument("--steps", type=int, default=3000)
    flags.add_argument("--minutes", type=float, default=0, help="begin nothing after these; 0: run all")
    options = flags.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path, begun = options.out / "results.jsonl", time.monotonic()
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    for task in options.tasks.split(","):
        for arm in options.arms.split(","):
            for rate in map(float, options.rates.split(",")):
                known = {r["seed"] for r in rows if (r["task"], r["arm"], r["rate"]) == (task, arm, rate)}
                seeds = [seed for seed in map(int, options.seeds.split(",")) if seed not in known]
                late = options.minutes and time.monotonic() - begun > 60 * options.minutes
                if not seeds or late:
                    continue
                more = run(task, arm, rate, seeds, options.steps)
                rows += more
                with path.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(row) + "\n" for row in more)
                shares = ", ".join(f"{row['test']:.3f}" for row in more)
                print(f"{task}, {arm}, {rate:g}: {shares} after {more[0]['steps']} steps", flush=True)
                (options.out / "table.md").write_text(table(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
