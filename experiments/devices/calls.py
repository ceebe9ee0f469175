"""Measure training with several steps in one call beside one step a call: does a small model gain?

    python experiments/devices/calls.py [TIMES]

Whole runs, by their own metrics: the median time of a step in the second half, the ways taken in turn, three times or
TIMES.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OUT = Path(__file__).parent / "results" / "calls"
MODELS = {  # name: width, layers, context, batch, steps
    "4k parameters": (16, 1, 16, 4, 800),
    "0.1M parameters": (64, 2, 64, 8, 400),
    "1.3M parameters (configs/tiny.py)": (192, 3, 128, 8, 80),
}
CALLS = (1, 8, 40)


def trained(config: str, knobs: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Train by the command in a folder; return the rows of its metrics."""
    flags = [f"--config.{name}={value}" for name, value in knobs.items()]
    flags += [f"--config=configs/{config}.py", f"--workdir={folder}"]
    subprocess.run([sys.executable, "-m", "juliagpt_jax.main", *flags], cwd=ROOT, check=True, capture_output=True)
    return [json.loads(line) for line in (folder / "metrics.jsonl").open(encoding="utf-8")]


def step_ms(model: tuple[int, ...], call: int, folder: Path) -> float:
    """Return the median milliseconds of a step in the second half of a run."""
    width, layers, context, batch, steps = model
    knobs = {"model.width": width, "model.layers": layers, "model.heads": 1, "model.context": context}
    knobs |= {"train.batch_size": batch, "train.steps": steps, "train.steps_per_call": call, "train.log_every": 40}
    knobs |= {"train.eval_every": steps, "train.checkpoint_every": steps, "train.sample_every": 0, "mesh.data": 1}
    knobs |= {"train.warmup": 10, "train.eval_windows": 1, "train.final_windows": 1, "train.accumulate": 1}
    rows = trained("tiny", knobs, folder)
    times = [row["step_s"] for row in rows if "step_s" in row and row["step"] > steps // 2]
    return 1e3 * statistics.median(times)


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    lines = ["| model | " + " | ".join(f"{call} a call, ms a step" for call in CALLS) + " |"]
    lines.append("|---|" + "---|" * len(CALLS))
    with tempfile.TemporaryDirectory() as folder:
        for name, model in MODELS.items():
            found: dict[int, list[float]] = {call: [] for call in CALLS}
            for turn in range(repeats):
                for call in CALLS:
                    found[call].append(step_ms(model, call, Path(folder) / f"{model[0]}-{call}-{turn}"))
            said = [f"{min(times):.3f} ({', '.join(f'{t:.3f}' for t in times)})" for times in found.values()]
            lines.append(f"| {name} | {' | '.join(said)} |")
            print(lines[-1], flush=True)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
