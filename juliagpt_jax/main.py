"""Train a model, or go on where it stopped, and report on it.

python -m juliagpt_jax.main --config=configs/tiny.py --workdir=runs/tiny [--config.train.steps=300 ...]
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from juliagpt_jax.ground import command, config, config_file, devices, hosts
from juliagpt_jax.ground.errors import UserError


def parser() -> command.Parser:
    flags = command.Parser("main", "Train a model; the same command resumes. Any knob: --config.GROUP.NAME=VALUE")
    flags.add_argument(
        "--config", required=True, metavar="FILE", help="such as configs/tiny.py; configs/base.py names all knobs"
    )
    flags.add_argument(
        "--workdir", metavar="DIR", help="what the run leaves behind; default: runs/NAME of the config file"
    )
    flags.add_argument(
        "--seeds", metavar="N,N,...", help="train these seeds as one, each in the workdir that {seed} of --workdir says"
    )
    hosts.add_flags(flags)
    says = "the same bits on any number of cores; --config.mesh.deterministic=true"
    flags.add_argument("--deterministic", action="store_true", help=says)
    flags.add_argument("--json", action="store_true", help="print the report as one JSON object on the last line")
    return flags


def main(options: argparse.Namespace) -> None:
    begun = time.perf_counter()
    options.overrides += ["mesh.deterministic=true"] * options.deterministic
    settings = config_file.load(options.config, options.overrides)
    if options.seeds is not None:
        _together(options, begun)
        return
    devices.prepare(settings)
    hosts.begin(options)
    workdir = hosts.workdir(Path(options.workdir or f"runs/{config_file.run_name(options.config)}"))
    _check({workdir: settings})

    from juliagpt_jax.training import run

    run.check(settings)
    print(f"{options.config} -> {workdir}: {settings.train.steps:,} steps on {settings.data.path}", flush=True)
    with hosts.together():
        report = run.run(settings, workdir, begun)
    if hosts.leads():
        _show(report, options.json)


def _check(settings: Mapping[Path, config.Config]) -> None:
    """Refuse before JAX is imported, which takes seconds: a text that is not there, a workdir that is not free."""
    from juliagpt_jax.data import corpus
    from juliagpt_jax.data.puzzles import build as puzzles
    from juliagpt_jax.store import init
    from juliagpt_jax.store.claim import check

    for workdir, own in settings.items():
        own = init.settle(own, workdir)
        if own.reads == "examples":
            from juliagpt_jax.data.examples import build as examples  # which has JAX's arrays

            examples.check(own.data)
        elif own.reads == "puzzles":
            puzzles.build_puzzles(own)
        else:
            corpus.check(own.data)
        check(workdir, own)


def _together(options: argparse.Namespace, begun: float) -> None:
    """All seeds of --seeds in one process; fails if one of them does, when the others are done."""
    if "{seed}" not in (options.workdir or "") or any(o.startswith("seed=") for o in options.overrides):
        raise UserError("--seeds: needs {seed} in --workdir (runs/tiny/{seed}), and no --config.seed")
    seeds = options.seeds.split(",")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds={options.seeds}: a seed stands there twice")
    settings = {
        Path(options.workdir.replace("{seed}", seed)): config_file.load(
            options.config, [*options.overrides, f"seed={seed}"]
        )
        for seed in seeds
    }
    _check(settings)
    some = next(iter(settings.values()))
    devices.prepare(some)

    from juliagpt_jax.training import run

    run.check(some)
    much = f"{some.train.steps:,} steps of {len(seeds)} seeds on {some.data.path}"
    print(f"{options.config} -> {options.workdir}: {much}", flush=True)
    results = run.run_together(settings, begun)
    for workdir, result in results.items():
        print(f"\n== {workdir}")
        if isinstance(result, Exception):
            print(f"FAILED: {result}")
        else:
            _show(result, False)
    if options.json:
        failed = lambda result: {"error": str(result)} if isinstance(result, Exception) else result
        command.print_json({"runs": [failed(result) for result in results.values()]})
    for result in results.values():
        if isinstance(result, Exception):
            raise result


def _show(report: dict[str, Any], as_json: bool) -> None:
    from juliagpt_jax.evaluation.report import describe

    print(f"\n{describe(report, report['entropy'])}\n")
    for text in report["passages"]:
        print(f"  | {text}")
    print(f"\n{report['workdir']}: metrics.jsonl, report.json, plots, checkpoints; {report['wall_s']:.0f} s in all")
    if as_json:
        command.print_json(report)


if __name__ == "__main__":
    command.run(parser(), main, overrides=True)
