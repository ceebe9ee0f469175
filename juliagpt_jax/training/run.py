"""A whole run in its workdir: from the lock to the report, or on from where it stopped."""

import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from juliagpt_jax.data import corpus as corpora
from juliagpt_jax.data import selection, tokenizer
from juliagpt_jax.data.examples import build as examples
from juliagpt_jax.data.examples.build import Examples
from juliagpt_jax.data.puzzles import build as puzzles
from juliagpt_jax.data.puzzles.puzzles import Puzzles
from juliagpt_jax.evaluation import ceilings
from juliagpt_jax.evaluation.report import describe
from juliagpt_jax.ground import command, config, devices, hosts, memory, words
from juliagpt_jax.ground.errors import NumericalError, StorageError, UserError
from juliagpt_jax.ground.files import write_text
from juliagpt_jax.ground.sealed import Changed, read_json, write_json
from juliagpt_jax.models import build, roles
from juliagpt_jax.models.parameters import active, count, paths
from juliagpt_jax.objectives import build as objectives
from juliagpt_jax.store import init
from juliagpt_jax.store.checkpoint import Damaged, read_meta, steps
from juliagpt_jax.store.claim import Lock, settle_config
from juliagpt_jax.store.machine import describe_run
from juliagpt_jax.training import optimizers, schedules, together, tracking
from juliagpt_jax.training.examples import ExampleTrainer
from juliagpt_jax.training.loop import Trainer
from juliagpt_jax.training.puzzles import PuzzleTrainer

WORDS = selection.WORDS | optimizers.WORDS | schedules.WORDS


def check(settings: config.Config) -> None:
    """Refuse at once words that are in no table, and selections that say nothing.

    Raises:
        UserError: naming the key.
    """
    words.check(settings, WORDS)
    build.check(settings)
    objectives.check(settings)
    selection.check(settings.data)
    tracking.check(settings)


def run(settings: config.Config, workdir: Path, begun: float) -> dict[str, Any]:
    """Train in `workdir` until it is done, and return the report; of a run that is done, the report it left.

    Args:
        begun: `time.perf_counter()` when the command began.

    Raises:
        UserError, NumericalError, StorageError, Stopped: as the trainer.
    """
    with Lock(workdir):
        settings = init.settle(settings, workdir)
        done = _is_done(settings, workdir)
        if hosts.told(done):
            return _read_report(workdir / "report.json") if done else {}
        try:
            print(f"reading {settings.data.path}", flush=True)
            corpus = _load(settings)
            hosts.same(corpus.fingerprint, "text")
            with _room(settings):
                ready = _begin(settings, corpus, workdir)
                ready.run()
                return _end(ready, begun) if hosts.leads() else {}
        except NumericalError as error:
            write_text(workdir / "FAILED", f"{error}\n")
            raise


def run_together(settings: Mapping[Path, config.Config], begun: float) -> dict[Path, dict[str, Any] | Exception]:
    """Train runs that differ in their seed alone as one (`together.py`), each in its workdir; for each its report, or
    the NumericalError or StorageError that ended it.

    Raises:
        UserError, Stopped: as the trainers, or as `together.run`.
    """
    with contextlib.ExitStack() as locks:
        for workdir in settings:
            locks.enter_context(Lock(workdir))
        settings = {workdir: init.settle(own, workdir) for workdir, own in settings.items()}
        done = [workdir for workdir, own in settings.items() if _is_done(own, workdir)]
        results: dict[Path, Any] = {workdir: _read_report(workdir / "report.json") for workdir in done}
        left = {workdir: own for workdir, own in settings.items() if workdir not in results}
        if left:
            some = next(iter(left.values()))
            print(f"reading {some.data.path}", flush=True)
            corpus = _load(some)
            with _room(some, len(left)):
                trainers: list[Trainer] = []
                for workdir, own in left.items():
                    trainers.append(_begin(own, corpus, workdir))
                    if trainers[0].meta["base"] and trainers[-1].meta["base"] == trainers[0].meta["base"]:
                        trainers[-1].share(trainers[0])
                ended = together.run(trainers)
            for trainer, error in zip(trainers, ended, strict=True):
                if isinstance(error, NumericalError):
                    write_text(trainer.workdir / "FAILED", f"{error}\n")
                results[trainer.workdir] = error or _end(trainer, begun)
        return {workdir: results[workdir] for workdir in settings}


