"""Abilities that the delta rule is for: recall of pairs, copying backwards, parity, each at the length of the training
texts and at twice that; two layers, trained from scratch on each.

python experiments/kda/recall.py \
    --out=experiments/kda/results/recall [--tasks=recall,parity] [--arms=attention,kda] [--seeds=1,2,3] [--rates=1e-3] \
    [--steps=1500] [--minutes=30]

Every arm has each learning rate with each seed, all of them in one program, which stops early when all seeds of some
rate answer everything. The rate that answers best on one test set, on average over the seeds and both lengths, is
reported on another. What a folder of results holds already is not run again. Texts: juliagpt_jax/data/abilities.py.
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

from juliagpt_jax.data.abilities import ABILITIES
from juliagpt_jax.data.batch import Batch
from juliagpt_jax.ground import config, config_file
from juliagpt_jax.models import adapters
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.parameters import count
from juliagpt_jax.objectives.build import build_objective
from juliagpt_jax.study.statistics import at_best_rate
from juliagpt_jax.training import step
from juliagpt_jax.training.mesh import make_mesh
from juliagpt_jax.training.state import Frozen, initial_state

# Tokens of a training text, the vocabulary, and what a task is told beside these.
SIZES = {
    "recall": (32, 32, {"pairs": 4, "vocab": 32}),
    "palindrome": (24, 16, {"vocab": 16}),
    "parity": (16, 2, {}),
}
ARMS = {
    "attention": ["model.mixer=attention"],
    "window": ["model.mixer=attention", "model.mask=window", "model.window=8"],
    "kda": ["model.mixer=kda"],
    "kda negative": ["model.mixer=kda", "model.kda.negative=true"],
    "gated_deltanet": ["model.mixer=gated_deltanet"],
    "gated_deltanet negative": ["model.mixer=gated_deltanet", "model.kda.negative=true"],
    "no delta": ["model.mixer=kda", "model.kda.delta=false"],
    "monarch": ["model.mixer=monarch"],
    "monarch_heads": ["model.mixer=monarch_heads"],
    "hybrid": ["model.mixer=kda kda kda attention", "model.layers=4", "model.positions=none"],  # 3:1 is four layers
}
ROWS, TESTED = 32, 256  # texts of a training step, and of a test set
CHECKED = 125  # steps between two looks at whether every text is answered
SOLVED = 0.999  # the share of right answers that ends the training
SELECTION, TEST = 1_000_000, 1_000_001  # seeds of the two test sets


def settings(task: str, arm: str, steps: int) -> config.Config:
    """The config of an arm, with a learning rate of 1, which `runs` scales."""
    context = 2 * SIZES[task][0]
    shape = ["model.width=32", "model.layers=2", "model.heads=2", "model.ffn_mult=2", f"model.context={context}"]
    train = [f"train.steps={steps}", f"train.batch_size={ROWS}", "train.lr=1.0", "train.min_lr=0.1"]
    train += [f"train.warmup={steps // 20}", "train.accumulate=1", "mesh.data=1"]
    return config_file.load("configs/micro.py", [*shape, *train, *ARMS[arm]])


def runs(task: str, arm: str, rates: list[float], seeds: list[int], steps: int) -> list[dict[str, Any]]:
    """Train each seed at each rate, all in one program; a row for each run."""
    length, vocab, told = SIZES[task]
    chosen, begun = settings(task, arm, steps), time.perf_counter()
    model, make = build_model(chosen, vocab), functools.partial(ABILITIES[task], **told)
    fixed = step.Fixed(chosen, model, make_mesh(chosen), build_objective(chosen, model), adapters.merge)
    each = [(rate, seed) for rate in rates for seed in seeds]
    by_rate, by_seed = jnp.array([rate for rate, _ in each]), jnp.array([seed for _, seed in each], jnp.uint32)

    def one(rate, seed, state, batch):
        """A step at rate 1, of which the share `rate` is taken: AdamW's step and its decay are in proportion to it."""
        after, metrics = step.train_step(fixed, seed, state, batch, Frozen())
        params = jax.tree.map(lambda old, new: old + rate * (new - old), state.params, after.params)
        return after._replace(params=params), metrics["loss"]

    def fresh(seed):
        return initial_state(chosen, model, model.init(jax.random.key(seed), jnp.zeros((1, 2), int))["params"])

    # One after the other in a loop: products as small as these take twice as long with another axis in front.
    in_turn = jax.jit(lambda *each: jax.lax.map(lambda its: one(*its), each), donate_argnums=2)
    answers = jax.jit(jax.vmap(lambda p, x: jnp.argmax(model.apply({"params": p}, x)[0], axis=-1), (0, None)))
    states = jax.jit(jax.vmap(fresh))(by_seed)

    def right(seed: int, tokens: int) -> np.ndarray:
        """The share of right answers of each run."""
        test = make(seed, 0, TESTED, tokens)
        asked = np.asarray(test.scored)
        hits = (np.asarray(answers(states.params, test.inputs)) == test.targets) & asked
        return hits.sum(axis=(1, 2)) / asked.sum()

    done, loss = 0, by_rate
    while done < steps:
        drawn = {seed: make(seed, done, ROWS, length) for seed in seeds}
        batch = Batch(*(np.stack([getattr(drawn[seed], part) for _, seed in each]) for part in ("inputs", "targets")))
        states, loss = in_turn(by_rate, by_seed, states, batch)
        done += 1
        if done % CHECKED == 0 and right(SELECTION, length).reshape(len(rates), -1).min(axis=1).max() > SOLVED:
            break
    shares = {
        name: right(seed, tokens)
        for name, seed, tokens in [
            ("selection", SELECTION, length),
            ("selection_twice", SELECTION, 2 * length),
            ("test", TEST, length),
            ("test_twice", TEST, 2 * length),
        ]
    }
    return [
        {
            "task": task,
            "arm": arm,
            "rate": rate,
            "seed": seed,
            "steps": done,
            "of_steps": steps,
            "parameters": count(states.params) // len(each),
            "loss": float(loss[i]),
            **{name: float(share[i]) for name, share in shares.items()},
            "seconds": time.perf_counter() - begun,
        }
        for i, (rate, seed) in enumerate(each)
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """For each task and arm the rate that was best on the selection set, and its runs on the test set."""
    lines = []
    for task in dict.fromkeys(row["task"] for row in rows):
        length, vocab, told = SIZES[task]
        pairs = f", {told['pairs']} pairs" if "pairs" in told else ""
        lines += [f"### {task}: {length} tokens, vocabulary {vocab}{pairs}", ""]
        lines += [
            f"| arm | right answers at {length} tokens | by seed | at {2 * length} | by seed | best rate | steps | "
            "parameters |",
            "|---" * 8 + "|",
        ]
        for arm in dict.fromkeys(row["arm"] for row in rows if row["task"] == task):
            mine = [row for row in rows if (row["task"], row["arm"]) == (task, arm)]
            its = sorted(at_best_rate(mine, "selection", "selection_twice"), key=lambda row: row["seed"])
            cells = []
            for name in ("test", "test_twice"):
                shares = [100 * row[name] for row in its]
                cells += [f"{statistics.fmean(shares):.1f}%", ", ".join(f"{share:.1f}" for share in shares)]
            cells += [f"{its[0]['rate']:g}", str(its[0]["steps"]), f"{its[0]['parameters']:,}"]
            lines.append(f"| {arm} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--out", required=True, type=Path)
    flags.add_argument("--tasks", default=",".join(SIZES))
    flags.add_argument("--arms", default=",".join(ARMS))
    flags.add_argument("--seeds", default="1,2,3")
    flags.add_argument("--rates", default="1e-3,3e-3,1e-2,3e-2")
    flags.add_argument("--steps", type=int, default=1500)
    flags.add_argument("--minutes", type=float, default=0, help="begin nothing after these; 0: run all")
    options = flags.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path, begun = options.out / "results.jsonl", time.monotonic()
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    rates, seeds = [float(rate) for rate in options.rates.split(",")], [int(seed) for seed in options.seeds.split(",")]
    for task in options.tasks.split(","):
        for arm in options.arms.split(","):
            known = {(row["rate"], row["seed"]) for row in rows if (row["task"], row["arm"]) == (task, arm)}
            late = options.minutes and time.monotonic() - begun > 60 * options.minutes
            if late or known >= {(rate, seed) for rate in rates for seed in seeds}:
                continue
            more = runs(task, arm, rates, seeds, options.steps)
            rows = [row for row in rows if (row["task"], row["arm"]) != (task, arm)] + more
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            shares = " ".join(f"{row['rate']:g}: {row['test']:.3f} {row['test_twice']:.3f}," for row in more)
            print(f"{task}, {arm}, {more[0]['steps']} steps, {more[0]['seconds']:.0f} s: {shares}", flush=True)
            (options.out / "table.md").write_text(table(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
