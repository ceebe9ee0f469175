"""A whole run in its workdir: from the lock to the report, or on from where it stopped."""

import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from juliagpt_jax import command, config, devices
from juliagpt_jax.data import corpus as corpora
from juliagpt_jax.data import selection, tokenizer
from juliagpt_jax.errors import NumericalError, UserError
from juliagpt_jax.evaluation import ceilings, cost
from juliagpt_jax.files import write_json, write_text
from juliagpt_jax.models.decoder import check_names
from juliagpt_jax.models.parameters import count, paths
from juliagpt_jax.training import metrics, ngrams, optimizers, schedules
from juliagpt_jax.training.loop import Trainer
from juliagpt_jax.training.workdir import Lock, describe_run, settle_config


def check(settings: config.Config) -> None:
    """Refuse at once words that are in no table, and selections that say nothing.

    Raises:
        UserError: naming the key.
    """
    check_names(settings.model)
    optimizers.check_names(settings.train)
    schedules.check_names(settings.train)
    ngrams.check_name(settings.train)
    selection.check(settings.data)


def run(
    settings: config.Config, workdir: Path, begun: float, trainer: Callable[..., Trainer] = Trainer
) -> dict[str, Any]:
    """Train in `workdir` until it is done, and return the report; of a run that is done, the report it left.

    Args:
        begun: `time.perf_counter()` when the command began.
        trainer: what makes the trainer, with Trainer's arguments.

    Raises:
        UserError, NumericalError, StorageError, Stopped: as the trainer.
    """
    with Lock(workdir):
        settle_config(workdir, settings)
        if (workdir / "DONE").exists():
            print(f"{workdir} is done; its report is read from there")
            return _read_report(workdir / "report.json")
        (workdir / "FAILED").unlink(missing_ok=True)
        try:
            corpus = corpora.load(settings.data, settings.model.context)
            return _train(settings, corpus, workdir, begun, trainer)
        except NumericalError as error:
            write_text(workdir / "FAILED", f"{error}\n")
            raise


def _train(
    settings: config.Config, corpus: corpora.Corpus, workdir: Path, begun: float, make: Callable[..., Trainer]
) -> dict[str, Any]:
    micro = devices.micro_batches(settings.train.accumulate, settings.train.batch_size, settings.model.context)
    settings = dataclasses.replace(settings, train=dataclasses.replace(settings.train, accumulate=micro))
    facts = describe_run(settings.seed, jax.devices())
    write_json(workdir / "run.json", facts)
    trainer = make(settings, corpus, workdir, facts)
    tokenizer.save(corpus.tokenizer, workdir / "tokenizer.json")

    done = int(trainer.state.step)
    print(
        f"data: {settings.data.path}: {len(corpus.train):,} + {len(corpus.val):,} "
        f"{'characters' if corpus.characters_per_token[0] == 1 else 'tokens'}, {corpus.tokenizer.vocab_size} different"
    )
    for note in (*corpus.notes, *trainer.chosen.notes):
        print(f"      {note}")
    print(f"on {facts['device']}, {trainer.mesh.size} in use; micro-batches: {micro}\n")
    print(optimizers.parameter_table(settings.train, trainer.state.params), "\n")
    flops = cost.train_flops_per_token(settings.model, trainer.multiplied, trainer.model.vocab)
    print(plan(settings, trainer.state.params, flops), "\n")
    if done:
        print(f"going on after step {done} of {settings.train.steps}")
    elif jax.default_backend() == "cpu":
        _warn_if_slow(flops * settings.train.steps * settings.train.batch_size * settings.model.context)
    sys.stdout.flush()
    trainer.run()

    report = trainer.report() | {"wall_s": time.perf_counter() - begun}
    metrics.plot(workdir, report["entropy"], corpus.characters_per_token)
    write_json(workdir / "report.json", report)
    write_text(workdir / "DONE", f"{settings.train.steps} steps\n")
    return report


def plan(settings: config.Config, params: Any, flops: float) -> str:
    """What the run is going to do, as a small table; `flops` are those of training on a token, by formula."""
    train, context = settings.train, settings.model.context
    batch, leaves = train.batch_size * context, paths(params)
    head = "embedding" if settings.model.tie else "head"
    scaling = sum(leaf.size for path, leaf in leaves.items() if optimizers.is_matrix(path) or path == head)
    rates = sorted({*zip(*(f(train, params).values() for f in (optimizers.rules, optimizers.rates)), strict=True)})
    tokens = train.steps * batch
    rows = [
        ("parameters", f"{count(params):,}, of these {scaling:,} in matrices and the head"),
        ("tokens", f"{tokens:,}, {tokens / scaling:.3g} for each of these"),
        ("steps", f"{train.steps:,} of {train.batch_size:,} windows of {context:,}: {batch:,} tokens"),
        ("learning rate", ", ".join(f"{rate:.3g} ({rule})" for rule, rate in rates)),
        ("schedule", f"{train.schedule}, {settings.warmup_steps:,} steps of warm-up"),
        ("weight decay", f"{train.weight_decay:.3g} ({train.weight_decay_schedule})"),
        ("FLOPs", "as many as the tolerance takes" if math.isnan(flops) else f"{tokens * flops:.3g} by formula"),
    ]
    return "\n".join(f"{name:<13}  {text}" for name, text in rows)


def _warn_if_slow(flops: float) -> None:
    """Say beforehand how long a run of so many FLOPs takes on this processor, if that is long."""
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