@contextlib.contextmanager
def _room(settings: config.Config, runs: int = 1) -> Iterator[None]:
    """Say of what finds no room on a device what it was, and which knobs make it smaller.

    Raises:
        StorageError: in place of what JAX raises. The newest checkpoint stays.
    """
    try:
        yield
    except Exception as error:
        if not memory.ran_out(error):
            raise
        first = next(iter(str(error).splitlines()), "no more")
        model, train = settings.model, settings.train
        sizes = {"layers": model.layers, "width": model.width, "batch_size": train.batch_size, "context": model.context}
        what = ", ".join(f"{name} {size:,}" for name, size in sizes.items()) + f", {runs} seeds at once" * (runs > 1)
        ways = "a larger --config.train.accumulate, --config.train.remat=true or a smaller --config.train.batch_size"
        raise StorageError(f"out of memory: {first.removesuffix('.')}, with {what}; try {ways}") from error


def _load(settings: config.Config) -> Any:
    """Return the text that a config names, or its puzzles, or its examples."""
    if settings.reads == "examples":
        return examples.load(settings, objectives.paired(settings))
    if settings.reads == "puzzles":
        return puzzles.load(settings)
    return corpora.load(settings.data, settings.model.context)


def _hold_moved_text(settings: config.Config, workdir: Path) -> None:
    """Refuse another text than the run was begun with before its path is written down. The hash decides: the same text
    may lie elsewhere now.

    Raises:
        UserError: it is another text, or not readable.
    """
    path, begun = workdir / "config.json", steps(workdir / "checkpoints")
    if not begun or not path.exists() or config.read(path).data.path == settings.data.path:
        return
    try:
        held = read_meta(workdir / "checkpoints" / str(begun[-1]))["data"]
    except Damaged:
        return  # the trainer tries the one before, and holds the text to it
    if held not in (None, _load(settings).fingerprint):
        raise UserError(
            f"{workdir} was trained on another text than {settings.data.path}: the hash is not that of "
            f"{config.read(path).data.path}; put the old text back, or train in another --workdir"
        )


def _is_done(settings: config.Config, workdir: Path) -> bool:
    _hold_moved_text(settings, workdir)
    settle_config(workdir, settings)
    (workdir / "FAILED").unlink(missing_ok=True)
    if (workdir / "DONE").exists():
        print(f"{workdir} is done; its report is read from there")
        return True
    return False


def _begin(settings: config.Config, corpus: Any, workdir: Path) -> Trainer:
    """Make the trainer of a run, and announce it."""
    of_examples, of_puzzles = isinstance(corpus, Examples), isinstance(corpus, Puzzles)
    tokens = corpus.length if of_examples else settings.model.context
    micro = devices.micro_batches(settings.train.accumulate, settings.train.batch_size, tokens)
    settings = dataclasses.replace(settings, train=dataclasses.replace(settings.train, accumulate=micro))
    facts = describe_run(settings.seed, jax.devices()) | {"tokenizer_sha256": tokenizer.digest(corpus.tokenizer)}
    write_json(workdir / "run.json", facts)
    if of_examples:
        print(f"data: {settings.data.task}: {len(corpus.train):,} + {len(corpus.dev):,} examples")
    elif of_puzzles:
        print(f"data: {len(corpus.train.inputs):,} + {len(corpus.test.inputs):,} puzzles of {corpus.places} symbols")
    else:
        print(
            f"data: {settings.data.path}: {len(corpus.train):,} + {len(corpus.val):,} "
            f"{corpus.unit}s, {corpus.tokenizer.vocab_size} different"
        )
    for note in corpus.notes:
        print(f"      {note}")
    print("making the parameters, or reading the newest checkpoint", flush=True)
    kind = ExampleTrainer if of_examples else PuzzleTrainer if of_puzzles else Trainer
    trainer = kind(settings, corpus, workdir, facts)
    tokenizer.save(corpus.tokenizer, workdir / "tokenizer.json")

    done = int(trainer.state.step)
    for note in trainer.notes:
        print(f"      {note}")
    print(f"on {facts['device']}, {trainer.mesh.size} in use; micro-batches: {micro}\n")
    print(optimizers.parameter_table(trainer.settled.train, trainer.state.params), "\n")
    flops = trainer.events.token_flops
    about = plan(
        trainer.settled, trainer.state.params, flops, trainer.epoch_steps, trainer.row_tokens, trainer.frozen.base
    )
    print(about, "\n")
    if done:
        print(f"going on after step {done} of {settings.train.steps}")
    elif jax.default_backend() == "cpu":
        print(_estimate(flops * settings.train.steps * settings.train.batch_size * trainer.row_tokens))
    sys.stdout.flush()
    return trainer


def _end(trainer: Trainer, begun: float) -> dict[str, Any]:
    """Write the report of a run that has trained, and return it."""
    workdir = trainer.workdir
    report = trainer.report() | {"wall_s": time.perf_counter() - begun}
    trainer.plot(report)
    write_json(workdir / "report.json", report)
    write_text(workdir / "DONE", f"{trainer.config.train.steps} steps\n")
    return report


