"""Characters, bytes and words that tokens stand for: what models with different tokens are compared by."""

from typing import NamedTuple

import numpy as np

from juliagpt_jax.data.tokenizer import CharTokenizer, Tokenizer

BLANKS = np.array([c for c in range(0x3001) if chr(c).isspace()], np.uint32)  # U+3000 is the last one of Unicode
BLOCK = 2**20  # characters or tokens looked at in one go
BACK = 8  # tokens before a stretch that are decoded with it: no character has more
PARTIAL = "\ufffd"  # what a part of a character is decoded to


class TextCounts(NamedTuple):
    """The size of a text in units that do not depend on a tokenizer.

    Attributes:
        characters: Unicode code points.
        bytes: of UTF-8.
        words: runs of characters between blanks, as `str.split` has them, and each line end as one more, as the word
            models of Penn Treebank and WikiText count it, who call it `<eos>` (Merity et al. 2017, arXiv 1609.07843).
    """

    characters: int
    bytes: int
    words: int


def of(text: str, before: str = "") -> TextCounts:
    """Count a text.

    Args:
        before: the character in front of it: a word that goes on from there began there, and is not counted.
    """
    size = words = 0
    for i in range(0, len(text), BLOCK):
        own, begun = _each(text[i : i + BLOCK], text[i - 1] if i else before)
        size, words = size + int(own.sum()), words + int(begun.sum())
    return TextCounts(len(text), size, words)


def of_tokens(tokenizer: Tokenizer, tokens: np.ndarray, chosen: np.ndarray | None = None) -> TextCounts:
    """Count what the chosen tokens of a text stand for. A character of several tokens belongs to the last of them, a
    word to the token in which it begins: so the counts of the parts of a text add up to its own. The id that ends a
    document stands for nothing, and no word goes on behind it.

    Args:
        tokens: of the whole text.
        chosen: (len(tokens),) bool; None: all.
    """
    chosen = np.ones(len(tokens), bool) if chosen is None else chosen
    total = np.zeros(3, np.int64)
    if isinstance(tokenizer, CharTokenizer):
        for i in range(0, len(tokens), BLOCK):
            own, before = chosen[i : i + BLOCK], tokenizer.decode(tokens[max(0, i - 1) : i])
            size, words = _each(tokenizer.decode(tokens[i : i + BLOCK]), before)
            total += own.sum(), size[own].sum(), words[own].sum()
        return TextCounts(*total.tolist())
    eos = tokenizer.eos
    ends = np.zeros(len(tokens), bool) if eos is None else np.asarray(tokens) == eos
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen & ~ends, [False]])))
    for first, stop in edges.reshape(-1, 2).tolist():
        for a in range(first, stop, BLOCK):
            b, begin = min(a + BLOCK, stop), max(0, a - BACK)
            if ends[begin:a].any():
                begin += int(np.flatnonzero(ends[begin:a])[-1]) + 1
            last = b == len(tokens) or ends[b]
            head, whole = tokenizer.decode(tokens[begin:a]).rstrip(PARTIAL), tokenizer.decode(tokens[begin:b])
            whole = whole if last else whole.rstrip(PARTIAL)
            total += of(whole[len(head) :], head[-1:])
    return TextCounts(*total.tolist())


def _each(text: str, before: str) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of each character of a text, and how many words begin with it."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    blank = np.isin(codes, BLANKS)
    after = np.concatenate([[not before or before.isspace()], blank])[: len(blank)]
    size = np.searchsorted([0x80, 0x800, 0x10000], codes, side="right") + 1
    return size, (~blank & after) | (codes == ord("\n"))
