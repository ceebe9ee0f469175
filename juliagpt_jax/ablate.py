"""Run a suite: many trainings, one table.

python -m juliagpt_jax.ablate --suite=experiments/NAME/suites/SUITE.py \
    --out=experiments/NAME/results/SUITE [--scale=micro] [--jobs=2]
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from juliagpt_jax.ground import command
from juliagpt_jax.ground.errors import CommandError, UserError


def parser() -> command.Parser:
    flags = command.Parser("ablate", "Run what is missing of a suite, then write results.jsonl, tables and plots.")
    flags.add_argument("--suite", required=True, metavar="FILE", help="experiments/NAME/suites/SUITE.py")
    flags.add_argument("--out", required=True, metavar="DIR", help="where results.jsonl, tables and plots go")
    flags.add_argument("--scale", default="micro", metavar="NAME", help="passed to the suite: micro, base, ...")
    flags.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="runs at a time, each on its share of the cores"
    )
    flags.add_argument("--together", action="store_true", help="the seeds of an arm train as one vmapped step (a GPU)")
    flags.add_argument("--launcher", default="", metavar="WORDS", help="put before each run's command: 'srun -n1'")
    flags.add_argument("--cells", metavar="DIR", help="folder for the runs' workdirs; default: OUT/cells")
    flags.add_argument("--keep", action="store_true", help="keep the workdirs of finished runs")
    flags.add_argument("--dry_run", action="store_true", help="only say what would be run")
    flags.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    return flags


def main(options: argparse.Namespace) -> None:
    from juliagpt_jax.store.claim import Lock
    from juliagpt_jax.study import suite
    from juliagpt_jax.study.pace import Pace

    if options.jobs < 1:
        raise UserError("--jobs must be at least 1")
    question = suite.load(options.suite, options.scale)
    out = Path(options.out)
    with Lock(out, "--out"):
        pace = Pace(out / "pace.json", options.jobs, shlex.split(options.launcher))
        cells = suite.cells(question, Path(options.cells) if options.cells else out / "cells", pace)
        _run(options, question, cells, out)


def _run(options: argparse.Namespace, question: Any, cells: list, out: Path) -> None:
    from juliagpt_jax.study import plots, tables
    from juliagpt_jax.study.runner import Runner

    runner = Runner(question, cells, out, options.jobs, options.launcher, options.keep, options.together)
    if not runner.announce(options.dry_run):
        return
    try:
        rows = runner.run()
    finally:
        lines = tables.compare(runner.rows, list(question.arms), question.baseline)
        table = tables.cells(lines, question.baseline, question.measures)
        text = tables.markdown(table, tables.notes(lines, question.baseline))
        (out / "table.md").write_text(text, encoding="utf-8")
        (out / "table.csv").write_text(tables.comma_separated(table), encoding="utf-8")
        (out / "table.tex").write_text(tables.latex(table), encoding="utf-8")
    drawn = plots.draw(lines, question.baseline, out)
    print(f"\n{text}\n{out}: results.jsonl, table.md, table.csv, table.tex{''.join(f', {p.name}' for p in drawn)}")
    failed = [row for row in rows if row["status"] != "done"]
    if options.json:
        command.print_json({"cells": len(rows), "failed": len(failed), "rows": rows})
    if failed:
        sys.stdout.flush()
        raise CommandError(
            f"{len(failed)} of {len(rows)} cells failed; the table says why; the same command tries again"
        )


if __name__ == "__main__":
    command.run(parser(), main)
