"""The tokenizer in the metadata of a GGUF file, as a tokenizer.json of the library `tokenizers`.

Two kinds are known. "gpt2" is byte-level BPE: tokens, merges, and the name of the rule that cuts a text into pieces
before. "llama" is SentencePiece's BPE: tokens with scores, from which the merges follow. What a name stands for is what
llama.cpp and the models' own tokenizer.json do.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from juliagpt_jax.data.library import LibraryTokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.words import near

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # tokens by their type
KEY = "tokenizer.ggml."
TEMPLATE = "tokenizer.chat_template"
SPACE = "\u2581"  # SentencePiece's blank
ENDS = ("eos", "eot", "eom")  # of a text, a turn, a message


class Cut:
    """A rule that cuts a text into pieces, within which bytes are merged."""

    def __init__(self, *steps: dict[str, Any], normalizer: dict[str, Any] | None = None, whole: bool = False):
        """`whole`: a piece that is a token is not cut up, whatever the merges make of it; then a text also begins with
        a token for that, unless the file says otherwise."""
        last = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": not _split(steps)}
        self.pre_tokenizer = {"type": "Sequence", "pretokenizers": [*steps, last]} if steps else last
        self.normalizer, self.whole = normalizer, whole

    def said(self) -> tuple[Any, Any, bool]:
        """Return what `_cut` finds in a tokenizer.json with this rule."""
        model = {"ignore_merges": self.whole}
        return _cut({"normalizer": self.normalizer, "pre_tokenizer": self.pre_tokenizer, "model": model})


def _split(steps: Sequence[dict[str, Any]]) -> bool:
    return any(step["type"] == "Split" for step in steps)


def _pattern(digits: str) -> dict[str, Any]:
    """The cut of GPT-4's tokenizer, with so many digits in a piece."""
    regex = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
        + digits
        + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def content(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tokenizer.json of a file with these key-value pairs.

    Raises:
        UserError: it is of a kind that is not known, or contradicts itself.
    """
    kind = values.get(f"{KEY}model")
    if kind not in KINDS:
        raise UserError(f"{KEY}model={kind!r} is not known here, only {', '.join(KINDS)}")
    tokens = _texts(values, "tokens")
    if len(set(tokens)) < len(tokens):
        twice = next(token for token in tokens if tokens.count(token) > 1)
        raise UserError(f"{KEY}tokens has {twice[:40]!r} twice")
    types = np.asarray(values.get(f"{KEY}token_type", np.full(len(tokens), NORMAL)))
    if types.shape != (len(tokens),):
        raise UserError(f"{KEY}token_type has the shape {types.shape}, and there are {len(tokens):,} tokens")
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    marked = [i for i, own in enumerate(types) if own in (CONTROL, USER) or (own == UNKNOWN and kind == "llama")]
    added = [{"id": i, "content": tokens[i]} | plain | {"special": bool(types[i] != USER)} for i in marked]
    made = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added}
    return made | KINDS[kind](values, tokens, types)


def special(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ids with a task, as a config.json has them: {"bos_token_id": 1, "eos_token_id": [2, 5]}."""
    tokens = len(_texts(values, "tokens"))
    found = {}
    for task in ("bos", "padding", *ENDS):
        token = values.get(f"{KEY}{task}_token_id")
        if token is not None and not (type(token) is int and 0 <= token < tokens):
            raise UserError(f"{KEY}{task}_token_id={token!r} is none of the {tokens:,} tokens")
        found[task] = token
    ends = list(dict.fromkeys(found[task] for task in ENDS if found[task] is not None))
    return {"bos_token_id": found["bos"], "eos_token_id": ends or None, "pad_token_id": found["padding"]}


def values(tokenizer: LibraryTokenizer) -> dict[str, Any]:
    """Return the key-value pairs from which llama.cpp, and `content`, make the same tokenizer: byte-level BPE.

    Raises:
        UserError: it has what no such pair says, such as another rule to cut a text.
    """
    own = tokenizer.content
    added = {token["id"]: bool(token.get("special")) for token in own.get("added_tokens") or ()}
    names = {i: name for name, i in _vocab(own).items()}
    kind = lambda i: (CONTROL if added[i] else USER) if i in added else NORMAL if i in names else UNUSED
    ends = [*dict.fromkeys(i for i in (tokenizer.eos, *tokenizer.stops) if i is not None)]
    tasks = {"bos": tokenizer.first, "padding": tokenizer.special.get("pad")} | dict(zip(ENDS, ends, strict=False))
    made = {
        f"{KEY}model": "gpt2",
        f"{KEY}pre": next((name for name, cut in CUTS.items() if cut.said() == _cut(own)), ""),
        f"{KEY}tokens": [names.get(i, f"[unused{i}]") for i in range(tokenizer.vocab_size)],
        f"{KEY}token_type": [kind(i) for i in range(tokenizer.vocab_size)],
        f"{KEY}merges": [" ".join(pair) for pair in _merges(own)],
        f"{KEY}add_bos_token": bool(tokenizer.prefix),
        **{f"{KEY}{task}_token_id": i for task, i in tasks.items() if i is not None},
    }
    if not made[f"{KEY}pre"] or len(ends) > len(ENDS) or _decisive(own) != _decisive(content(made)):
        raise UserError(
            "--format=gguf has characters, and byte-level BPE that cuts a text as GPT-2, SmolLM, Llama 3 or Qwen2 do; "
            "llama.cpp's own converter may take this tokenizer from --format=hf"
        )
    return made | ({} if tokenizer.template is None else {TEMPLATE: tokenizer.template})


def _decisive(own: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a tokenizer.json decides the ids of a text, in one form however it is written."""
    model, after = own["model"], own.get("post_processor") or {}
    begun = [step for step in (after, *after.get("processors", ())) if step.get("type") == "TemplateProcessing"]
    rules = ("type", "unk_token", "byte_fallback", "continuing_subword_prefix", "end_of_word_suffix", "dropout")
    flags = ("special", "lstrip", "rstrip", "single_word")
    return {
        "vocab": {name: i for name, i in _vocab(own).items() if name != f"[unused{i}]"},
        "added": {t["content"]: [bool(t.get(flag)) for flag in flags] for t in own.get("added_tokens") or ()},
        "merges": _merges(own),
        "cut": _cut(own),
        "begins": [step["single"] for step in begun],
        "rules": {rule: model.get(rule) or None for rule in rules},
    }


def _vocab(own: Mapping[str, Any]) -> dict[str, int]:
    return own["model"].get("vocab", {}) | {token["content"]: token["id"] for token in own.get("added_tokens") or ()}


def _merges(own: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [tuple(m.split(" ") if isinstance(m, str) else m) for m in own["model"].get("merges", ())]


def _cut(own: Mapping[str, Any]) -> tuple[Any, Any, bool]:
    """Return how a tokenizer.json cuts a text; where in it a token lay (`trim_offsets`) changes no id."""
    plain = lambda step: {
        key: [plain(inner) for inner in value] if key == "pretokenizers" else value
        for key, value in step.items()
        if key != "trim_offsets"
    }
    return own.get("normalizer"), plain(own.get("pre_tokenizer") or {}), bool(own["model"].get("ignore_merges"))


def _texts(values: Mapping[str, Any], name: str) -> list[str]:
    texts = values.get(f"{KEY}{name}")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{KEY}{name} is missing, or no list of texts")
    return texts


def _flag(values: Mapping[str, Any], name: str, default: bool) -> bool:
    flag = values.get(f"{KEY}{name}", default)
    if type(flag) is not bool:
        raise UserError(f"{KEY}{name}={flag!r} is neither true nor false")
    return flag


def _begun(values: Mapping[str, Any], tokens: list[str], default: bool) -> dict[str, Any] | None:
    """Return the step that puts a token before a text, None where a text begins with its first token."""
    if not _flag(values, "add_bos_token", default):
        return None
    first = special(values)["bos_token_id"]
    if first is None:
        raise UserError(f"{KEY}add_bos_token is set, and {KEY}bos_token_id is missing")
    name = tokens[first]
    mark = lambda kind, of, number: {kind: {"id": of, "type_id": number}}
    one, two = ([mark("SpecialToken", name, n), mark("Sequence", text, n)] for n, text in enumerate("AB"))
    known = {name: {"id": name, "ids": [first], "tokens": [name]}}
    return {"type": "TemplateProcessing", "single": one, "pair": [*one, *two], "special_tokens": known}


def _byte_level(values: Mapping[str, Any], tokens: list[str], types: np.ndarray) -> dict[str, Any]:
    """Return what is particular to byte-level BPE."""
    name = values.get(f"{KEY}pre")
    if name not in CUTS:
        raise UserError(f"{KEY}pre={name!r}: no rule of that name is known to cut a text{near(str(name), CUTS)}")
    cut = CUTS[name]
    merges = [tuple(merge.split(" ")) for merge in _texts(values, "merges")]
    ids = {token: i for i, token in enumerate(tokens)}
    for pair in merges:
        if len(pair) != 2 or not {*pair, "".join(pair)} <= ids.keys():
            raise UserError(f"{KEY}merges: {' '.join(pair)[:60]!r} is no pair of tokens that make a third")
    return {
        "normalizer": cut.normalizer,
        "pre_tokenizer": cut.pre_tokenizer,
        "post_processor": _begun(values, tokens, cut.whole),
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": ids, "merges": [list(pair) for pair in merges], "ignore_merges": cut.whole},
    }


def _sentencepiece(values: Mapping[str, Any], tokens: list[str], types: np.ndarray) -> dict[str, Any]:
    """Return what is particular to SentencePiece's BPE: of all pairs that make a token the one whose token has the
    highest score is merged first."""
    scores = np.asarray(values.get(f"{KEY}scores", ()))
    if scores.shape != (len(tokens),) or not np.isfinite(scores).all():
        raise UserError(f"{KEY}scores has the shape {scores.shape}, and there are {len(tokens):,} tokens")
    ids = {token: i for i, token in enumerate(tokens)}
    mergeable = {token for token, own in zip(tokens, types, strict=True) if own in (NORMAL, USER)}
    pairs = []
    for token in mergeable:
        for at in range(1, len(token)):
            left, right = token[:at], token[at:]
            if left in mergeable and right in mergeable:
                pairs.append((-scores[ids[token]], ids[left], ids[right], left, right))
    unknown = [token for token, own in zip(tokens, types, strict=True) if own == UNKNOWN]
    before = _flag(values, "add_space_prefix", True)
    blank = [{"type": "Replace", "pattern": {"String": " "}, "content": SPACE}]
    back = [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "}, {"type": "ByteFallback"}]
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if before else []
    return {
        "normalizer": {
            "type": "Sequence",
            "normalizers": ([{"type": "Prepend", "prepend": SPACE}] if before else []) + blank,
        },
        "pre_tokenizer": None,
        "post_processor": _begun(values, tokens, True),
        "decoder": {"type": "Sequence", "decoders": [*back, {"type": "Fuse"}, *strip]},
        "model": {
            "type": "BPE",
            "unk_token": unknown[0] if unknown else None,
            "fuse_unk": True,
            "byte_fallback": bool((types == BYTE).any()),
            "vocab": ids,
            "merges": [[left, right] for *_, left, right in sorted(pairs)],
        },
    }


_DIGITS = {"type": "Digits", "individual_digits": True}
_GPT2, _ONE_BY_ONE = Cut(), Cut(_DIGITS)
_LLAMA3 = Cut(_pattern(r"\p{N}{1,3}"), whole=True)
_QWEN2 = Cut(_pattern(r"\p{N}"), normalizer={"type": "NFC"})
# `CUTS[tokenizer.ggml.pre]` cuts texts for byte-level BPE.
CUTS = {
    "gpt-2": _GPT2,
    "gpt2": _GPT2,
    "smollm": _ONE_BY_ONE,
    "starcoder": _ONE_BY_ONE,
    "codeshell": _ONE_BY_ONE,
    "refact": _ONE_BY_ONE,
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "qwen2": _QWEN2,
}
# `KINDS[tokenizer.ggml.model](values, tokens, types)` is what a tokenizer.json says beside its added tokens.
KINDS = {"gpt2": _byte_level, "llama": _sentencepiece}
