"""Run a pipeline: trainings that build on each other, then search, measured on one task; one table, one page.

python -m juliagpt_jax.pipeline --config=configs/pipeline_sums.py --out=runs/pipeline_sums [--scale=base] [--jobs=1]
"""

import argparse
import json
from pathlib import Path

from juliagpt_jax.ground import command, config_file, devices
from juliagpt_jax.ground.errors import CommandError, UserError


def parser() -> command.Parser:
    flags = command.Parser(
        "pipeline", "Run what is missing of a pipeline, then write table.md, report.md, curve.png and rows.json."
    )
    flags.add_argument("--config", required=True, metavar="FILE", help="such as configs/pipeline_sums.py")
    flags.add_argument("--out", required=True, metavar="DIR", help="where runs, measures, table and page go")
    flags.add_argument("--scale", default="base", metavar="NAME", help="passed to the pipeline: base, small, ...")
    flags.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="trainings at a time, each on its share of the cores"
    )
    flags.add_argument("--dry_run", action="store_true", help="only say what would be trained")
    flags.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    return flags


def main(options: argparse.Namespace) -> None:
    if options.jobs < 1:
        raise UserError("--jobs must be at least 1")
    devices.prepare(config_file.load(options.config))

    from juliagpt_jax.store.claim import Lock
    from juliagpt_jax.study import pipeline, suite
    from juliagpt_jax.study.runner import Runner

    question, out = pipeline.load(options.config, options.scale), Path(options.out)
    with Lock(out, "--out"):
        cells = suite.cells(question.suite, out / "cells")
        runner = Runner(question.suite, cells, out, options.jobs, keep=True)
        if not runner.announce(options.dry_run):
            return
        failed = [row for row in runner.run() if row["status"] != "done"]
        if failed:
            first = failed[0]
            says = f"{first['arm']}, seed {first['seed']}: {first['error']}"
            raise CommandError(f"{len(failed)} of {len(cells)} trainings failed; {says}; the same command tries again")
        _measure(options, question, cells, out)


def _measure(options: argparse.Namespace, question, cells: list, out: Path) -> None:
    from juliagpt_jax.ground.files import write_text
    from juliagpt_jax.study import pipeline, pipeline_page, tables

    say = lambda line: print(line, flush=True)
    seeds = {seed: {cell.arm: cell for cell in cells if cell.seed == seed} for seed in question.suite.seeds}
    measured = [pipeline.Measures(question, own, out / "measured", say) for own in seeds.values()]
    rows = pipeline.rows(question, measured)
    table = pipeline_page.table(rows, measured, question)
    text = tables.markdown(table, pipeline_page.notes(measured, question))
    points = pipeline_page.curves(measured, question)
    values = {
        "rows": [
            {
                "stage": row.name,
                "before": row.before,
                "right": {seed: float(right.mean()) for seed, right in row.right.items()},
                "flops": dict(row.flops),
            }
            for row in rows
        ],
        "curves": points,
    }
    pipeline_page.draw(points, out / "curve.png")
    title = f"{question.task}: {' -> '.join(row.name for row in rows)}"
    write_text(out / "table.md", text)
    write_text(out / "report.md", pipeline_page.page(rows, measured, question, title))
    write_text(out / "rows.json", json.dumps(command.finite(values), indent=1) + "\n")
    print(f"\n{text}\n{out}: table.md, report.md, curve.png, rows.json")
    if options.json:
        command.print_json(values)


if __name__ == "__main__":
    command.run(parser(), main)
