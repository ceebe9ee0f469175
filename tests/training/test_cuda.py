"""Every config's training and decoding lower to a program for CUDA, on a machine that has none."""

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from juliagpt_jax.ground import config_file
from juliagpt_jax.inference import solving
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.depth import adaptive
from juliagpt_jax.training import footprint
from juliagpt_jax.training.state import Frozen

CONFIGS = sorted(Path(__file__).parents[2].joinpath("configs").glob("*.py"))
VOCAB = 64
# What JAX hands to a library of a GPU, and marks for the compiler; a processor's calls have names of LAPACK.
KNOWN = re.compile(r"cu|Sharding|xla\.|annotate_device_placement|mhlo\.|top_k")


def lowered(function, *given) -> str:
    """The program for CUDA, held to calls that there are there."""
    text = jax.export.export(function, platforms=["cuda"])(*given).mlir_module()
    calls = set(re.findall(r"custom_call @([\w.]+)", text)) | set(re.findall(r'call_target_name = "([^"]+)"', text))
    assert all(KNOWN.match(call) for call in calls), calls
    return text


def trains(settings):
    settings = config_file.load(*settings) if isinstance(settings, tuple) else settings
    function, state, batch = footprint.stepped(settings, VOCAB)
    assert "stablehlo.dot_general" in lowered(function, state, batch, Frozen())
    return settings


def writes(settings) -> None:
    model = build_model(settings, VOCAB)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"])
    if settings.model.kind == "recursive":
        rows, one = jax.ShapeDtypeStruct((2, settings.model.context), jnp.int32), jax.ShapeDtypeStruct((2,), jnp.int32)
        noise = jax.ShapeDtypeStruct((), jnp.float32), jax.eval_shape(lambda: jax.random.key(0))
        solve = jax.jit(lambda *some: solving._solve(model, *some, 2))
        assert "while" in lowered(solve, params, rows, rows, one, noise)
        return
    if adaptive(settings.model):  # it decodes on a schedule that its weights decide
        return
    generator = Generator(model, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), params))
    state = jax.eval_shape(lambda: generator.empty(2))
    uniforms = jax.ShapeDtypeStruct((4, 2), jnp.float32)
    write = jax.jit(lambda params, state, uniforms: generator.decode_block(Rule(), params, state, uniforms))
    assert "while" in lowered(write, params, state, uniforms)


@pytest.mark.parametrize("overrides", [["train.optimizer=soap"], ["train.optimizer=kfac", "model.channel=moe"]])
def test_optimizers_that_decompose_lower(overrides, tiny):
    trains(tiny("mesh.data=1", *overrides))


def test_a_call_of_the_processor_is_seen():
    """The guard: LAPACK's names are none that CUDA has."""
    square = jax.ShapeDtypeStruct((4, 4), jnp.float32)
    text = jax.export.export(jax.jit(jnp.linalg.eigh), platforms=["cpu"])(square).mlir_module()
    calls = set(re.findall(r"custom_call @([\w.]+)", text))
    assert calls and not any(KNOWN.match(call) for call in calls)


@pytest.mark.long
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_lowers(path):
    """In full size; nothing is computed. Steps that are made of files, of another run's weights or of examples in
    pairs, are not here: their models are those of other configs, and write."""
    given = str(path), ["mesh.data=1", "train.accumulate=1"]
    settings = config_file.load(*given)
    of_files = settings.adapter.rank > 0 or settings.train.objective in ("dpo", "grpo", "value")
    if of_files:
        plain = dataclasses.replace(settings.adapter, rank=0, base="float")
        settings = dataclasses.replace(settings, adapter=plain)
    writes(settings if of_files else trains(given))
