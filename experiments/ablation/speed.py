"""Time of a training step and speed of writing of every arm of a suite, beside its baseline, on an idle machine.

python experiments/ablation/speed.py --out=experiments/ablation/results/speed \
    [--suite=experiments/ablation/suites/schoolroom.py] [--scale=micro] [--rounds=3]

What a suite's own rows say of time was measured while other cells ran. Here the arms are measured one after the other
in every round, so that a noisy machine meets all alike, with random weights; the table has medians over the rounds and
their ratio to the baseline's. It goes on where it was stopped.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from juliagpt_jax.ground import config_file, devices
from juliagpt_jax.study import suite as suites

VOCAB = 64
NEW = 120  # characters that are written
# Keys of a row, their title, in which unit, and how they are written.
COLUMNS = {
    "params": ("parameters", 1, ",.0f"),
    "step_s": ("ms a step", 1e-3, ".1f"),
    "step_memory_bytes": ("memory of a step, MB", 1e6, ".1f"),
    "tokens_per_s": ("characters/s, one text", 1, ",.0f"),
}


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--out", required=True, type=Path)
    flags.add_argument("--suite", default=str(Path(__file__).parent / "suites" / "schoolroom.py"))
    flags.add_argument("--scale", default="micro")
    flags.add_argument("--rounds", type=int, default=3)
    options = flags.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    suite = suites.load(options.suite, options.scale)
    devices.prepare(config_file.load(suite.config))
    file = options.out / "speed.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    seed = suite.seeds[0]
    cells = [cell for cell in suites.cells(suite, options.out) if cell.seed == seed]
    for round_ in range(options.rounds):
        for cell in cells:
            if any((row["arm"], row["round"]) == (cell.arm, round_) for row in rows):
                continue
            rows.append({"arm": cell.arm, "round": round_} | measure(suite.config, cell.overrides))
            print(json.dumps(rows[-1]), flush=True)
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (options.out / "speed.md").write_text(table(rows, suite.baseline) + "\n")
    print(table(rows, suite.baseline))


def measure(file: str, overrides: tuple[str, ...]) -> dict[str, Any]:
    """Return what one arm takes in one round."""
    from juliagpt_jax.study import speed

    settings = config_file.load(file, list(overrides))
    train = speed.train(settings, VOCAB, repeats=10)
    written = speed.generate(settings, VOCAB, 3, 1, NEW, "f32")
    return {key: train[key] if key in train else written[key] for key in COLUMNS}


def table(rows: list[dict[str, Any]], baseline: str) -> str:
    """Return medians over the rounds, in Markdown, each but the parameters with its ratio to the baseline's."""
    middle = lambda arm, key: statistics.median(row[key] for row in rows if row["arm"] == arm)
    heads = ["arm", *(title for title, _, _ in COLUMNS.values())]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for arm in dict.fromkeys(row["arm"] for row in rows):
        cells = [arm]
        for key, (_, unit, form) in COLUMNS.items():
            value = middle(arm, key)
            ratio = "" if key == "params" else f" ({value / middle(baseline, key):.2f})"
            cells.append(f"{value / unit:{form}}{ratio}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
