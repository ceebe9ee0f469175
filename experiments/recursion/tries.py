"""What are eight times the steps at the test best spent on: on more of them, on tries with noise, or on other forms?

python experiments/recursion/tries.py --out=experiments/recursion/results/tries --runs=DIR [--seeds=1,2,3]

DIR holds the runs of `sudoku6.py --runs=DIR`, of which the arm `recursive` solves its 1,000 test puzzles in each way
anew, without any training. Tries differ by noise in the state at each step; the one that the halting head trusts most
counts. Every way but the first costs the same.
"""

from pathlib import Path
from typing import Any

from sudoku6 import parser, run_all, solve

WAYS = {
    "8 steps": [],
    "64 steps": ["--steps=64"],
    **{f"8 tries, noise {noise}": ["--samples=8", f"--noise={noise}"] for noise in (0.03, 0.1, 0.3, 1.0, 3.0)},
    "8 forms that vote": ["--forms=8"],
}


def cell(way: str, seed: int, folder: Path) -> dict[str, Any]:
    """Solve in one way with what one seed has learned."""
    values = solve(folder / "recursive" / str(seed), "--averaged", "--steps=8", *WAYS[way])
    kept = ("step", "steps", "samples", "noise", "forms", "puzzles", "verified")
    return {"way": way, "seed": seed} | {name: values[name] for name in kept}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the share that each way solves, by seed, as Markdown."""
    seeds = sorted({row["seed"] for row in rows})
    lines = ["| way | " + " | ".join(f"seed {seed}" for seed in seeds) + " |", "|---" * (1 + len(seeds)) + "|"]
    for way in dict.fromkeys(row["way"] for row in rows):
        by = {row["seed"]: f"{row['verified']:.1%}" for row in rows if row["way"] == way}
        lines.append(f"| {way} | " + " | ".join(by.get(seed, "") for seed in seeds) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    options = parser("What are more steps at the test best spent on?").parse_args()
    if not options.runs:
        raise SystemExit("tries.py: --runs=DIR names the runs of sudoku6.py")
    run_all(options, "way", list(WAYS), cell, table)


if __name__ == "__main__":
    main()
