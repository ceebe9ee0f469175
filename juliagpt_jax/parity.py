"""Hold the baseline to the same model in PyTorch: the same numbers, the same quality, the speed of both.

python -m juliagpt_jax.parity --config=configs/micro.py \
    --out=experiments/parity/results/micro [--seeds=3] [--what=same,trained,speed]

Writes parity.md and parity.json; runs.jsonl has a row for each finished run of `trained`, and the same command goes on
with those that are missing. Needs PyTorch: pip install -e '.[torch]'.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from juliagpt_jax.ground import command, config, config_file, devices
from juliagpt_jax.ground.errors import CommandError, StorageError, UserError
from juliagpt_jax.ground.sealed import Changed, fault, read_json
from juliagpt_jax.ground.words import near

PARTS = ("same", "trained", "speed")


def parser() -> command.Parser:
    flags = command.Parser("parity", "Hold the baseline to the same model in PyTorch: numbers, quality and speed.")
    flags.add_argument("--config", required=True, metavar="FILE")
    flags.add_argument("--out", required=True, metavar="DIR", help="folder for parity.md, parity.json and runs.jsonl")
    flags.add_argument("--what", default=",".join(PARTS), metavar="NAMES", help="parts to measure, with commas between")
    flags.add_argument("--seeds", type=int, default=3, metavar="N", help="of the trained runs: 1 .. N, three runs each")
    flags.add_argument("--rounds", type=int, default=5, metavar="N", help="of the speed measurement")
    flags.add_argument(
        "--compile", action="store_true", help="measure the speed of torch.compile, too (needs a C++ compiler)"
    )
    flags.add_argument("--threads", type=int, default=0, metavar="N", help="cores to use; 0: all")
    flags.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    return flags


def main(options: argparse.Namespace) -> None:
    wanted = [name.strip() for name in options.what.split(",")]
    for name in wanted:
        if name not in PARTS:
            raise UserError(f"--what: nothing is called {name!r}{near(name, PARTS)}")
    for name in ("seeds", "rounds"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} must be at least 1")
    settings = config_file.load(options.config, options.overrides)
    config.refuse_puzzles(settings)
    config.refuse_answers(settings)
    devices.limit_threads(options.threads)
    devices.prepare(settings)

    from juliagpt_jax.store.claim import Lock
    from juliagpt_jax.study import parity
    from juliagpt_jax.training.run import check

    check(settings)
    parity.check(settings)
    parity.import_torch()
    with Lock(Path(options.out), "--out"):
        values = _measure(options, wanted, settings, Path(options.out))
    if options.json:
        command.print_json(values)
    apart = [row["tensor"] for row in values.get("same", []) if not row["agrees"]]
    if apart and "same" in wanted:
        sys.stdout.flush()
        raise CommandError(f"{len(apart)} tensors do not agree; {options.out}/parity.md says which")


def _measure(options: argparse.Namespace, wanted: list[str], settings: config.Config, out: Path) -> dict[str, Any]:
    import importlib.metadata
    import math

    import jax

    from juliagpt_jax.data import corpus as corpora
    from juliagpt_jax.ground.files import write_text
    from juliagpt_jax.ground.sealed import write_json
    from juliagpt_jax.models.parameters import count
    from juliagpt_jax.store.machine import describe_run
    from juliagpt_jax.study import parity, parity_page

    pair = parity.Pair(settings, corpora.load(settings.data, settings.model.context))
    mark = parity.recipe(settings, pair.corpus)
    facts = describe_run(settings.seed, jax.devices())
    facts["versions"]["torch"] = importlib.metadata.version("torch")
    values = _read(out / "parity.json", mark) | {"recipe": mark, "config": options.config, "threads": devices.cores()}
    values |= {key: facts[key] for key in ("versions", "commit", "machine")}
    size = count(pair.jax_state(settings.seed).params)
    versions = ", ".join(f"{name} {facts['versions'][name]}" for name in ("jax", "torch", "python"))
    head = [
        " ".join(["`python -m juliagpt_jax.parity", f"--config={options.config}", *_flags(options), f"--out={out}`"]),
        f"{size:,} parameters, {settings.data.path}, batches of {settings.train.batch_size} x {settings.model.context}",
        f"{facts['machine']}, {devices.cores()} in use; {versions}; commit {facts['commit']}",
    ]

    def write() -> None:
        write_json(out / "parity.json", values)
        write_text(out / "parity.md", parity_page.page(head, values))

    if "same" in wanted:
        values["same"] = parity.same(pair, settings.seed)
        write()
    if "trained" in wanted:
        results = parity.Results(out / "runs.jsonl", mark)
        missing = results.missing(options.seeds)
        print(f"{len(missing)} runs of {settings.train.steps:,} steps to do", flush=True)
        for number, (arm, seed) in enumerate(missing, 1):
            row = parity.train(pair, arm, seed)
            results.add(row)
            print(
                f"[{number}/{len(missing)}] {parity.ARMS[arm]}, seed {seed}: perplexity {row['perplexity']:.4f} "
                f"({row['train_s']:.0f} s)",
                flush=True,
            )
        shape = {"steps": settings.train.steps, "batch_size": settings.train.batch_size}
        rows = [row for row in results.rows if row["seed"] <= options.seeds]
        values["trained"] = shape | {"context": settings.model.context, "rows": rows}
        values["trained"]["ratios"] = {
            arm: {"mean": math.exp(gap.mean), "low": math.exp(gap.low), "high": math.exp(gap.high), "seeds": gap.n}
            for arm, gap in parity_page.gaps(rows).items()
        }
        write()
    if "speed" in wanted:
        values["speed"] = {}
        for name in ["eager", *(["torch.compile"] if options.compile else [])]:
            found = parity.speed(pair, options.rounds, compiled=name != "eager")
            values["speed"][name] = {"jax": found.jax, "torch": found.torch, "ratios": found.ratios}
        write()
    print(f"\n{(out / 'parity.md').read_text(encoding='utf-8')}\n{out}: parity.md, parity.json")
    return values


def _flags(options: argparse.Namespace) -> list[str]:
    threads = [f"--threads={options.threads}"] if options.threads else []
    return [*threads, f"--seeds={options.seeds}", *(f"--config.{override}" for override in options.overrides)]


def _read(path: Path, mark: str) -> dict[str, Any]:
    """Read what an earlier call with the same recipe measured; parts that are not measured now stay."""
    if not path.exists():
        return {}
    try:
        found = read_json(path)
        return {key: found[key] for key in PARTS if key in found} if found["recipe"] == mark else {}
    except (Changed, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StorageError(f"{path}: damaged ({fault(error)}); remove it, and it is measured anew") from error


if __name__ == "__main__":
    command.run(parser(), main, overrides=True)
