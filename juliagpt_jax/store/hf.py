"""A folder as Hugging Face's transformers has it: config.json, safetensors, tokenizer.json, a model card.

It is written for `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained`, and read back as if a
stranger had made it.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.data import vocabularies
from juliagpt_jax.data.library import tasks
from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.files import write_json, write_text
from juliagpt_jax.store import families, offered, tensors

DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SMALL_FILE = 2**26  # bytes of a .json that is read at all; the largest tokenizers have a few million


def write(
    folder: Path, params: families.Arrays, model: config.Model, tokenizer: Any, precision: str, card: str
) -> None:
    """Fill a folder with a model; `params` by path.

    Raises:
        UserError: no model of transformers has this form, or a number has no place in the precision.
    """
    family = families.family_of(model)
    named = families.to_tensors(family, params, model)
    tensors.write(folder / WEIGHTS, named, precision, {"format": "pt"})  # the tag that transformers asks for
    settings = {"architectures": [family.architecture], "dtype": DTYPES[precision]}
    settings |= {"bos_token_id": tokenizer.first, "eos_token_id": tokenizer.eos}
    write_json(folder / "config.json", family.facts(model, tokenizer.vocab_size) | settings)
    write_json(folder / "generation_config.json", {"max_length": model.context})  # else a pipeline writes past it
    write_json(folder / "tokenizer.json", tokenizer.to_huggingface())
    takes = {"model_max_length": model.context, "model_input_names": ["input_ids", "attention_mask"]}  # no token types
    write_json(folder / "tokenizer_config.json", vocabularies.settings(tokenizer) | takes)
    write_text(folder / "README.md", card)
    offered.write_sums(folder)


def files(folder: Path) -> list[Path]:
    """Return the files of a folder that decide what is read of it, those that are there."""
    named = ("config.json", "tokenizer.json", INDEX)
    return sorted([*(path for name in named if (path := folder / name).is_file()), *folder.glob("*.safetensors")])


def read(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray], Any]:
    """Knobs of `config.Model`, parameters by path, and the tokenizer of a folder.

    Raises:
        UserError: a file is missing, torn, a pickle, of a family that is not known, or contradicts another.
    """
    facts = read_json(folder / "config.json")
    fields, params = read_model(folder, facts)
    vocab = params["embedding"].shape[0]
    values = read_json(folder / "tokenizer.json")
    try:
        special = _special(facts, tasks(values))
        return fields, params, tokenizers.from_huggingface(values, vocab, _first(facts, special), special)
    except UserError as error:
        raise UserError(f"{folder / 'tokenizer.json'}: {error}") from error


def _special(facts: dict[str, Any], named: dict[str, int]) -> dict[str, int]:
    """Return the ids with a task: as config.json has them, else by their names. Of several ends the first counts. A
    token that is called the beginning is one, also where the model's texts begin with another: that is `_first`."""
    special = dict(named)
    for task in ("bos", "eos", "pad"):
        said = facts.get(f"{task}_token_id")
        said = said[0] if isinstance(said, list) and said else said
        if type(said) is int and not (task == "bos" and task in named):
            special[task] = said
    return special


def _first(facts: dict[str, Any], special: dict[str, int]) -> int | None:
    """Return the id that begins a text. Where config.json names none, it is the one that ends a text, as GPT-2 and
    others have it; but none where the tokenizer has another for beginnings, which the model then does without."""
    if type(facts.get("bos_token_id")) is int:
        return facts["bos_token_id"]
    return special.get("eos") if special.get("bos") in (None, special.get("eos")) else None


def read_model(folder: Path, facts: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Knobs of `config.Model` and parameters by path, of a folder whose config.json holds `facts`.

    Raises:
        UserError: as `read`.
    """
    try:
        family, fields = families.read_fields(facts)
    except UserError as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from error
    try:
        params = families.from_tensors(family, _tensors(folder), fields["layers"], fields["tie"])
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error
    vocab = params["embedding"].shape[0]
    if facts.get("vocab_size", vocab) != vocab:
        raise UserError(f"{folder / 'config.json'}: vocab_size={facts['vocab_size']}, and there are {vocab} embeddings")
    return fields, params


def _tensors(folder: Path) -> dict[str, np.ndarray]:
    """The tensors of model.safetensors, or of the files that its index names."""
    names = [WEIGHTS]
    if not (folder / WEIGHTS).exists() and (folder / INDEX).exists():
        parts = read_json(folder / INDEX).get("weight_map")
        names = sorted(set(map(str, parts.values()))) if isinstance(parts, dict) else []
        for name in names:
            if not re.fullmatch(r"[\w-]+\.safetensors", name):
                raise UserError(f"{INDEX} names {name[:80]!r}, which is no file of this folder")
    if not (folder / WEIGHTS).exists() and names == [WEIGHTS]:
        for pickle in sorted(file for file in folder.glob("*") if file.suffix in tensors.PICKLES):
            tensors.refuse_pickle(pickle)
    arrays: dict[str, np.ndarray] = {}
    for name in names:
        offered.refuse_pointer(folder / name)
        arrays |= tensors.read(folder / name, families.BUFFERS)[0]
    return arrays


def refuse_too_large(path: Path) -> None:
    """Raise a UserError where a .json is no small file; one that is missing is for its reader to name."""
    if path.suffix == ".json" and path.exists() and path.stat().st_size > SMALL_FILE:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes: too large to be what its name says")


def read_json(path: Path) -> dict[str, Any]:
    """A small JSON object.

    Raises:
        UserError: missing, too large, or not one.
    """
    try:
        refuse_too_large(path)
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: not a JSON object")
    return values
