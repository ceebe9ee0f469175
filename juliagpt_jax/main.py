"""Train a model, or go on where it stopped, and report on it.

python -m juliagpt_jax.main --config=configs/tiny.py --workdir=runs/tiny [--config.train.steps=300 ...]
"""

import argparse
import dataclasses
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from juliagpt_jax import command, config, devices
from juliagpt_jax.errors import NumericalError, UserError
from juliagpt_jax.files import write_json, write_text


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
    workdir = Path(options.workdir or f"runs/{Path(options.config).stem}")
    devices.prepare(settings.mesh)

    from juliagpt_jax.data import corpus as corpora
    from juliagpt_jax.models.decoder import check_names
    from juliagpt_jax.training import optimizers
    from juliagpt_jax.training.workdir import Lock, settle_config

    check_names(settings.model)
    optimizers.check_name(settings.train)
    with Lock(workdir):
        settle_config(workdir, settings)
        if (workdir / "DONE").exists():
            print(f"{workdir} is done; its report:\n")
            _show(_read_report(workdir / "report.json"), options.json)
            return
        (workdir / "FAILED").unlink(missing_ok=True)
        try:
            corpus = corpora.load(settings.data, settings.model.context)
            report = _train(settings, corpus, workdir, begun)
        except NumericalError as error:
            write_text(workdir / "FAILED", f"{error}\n")
            raise
        _show(report, options.json)


def _train(settings: config.Config, corpus: Any, workdir: Path, begun: float) -> dict[str, Any]:
    import jax

    from juliagpt_jax.data import tokenizer
    from juliagpt_jax.training import metrics, optimizers
    from juliagpt_jax.training.loop import Trainer
    from juliagpt_jax.training.workdir import describe_run

    micro = devices.micro_batches(settings.train.accumulate, settings.train.batch_size, settings.model.context)
    settings = dataclasses.replace(settings, train=dataclasses.replace(settings.train, accumulate=micro))
    facts = describe_run(settings.seed, jax.devices())
    write_json(workdir / "run.json", facts)
    trainer = Trainer(settings, corpus, workdir, facts)
    tokenizer.save(corpus.tokenizer, workdir / "tokenizer.json")

    done = int(trainer.state.step)
    print(
        f"data: {settings.data.path}: {len(corpus.train):,} + {len(corpus.val):,} characters, "
        f"{corpus.tokenizer.vocab_size} different"
    )
    for note in corpus.notes:
        print(f"      {note}")
    print(f"on {facts['device']}, {trainer.mesh.size} in use; micro-batches: {micro}\n")
    print(optimizers.parameter_table(settings.train, trainer.state.params), "\n")
    if done:
        print(f"going on after step {done} of {settings.train.steps}")
    elif jax.default_backend() == "cpu":
        _warn_if_slow(settings, trainer)
    sys.stdout.flush()
    trainer.run()

    report = trainer.report() | {"wall_s": time.perf_counter() - begun}
    metrics.plot(workdir, report["entropy"])
    write_json(workdir / "report.json", report)
    write_text(workdir / "DONE", f"{settings.train.steps} steps\n")
    return report


def _warn_if_slow(settings: config.Config, trainer: Any) -> None:
    """Say beforehand how long a long run takes on this processor."""
    from juliagpt_jax.evaluation import ceilings, cost

    tokens = settings.train.steps * settings.train.batch_size * settings.model.context
    flops = tokens * cost.train_flops_per_token(settings.model, trainer.multiplied, trainer.model.vocab)
    seconds = flops / (0.5 * ceilings.matmul_flops(size=1024, seconds=0.3))
    if seconds > 600:
        print(
            f"this takes about {command.duration(seconds)} on this processor ({flops:.2g} FLOPs at half its "
            "matrix-product rate); configs/tiny.py takes minutes"
        )


def _read_report(path: Path) -> dict[str, Any]:
    """The report of a finished run; null stands for a number that is not finite."""
    nan = lambda values: {k: math.nan if v is None else v for k, v in values.items()}
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_hook=nan)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: missing or damaged; remove {path.parent / 'DONE'} and run again to write it anew"
        ) from error


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
