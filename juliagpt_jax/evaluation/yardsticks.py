"""Measure how well counting alone predicts a text, so that a reader sees what a trained model is worth."""

import math

import numpy as np

from juliagpt_jax.data.corpus import Corpus

LONGEST = 6  # n-grams of more tokens than this have seldom been seen before in a million tokens
LARGEST_CODE = 2**62  # of an n-gram as one int64
TRAIN_TOKENS, VAL_TOKENS = 2**20, 2**17  # of longer texts as many in evenly spread stretches: about a second
STRETCHES = 64


def of(corpus: Corpus) -> dict[int, float]:
    """Return the bits a character of the validation text costs under the pairs of the training text, which a model
    passes first, and under the best n-grams that it has, by n: {2: 3.44, 6: 1.50}."""
    bits = ngram_bits(corpus.train, corpus.val, corpus.tokenizer.vocab_size)
    bits = {n: value / corpus.characters_per_token[1] for n, value in bits.items() if n > 1}
    return {n: bits[n] for n in sorted({min(bits), min(bits, key=bits.__getitem__)})} if bits else {}


def ngram_bits(train: np.ndarray, val: np.ndarray, vocab: int, longest: int = LONGEST) -> dict[int, float]:
    """Return the bits a token of `val` costs under n-gram models counted on `train`, by n from 1 to `longest`.

    The n-grams of each length are mixed with those one shorter by Witten and Bell's rule: the more different tokens
    followed a context, the less its counts are trusted (Chen and Goodman 1998, section 2.4). Before all stand equal
    shares of the vocabulary. Left out is an n whose n-grams are too many to be numbered in 62 bits.

    Args:
        train, val: one-dimensional token ids; of long ones evenly spread stretches are read.
    """
    x, y = (_stretches(text, most) for text, most in ((train, TRAIN_TOKENS), (val, VAL_TOKENS)))
    largest = int(math.log(LARGEST_CODE) / math.log(max(vocab, 2)))
    shares = np.full(len(y), 1 / vocab)  # of each token of y, given what stands before it
    bits = {}
    for n in range(1, min(longest, largest, len(x), len(y)) + 1):
        grams, counts = np.unique(_codes(x, vocab, n), return_counts=True)
        contexts, first = np.unique(grams // vocab, return_index=True)
        followers = np.diff(np.append(first, len(grams)))  # different tokens after each context
        totals = np.add.reduceat(counts, first)
        wanted = _codes(y, vocab, n)
        count = _looked_up(grams, counts, wanted)
        total, kinds = (_looked_up(contexts, values, wanted // vocab) for values in (totals, followers))
        shorter = shares[n - 1 :]
        mixed = np.where(total > 0, (count + kinds * shorter) / np.maximum(total + kinds, 1), shorter)
        shares = np.concatenate([shares[: n - 1], mixed])
        bits[n] = -float(np.mean(np.log2(shares)))
    return bits


def _stretches(text: np.ndarray, most: int) -> np.ndarray:
    if len(text) <= most:
        return np.asarray(text, np.int64)
    length = most // STRETCHES
    begins = np.linspace(0, len(text) - length, STRETCHES).astype(np.int64)
    return np.concatenate([text[begin : begin + length] for begin in begins]).astype(np.int64)


def _codes(text: np.ndarray, vocab: int, n: int) -> np.ndarray:
    """(len(text) - n + 1,) int64: each run of n tokens as one number, the first token in the highest place."""
    codes = np.zeros(max(0, len(text) - n + 1), np.int64)
    for i in range(n):
        codes = codes * vocab + text[i : len(text) - n + 1 + i]
    return codes


def _looked_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The values of sorted keys, 0 for one that is not there."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)
