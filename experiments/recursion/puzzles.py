"""How far does a tiny recursive model come on two cores? 9x9 sudokus, mazes, sums and arguments, and ARC-AGI-1, each
trained for some minutes: single pass and voted, with and without the puzzle's embedding, first step and last.

python experiments/recursion/puzzles.py --out=experiments/recursion/results/puzzles [--studies=sudoku9,maze9] \
    [--seeds=1,2,3] [--hard=FOLDER_OF_CSV] [--arc=FOLDER] [--minutes=60]

Each cell is a reader's command, `python -m juliagpt_jax.main`, which resumes; `solve` then measures the averaged
weights. Rows that are there already are not made again, and --minutes limits what is begun. --hard names sudokus that
are published as hard, of which the first of each file are asked too, without any training on such; --arc has
training.jsonl and evaluation.jsonl, of which the tasks of at most ten rows and columns are taken.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

from sudoku6 import DRAWN, parser, run_all, solve, train

from juliagpt_jax.data.puzzles.build import build_puzzles
from juliagpt_jax.ground import config_file

FORMS = 8  # that vote
HARD = 64  # puzzles of each file
ATTENTION = "model.recursive.core=attention"
FEW = ["train.batch_size=64", "data.puzzle.test=256"]


class Study(NamedTuple):
    """A kind of puzzle: its config, the knobs that differ, and the steps for which it is trained."""

    config: str
    knobs: list[str]
    steps: int

    @property
    def arc(self) -> bool:
        """Its puzzles are ARC's."""
        return "data.puzzle.kind=arc" in self.knobs


def maze(side: int, least: int, steps: int, *more: str) -> Study:
    """Return mazes of a side whose ways have at least so many steps."""
    own = [f"data.puzzle.side={side}", f"data.puzzle.least={least}", f"model.context={side * side}"]
    return Study("configs/trm_maze.py", [*FEW, *own, *more], steps)


STUDIES = {
    "sudoku9": Study(
        "configs/trm_sudoku6.py",
        [*FEW, "data.puzzle.side=9", "data.puzzle.least=40", "data.puzzle.most=50", "model.context=81"],
        1_500,
    ),
    "maze9": maze(9, 8, 1_500),
    "maze11": maze(11, 12, 1_000),
    "maze13": maze(13, 16, 700),
    "maze9 attention": maze(9, 8, 1_500, ATTENTION),
    "arc1": Study(
        "configs/trm_maze.py",
        [
            *["data.puzzle.kind=arc", "data.puzzle.side=10", "data.puzzle.train=400", "data.puzzle.test=400"],
            *[f"data.puzzle.copies={FORMS}", "model.context=100", "train.batch_size=64", ATTENTION],
            *["train.recursive.ids_lr=1e-2", "train.recursive.ids_decay=0.1"],
        ],
        1_200,
    ),
    "logic": Study("configs/trm_logic.py", FEW, 1_000),
}
# As `sudoku6.AS_DRAWN`.
STUDIES |= {
    f"{name} as drawn": STUDIES[name]._replace(knobs=[*STUDIES[name].knobs, DRAWN])
    for name in ("sudoku9", "maze9", "maze9 attention", "arc1")
}
KINDS = ("single_pass_first_step", "single_pass", "voted_first_step", "voted")


def hardest(folder: Path, path: Path) -> Path:
    """Write the first puzzles of each file of a folder into one file."""
    lines = []
    for file in sorted(folder.glob("*.csv")):
        rows = file.read_text(encoding="utf-8").splitlines()[1 : HARD + 1]
        lines += [f"# {file.name}", *(row.split(",")[0] for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def ids(study: Study, knobs: list[str]) -> int:
    """Return how many embeddings the puzzles of ARC need, of those tasks that fit."""
    puzzles = build_puzzles(config_file.load(study.config, knobs))
    puzzles.load()
    return puzzles.ids


def cell(name: str, seed: int, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train for one study with one seed, and solve with it; go on where it stopped."""
    study, begun = STUDIES[name], time.perf_counter()
    arc = study.arc
    knobs = [*study.knobs, f"data.path={options.arc}"] if arc else study.knobs
    knobs = [*knobs, f"model.recursive.ids={ids(study, knobs)}"] if arc else knobs
    steps = options.steps or study.steps
    workdir = folder / name.replace(" ", "_") / str(seed)
    report = train(study.config, knobs, seed, steps, workdir)
    asked = [f"--forms={FORMS}"] if name.startswith(("sudoku", "maze")) else []
    found = {}
    # Puzzles of ARC have an embedding each; one that is the same for all tells nothing.
    for ids_are, more in (("with", []), ("without", ["--without_ids"])) if arc else (("with", []),):
        values = solve(workdir, "--averaged", *asked, *more)
        once = {"single_pass_first_step": values["verified_first_step"], "single_pass": values["verified"]}
        found[ids_are] = values.get("tasks") or values.get("votes") or once
    if name.startswith("sudoku9") and options.hard:
        path = hardest(options.hard, workdir / "hardest.txt")
        found["hard"] = solve(workdir, "--averaged", *asked, f"--puzzles={path}")["votes"]
    facts = json.loads((workdir / "run.json").read_text())
    return {
        "study": name,
        "seed": seed,
        "steps": steps,
        "puzzles": report["puzzles"],
        "flops": report["flops"],
        "parameters": report["params"] - report["id_params"],
        "id_parameters": report["id_params"],
        "symbols": report["averaged"]["symbols"],
        **found,
        "seconds": time.perf_counter() - begun,
        "device": facts["device"],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the studies as Markdown: shares of solved puzzles, of ARC of solved tasks."""
    names = "study | seed | single pass, first step | last | voted, first step | last | symbols"
    lines = [f"| {names} | parameters | in embeddings | steps | seconds |", "|---" * 11 + "|"]
    for row in rows:
        for kind, said in (("with", ""), ("without", ", without embeddings"), ("hard", ", hard sets")):
            if kind not in row:
                continue
            shares = [f"{row[kind][name]:.1%}" if name in row[kind] else "" for name in KINDS]
            facts = [f"{row['symbols']:.1%}", f"{row['parameters']:,}", f"{row['id_parameters']:,}"]
            facts = [*facts, f"{row['steps']:,}", f"{row['seconds']:.0f}"] if kind == "with" else [""] * 5
            lines.append("| " + " | ".join([row["study"] + said, str(row["seed"]), *shares, *facts]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    flags = parser("How far does a tiny recursive model come on two cores?")
    flags.add_argument("--studies", default=",".join(STUDIES), metavar="NAME,...")
    flags.add_argument("--steps", type=int, default=0, metavar="N", help="default: as many as a study says")
    flags.add_argument("--hard", type=Path, metavar="DIR", help="files of hard 9x9 sudokus, .csv")
    flags.add_argument("--arc", type=Path, metavar="DIR", help="of ARC-AGI-1: training.jsonl, evaluation.jsonl")
    options = flags.parse_args()
    names = options.studies.split(",")
    if unknown := set(names) - set(STUDIES):
        flags.error(f"no study is called {min(unknown)!r}: {', '.join(STUDIES)}")
    if any(STUDIES[name].arc for name in names) and not options.arc:
        flags.error("ARC needs --arc=FOLDER")
    run_all(options, "study", names, lambda name, seed, folder: cell(name, seed, folder, options), table)


if __name__ == "__main__":
    main()