def plan(
    settings: config.Config, params: Any, flops: float, epoch_steps: float, row_tokens: int = 0, base: Any = ()
) -> str:
    """Return what the run is going to do, as a small table.

    Args:
        settings: the config with what it gives in epochs as it is in steps.
        flops: of training on a token, by formula.
        params: those that are trained.
        epoch_steps: steps in which the text is read once.
        row_tokens: of a row of a step; 0: a window of `model.context`.
        base: the frozen parameters beside them.
    """
    train, row_tokens = settings.train, row_tokens or settings.model.context
    batch, leaves = train.batch_size * row_tokens, paths(params)
    head = "embedding" if settings.model.tie else "head"
    scaling = sum(leaf.size for path, leaf in leaves.items() if roles.of(path).matrix or path == head)
    used = active(params, settings.model)
    through = f"; a token goes through {used:,}" if used != count(params) else ""
    rates = sorted({*zip(*(f(train, params).values() for f in (optimizers.rules, optimizers.rates)), strict=True)})
    tokens = train.steps * batch
    rows = [
        ("parameters", f"{count(params):,}, of these {scaling:,} in matrices and the head{through}"),
        ("tokens", f"{tokens:,}, {tokens / scaling:.3g} for each of these"),
        ("steps", f"{train.steps:,} of {train.batch_size:,} windows of {row_tokens:,}: {batch:,} tokens"),
        ("epochs", f"{train.steps / epoch_steps:.3g} of {epoch_steps:,.4g} steps"),
        ("learning rate", ", ".join(f"{rate:.3g} ({rule})" for rule, rate in rates)),
        ("schedule", f"{train.schedule}, {settings.warmup_steps:,} steps of warm-up"),
        ("weight decay", _decay(train, params, epoch_steps)),
        ("FLOPs", "as many as the tolerance takes" if math.isnan(flops) else f"{tokens * flops:.3g} by formula"),
    ]
    if base:
        size = sum(leaf.nbytes for leaf in paths(base).values())
        form = "" if settings.adapter.base == "float" else f", kernels as {settings.adapter.base}"
        share = count(params) / (count(params) + count(base))
        rows.insert(1, ("frozen", f"{count(base):,} in {size:,} bytes{form}; trained are {share:.2%} of all"))
    return "\n".join(f"{name:<13}  {text}" for name, text in rows)


def _decay(train: config.Train, params: Any, epoch_steps: float) -> str:
    """Say what the weight decay is, and over how many epochs it so averages: tau = 1 / (rate * decay)."""
    rate, decay = optimizers.rates(train, params), optimizers.decays(train, params)
    groups: dict[tuple[str, str], set[str]] = {}
    for path in (path for path in rate if decay[path]):
        tau = f"{1 / (rate[path] * decay[path] * epoch_steps):.3g}"
        groups.setdefault((f"{decay[path]:.3g}", tau), set()).add("matrices" if roles.of(path).matrix else "others")
    named = lambda kinds: f" for {' and '.join(sorted(kinds))}" if len(groups) > 1 else ""
    said = [f"{decay}{named(kinds)}, tau = {tau} epochs" for (decay, tau), kinds in groups.items()]
    return f"{'; '.join(said) or 'none'} ({train.weight_decay_schedule})"


def _estimate(flops: float) -> str:
    """Say how long training with so many FLOPs takes on this processor."""
    if math.isnan(flops):
        return "how long this takes shows after the first steps"
    seconds = flops / (0.5 * ceilings.matmul_flops(size=1024, seconds=0.3))
    much = f"{command.duration(max(seconds, 1))} on this processor: {flops:.2g} FLOPs at half its matrix-product rate"
    return f"training takes about {much}{'; configs/tiny.py takes minutes' if seconds > 600 else ''}"


def _read_report(path: Path) -> dict[str, Any]:
    """The report of a finished run; null stands for a number that is not finite.

    Raises:
        UserError: it is missing, torn or changed, or one without a hash lacks what a report says.
    """
    try:
        report = _with_nan(read_json(path))
        describe(report, report["entropy"])
        own = {"workdir": report["workdir"], "passages": [*report["passages"]], "wall_s": float(report["wall_s"])}
        return report | own
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, Changed) as error:
        raise UserError(
            f"{path}: missing or damaged; remove {path.parent / 'DONE'} and run again to write it anew"
        ) from error


def _with_nan(values: Any) -> Any:
    """Return values from JSON with NaN where null is the value of a key."""
    if isinstance(values, dict):
        return {key: math.nan if value is None else _with_nan(value) for key, value in values.items()}
    return [_with_nan(value) for value in values] if isinstance(values, list) else values
