"""The grain of a tokenizer: tokens a word, bytes a token, and by kind of token."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from juliagpt_jax.data import counts
from juliagpt_jax.data.bpe import RARE, UNKNOWN
from juliagpt_jax.data.library import LibraryTokenizer

SAMPLE = 4_000_000  # characters of a text that are measured
BLOCK = 2**16  # characters of it in a row


class Kind(NamedTuple):
    """Tokens of one kind: how many the vocabulary has, how many a text, and the bytes of these."""

    known: int
    used: int
    size: int


class Density(NamedTuple):
    """Sizes of a text: its tokens, words (as `counts.TextCounts` has them), characters and bytes; and its tokens by
    kind, the most frequent kind first."""

    tokens: int
    words: int
    characters: int
    size: int
    kinds: dict[str, Kind]

    def to_dict(self) -> dict[str, Any]:
        return {
            "tokens": self.tokens,
            "words": self.words,
            "characters": self.characters,
            "bytes": self.size,
            "tokens_per_word": self.tokens / max(1, self.words),
            "bytes_per_token": self.size / max(1, self.tokens),
            "kinds": {name: {"known": k.known, "tokens": k.used, "bytes": k.size} for name, k in self.kinds.items()},
        }


def measure(tokenizer: LibraryTokenizer, texts: Sequence[str]) -> Density:
    """Count the tokens of texts, each encoded for itself."""
    ids, _ = tokenizer.encode_each(texts)
    names = [kind(tokenizer, token) for token in range(tokenizer.vocab_size)]
    # The library has a letter for each byte.
    sizes = np.array([len(tokenizer.name(token) or "") for token in range(tokenizer.vocab_size)], np.int64)
    used = np.bincount(ids, minlength=tokenizer.vocab_size)
    kinds = {}
    for name in dict.fromkeys(names):
        mine = np.array([own == name for own in names])
        kinds[name] = Kind(int(mine.sum()), int(used[mine].sum()), int((used * sizes)[mine].sum()))
    kinds = dict(sorted(kinds.items(), key=lambda item: -item[1].used))
    characters, size, words = (sum(part) for part in zip(*map(counts.of, texts), strict=True))
    return Density(len(ids), words, characters, size, kinds)


def kind(tokenizer: LibraryTokenizer, token: int) -> str:
    """Return what a token of a byte-level tokenizer is, in words."""
    if token in tokenizer.special.values():
        return "special"
    text = tokenizer.decode(np.array([token]))
    word = text.removeprefix(" ")
    if word in UNKNOWN:
        return "<unk>"
    if "\ufffd" in word:
        return "parts of characters"
    if not word.strip():
        return "blanks and ends of lines"
    return "letters" if word[0].isalpha() else "figures" if word[0].isnumeric() else "other signs"


class Sample:
    """Passages of a long text, evenly spread, that are kept while it goes by: at most about SAMPLE characters."""

    def __init__(self, characters: int):
        """`characters`: of the whole text."""
        self.texts: list[str] = []
        self._every = max(1, -(-characters // SAMPLE))

    def of(self, texts: Iterable[str]) -> Iterator[str]:
        """Pass all texts on, and keep some."""
        seen = 0
        for text in texts:
            if seen // BLOCK % self._every == 0:
                self.texts.append(text)
            seen += len(text)
            yield text


def told(report: Mapping[str, Any], out: str) -> list[str]:
    """Return the lines that `tokenize` prints of its report."""
    lines = [f"{out}: {report['vocab']:,} tokens, SHA-256 {report['tokenizer_sha256']}"]
    if measured := report.get("measured"):
        lines[0] = lines[0].replace(", SHA", f" of {report['characters']:,} characters, SHA")
        lines += [f"      {note}" for note in report["notes"]]
        if report["vocab"] < report["asked"]:
            asked = f"{report['asked']:,} were asked for"
            lines.append(f"      no pair of tokens is left that occurs {RARE} times: {asked}")
        lines.append(f"      {ratios(measured)}")
    where = "/".join((out.rstrip("/"), "tokenizer.json"))
    return [*lines, f"train with it: --config.data.tokenizer={where}"]


def ratios(measured: Mapping[str, Any]) -> str:
    """Say in a line how finely a text is cut."""
    each, size = measured["tokens_per_word"], measured["bytes_per_token"]
    return f"{each:.3f} tokens a word, {size:.3f} bytes a token, on {measured['characters']:,} characters of it"


def page(report: Mapping[str, Any]) -> str:
    """Return the report as a page."""
    special = ", ".join(f"{task} {token}" for task, token in report["special"].items()) or "none"
    lines = ["# Tokenizer", "", f"{report['vocab']:,} tokens; ids with a task: {special}.", ""]
    lines += [f"SHA-256 of tokenizer.json, as it stands in it: `{report['tokenizer_sha256']}`", ""]
    if not report.get("measured"):
        return "\n".join(lines)
    lines += [f"Learned from {report['characters']:,} characters by the library tokenizers {report['tokenizers']}:", ""]
    lines += [f"- {note}" for note in report["notes"]]
    lines += [f"- `{name}`, SHA-256 `{own}`" for name, own in report["files"].items()]
    lines += ["", f"{ratios(report['measured'])}:".capitalize(), ""]
    lines += ["| kind of token | in the vocabulary | in the text | of the text's tokens | bytes a token |"]
    lines += ["|---|---|---|---|---|"]
    whole = max(1, report["measured"]["tokens"])
    for name, kind in report["measured"]["kinds"].items():
        each = f"{kind['bytes'] / kind['tokens']:.2f}" if kind["tokens"] else ""
        lines.append(f"| {name} | {kind['known']:,} | {kind['tokens']:,} | {kind['tokens'] / whole:.1%} | {each} |")
    return "\n".join([*lines, ""])
