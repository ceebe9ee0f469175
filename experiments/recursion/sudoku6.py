"""Does recursion help? 6x6 sudoku, 1,000 puzzles to learn from and 1,000 others to solve: a recursive model beside the
same network used once, a plain stack of as many layers at equal FLOPs of training, and one supervision step.

python experiments/recursion/sudoku6.py --out=experiments/recursion/results/sudoku6 [--steps=1000] [--seeds=1,2,3] \
    [--arms=recursive,once] [--knobs=train.ema=0.98] [--minutes=60]

Each cell is a reader's command, `python -m juliagpt_jax.main`, which resumes; then `solve` makes 1 to 32 steps with
what it learned. Rows that are there already are not made again, and --minutes limits what is begun. The steps of an arm
are what the FLOPs of the recursive model's pay for; --knobs are the same for every arm.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from juliagpt_jax.evaluation import puzzles as measured
from juliagpt_jax.ground import config_file
from juliagpt_jax.models import build
from juliagpt_jax.study import statistics as intervals

CONFIG = "configs/trm_sudoku6.py"
PLAIN = ["model.recursive.inner=0", "model.recursive.outer=1", "train.recursive.steps=1"]
ARMS = {
    "recursive": [],  # 2 layers, n = 2, T = 2, 8 supervision steps
    "once": PLAIN,  # the same network, used once
    "stack": [*PLAIN, "model.layers=12"],  # as many layers as a supervision step uses, each with weights of its own
    "stack of 4": [*PLAIN, "model.layers=4"],
    "stack of 6": [*PLAIN, "model.layers=6"],
    "one step": ["train.recursive.steps=1"],
    "attention": ["model.recursive.core=attention"],
    "kda 3:1": ["model.recursive.core=kda kda kda attention", "model.layers=4"],
    "normalised gate": ["model.recursive.gate=normalised"],
    "growth": ["train.recursive.growth=0x1 1x2"],
    "4 latents": ["model.recursive.latents=4"],
    "adamw": ["train.optimizer=adamw", "train.lr=1e-3"],
    "adam_atan2": ["train.optimizer=adam_atan2", "train.lr=1e-3"],
    "width 48": ["model.width=48"],  # with these two and "4 layers" a curve by size
    "width 192": ["model.width=192", "model.heads=6"],
    "4 layers": ["model.layers=4"],
}
# Branches as they are drawn at random, which is how the published model begins, in place of zero.
DRAWN = "model.zero_init=false"
AS_DRAWN = ("recursive", "once", "stack", "stack of 4", "one step", "attention")
ARMS |= {f"{arm} as drawn": [*ARMS[arm], DRAWN] for arm in AS_DRAWN}
ARMS["stack as drawn at a third of the rate"] = [*ARMS["stack as drawn"], "train.lr=3e-3", "train.adam_lr=3e-4"]
SHOWN = (1, 2, 4, 8, 16, 32)  # steps at the test


def flops(overrides: list[str]) -> float:
    """Return the FLOPs of a training step on one place, on average over the run."""
    settings = config_file.load(CONFIG, overrides)
    model = build.build_model(settings, 7)
    tokens = jax.ShapeDtypeStruct((1, settings.model.context), jnp.int32)
    params = jax.eval_shape(model.init, jax.random.key(0), tokens)["params"]
    return measured.mean_train_flops(settings, model, params)


def train(config: str, overrides: list[str], seed: int, steps: int, workdir: Path) -> dict[str, Any]:
    """Train by the command, or go on where it stopped; return the report."""
    knobs = [*overrides, f"seed={seed}", f"train.steps={steps}", f"train.warmup={min(100, steps // 10)}"]
    command = [sys.executable, "-m", "juliagpt_jax.main", f"--config={config}", f"--workdir={workdir}"]
    command += [f"--config.{knob}" for knob in [*knobs, "train.sample_every=0", f"train.eval_every={steps}"]]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return json.loads((workdir / "report.json").read_text())


def solve(workdir: Path, *flags: str) -> dict[str, Any]:
    """Solve by the command; return what it prints as JSON."""
    command = [sys.executable, "-m", "juliagpt_jax.solve", f"--workdir={workdir}", *flags, "--json", "--show=0"]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(found.stdout.splitlines()[-1])


def cell(arm: str, seed: int, steps: int, folder: Path, knobs: list[str]) -> dict[str, Any]:
    """Train one arm with one seed, and solve with it; go on where it stopped."""
    own = [*ARMS[arm], *knobs]
    steps = round(steps * flops([]) / flops(own))
    workdir, begun = folder / re.sub(r"\W+", "_", arm) / str(seed), time.perf_counter()
    report = train(CONFIG, own, seed, steps, workdir)
    weights = ["--averaged"] if "averaged" in report else []
    values = solve(workdir, *weights, f"--steps={max(SHOWN)}")
    best = report.get("averaged", report)
    facts = json.loads((workdir / "run.json").read_text())
    return {
        "arm": arm,
        "seed": seed,
        "steps": steps,
        "flops": report["flops"],
        "parameters": report["params"],
        "solved": best["solved"],
        "solved_unaveraged": report["solved"],
        "symbols": best["symbols"],
        "solved_by_step": {str(step): values["solved_by_step"][step - 1] for step in SHOWN},
        "seconds": time.perf_counter() - begun,
        "device": facts["device"],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the arms beside each other, and by seed against the recursive one that begins as they do, as Markdown."""
    lines = ["| arm | solved, by seed | mean | recursive minus this, points [95%] | at 1, 2, 4, 8, 16, 32 steps | "]
    lines = [lines[0] + "parameters | FLOPs | steps | seconds |", "|---" * 9 + "|"]
    of = lambda arm: {row["seed"]: row for row in rows if row["arm"] == arm}
    for arm in dict.fromkeys(row["arm"] for row in rows):
        mine, first = of(arm), of("recursive as drawn" if "as drawn" in arm else "recursive")
        apart = intervals.paired(*({seed: 100 * row["solved"] for seed, row in some.items()} for some in (mine, first)))
        interval = f" [{apart.low:+.1f}, {apart.high:+.1f}]" if apart.n > 1 else ""
        beside = "" if mine == first or not apart.n else f"{apart.mean:+.1f}{interval}"
        by = [statistics.mean(row["solved_by_step"][str(step)] for row in mine.values()) for step in SHOWN]
        some, each = next(iter(mine.values())), ", ".join(f"{mine[seed]['solved']:.1%}" for seed in sorted(mine))
        lines.append(
            f"| {arm} | {each} | "
            f"{statistics.mean(row['solved'] for row in mine.values()):.1%} | {beside} | "
            f"{' '.join(f'{share:.1%}' for share in by)} | {some['parameters']:,} | {some['flops']:.2g} | "
            f"{some['steps']:,} | {statistics.mean(row['seconds'] for row in mine.values()):.0f} |"
        )
    return "\n".join(lines) + "\n"


