"""A model leaves the project, or comes in: the formats by name, each written whole or not at all."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict

from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError, about
from juliagpt_jax.ground.files import new_folder
from juliagpt_jax.models import roles
from juliagpt_jax.store import card, families, gguf, hf, offered, packed, tensors, wheel
from juliagpt_jax.store.families import Arrays
from juliagpt_jax.store.run import Run

OWN = "juliagpt_jax"  # the format that a file says it has
LEAVES_NO_MORE = "has lost what other formats store; export from"


class Leaving(NamedTuple):
    """A model with all that any format writes of it."""

    run: Run
    params: Arrays  # by path
    precision: str
    report: dict[str, Any]  # what the run reported at its end; {} where it has not ended


class Given(NamedTuple):
    """A model from outside.

    Attributes:
        fields: knobs of `config.Model`.
        params: by path, float32.
        meta: what a checkpoint says beside the config.
        hashes: SHA-256 of the files that it was read from, by name.
    """

    fields: dict[str, Any]
    params: dict[str, np.ndarray]
    tokenizer: Any
    meta: dict[str, Any]
    hashes: dict[str, str]


def export(run: Run, kind: str, out: Path, precision: str, report: dict[str, Any]) -> None:
    """Write a run's model to `out` in a format of FORMATS.

    Args:
        report: what the run reported at its end, for the model card; {} where it has not ended.

    Raises:
        UserError: something is at `out`, or the format has no place for this model.
    """
    run.refuse_packed(LEAVES_NO_MORE)
    params = {path: np.asarray(leaf) for path, leaf in flatten_dict(run.params, sep="/").items()}
    FORMATS[kind](out, Leaving(run, params, precision, report))


def pack(run: Run, kind: str, out: Path, packing: str, embedding: str) -> None:
    """Write a run's model to the file `out` in few bits a weight; see `packed.write`.

    Raises:
        UserError: something is at `out`, or the model cannot be had so.
    """
    run.refuse_packed(LEAVES_NO_MORE)
    packed.write(_new_file(out), run, packed.settled(run), kind, packing, embedding)


def _write_hf(out: Path, leaving: Leaving) -> None:
    run, precision = leaving.run, leaving.precision
    page = card.text(run, leaving.report, precision)
    with new_folder(out, "--out") as folder:
        hf.write(folder, leaving.params, run.config.model, run.tokenizer, precision, page)


def _write_gguf(out: Path, leaving: Leaving) -> None:
    run, path = leaving.run, _new_file(out)
    about = _metadata(run)
    gguf.write(path, leaving.params, run.config.model, run.tokenizer, leaving.precision, path.stem, about)


def _write_safetensors(out: Path, leaving: Leaving) -> None:
    """Our parameters by their paths; config and tokenizer in the metadata."""
    tensors.write(_new_file(out), leaving.params, leaving.precision, _metadata(leaving.run))


def _metadata(run: Run) -> dict[str, str]:
    """Return what a file of one's own says beside the weights."""
    about = {name: run.meta[name] for name in ("step", "schedule", "val_loss", "data", "commit") if name in run.meta}
    return {
        "format": OWN,
        "config": json.dumps(config.to_dict(packed.settled(run))),
        "tokenizer": json.dumps(run.tokenizer.to_dict()),
        "meta": json.dumps(about),
    }


def _new_file(out: Path) -> Path:
    """Return `out`, whose folder is there now.

    Raises:
        UserError: something is at `out`.
    """
    if out.exists():
        raise UserError(f"--out={out} is there already; remove it, or choose another name")
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


