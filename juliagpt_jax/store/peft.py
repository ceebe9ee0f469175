"""Adapters as Hugging Face's peft has them: a folder of adapter_config.json and adapter_model.safetensors.

peft's A is (rank, in) and B (out, rank), ours a (in, rank) and b (rank, out). GPT-2 there has one matrix for queries,
keys and values, and so one adapter: of ours it has the a's side by side, and the b's as blocks. A folder of ours has
SHA256SUMS, which it is held to.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError, about
from juliagpt_jax.ground.files import write_json, write_text
from juliagpt_jax.ground.knobs.adapter import Adapter
from juliagpt_jax.models.frozen import FORMS
from juliagpt_jax.store import families, hf, offered, tensors
from juliagpt_jax.store.families import Arrays, Place

SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
# What changes the sum that an adapter computes, and is not known here: the values that leave it as it is.
ONLY: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_dora": (False,),
    "lora_bias": (False,),
    "modules_to_save": (None, []),
    "layer_replication": (None, []),
    "alora_invocation_tokens": (None, []),
    "trainable_token_indices": (None, [], {}),
    "target_parameters": (None, []),
    "use_qalora": (False,),
    "use_bdlora": (None, False),
    "arrow_config": (None,),
    "velora_config": (None,),
    "kasa_config": (None,),
    "monteclora_config": (None,),
    "megatron_config": (None,),
}


class Contents(NamedTuple):
    """A folder that was read.

    Attributes:
        params: by path, "block_0/mixer/query/lora/a", float32; b has been multiplied with what the config says.
        base: the hash of the weights below, "" where the folder says none.
        form: a word of `adapter.base`, that in which the kernels below were kept.
    """

    params: dict[str, np.ndarray]
    base: str
    form: str


def write(
    folder: Path, params: Arrays, adapter: Adapter, model: config.Model, base: str, below: str, precision: str
) -> None:
    """Fill a folder with adapters, `params` by path.

    Args:
        model: that they lie in.
        base: the hash of the weights below them.
        below: where these are, for readers.

    Raises:
        UserError: no model of transformers has this form, or a number has no place in the precision.
    """
    family = families.family_of(model)
    named: dict[str, np.ndarray] = {}
    ranks: dict[str, int] = {}
    layers: set[int] = set()
    for module, places in _modules(family, model).items():
        own = [(place.part, *_pair(params, place.ours)) for place in places if _linear(place.ours, "a") in params]
        if not own:
            continue
        _, layer, name = _split(module)
        layers.add(layer)
        rank = sum(a.shape[1] for _, a, _ in own)
        ranks[name] = rank
        width = own[0][2].shape[1]
        whole = np.zeros((width * places[0].parts, rank), np.float32)
        at = 0
        for part, a, b in own:
            whole[part * width : (part + 1) * width, at : at + a.shape[1]] = b.T
            at += a.shape[1]
        named[f"{PREFIX}{module}.lora_A.weight"] = np.concatenate([a.T for _, a, _ in own])
        named[f"{PREFIX}{module}.lora_B.weight"] = whole
    other = {name: rank for name, rank in ranks.items() if rank != adapter.rank}
    pattern, *_ = _split(next(iter(_modules(family, model))))
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": below,
        "r": adapter.rank,
        "lora_alpha": int(adapter.alpha) if adapter.alpha == int(adapter.alpha) else adapter.alpha,
        "lora_dropout": adapter.dropout,
        "target_modules": sorted(ranks),
        "layers_to_transform": sorted(layers) if len(layers) < model.layers else None,
        "layers_pattern": pattern if len(layers) < model.layers else None,
        "rank_pattern": other,
        "alpha_pattern": {name: adapter.alpha * rank / adapter.rank for name, rank in other.items()},
        "fan_in_fan_out": not next(iter(_modules(family, model).values()))[0].turned,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "inference_mode": True,
    }
    write_json(folder / SETTINGS, settings)
    tensors.write(folder / WEIGHTS, named, precision, {"format": "pt", "base": base, "form": adapter.base})
    count = sum(array.size for array in named.values())
    frozen = "" if adapter.base == "float" else f", whose kernels were kept as {adapter.base} in training"
    write_text(
        folder / "README.md",
        f"LoRA of rank {adapter.rank}, {count:,} parameters stored as {precision}, beside the weights of {below}"
        f"{frozen}; the SHA-256 of these, as the metadata of {WEIGHTS} have it, is {base}.\n\n"
        f'peft opens it: `PeftModel.from_pretrained(model, "FOLDER")`, `model` being the base as `export --format=hf` '
        "writes it.\n",
    )
    offered.write_sums(folder)


def read(folder: Path, model: config.Model) -> Contents:
    """Read a folder of adapters for a model of ours.

    Raises:
        UserError: a file is missing, torn or another than its hash says, where one is offered (`offered.py`); or the
            folder holds another kind of adapter, or one of another model.
    """
    offered.check([folder / SETTINGS, folder / WEIGHTS])
    settings = hf.read_json(folder / SETTINGS)
    with about(folder / SETTINGS):
        for key, known in ONLY.items():
            if settings.get(key, known[0]) not in known:
                raise UserError(f"{key}={str(settings[key])[:60]} is not known here, only {known[0]!r}")
        alpha, alphas = settings.get("lora_alpha", 8), settings.get("alpha_pattern") or {}
        if not isinstance(alphas, dict) or not all(map(_is_number, (alpha, *alphas.values()))):
            raise UserError("alpha_pattern is no table of numbers, or lora_alpha no number")
    with about(folder):
        family = families.family_of(model)
        modules = _modules(family, model)
        arrays, metadata = tensors.read(folder / WEIGHTS)
        pairs: dict[str, dict[str, np.ndarray]] = {}
        for name, array in arrays.items():
            found = re.fullmatch(rf"{re.escape(PREFIX)}(.+)\.lora_([AB])(?:\.default)?\.weight", name)
            if not found or found[1] not in modules:
                raise UserError(f"tensor {name[:100]!r} is no adapter of a Linear in the blocks of such a model")
            pairs.setdefault(found[1], {})[found[2]] = array
        params: dict[str, np.ndarray] = {}
        for module, pair in pairs.items():
            if {*pair} != {"A", "B"} or any(array.ndim != 2 for array in pair.values()):
                raise UserError(f"{module} needs two matrices, lora_A and lora_B")
            (rank, _), (rows, other) = pair["A"].shape, pair["B"].shape
            if rank != other or not rank or rows % modules[module][0].parts:
                raise UserError(f"{module}: lora_A {pair['A'].shape} and lora_B {pair['B'].shape} do not fit together")
            own = next((own for key, own in alphas.items() if _named(key, module)), alpha)
            scale = own / (rank**0.5 if settings.get("use_rslora") else rank)
            for place in modules[module]:
                part = np.split(pair["B"], place.parts)[place.part]
                if part.any() or place.parts == 1:
                    params[_linear(place.ours, "a")] = np.ascontiguousarray(pair["A"].T)
                    with np.errstate(over="ignore"):  # looked for below
                        params[_linear(place.ours, "b")] = np.ascontiguousarray(part.T * np.float32(scale))
        if not params:
            raise UserError("there is no adapter in it")
        if not all(np.isfinite(array).all() for array in params.values()):
            raise UserError("its numbers times alpha are too large for float32")
        form = metadata.get("form", "float")
        if form not in ("float", *FORMS):
            raise UserError(f"{WEIGHTS}: no form of kernels is called {form[:60]!r}, only float, {', '.join(FORMS)}")
    return Contents(params, metadata.get("base", ""), form)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= float(np.finfo(np.float32).max)


def _named(key: str, module: str) -> bool:
    """Return true where a key of peft's patterns is of a module, as peft finds it."""
    try:
        return re.match(rf"(.*\.)?({key})$", module) is not None
    except re.error as error:
        raise UserError(f"{SETTINGS}: {key[:60]!r} is no pattern: {error}") from error


def _modules(family: Any, model: config.Model) -> dict[str, list[Place]]:
    """Return the places of our kernels by the module of transformers that holds them."""
    found: dict[str, list[Place]] = {}
    for place in family.places(model.layers, model.tie):
        if place.ours.endswith("/kernel"):
            found.setdefault(place.name.removesuffix(".weight"), []).append(place)
    return found


def _split(module: str) -> tuple[str, int, str]:
    """("layers", 3, "self_attn.q_proj") of "model.layers.3.self_attn.q_proj"."""
    found = re.fullmatch(r"(?:.*\.)?(\w+)\.(\d+)\.(.+)", module)
    assert found is not None
    return found[1], int(found[2]), found[3]


def _linear(kernel: str, matrix: str) -> str:
    return f"{kernel.removesuffix('/kernel')}/lora/{matrix}"


def _pair(params: Arrays, kernel: str) -> tuple[np.ndarray, np.ndarray]:
    return params[_linear(kernel, "a")], params[_linear(kernel, "b")]
