"""A whole model in one small file: kernels in 8, 2 or 1.6 bits a weight, with all that is needed to write text.

A safetensors file. A kernel has its scale beside it, stored and never computed again: the mean of the rounded weights
is smaller than what they were rounded by. The tables that tokens are looked up in and told apart by (embedding,
learned positions, head) are stored as float16, as int8 with a scale for each token, or as they are; Monarch factors as
float16, or as they are; the rest is float32. Config, tokenizer and what the run said of itself are in the metadata.
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError, about
from juliagpt_jax.models import build, interface, precision, roles
from juliagpt_jax.models.parameters import count
from juliagpt_jax.models.quantized import PACKINGS
from juliagpt_jax.store import tensors
from juliagpt_jax.store.run import Run

FORMAT = "juliagpt_jax packed"
KERNEL = "kernel_int8"  # the end of the name of a kernel's levels
KEPT = ("step", "schedule", "val_loss", "data", "commit", "device")  # of a run's meta


def write(path: Path, run: Run, settings: config.Config, kind: str, packing: str, embedding: str) -> None:
    """Write a run's model.

    Args:
        settings: the config to store: that of what the model computes.
        kind: ternary or int8, as `precision.prepare` has it.
        packing: of PACKINGS, for ternary; int8 has none.
        embedding: of EMBEDDINGS.

    Raises:
        UserError: the model cannot be had in that precision, or a number has no place in float16.
    """
    arrays = _stored(run.model, run.params, kind, packing, embedding)
    metadata = {
        "format": FORMAT,
        "packing": packing if kind == "ternary" else "int8",
        "embedding": embedding,
        "config": json.dumps(config.to_dict(settings)),
        "tokenizer": json.dumps(run.tokenizer.to_dict()),
        "meta": json.dumps({key: run.meta[key] for key in KEPT if key in run.meta}),
    }
    tensors.save(path, arrays, metadata)


def size(model: interface.Model, params: Any) -> int:
    """Return the bytes of the weights of a model stored to be used: two for a weight, and a quarter for one of a
    ternary kernel that can be packed."""
    try:
        arrays = _stored(model, params, "ternary", "2bit", "f16")
    except UserError:
        return 2 * count(params)
    return sum(array.nbytes for array in arrays.values())


def _stored(model: interface.Model, params: Any, kind: str, packing: str, embedding: str) -> dict[str, np.ndarray]:
    """The arrays of a file by name."""
    _, params = precision.prepare(model, params, kind)
    arrays: dict[str, np.ndarray] = {}
    for name, leaf in flatten_dict(params, sep="/").items():
        array = np.asarray(leaf)
        if word := _stored_as(name, embedding):
            arrays |= dict(EMBEDDINGS[word][0](name, array))
        elif roles.of(name).stored == "levels" and kind == "ternary":
            flat = array.reshape(-1, array.shape[-1])
            arrays[f"{name.removesuffix(KERNEL)}kernel_{packing}"] = PACKINGS[packing].pack(flat)
        else:
            arrays[name] = array
    return arrays


def read(path: Path) -> Run:
    """Return the model in a file, ready to compute.

    Raises:
        UserError: it is missing, torn, no such file, or contradicts itself.
    """
    with tensors.opened(path) as file, about(path):
        metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise UserError("this is no packed model; a file of --format=safetensors is for import_model")
        arrays = {name: file.get_tensor(name) for name in file.keys()}
        settings, tokenizer, meta, packing, embedding = _described(metadata)
        decoder, shapes = _expected(settings, tokenizer.vocab_size, arrays)
        params = dict(_unpacked(arrays, shapes, packing, embedding))
        if arrays:
            raise UserError(
                f"{len(arrays)} tensors have no place in such a model: {', '.join(sorted(arrays)[:3])}"[:300]
            )
    return Run(settings, tokenizer, decoder, unflatten_dict(params, sep="/"), meta["step"], meta, path)


def _described(metadata: Mapping[str, str]) -> tuple[config.Config, Tokenizer, dict[str, Any], str, str]:
    """Config, tokenizer, meta, packing and embedding."""
    try:
        values, tokenizer, meta = (json.loads(metadata[key]) for key in ("config", "tokenizer", "meta"))
        settings, tokenizer = config.of_dict(values), tokenizers.from_dict(tokenizer)
        if type(meta["step"]) is not int or meta["step"] < 0:
            raise ValueError(f"a step {meta['step']!r}")
        packing, embedding = metadata["packing"], metadata["embedding"]
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"its metadata are damaged: {type(error).__name__}: {error}"[:300]) from error
    packings = PACKINGS if settings.model.linear == "ternary" else ("int8",)
    for what, word, known in (("packing", packing, packings), ("embedding", embedding, EMBEDDINGS)):
        if word not in known:
            raise UserError(f"its metadata are damaged: no {what} is called {word!r}"[:300])
    return settings, tokenizer, meta | {"step": meta["step"], "data": meta.get("data")}, packing, embedding


def _expected(settings: config.Config, vocab: int, arrays: Mapping[str, Any]) -> tuple[interface.Model, dict[str, Any]]:
    """The model of a config, and the shapes of its parameters by path; nothing is computed."""
    model = settings.model
    blocks = {roles.layer(name) for name in arrays} - {None}
    if len(blocks) != model.layers:  # seen before anything is built from the config
        raise UserError(f"{len(blocks)} blocks, and its config says model.layers={model.layers}")
    build.check(settings)
    decoder = build.make(model, vocab, settings.train.precision, int8=True)
    shapes = jax.eval_shape(decoder.init, jax.random.key(0), jnp.zeros((1, 2), int))["params"]
    return decoder, flatten_dict(shapes, sep="/")


def _unpacked(
    arrays: dict[str, np.ndarray], shapes: Mapping[str, Any], packing: str, embedding: str
) -> Iterator[tuple[str, jax.Array]]:
    """The parameters by path, each held to its shape; what they are made of is taken out of `arrays`."""

    def take(name: str, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        array = arrays.pop(name, None)
        if array is None:
            raise UserError(f"there is no tensor {name}, as its config has it")
        if array.dtype != dtype or array.shape != shape:
            wanted = f"{np.dtype(dtype)}{list(shape)}"
            raise UserError(f"{name} is {array.dtype}{list(array.shape)}, and its config has {wanted}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UserError(f"{name} holds numbers that are not finite")
        return array

    for name, want in shapes.items():
        if word := _stored_as(name, embedding):
            made = EMBEDDINGS[word][1](name, want.shape, take)
        elif roles.of(name).stored == "levels" and packing in PACKINGS:
            *rows, columns = want.shape  # those of several experts together
            stored = f"{name.removesuffix(KERNEL)}kernel_{packing}"
            packed = take(stored, np.uint8, (PACKINGS[packing].rows(math.prod(rows)), columns))
            try:
                made = PACKINGS[packing].unpack(packed, math.prod(rows)).reshape(want.shape)
            except ValueError as error:
                raise UserError(f"{stored}: {error}") from error
        else:
            made = take(name, want.dtype, want.shape)
        yield name, jnp.asarray(made)


def _stored_as(name: str, embedding: str) -> str:
    """The word of EMBEDDINGS for an array, "" for one that is stored as it is."""
    half = "f32" if embedding == "f32" else "f16"
    return {"table": embedding, "half": half}.get(roles.of(name).stored, "")


# How a table is stored, (name, array) -> named arrays, and read, (name, shape, take) -> array.


def _store_as(precision: str) -> Any:
    def store(name: str, array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        yield name, tensors.cast(name, array, precision, "--embedding")

    return store, lambda name, shape, take: take(name, tensors.STORED[precision], shape).astype(np.float32)


def _store_int8(name: str, array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Levels, and the size of one for each token (absmax)."""
    tokens = roles.of(name).axes.index("token")
    largest = np.abs(array).max(axis=1 - tokens, keepdims=True)
    scale = np.maximum(largest, np.finfo(np.float32).tiny * 127) / np.float32(127)
    yield f"{name}_int8", np.round(array / scale).astype(np.int8)
    yield f"{name}_scale", scale.astype(np.float32).reshape(-1)


def _read_int8(name: str, shape: tuple[int, ...], take: Any) -> np.ndarray:
    tokens = roles.of(name).axes.index("token")
    scale = take(f"{name}_scale", np.float32, (shape[tokens],))
    return take(f"{name}_int8", np.int8, shape) * np.expand_dims(scale, 1 - tokens)


EMBEDDINGS = {"f32": _store_as("f32"), "f16": _store_as("f16"), "int8": (_store_int8, _read_int8)}


def settled(run: Run) -> config.Config:
    """Return the config of what a run's model computes: before `train.ternary_from` that is no ternary one."""
    same = run.model.config.linear == run.config.model.linear
    if same:
        return run.config
    train = dataclasses.replace(run.config.train, ternary_from=0.0)
    model = dataclasses.replace(run.config.model, linear=run.model.config.linear)
    return dataclasses.replace(run.config, model=model, train=train)
