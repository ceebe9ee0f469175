"""Measure the speed of a configuration on this machine, beside the machine's own limits.

python -m juliagpt_jax.benchmark --config=configs/tiny.py --what=train|generate [--batch=1] [--threads=1] [--json]
python -m juliagpt_jax.benchmark --config=configs/tiny.py --what=generate --batches=1,8,32 --precisions=f32,bf16,f16
"""

import argparse

from juliagpt_jax.ground import command, config, config_file, devices
from juliagpt_jax.ground.errors import UserError

SHAPES = ["width", "layers", "heads", "context"]


def parser() -> command.Parser:
    flags = command.Parser(
        "benchmark", "Speed of training or generation with random weights, beside the machine's limits."
    )
    flags.add_argument("--config", required=True, metavar="FILE")
    flags.add_argument("--what", required=True, choices=["train", "generate"])
    flags.add_argument("--batch", type=int, metavar="B", help="default: the config's batch for train, 1 for generate")
    for name in SHAPES:
        flags.add_argument(f"--{name}", type=int, metavar="N", help=f"instead of the config's model.{name}")
    flags.add_argument(
        "--hidden", type=int, metavar="F", help="hidden width of the channel mixer, instead of ffn_mult x width"
    )
    flags.add_argument("--vocab", type=int, default=65, metavar="V", help="default: 65, as in tiny Shakespeare")
    flags.add_argument("--new", type=int, metavar="N", help="tokens to generate; default: fill the context")
    flags.add_argument("--precision", metavar="WORD", help="generate: a name of models/precision.py; default: train's")
    flags.add_argument("--batches", default="", metavar="B,B", help="generate: a table, each row in its own process")
    flags.add_argument("--precisions", default="", metavar="WORD,WORD", help="the same, of precisions")
    flags.add_argument(
        "--eager", action="store_true", help="generate: also without compilation, operation by operation"
    )
    flags.add_argument("--threads", type=int, default=0, metavar="N", help="cores to use; 0: all")
    flags.add_argument("--repeats", type=int, default=7, metavar="N")
    flags.add_argument("--json", action="store_true", help="print only the JSON line")
    return flags


def main(options: argparse.Namespace) -> None:
    settings = config_file.load(options.config, [*options.overrides, *_shape_overrides(options)])
    config.refuse_puzzles(settings)
    config.refuse_answers(settings)
    for name in ("batch", "new", "repeats", "vocab"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise UserError(f"--{name} must be at least 1")
    table = options.batches or options.precisions
    if options.what == "train" and (table or options.precision or options.eager):
        raise UserError("--precision, --precisions, --batches and --eager go with --what=generate")
    if table:
        return _table(options)
    devices.limit_threads(options.threads)
    devices.prepare(settings)

    from juliagpt_jax.models import precision
    from juliagpt_jax.store.machine import device
    from juliagpt_jax.study import speed
    from juliagpt_jax.training import run

    run.check(settings)
    if options.precision:
        precision.check(options.precision)
    import jax

    jax.config.update("jax_enable_compilation_cache", False)  # else compile_s is the time to read it back
    values = {"precision": settings.train.precision}
    if options.what == "train":
        values |= speed.train(settings, options.vocab, options.repeats)
    else:
        new, word = options.new or settings.model.context - 1, options.precision or settings.train.precision
        values |= speed.generate(settings, options.vocab, options.repeats, options.batch or 1, new, word, options.eager)
    values |= {
        "what": options.what,
        "device": device(),
        "threads": options.threads or devices.cores(),
        "peak_memory_bytes": devices.peak_memory_bytes(),
        "jax": jax.__version__,
    }
    if not options.json:
        for key, value in values.items():
            print(f"{key:<20} {value:,.6g}" if isinstance(value, float) else f"{key:<20} {value}")
    command.print_json(values)


def _shape_overrides(options: argparse.Namespace) -> list[str]:
    given = [f"model.{name}={getattr(options, name)}" for name in SHAPES if getattr(options, name) is not None]
    if options.hidden:
        width = options.width or config_file.load(options.config, options.overrides).model.width
        given.append(f"model.ffn_mult={options.hidden / width!r}")
    if options.what == "train" and options.batch:
        given.append(f"train.batch_size={options.batch}")
    return given


def _table(options: argparse.Namespace) -> None:
    """Measure a row for each of --batches and --precisions, and print them as a table.

    Raises:
        UserError: a batch or precision that is none, or no row could be measured.
    """
    from juliagpt_jax.models import precision
    from juliagpt_jax.study import speed_table

    try:
        batches = [int(batch) for batch in (options.batches or str(options.batch or 1)).split(",")]
    except ValueError as error:
        raise UserError(f"--batches={options.batches}: whole numbers with commas between them") from error
    if min(batches) < 1:
        raise UserError(f"--batches={options.batches}: each must be at least 1")
    words = (options.precisions or options.precision or "").split(",")
    for word in filter(None, words):
        precision.check(word)
    passed = [*SHAPES, "config", "what", "hidden", "vocab", "new", "threads", "repeats"]
    flags = [f"--{name}={value}" for name, value in vars(options).items() if name in passed and value is not None]
    flags += [f"--config.{override}" for override in options.overrides] + ["--eager"] * options.eager
    rows = speed_table.measured(flags, batches, words)
    if not options.json:
        print(speed_table.layout(rows))
    command.print_json({"rows": rows})


if __name__ == "__main__":
    command.run(parser(), main, overrides=True)
