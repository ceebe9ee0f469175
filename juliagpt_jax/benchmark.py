"""Measure the speed of a configuration on this machine, beside the machine's own limits.

python -m juliagpt_jax.benchmark --config=configs/tiny.py --what=train|generate [--batch=1] [--threads=1] [--json]
python -m juliagpt_jax.benchmark --config=configs/tiny.py --what=generate --batches=1,8,32 --precisions=f32,bf16,f16
"""

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import time
from typing import Any

from juliagpt_jax.ground import command, config, config_file, devices
from juliagpt_jax.ground.errors import UserError

SHAPES = ["width", "layers", "heads", "context"]
LONG = 500  # tokens whose time is measured, however short the context
EAGER_STEPS = 8
# In which a precision's matrix products are computed: the limit that a speed is held against.
PRODUCTS = {"f32": "float32", "bf16": "bfloat16", "f16": "float16", "int8": "int8", "ternary": "int8"}
# What the table of --batches and --precisions shows: key, title, in which unit.
COLUMNS = [
    ("precision", "", 1),
    ("batch", "", 1),
    ("chars_per_s", "tokens/s", 1),
    ("seconds_500", f"{LONG} tokens, s", 1),
    ("first_char_s", "first, ms", 1e-3),
    ("share_of_limit", "of limit, %", 1e-2),
    ("weight_bytes", "weights, MB", 1e6),
    ("decode_memory_bytes", "decoding, MB", 1e6),
    ("run_peak_memory_bytes", "peak, MB", 1e6),
    ("compile_s", "compile, s", 1),
    ("eager_chars_per_s", "eager, tokens/s", 1),
]


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
    for name in ("batch", "new", "repeats", "vocab"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise UserError(f"--{name} must be at least 1")
    table = options.batches or options.precisions
    if options.what == "train" and (table or options.precision or options.eager):
        raise UserError("--precision, --precisions, --batches and --eager go with --what=generate")
    if table:
        return _table(options)
    devices.limit_threads(options.threads)
    devices.prepare(settings.mesh)

    from juliagpt_jax.models import precision
    from juliagpt_jax.store.workdir import processor
    from juliagpt_jax.training import run

    run.check(settings)
    if options.precision:
        precision.check(options.precision)
    import jax

    jax.config.update("jax_enable_compilation_cache", False)  # else compile_s is the time to read it back
    values = {"precision": settings.train.precision}
    values |= (_train if options.what == "train" else _generate)(settings, options)
    values |= {
        "what": options.what,
        "device": jax.devices()[0].device_kind if jax.default_backend() != "cpu" else processor(),
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


def _train(settings: config.Config, options: argparse.Namespace) -> dict[str, Any]:
    """Median time of whole train steps on random tokens, and its share of the matrix-product limit."""
    import jax
    import numpy as np

    from juliagpt_jax.data.batch import Batch
    from juliagpt_jax.evaluation import ceilings, cost
    from juliagpt_jax.models import parameters
    from juliagpt_jax.models.build import build_model
    from juliagpt_jax.training import step
    from juliagpt_jax.training.mesh import batch_sharding, make_mesh, shardings
    from juliagpt_jax.training.state import Frozen, initial_state

    train, model = settings.train, settings.model
    micro = devices.micro_batches(train.accumulate, train.batch_size, model.context)
    settings = dataclasses.replace(settings, train=dataclasses.replace(train, accumulate=micro))
    mesh = make_mesh(settings)
    decoder = build_model(settings, options.vocab)
    make = lambda: initial_state(settings, decoder)
    state = jax.jit(make, out_shardings=shardings(jax.eval_shape(make), mesh))()
    rng = np.random.default_rng(0)
    text = rng.integers(options.vocab, size=(train.batch_size, model.context + 1), dtype=np.int32)
    batch = jax.device_put(Batch(text[:, :-1], text[:, 1:]), batch_sharding(mesh))

    begun = time.perf_counter()
    compiled = step.make_train_step(settings, decoder, mesh).lower(state, batch, Frozen()).compile()
    compile_s = time.perf_counter() - begun
    times = []
    for _ in range(options.repeats + 2):  # the first two warm up
        begun = time.perf_counter()
        state, metrics = compiled(state, batch, Frozen())
        metrics["loss"].item()
        times.append(time.perf_counter() - begun)
    step_s, peak = statistics.median(times[2:]), devices.peak_memory_bytes()
    tokens = train.batch_size * model.context
    params = parameters.count(state.params)
    flops = cost.train_flops_per_token(model, cost.multiplied(model, state.params), options.vocab) * tokens
    ceiling = ceilings.matmul_flops(dtype=PRODUCTS[train.precision]) * (
        mesh.size if jax.default_backend() != "cpu" else 1
    )
    return {
        "tokens_per_s": tokens / step_s,
        "step_s": step_s,
        "step_s_min": min(times[2:]),
        "step_s_max": max(times[2:]),
        "compile_s": compile_s,
        "params": params,
        "batch": train.batch_size,
        "micro_batches": micro,
        "devices": mesh.size,
        "flops": flops,
        "compiler_flops": cost.compiled_flops(compiled, micro, model) * mesh.size,
        "limit_flops_per_s": ceiling,
        "share_of_limit": flops / step_s / ceiling,
        "step_memory_bytes": cost.memory_bytes(compiled),
        "step_peak_memory_bytes": peak,
    }


def _generate(settings: config.Config, options: argparse.Namespace) -> dict[str, Any]:
    """Median time to write `new` tokens after a prompt of one, sampling at temperature 1, and its share of the
    limit that reading every weight once a step sets."""
    import jax
    import numpy as np

    from juliagpt_jax.evaluation import ceilings, cost
    from juliagpt_jax.inference.generate import Generator
    from juliagpt_jax.inference.sampling import Rule
    from juliagpt_jax.models import parameters, precision
    from juliagpt_jax.models.build import build_model
    from juliagpt_jax.training.state import initial_state

    batch, context = options.batch or 1, settings.model.context
    new, word = options.new or context - 1, options.precision or settings.train.precision
    if word == "ternary":  # which is trained so: random weights of such a model
        settings = dataclasses.replace(settings, model=dataclasses.replace(settings.model, linear="ternary"))
    decoder = build_model(settings, options.vocab)
    params = jax.jit(lambda: initial_state(settings, decoder).params)()
    count, used = parameters.count(params), cost.multiplied(settings.model, params)
    generator = Generator(*precision.prepare(decoder, params, word))
    del params
    rule, one = Rule(), np.array([1 % options.vocab])

    def timed(prompt: np.ndarray, count: int, seed: int = 0) -> float:
        begun = time.perf_counter()
        generator.generate([prompt] * batch, count, rule, seed)
        return time.perf_counter() - begun

    first = timed(one, new)
    times = [timed(one, new, repeat) for repeat in range(options.repeats)]
    seconds = statistics.median(times)
    first_s = timed(one, 1)
    timed(np.resize(one, context), 1)  # compiles what the window needs to roll
    long_s = statistics.median(timed(one, LONG, repeat) for repeat in range(min(3, options.repeats)))
    peak = devices.peak_memory_bytes()

    program = generator.decode_program(batch, rule)
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(generator.params))
    reading = ceilings.read_bytes()
    # A step reads every weight once and multiplies each with B rows; no step is faster than either takes.
    flops = 2 * used * batch
    limit_s = max(weights / reading, flops / ceilings.matmul_flops(dtype=PRODUCTS[word]))
    values = {
        "chars_per_s": batch * new / seconds,
        "chars_per_s_best": batch * new / min(times),
        "step_s": seconds / new,
        "first_char_s": first_s,
        f"seconds_{LONG}": long_s,
        "compile_s": max(0.0, first - seconds),
        "params": count,
        "batch": batch,
        "new": new,
        "precision": word,
        "flops": flops,
        "weight_bytes": weights,
        "limit_bytes_per_s": reading,
        "limit_step_s": limit_s,
        "share_of_limit": limit_s / (seconds / new),
        "decode_memory_bytes": cost.memory_bytes(program),
        "run_peak_memory_bytes": peak,
    }
    if options.eager:
        values["eager_chars_per_s"] = batch * EAGER_STEPS / _eager_seconds(generator, batch, rule)
    return values


def _eager_seconds(generator: Any, batch: int, rule: Any) -> float:
    """Time of EAGER_STEPS steps of decoding with the cache, each operation sent to the device by itself."""
    import jax
    import jax.numpy as jnp

    def write(steps: int) -> float:
        begun = time.perf_counter()
        numbers = jnp.full((steps, batch), 0.5)
        jax.block_until_ready(generator.decode_block(rule, generator.params, generator.empty(batch), numbers))
        return time.perf_counter() - begun

    with jax.disable_jit():
        write(1)  # the first use of an operation compiles it
        return write(EAGER_STEPS)


def _table(options: argparse.Namespace) -> None:
    """A row for each batch and precision, measured in a process of its own, so that each has its own peak memory.

    Raises:
        UserError: no row could be measured; the reason of the first.
    """
    from juliagpt_jax.models import precision

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
    rows = []
    for word in words:
        for batch in batches:
            own = [f"--batch={batch}", *([f"--precision={word}"] if word else [])]
            call = [sys.executable, "-m", "juliagpt_jax.benchmark", *flags, *own, "--json"]
            done = subprocess.run(call, capture_output=True, encoding="utf-8")
            last = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()[-1:]
            failed = {"batch": batch, "precision": word, "error": "".join(last) or f"exit code {done.returncode}"}
            rows.append(json.loads(last[0]) if done.returncode == 0 else failed)
    if all("error" in row for row in rows):
        raise UserError(rows[0]["error"])
    if not options.json:
        print(_layout(rows))
    command.print_json({"rows": rows})


def _layout(rows: list[dict[str, Any]]) -> str:
    """Rows as a table of COLUMNS, those that a row has."""
    columns = [column for column in COLUMNS if any(column[0] in row for row in rows)]
    lines = [" | ".join(f"{title or key:>14}" for key, title, _ in columns)]
    for row in rows:
        if "error" in row:
            lines.append(f"{row['precision']:>14} | {row['batch']:>14} | FAILED: {row['error']}")
            continue
        shown = [
            row[key] if unit == 1 and isinstance(row[key], str | int) else (row[key] or 0) / unit
            for key, _, unit in columns
        ]
        lines.append(" | ".join(f"{v:>14}" if isinstance(v, str | int) else f"{v:>14,.4g}" for v in shown))
    return "\n".join(lines)


if __name__ == "__main__":
    command.run(parser(), main, overrides=True)
