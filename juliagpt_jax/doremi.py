"""Find shares of the corpus's domains: a reference run, a proxy run, and weights.json for data.phase_weights.

python -m juliagpt_jax.doremi --config=configs/micro.py --workdir=runs/doremi [--by=phase] [--config.KEY=VALUE]
"""

import argparse
import dataclasses
import math
import time
from pathlib import Path

from juliagpt_jax.ground import command, config, config_file, devices
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs.train import DoReMi
from juliagpt_jax.ground.sealed import write_json


def parser() -> command.Parser:
    flags = command.Parser(
        "doremi", "Weights of domains by DoReMi; the same command goes on. Any knob: --config.GROUP.NAME=VALUE"
    )
    flags.add_argument("--config", required=True, metavar="FILE", help="of the reference and the proxy")
    flags.add_argument(
        "--workdir",
        required=True,
        metavar="DIR",
        help="folder for reference/ and proxy/, both workdirs, and weights.json",
    )
    flags.add_argument("--by", metavar="FIELD", help="whose words are the domains; default: config.data.weights_by")
    flags.add_argument("--eta", type=float, default=1.0, metavar="N", help="step size of the weights; the paper's: 1")
    flags.add_argument(
        "--smoothing", type=float, default=1e-4, metavar="N", help="uniform share of the weights; the paper's: 1e-4"
    )
    flags.add_argument("--json", action="store_true", help="print the weights as one JSON object on the last line")
    return flags


def main(options: argparse.Namespace) -> None:
    begun = time.perf_counter()
    overrides = [*options.overrides, *([f"data.weights_by={options.by}"] if options.by else [])]
    settings = config_file.load(options.config, overrides)
    config.refuse_puzzles(settings)
    config.refuse_answers(settings)
    for name, good in [("eta", 0 < options.eta < math.inf), ("smoothing", 0 < options.smoothing < 1)]:
        if not good:
            raise UserError(f"--{name}={getattr(options, name)} must be above 0{' and below 1' * (name != 'eta')}")
    if settings.train.objective != "next_token":
        raise UserError("config.train.objective: the reference learns next_token, and the proxy doremi; leave it out")
    workdir = Path(options.workdir)
    devices.prepare(settings)

    from juliagpt_jax.data import corpus as corpora
    from juliagpt_jax.data import query, selection
    from juliagpt_jax.training import run

    run.check(settings)
    _refuse_older(workdir / "proxy")
    by = settings.data.weights_by
    corpus = corpora.load(settings.data, settings.model.context)
    drawn = selection.shares(corpus, settings.data, settings.seed, settings.model.context)
    if len(drawn) < 2:
        raise UserError(f"{settings.data.path}: one {by} alone, {next(iter(drawn))}: there is nothing to weigh")
    data = dataclasses.replace(settings.data, phase_weights=query.write_weights(drawn))
    settings = dataclasses.replace(settings, data=data)

    print(f"reference: {workdir / 'reference'}, drawn by {data.phase_weights}", flush=True)
    first = run.run(settings, workdir / "reference", begun)
    print(f"\nproxy: {workdir / 'proxy'}", flush=True)
    own = DoReMi(str(workdir / "reference"), options.eta, options.smoothing)
    train = dataclasses.replace(settings.train, objective="doremi", doremi=own)
    second = run.run(dataclasses.replace(settings, train=train), workdir / "proxy", begun)

    values = {
        **{key: second[key] for key in ("by", "weights", "drawn", "last_weights", "excess")},
        "loss": {"reference": first["loss"], "proxy": second["loss"]},
        "steps": settings.train.steps,
        "eta": options.eta,
        "smoothing": options.smoothing,
        "fingerprint": corpus.fingerprint,
    }
    write_json(workdir / "weights.json", values)
    width = max(map(len, drawn))
    print(f"\n{by:<{width}}   as drawn   DoReMi   last step   excess loss")
    for name, share in values["weights"].items():
        rest = f"{values['last_weights'][name]:9.4f}   {values['excess'][name]:11.4f}"
        print(f"{name:<{width}}   {values['drawn'][name]:8.4f}   {share:6.4f}   {rest}")
    by_flag = f" --config.data.weights_by={by}" if by != "phase" else ""
    print(f"\n--config.data.phase_weights={workdir / 'weights.json'}{by_flag}")
    if options.json:
        command.print_json(values)


def _refuse_older(proxy: Path) -> None:
    """Refuse a proxy of before DoReMi was an objective: its checkpoints keep the mixture under another name."""
    path = proxy / "config.json"
    if path.exists() and config.read(path).train.objective != "doremi":
        raise UserError(
            f"{proxy} is of an older version, whose DoReMi runs cannot go on (its weights.json stays good); "
            "give another --workdir"
        )


if __name__ == "__main__":
    command.run(parser(), main, overrides=True)
