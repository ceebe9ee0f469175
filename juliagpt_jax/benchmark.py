"""Measure the speed of a configuration on this machine, beside the machine's own limits.

python -m juliagpt_jax.benchmark --config=configs/tiny.py --what=train|generate [--batch=1] [--threads=1] [--json]
"""

import argparse
import dataclasses
import statistics
import time
from typing import Any

from juliagpt_jax import command, config, devices
from juliagpt_jax.errors import UserError

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
    flags.add_argument("--new", type=int, metavar="N", help="characters to generate; default: fill the context")
    flags.add_argument("--threads", type=int, default=0, metavar="N", help="cores to use; 0: all")
    flags.add_argument("--repeats", type=int, default=7, metavar="N")
    flags.add_argument("--json", action="store_true", help="print only the JSON line")
    return flags


def main(options: argparse.Namespace) -> None:
    settings = config.load(options.config, [*options.overrides, *_shape_overrides(options)])
    for name in ("batch", "new", "repeats", "vocab"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise UserError(f"--{name} must be at least 1")
    devices.limit_threads(options.threads)
    devices.prepare(settings.mesh)

    from juliagpt_jax.models.decoder import check_names
    from juliagpt_jax.training import optimizers, schedules
    from juliagpt_jax.training.workdir import processor

    check_names(settings.model)
    optimizers.check_names(settings.train)
    schedules.check_names(settings.train)
    values = (_train if options.what == "train" else _generate)(settings, options)
    import jax

    values |= {
        "what": options.what,
        "device": jax.devices()[0].device_kind if jax.default_backend() != "cpu" else processor(),
        "threads": options.threads or devices.cores(),
        "precision": settings.train.precision,
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
        width = options.width or config.load(options.config, options.overrides).model.width
        given.append(f"model.ffn_mult={options.hidden / width!r}")
    if options.what == "train" and options.batch:
        given.append(f"train.batch_size={options.batch}")
    return given


def _train(settings: config.Config, options: argparse.Namespace) -> dict[str, Any]:
    """Median time of whole train steps on random tokens, and its share of the matrix-product limit."""
    import jax
    import numpy as np

    from juliagpt_jax.evaluation import ceilings, cost
    from juliagpt_jax.models import parameters
    from juliagpt_jax.training import step

    train, model = settings.train, settings.model
    micro = devices.micro_batches(train.accumulate, train.batch_size, model.context)
    settings = dataclasses.replace(settings, train=dataclasses.replace(train, accumulate=micro))
    mesh = step.make_mesh(settings)
    decoder = step.build(settings, options.vocab)
    make = lambda: step.initial_state(settings, decoder)
    state = jax.jit(make, out_shardings=step.shardings(jax.eval_shape(make), mesh))()
    rng = np.random.default_rng(0)
    text = rng.integers(options.vocab, size=(train.batch_size, model.context + 1), dtype=np.int32)
    batch = jax.device_put((text[:, :-1], text[:, 1:]), step.batch_sharding(mesh))

    begun = time.perf_counter()
    compiled = step.make_train_step(settings, decoder, mesh).lower(state, batch).compile()
    compile_s = time.perf_counter() - begun
    times = []
    for _ in range(options.repeats + 2):  # the first two warm up
        begun = time.perf_counter()
        state, metrics = compiled(state, batch)
        metrics["loss"].item()
        times.append(time.perf_counter() - begun)
    step_s, peak = statistics.median(times[2:]), devices.peak_memory_bytes()
    tokens = train.batch_size * model.context
    params = parameters.count(state.params)
    flops = cost.train_flops_per_token(model, cost.multiplied(model, state.params), options.vocab) * tokens
    ceiling = ceilings.matmul_flops(dtype=_dtype(train.precision)) * (
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
        "step_peak_memory_bytes": peak,
    }


def _generate(settings: config.Config, options: argparse.Namespace) -> dict[str, Any]:
    """Median time to write `new` characters after a prompt of one, sampling at temperature 1, and its share of the
    limit that reading every weight once a step sets."""
    import jax
    import numpy as np

    from juliagpt_jax.evaluation import ceilings, cost
    from juliagpt_jax.inference.generate import Generator
    from juliagpt_jax.inference.sampling import Rule
    from juliagpt_jax.models import parameters
    from juliagpt_jax.training import step

    batch, context = options.batch or 1, settings.model.context
    new = options.new or context - 1
    decoder = step.build(settings, options.vocab)
    params = jax.jit(lambda: step.initial_state(settings, decoder).params)()
    generator = Generator(decoder, params)
    prompts = [np.array([1 % options.vocab])] * batch
    rule = Rule()
    write = lambda seed: generator.generate(prompts, new, rule, seed)

    begun = time.perf_counter()
    write(0)
    compile_s = time.perf_counter() - begun
    times = []
    for repeat in range(options.repeats):
        begun = time.perf_counter()
        write(repeat)
        times.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    next(generator.stream(prompts, 1, rule))
    first_s, peak = time.perf_counter() - begun, devices.peak_memory_bytes()

    seconds = statistics.median(times)
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(generator.params))
    reading = ceilings.read_bytes()
    count = parameters.count(params)
    # A step reads every weight once and multiplies each with B rows; no step is faster than either takes.
    flops = 2 * cost.multiplied(settings.model, params) * batch
    limit_s = max(weights / reading, flops / ceilings.matmul_flops(dtype=_dtype(settings.train.precision)))
    return {
        "chars_per_s": batch * new / seconds,
        "chars_per_s_best": batch * new / min(times),
        "step_s": seconds / new,
        "first_char_s": first_s,
        "compile_s": max(0.0, compile_s - seconds),
        "params": count,
        "batch": batch,
        "new": new,
        "flops": flops,
        "weight_bytes": weights,
        "limit_bytes_per_s": reading,
        "limit_step_s": limit_s,
        "share_of_limit": limit_s / (seconds / new),
        "run_peak_memory_bytes": peak,
    }


def _dtype(precision: str) -> str:
    return {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}[precision]


if __name__ == "__main__":
    command.run(parser(), main, overrides=True)
