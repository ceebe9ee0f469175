"""Measure how fast a configuration trains and writes on this machine, beside the machine's own limits."""

import dataclasses
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.data.batch import Batch
from juliagpt_jax.evaluation import ceilings, cost
from juliagpt_jax.ground import config, devices
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.models import adapters, parameters, precision
from juliagpt_jax.models.build import build_model
from juliagpt_jax.objectives.build import build_objective
from juliagpt_jax.training import step
from juliagpt_jax.training.mesh import batch_sharding, make_mesh, shardings
from juliagpt_jax.training.state import Frozen, initial_state, places

LONG = 500  # tokens whose time is measured, however short the context
EAGER_STEPS = 8
# In which a precision's matrix products are computed: the limit that a speed is held against.
PRODUCTS = {"f32": "float32", "bf16": "bfloat16", "f16": "float16", "int8": "int8", "ternary": "int8"}


def train(settings: config.Config, vocab: int, repeats: int) -> dict[str, Any]:
    """Measure whole train steps on random tokens of a vocabulary: their median time, and its share of the limit that
    matrix products set."""
    knobs, model = settings.train, settings.model
    micro = devices.micro_batches(knobs.accumulate, knobs.batch_size, model.context)
    settings = dataclasses.replace(settings, train=dataclasses.replace(knobs, accumulate=micro))
    mesh = make_mesh(settings)
    decoder = build_model(settings, vocab)
    objective = build_objective(settings, decoder)
    begin = lambda: decoder.init(jax.random.key(0), jnp.zeros((1, 2), int))["params"]
    base = jax.jit(lambda: adapters.split(begin(), adapters.adapters)[1])() if settings.adapter.rank else ()
    frozen = Frozen(base, objective.frozen())
    frozen = jax.device_put(frozen, shardings(frozen, mesh))
    make = lambda: initial_state(settings, decoder, memo=objective.memo())
    state = jax.jit(make, out_shardings=places(jax.eval_shape(make), mesh))()
    rng = np.random.default_rng(0)
    text = rng.integers(vocab, size=(knobs.batch_size, model.context + 1), dtype=np.int32)
    batch = jax.device_put(Batch(text[:, :-1], text[:, 1:]), batch_sharding(mesh))

    begun = time.perf_counter()
    compiled = step.make_train_step(settings, decoder, mesh, objective, state, frozen).lower(state, batch, frozen)
    compiled = compiled.compile()
    compile_s = time.perf_counter() - begun
    times = []
    for _ in range(repeats + 2):  # the first two warm up
        begun = time.perf_counter()
        state, metrics = compiled(state, batch, frozen)
        metrics["loss"].item()
        times.append(time.perf_counter() - begun)
    step_s, peak = statistics.median(times[2:]), devices.peak_memory_bytes()
    tokens = knobs.batch_size * model.context
    params = parameters.count(state.params) + parameters.count(base)
    used, still = cost.multiplied(model, state.params), cost.multiplied(model, base)
    flops = cost.train_flops_per_token(model, used + still, vocab, frozen=still) * tokens
    ceiling = ceilings.matmul_flops(dtype=PRODUCTS[knobs.precision]) * (
        mesh.size if jax.default_backend() != "cpu" else 1
    )
    return {
        "tokens_per_s": tokens / step_s,
        "step_s": step_s,
        "step_s_min": min(times[2:]),
        "step_s_max": max(times[2:]),
        "compile_s": compile_s,
        "params": params,
        "batch": knobs.batch_size,
        "micro_batches": micro,
        "devices": mesh.size,
        "flops": flops,
        "compiler_flops": cost.compiled_flops(compiled, micro, model) * mesh.size,
        "limit_flops_per_s": ceiling,
        "share_of_limit": flops / step_s / ceiling,
        "step_memory_bytes": cost.memory_bytes(compiled),
        "step_peak_memory_bytes": peak,
    }


def generate(
    settings: config.Config, vocab: int, repeats: int, batch: int, new: int, word: str, eager: bool = False
) -> dict[str, Any]:
    """Measure the writing of `new` tokens after a prompt of one, sampling at temperature 1: the median time, and its
    share of the limit that reading every weight once a step sets.

    Args:
        batch: rows that are written at once.
        word: a precision of models/precision.py.
        eager: measure also without compilation, operation by operation.
    """
    context = settings.model.context
    if word == "ternary":  # which is trained so: random weights of such a model
        settings = dataclasses.replace(settings, model=dataclasses.replace(settings.model, linear="ternary"))
    decoder = build_model(settings, vocab)
    params = jax.jit(lambda: initial_state(settings, decoder).params)()
    count, used = parameters.count(params), cost.multiplied(settings.model, params)
    generator = Generator(*precision.prepare(decoder, params, word))
    del params
    rule, one = Rule(), np.array([1 % vocab])

    def timed(prompt: np.ndarray, count: int, seed: int = 0) -> float:
        begun = time.perf_counter()
        generator.generate([prompt] * batch, count, rule, seed)
        return time.perf_counter() - begun

    first = timed(one, new)
    times = [timed(one, new, repeat) for repeat in range(repeats)]
    seconds = statistics.median(times)
    first_s = timed(one, 1)
    timed(np.resize(one, context), 1)  # compiles what the window needs to roll
    long_s = statistics.median(timed(one, LONG, repeat) for repeat in range(min(3, repeats)))
    peak = devices.peak_memory_bytes()

    program = generator.decode_program(batch, rule)
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(generator.params))
    reading = ceilings.read_bytes()
    # A step reads every weight once and multiplies each with B rows; no step is faster than either takes.
    flops = 2 * used * batch
    limit_s = max(weights / reading, flops / ceilings.matmul_flops(dtype=PRODUCTS[word]))
    values = {
        "tokens_per_s": batch * new / seconds,
        "tokens_per_s_best": batch * new / min(times),
        "step_s": seconds / new,
        "first_token_s": first_s,
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
    if eager:
        values["eager_tokens_per_s"] = batch * EAGER_STEPS / _eager_seconds(generator, batch, rule)
    return values


def _eager_seconds(generator: Any, batch: int, rule: Any) -> float:
    """Return the time of EAGER_STEPS steps of decoding with the cache, each operation sent to the device by itself."""

    def write(steps: int) -> float:
        begun = time.perf_counter()
        numbers = jnp.full((steps, batch), 0.5)
        jax.block_until_ready(generator.decode_block(rule, generator.params, generator.empty(batch), numbers))
        return time.perf_counter() - begun

    with jax.disable_jit():
        write(1)  # the first use of an operation compiles it
        return write(EAGER_STEPS)
