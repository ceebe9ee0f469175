"""Train a model, or go on where it stopped, and report on it.

python -m juliagpt_jax.main --config=configs/tiny.py --workdir=runs/tiny [--config.train.steps=300 ...]
"""

import argparse
import time
from pathlib import Path
from typing import Any

from juliagpt_jax import command, config, devices


def parser() -> command.Parser:
    flags = command.Parser("main", "Train a model; the same command resumes. Any knob: --config.GROUP.NAME=VALUE")
    flags.add_argument(
        "--config", required=True, metavar="FILE", help="such as configs/tiny.py; configs/base.py names all knobs"
    )
    flags.add_argument(
        "--workdir", metavar="DIR", help="what the run leaves behind; default: runs/NAME of the config file"
    )
    flags.add_argument("--json", action="store_true", help="print the report as one JSON object on the last line")
    return flags


def main(options: argparse.Namespace) -> None:
    begun = time.perf_counter()
    settings = config.load(options.config, options.overrides)
    workdir = Path(options.workdir or f"runs/{config.run_name(options.config)}")
    devices.prepare(settings.mesh)

    from juliagpt_jax.training import run

    run.check(settings)
    _show(run.run(settings, workdir, begun), options.json)


def _show(report: dict[str, Any], as_json: bool) -> None:
    from juliagpt_jax.evaluation.report import describe

    print(f"\n{describe(report, report['entropy'])}\n")
    for text in report["passages"]:
        print(f"  | {text}")
    print(
        f"\n{report['workdir']}: metrics.jsonl, report.json, plots/loss.png, checkpoints; "
        f"{report['wall_s']:.0f} s in all"
    )
    if as_json:
        command.print_json(report)


if __name__ == "__main__":
    command.run(parser(), main, overrides=True)
