"""Tokenizers as they are handed on: those of others are read (GPT-2's two files, a tokenizer.json), ours written."""

import json
import re
from pathlib import Path
from typing import Any

from juliagpt_jax.data.bpe import MOST
from juliagpt_jax.data.library import LibraryTokenizer, tasks
from juliagpt_jax.data.tokenizer import Tokenizer, save
from juliagpt_jax.ground.errors import UserError, about
from juliagpt_jax.ground.files import make_folder, write_json

PAIRS = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))  # ids, and merges: as OpenAI and others call them
LIBRARY = "tokenizer.json"
LARGEST = 2**26  # bytes of a file that is read at all; the largest vocabularies have a few million


def read(folder: Path) -> LibraryTokenizer:
    """Read the tokenizer of a folder: its tokenizer.json, where there is one. Or a file of that kind.

    Raises:
        UserError: there is none, or it is damaged.
    """
    if folder.is_file():
        return _library(folder)
    for names in ((LIBRARY,), *PAIRS):
        files = [folder / name for name in names]
        if all(file.is_file() for file in files):
            return _library(*files) if len(files) == 1 else _gpt2(*files)
    known = ", or ".join(" and ".join(names) for names in (*PAIRS, (LIBRARY,)))
    raise UserError(f"{folder} is no folder with a tokenizer: {known}")


def _library(file: Path) -> LibraryTokenizer:
    content = _object(file)
    with about(file):
        if isinstance(content.get("type"), str):
            raise UserError("a tokenizer of this project; config.data.tokenizer takes it as it is")
        if not isinstance(content.get("model"), dict):
            raise UserError('not a tokenizer.json of the library tokenizers: it has no "model"')
        ids = list(content["model"]["vocab"].values()) if isinstance(content["model"].get("vocab"), dict) else []
        ids += [token["id"] for token in _added(content)]
        size = 1 + max((number for number in ids if isinstance(number, int)), default=-1)
        if not ids:  # a model of another kind than a table of ids
            size = len(content["model"].get("vocab") or ())
        if size > MOST:
            raise UserError(f"it has ids up to {size - 1:,}; {MOST:,} tokens are the most")
        return LibraryTokenizer(content, size, None, tasks(content))


def _added(content: dict[str, Any]) -> list[dict[str, Any]]:
    added = content.get("added_tokens") or []
    sound = lambda token: isinstance(token, dict) and {"id", "content"} <= token.keys()
    if not isinstance(added, list) or not all(map(sound, added)):
        raise UserError('its "added_tokens" are no list of tokens with "id" and "content"')
    return added


def _gpt2(encoder: Path, merges: Path) -> LibraryTokenizer:
    """GPT-2's byte-level BPE: a table of ids, and the pairs that become one token, the first of them first.

    A token that is neither a byte nor a merge's is a special one, which its brackets say: `<|endoftext|>`.
    """
    vocab, pairs = _ids(encoder), _pairs(merges)
    from tokenizers import pre_tokenizers

    made = set(pre_tokenizers.ByteLevel.alphabet())
    with about(encoder):
        if lacking := made - vocab.keys():
            raise UserError(f"{len(lacking)} of the 256 bytes have no id: {', '.join(map(repr, sorted(lacking)[:5]))}")
    highest = -1
    for number, (left, right) in pairs.items():
        with about(f"{merges}:{number}"):
            for part in (left, right):
                if part not in made:
                    says = "the merges are out of order, or some are lost"
                    raise UserError(f"{part!r} is merged before it is made: {says}")
            if left + right not in vocab:
                raise UserError(f"{left + right!r} has no id in {encoder.name}: they are not of one tokenizer")
            if vocab[left + right] < highest:
                raise UserError(f"{left + right!r} has a lower id than a merge before it: the merges are out of order")
            highest = vocab[left + right]
        made.add(left + right)
    rest = [{"id": vocab[token], "content": token} for token in sorted(vocab.keys() - made, key=vocab.__getitem__)]
    if lost := [token["content"] for token in rest if not re.fullmatch(r"<.+>|\[.+\]", token["content"])]:
        raise UserError(
            f"{merges}: no merge makes {lost[0]!r}, nor {len(lost) - 1:,} more of {encoder}: merges are lost"
        )
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    bytes_alone = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [token | plain for token in rest],
        "normalizer": None,
        "pre_tokenizer": bytes_alone,
        "post_processor": None,
        "decoder": bytes_alone,
        "model": {"type": "BPE", "vocab": vocab, "merges": [list(pair) for pair in pairs.values()]},
    }
    return LibraryTokenizer(content, len(vocab), None, tasks(content))


def _ids(file: Path) -> dict[str, int]:
    """Read a table of ids that are 0, 1, ... without a hole."""
    vocab = _object(file)
    with about(file):
        if wrong := next((token for token, number in vocab.items() if type(number) is not int), None):
            raise UserError(f"the id of {wrong[:40]!r} is no whole number")
        ordered = sorted(vocab, key=vocab.__getitem__)
        for wanted, token in enumerate(ordered):
            if vocab[token] != wanted:
                says = f"ids must be 0 .. {len(vocab) - 1:,}, each once"
                raise UserError(f"{token[:40]!r} has id {vocab[token]} where {wanted} is due: {says}")
    return {token: vocab[token] for token in ordered}


def _pairs(file: Path) -> dict[int, tuple[str, str]]:
    """Read merges, by the number of their line."""
    try:
        lines = _text(file).split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: byte {error.start} is not UTF-8") from error
    pairs: dict[int, tuple[str, str]] = {}
    for number, line in enumerate(lines, 1):
        parts = tuple(line.rstrip("\r").split(" "))
        if (number == 1 and line.startswith("#version")) or parts == ("",):
            continue
        if len(parts) != 2 or not all(parts):
            raise UserError(f"{file}:{number}: {line[:40]!r} is no pair of tokens with a blank between them")
        pairs[number] = parts
    if not pairs:
        raise UserError(f"{file}: no merges are in it")
    if len(set(pairs.values())) < len(pairs):
        raise UserError(f"{file}: a pair stands there twice")
    return pairs


def _object(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(_text(file))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not JSON: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{file}: not a JSON object")
    return values


def _text(file: Path) -> str:
    """Return the characters of a small file.

    Raises:
        UserError: it is too large, or cannot be read.
        UnicodeDecodeError: it is not UTF-8.
    """
    try:
        if (size := file.stat().st_size) > LARGEST:
            raise UserError(f"{file} has {size:,} bytes: too large to be what its name says")
        return file.read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}") from error


def write(folder: Path, tokenizer: LibraryTokenizer) -> None:
    """Write a tokenizer into a folder: tokenizer.json for `config.data.tokenizer`, and transformers/ for the libraries
    `tokenizers` and transformers (`AutoTokenizer.from_pretrained`)."""
    save(tokenizer, folder / LIBRARY)
    other = folder / "transformers"
    make_folder(other)
    write_json(other / LIBRARY, tokenizer.to_huggingface())
    write_json(other / "tokenizer_config.json", settings(tokenizer))


def settings(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return what transformers' tokenizer_config.json says of a tokenizer: its class, and what special tokens do."""
    named = tokenizer.special_names() if isinstance(tokenizer, LibraryTokenizer) else {}
    chat = {"chat_template": tokenizer.template} if tokenizer.template else {}
    return {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False} | named | chat
