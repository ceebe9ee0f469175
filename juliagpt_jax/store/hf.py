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
from juliagpt_jax.ground.errors import UserError, about
from juliagpt_jax.ground.files import write_json, write_text
from juliagpt_jax.ground.knobs.model import START
from juliagpt_jax.store import families, offered, tensors
from juliagpt_jax.store.t5 import T5

DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
GENERATION, SETTINGS = "generation_config.json", "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
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
    own = {"eos_token_id": tokenizer.ending} if family is T5 else {"eos_token_id": tokenizer.eos}
    settings |= own | ({} if family is T5 else {"bos_token_id": tokenizer.first})
    write_json(folder / "config.json", family.facts(model, tokenizer.vocab_size) | settings)
    stops = tokenizer.stops or ((tokenizer.ending,) if family is T5 else ())
    ends = {"eos_token_id": list(stops)} if stops else {}
    begins = {"decoder_start_token_id": START, "pad_token_id": START} if family is T5 else {}
    write_json(folder / GENERATION, {"max_length": model.context} | ends | begins)  # else a pipeline writes past it
    content = tokenizer.to_huggingface()
    write_json(folder / "tokenizer.json", ended(content, tokenizer) if family is T5 else content)
    takes = {"model_max_length": model.context, "model_input_names": ["input_ids", "attention_mask"]}  # no token types
    write_json(folder / SETTINGS, vocabularies.settings(tokenizer) | takes)
    write_text(folder / "README.md", card)
    offered.write_sums(folder)


def ended(content: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """Return the content of a tokenizer.json that puts the id of its end behind a text, as an encoder wants it."""
    if content.get("post_processor") is not None:  # it has come from elsewhere
        return content
    name = tokenizer.name(tokenizer.ending)  # the end of a line, where no id ends a text
    end = {"SpecialToken": {"id": name, "type_id": 0}}
    text = lambda number: {"Sequence": {"id": "AB"[number], "type_id": 0}}
    single, pair = [text(0), end], [text(0), end, text(1), end]
    special = {name: {"id": name, "ids": [tokenizer.ending], "tokens": [name]}}
    own = {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}
    return content | {"post_processor": own}


def files(folder: Path) -> list[Path]:
    """Return the files of a folder that decide what is read of it, those that are there."""
    named = ("config.json", "tokenizer.json", INDEX, GENERATION, SETTINGS, TEMPLATE)
    if not (folder / "tokenizer.json").is_file():
        named += tuple(name for pair in vocabularies.PAIRS for name in pair)
    return sorted([*(path for name in named if (path := folder / name).is_file()), *folder.glob("*.safetensors")])


def read(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray], Any]:
    """Knobs of `config.Model`, parameters by path, and the tokenizer of a folder.

    Raises:
        UserError: a file is missing, torn, a pickle, of a family that is not known, or contradicts another.
    """
    facts = read_json(folder / "config.json")
    fields, params = read_model(folder, facts)
    pair = any(all((folder / name).is_file() for name in names) for names in vocabularies.PAIRS)
    if pair and not (folder / "tokenizer.json").is_file():
        content = vocabularies.read(folder).content
    elif (folder / "spiece.model").is_file() and not (folder / "tokenizer.json").is_file():
        raise UserError(
            f"{folder / 'spiece.model'} is read where a tokenizer.json lies beside it, which transformers writes: "
            f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
        )
    else:
        content = read_json(folder / "tokenizer.json")
    template = _template(folder)
    if (folder / GENERATION).is_file():  # where a chat model has the end of a turn, beside that of a text
        facts = facts | {"ends": read_json(folder / GENERATION).get("eos_token_id")}
    with about(folder / "tokenizer.json"):
        return fields, params, tokenizer_of(content, params["embedding"].shape[0], facts, template)


def tokenizer_of(content: dict[str, Any], vocab: int, facts: dict[str, Any], template: str | None) -> Any:
    """Return the tokenizer of a model.

    Args:
        content: of its tokenizer.json.
        vocab: the number of its embeddings.
        facts: what its config.json says of ids with a task, and as "ends" those with which it ends what it writes.
        template: of a conversation, in Jinja.

    Raises:
        UserError: they contradict each other.
    """
    special = _special(facts, tasks(content))
    said = [_several(facts.get(name)) for name in ("eos_token_id", "ends")]
    ends = sorted({token for tokens in said for token in tokens if type(token) is int} - {special.get("eos")})
    return tokenizers.from_huggingface(content, vocab, _first(facts, special), special, ends, template)


def _template(folder: Path) -> str | None:
    """Return the chat template of a folder: a file of its own, or a text in tokenizer_config.json; of several the one
    that is called default. None where it has none.

    Raises:
        UserError: it is no text, or too large.
    """
    if (folder / TEMPLATE).is_file():
        if (folder / TEMPLATE).stat().st_size > SMALL_FILE:
            raise UserError(f"{folder / TEMPLATE} is too large to be what its name says")
        try:
            return (folder / TEMPLATE).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{folder / TEMPLATE}: byte {error.start} is not UTF-8") from error
    if not (folder / SETTINGS).is_file():
        return None
    template = read_json(folder / SETTINGS).get("chat_template")
    if isinstance(template, list):
        named = {own.get("name"): own.get("template") for own in template if isinstance(own, dict)}
        template = named.get("default")
    if not isinstance(template, str | None):
        raise UserError(f"{folder / SETTINGS}: its chat_template is no text")
    return template


def _several(said: Any) -> list[Any]:
    return said if isinstance(said, list) else [said]


def _special(facts: dict[str, Any], named: dict[str, int]) -> dict[str, int]:
    """Return the ids with a task: as config.json has them, else by their names. Of several ends the first counts. A
    token that is called the beginning is one, also where the model's texts begin with another: that is `_first`."""
    special = dict(named)
    for task in ("bos", "eos", "pad"):
        said = next(iter(_several(facts.get(f"{task}_token_id"))), None)
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
    with about(folder / "config.json"):
        family, fields = families.read_fields(facts)
    with about(folder):
        fields, named = families.settled(family, fields, _tensors(folder))
        return fields, model_of(family, fields, facts, named)


def model_of(
    family: Any, fields: dict[str, Any], facts: dict[str, Any], named: families.Arrays
) -> dict[str, np.ndarray]:
    """Return the parameters by path of a model whose tensors have a family's names.

    Raises:
        UserError: a tensor is missing or left over, or there are not as many embeddings as the config.json says.
    """
    params = families.from_tensors(family, named, fields)
    vocab = params["embedding"].shape[0]
    if facts.get("vocab_size", vocab) != vocab:
        raise UserError(f"vocab_size={facts['vocab_size']}, and there are {vocab} embeddings")
    return params


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