def read(source: Path) -> Given:
    """Read a model from outside: a folder as transformers writes it, a GGUF file, a file of `--format=safetensors`, or
    a wheel or a folder that has one GGUF file in it.

    Raises:
        UserError: none of these, or torn, or it contradicts itself, or a hash that comes with it (store/offered.py).
    """
    if source.suffix == ".whl":
        with wheel.unpacked(source, ".gguf") as path:
            return read(path)
    if source.is_dir() and not (source / "config.json").exists():
        source = _only(source)
    files = hf.files(source) if source.is_dir() else [source]
    for path in files:
        hf.refuse_too_large(path)  # before all of it is read for its hash
    hashes = offered.check(files)
    if source.is_dir():
        fields, params, tokenizer = hf.read(source)
        return Given(fields, params, tokenizer, {}, hashes)
    if tensors.metadata(source).get("format") == packed.FORMAT:
        raise UserError(f"{source} is a packed model, which trains no further; --workdir={source} runs it as it is")
    if _begins(source) != gguf.MAGIC:
        arrays, metadata = tensors.read(source)
        if metadata.get("format") != OWN:
            raise UserError(
                f"{source} has weights only; give the folder that has config.json and tokenizer.json beside them"
            )
        with about(source):
            model, tokenizer, kept = _settled(metadata)
            return _own(model, arrays, tokenizer, kept, hashes)
    contents = gguf.read(source)
    with about(source):
        family, fields = families.read_fields(contents.facts)
        if contents.metadata:
            model, tokenizer, kept = _settled(contents.metadata)
            arrays = families.from_tensors(family, contents.tensors, dataclasses.asdict(model))
            return _own(model, arrays, tokenizer, kept, hashes)
        params = hf.model_of(family, fields, contents.facts, contents.tensors)
        content, special, template = gguf.tokens(contents)
        tokenizer = hf.tokenizer_of(content, params["embedding"].shape[0], special, template)
    return Given(fields, params, tokenizer, {}, hashes)


def _only(folder: Path) -> Path:
    """Return the one GGUF file of a folder that has no config.json; the folder, where it has none or several."""
    found = sorted(folder.glob("*.gguf"))
    if len(found) > 1:
        raise UserError(f"{folder} has {len(found)} GGUF files; give one: {', '.join(path.name for path in found[:4])}")
    return found[0] if found else folder


def _settled(metadata: Mapping[str, str]) -> tuple[config.Model, Any, dict[str, Any]]:
    """Return what a file of one's own says of the model, its tokenizer, and what is kept of its meta.

    Raises:
        UserError: it is damaged.
    """
    try:
        values, tokenizer, meta = (json.loads(metadata[key]) for key in ("config", "tokenizer", "meta"))
        model, tokenizer = config.of_dict(values).model, tokenizers.from_dict(tokenizer)
        return model, tokenizer, {key: meta[key] for key in ("schedule",) if key in meta}
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"its metadata are damaged: {type(error).__name__}: {error}") from error


def _own(
    model: config.Model, arrays: dict[str, np.ndarray], tokenizer: Any, kept: dict[str, Any], hashes: dict[str, str]
) -> Given:
    blocks = {roles.layer(path) for path in arrays} - {None}
    if len(blocks) != model.layers:  # seen here, before anything is built from the config
        raise UserError(f"{len(blocks)} blocks, and its config says model.layers={model.layers}")
    return Given(dataclasses.asdict(model), arrays, tokenizer, kept, hashes)


def _begins(source: Path) -> bytes:
    """Return a file's first four bytes."""
    with open(source, "rb") as file:
        return file.read(4)


def with_context(settings: config.Config, given: Given, context: int) -> tuple[config.Config, Given]:
    """Shorten the context of a model; learned positions are cut.

    Raises:
        UserError: it would be longer, or the model's weights are made for its context.
    """
    model = settings.model
    if not 2 <= context <= model.context:
        raise UserError(f"--context={context} is outside 2 .. {model.context}, the source's")
    if set(model.mixer.split()) != {"attention"}:
        raise UserError(f"--context={context}: the weights of model.mixer={model.mixer} are for {model.context} tokens")
    settings = dataclasses.replace(settings, model=dataclasses.replace(model, context=context))
    cut = {path: array[:context] if path == "positions" else array for path, array in given.params.items()}
    return settings, given._replace(params=cut)


FORMATS = {"hf": _write_hf, "gguf": _write_gguf, "safetensors": _write_safetensors}
