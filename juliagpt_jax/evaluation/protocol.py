"""The protocol of a score in one line: without it no perplexity can be compared with another."""

import hashlib

import numpy as np

from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.data.tokenizer import CharTokenizer, Tokenizer
from juliagpt_jax.inference.scoring import Score

UNKNOWN_WORD = "<unk>"  # what stands in a text for words that its makers left out


def line(score: Score, tokens: np.ndarray, tokenizer: Tokenizer, name: str) -> str:
    """Say what was scored, how much each token saw of what stands before it, and of which text and which tokens.

    Args:
        tokens: of the whole text.
        name: of the text.
    """
    unit, plain = f"{tokenizer.unit}s", isinstance(tokenizer, CharTokenizer)
    which = "" if plain else f" ({tokenizers.digest(tokenizer)[:12]})"
    text, size = tokenizer.decode(tokens), score.counts
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    part = f" of {len(tokens):,}" if score.scored_tokens < len(tokens) else ""
    stand = f" ({size.words:,} words and line ends, {size.bytes:,} bytes)" if size else ""
    unknown = unknown_words(text, tokenizer)
    return (
        f"{score.scored_tokens:,}{part} {unit}{', evenly spread' if part else ''}{stand}, each scored once, context "
        f"{score.context}, stride {score.stride}; {name}, SHA-256 {digest[:12]}; {tokenizer.vocab_size:,} different "
        f"{unit}{which}{unknown and f', {unknown}'}"
    )


def unknown_words(text: str, tokenizer: Tokenizer) -> str:
    """Say how often a text has `<unk>`, and what the tokenizer makes of it; nothing where it has none."""
    number, pieces = text.count(UNKNOWN_WORD), len(tokenizer.encode(UNKNOWN_WORD, "skip"))
    return (
        f"{UNKNOWN_WORD} {number:,} times, {'one token' if pieces == 1 else f'{pieces} tokens'} each" if number else ""
    )
