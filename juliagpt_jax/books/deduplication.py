"""Passages that come twice: word for word, nearly so (MinHash), or inside another (word n-grams)."""

from collections.abc import Sequence

import numpy as np
import rensa

from juliagpt_jax.books.scorer import words

PERMUTATIONS, BANDS = 64, 16  # a pair at similarity 0.6 is found with 89%, at 0.7 with 99%
_BATCH = 4_096  # chunks whose digests are computed at once
_SHINGLE = 3  # words; one changed word of 35 leaves a similarity of 0.83
_GRAM = 8  # words in a row that two passages hardly share by chance


def repeated(texts: Sequence[str], similarity: float) -> tuple[dict[int, int], dict[int, int]]:
    """Return the chunks that come again, each with the earlier one that stays: exact, and near, by index.

    Near are chunks whose sets of three-word sequences have a Jaccard index of `similarity` or more. MinHash only finds
    the candidates; the index itself decides.
    """
    exact: dict[int, int] = {}
    first: dict[str, int] = {}
    found = [words(text) for text in texts]
    for i, tokens in enumerate(found):
        key = " ".join(tokens)
        if key in first:
            exact[i] = first[key]
        else:
            first[key] = i
    left = [i for i in range(len(texts)) if i not in exact]
    near: dict[int, int] = {}
    if not left:
        return exact, near
    shingles = lambda k: _shingles(found[left[k]])  # not kept: those of all chunks fill a gigabyte
    minhash = rensa.RMinHash  # pyright: ignore[reportAttributeAccessIssue]  (compiled, without a stub)
    parts = []
    for begin in range(0, len(left), _BATCH):
        batch = [list(shingles(k)) for k in range(begin, min(begin + _BATCH, len(left)))]
        digests = np.asarray(minhash.digests_from_token_sets(batch, PERMUTATIONS, 1), np.uint64)
        parts.append(_mix(digests.reshape(len(batch), BANDS, PERMUTATIONS // BANDS)))
    keys = np.concatenate(parts)
    buckets: dict[tuple[int, int], list[int]] = {}
    shared = np.zeros(keys.shape, bool)  # most chunks share a band with nobody, and are done with here
    for band in range(BANDS):
        _, inverse, counts = np.unique(keys[:, band], return_inverse=True, return_counts=True)
        shared[:, band] = counts[inverse] > 1
    for i in np.flatnonzero(shared.any(axis=1)).tolist():
        places = [(band, int(keys[i, band])) for band in np.flatnonzero(shared[i]).tolist()]
        candidates = sorted({j for place in places for j in buckets.get(place, ())})
        own = shingles(i)
        twin = next((j for j in candidates if _jaccard(own, shingles(j)) >= similarity), None)
        if twin is not None:
            near[left[i]] = left[twin]
            continue
        for place in places:
            buckets.setdefault(place, []).append(i)
    return exact, near


def _shingles(tokens: list[str]) -> set[str]:
    return {" ".join(tokens[i : i + _SHINGLE]) for i in range(max(1, len(tokens) - _SHINGLE + 1))}


def _jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b)


def _mix(rows: np.ndarray) -> np.ndarray:
    """Return one number for the last axis; wraps around."""
    result = np.zeros(rows.shape[:-1], np.uint64)
    for k in range(rows.shape[-1]):
        result = (result ^ rows[..., k]) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(k + 1)
        result ^= result >> np.uint64(29)
    return result


def leaks(train: Sequence[str], val: Sequence[str], share: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Return the validation chunks that the training text gives away, and the training chunks that do it, as indices.

    A validation chunk has leaked if `share` of its eight-word sequences, or all of its words if it has fewer, stand in
    a training chunk. The training chunks are all that hold one of those sequences; without them nothing has leaked.
    """
    vocabulary: dict[str, int] = {}
    coded = [_codes(texts, vocabulary) for texts in (train, val)]
    train_grams, train_chunk = _grams(*coded[0], len(train))
    val_grams, val_chunk = _grams(*coded[1], len(val))
    hit = np.isin(val_grams, train_grams)
    total = np.bincount(val_chunk, minlength=len(val))
    leaked = np.bincount(val_chunk[hit], minlength=len(val)) >= np.maximum(share * total, 1)
    sources = np.isin(train_grams, val_grams[hit & leaked[val_chunk]])
    return np.flatnonzero(leaked), np.unique(train_chunk[sources])


def _codes(texts: Sequence[str], vocabulary: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return all words of the texts as numbers, and each text's number of words."""
    found = [words(text) for text in texts]
    codes = [vocabulary.setdefault(word, len(vocabulary)) for tokens in found for word in tokens]
    return np.asarray(codes, np.uint64), np.asarray([len(t) for t in found], np.int64)


def _grams(codes: np.ndarray, lengths: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return hashes of the word sequences inside each text, and the text of each. A text of fewer words than a
    sequence has one: all of it."""
    chunk = np.repeat(np.arange(count), lengths)
    place = np.arange(len(codes)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    left = np.repeat(lengths, lengths) - place
    size = np.minimum(np.repeat(lengths, lengths), _GRAM)
    result = np.zeros(len(codes), np.uint64)
    for k in range(_GRAM):
        word = np.zeros(len(codes), np.uint64)
        word[: max(len(codes) - k, 0)] = codes[k:] + np.uint64(1)
        word[size <= k] = 0
        result = (result ^ word) * np.uint64(0x9E3779B97F4A7C15)
        result ^= result >> np.uint64(29)
    whole = left >= size
    return result[whole], chunk[whole]