def parser(says: str) -> argparse.ArgumentParser:
    """Return the flags of a script whose cells `run_all` runs."""
    flags = argparse.ArgumentParser(description=says)
    flags.add_argument("--out", type=Path, required=True, metavar="DIR")
    flags.add_argument("--seeds", default="1,2,3", metavar="N,N,...")
    flags.add_argument("--runs", type=Path, metavar="DIR", help="of the workdirs; default: OUT/runs")
    flags.add_argument("--minutes", type=float, default=float("inf"), help="after which no cell is begun")
    return flags


def run_all(
    options: argparse.Namespace,
    key: str,
    names: list[str],
    one: Callable[[str, int, Path], dict[str, Any]],
    shown: Callable[[list[dict[str, Any]]], str],
) -> None:
    """Run the cells that are not in OUT/rows.jsonl yet, and write the table anew after each.

    Args:
        key: what a row calls the names.
        one: runs a name with a seed in a folder of workdirs; returns the row.
        shown: the table of rows.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    path, begun = options.out / "rows.jsonl", time.perf_counter()
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for seed in map(int, options.seeds.split(",")):
        for name in names:
            done = any((row[key], row["seed"]) == (name, seed) for row in rows)
            if done or time.perf_counter() - begun > 60 * options.minutes:
                continue
            rows.append(one(name, seed, options.runs or options.out / "runs"))
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            (options.out / "table.md").write_text(shown(rows), encoding="utf-8")
            print(shown(rows), flush=True)


def main() -> None:
    flags = parser("Does recursion help?")
    flags.add_argument("--steps", type=int, default=1_000, metavar="N", help="of the recursive arm")
    flags.add_argument("--arms", default=",".join(ARMS), metavar="NAME,...")
    flags.add_argument("--knobs", default="", metavar="KNOB=VALUE,...", help="of every arm")
    options = flags.parse_args()
    knobs = [knob for knob in options.knobs.split(",") if knob]
    one = lambda arm, seed, folder: cell(arm, seed, options.steps, folder, knobs)
    run_all(options, "arm", options.arms.split(","), one, table)


if __name__ == "__main__":
    main()
