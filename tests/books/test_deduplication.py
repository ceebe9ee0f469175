"""Repeated passages are found, exactly and nearly; others are not; and no leak is left."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from juliagpt_jax.books.deduplication import leaks, repeated
from juliagpt_jax.books.scorer import words
from juliagpt_jax.books.split import passages, smallest

RNG = random.Random(3)
VOCABULARY = [f"{a}{b}{c}" for a in "bcdfgh" for b in "aeiou" for c in "klmnrst"]
TEXTS = [" ".join(RNG.choices(VOCABULARY, k=35)) + "." for _ in range(400)]


def changed(text, *places):
    tokens = text.split()
    for place in places:
        tokens[place] = "other"
    return " ".join(tokens)


def test_exact_and_near():
    texts = [
        *TEXTS[:50],
        TEXTS[3].upper(),
        changed(TEXTS[4], 10),
        changed(TEXTS[5], 5, 15, 25, 30),
        f"{TEXTS[6]} {TEXTS[6][:20]}",
    ]
    exact, near = repeated(texts, 0.6)
    assert exact == {50: 3}
    assert near == {51: 4, 53: 6}
    assert repeated(texts, 0.95) == ({50: 3}, {})
    assert repeated([], 0.6) == ({}, {})


def test_unrelated_chunks_stay():
    assert repeated(TEXTS, 0.6) == ({}, {})


def test_most_pairs_at_the_threshold_are_found():
    """By the banding, 89% of the pairs at a similarity of 0.6; these have 0.65 and more."""
    texts = TEXTS + [changed(text, 8, 26) for text in TEXTS]
    _, near = repeated(texts, 0.6)
    assert len(near) >= 0.85 * len(TEXTS) and all(later == first + 400 for later, first in near.items())


def naive_leaks(train, val):
    grams = lambda text: [tuple(words(text)[i : i + 8]) for i in range(max(1, len(words(text)) - 7))]
    seen = {g for text in train for g in grams(text)}
    leaked = [i for i, text in enumerate(val) if sum(g in seen for g in grams(text)) >= max(0.5 * len(grams(text)), 1)]
    given_away = {g for i in leaked for g in grams(val[i])}
    return leaked, [i for i, text in enumerate(train) if given_away & set(grams(text))]


SMALL = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=20).map(" ".join), max_size=6)


@settings(max_examples=150)
@given(SMALL, SMALL)
def test_leaks_against_the_naive_count(train, val):
    found = leaks(train, val)
    assert [array.tolist() for array in found] == [list(a) for a in naive_leaks(train, val)]


def test_a_passage_cut_at_other_places_is_a_leak():
    """The same words, but chunks that begin elsewhere: hashes of chunks would not see it."""
    stream = " ".join(TEXTS[:8]).split()
    train = [" ".join(stream[i : i + 35]) for i in range(0, 245, 35)]
    val = [" ".join(stream[i : i + 35]) for i in range(17, 200, 35)] + TEXTS[50:60]
    assert repeated([*train, *val], 0.6) == ({}, {})
    leaked, sources = leaks(train, val)
    assert leaked.tolist() == list(range(6))
    left = [text for i, text in enumerate(train) if i not in set(sources.tolist())]
    assert len(leaks(left, val)[0]) == 0
    assert isinstance(sources, np.ndarray) and len(sources) == len(train)


@settings(max_examples=200)
@given(st.integers(0, 3_000), st.floats(0.01, 0.5), st.integers(1, 80), st.integers(0, 20), st.integers(0, 9))
def test_passages(count, share, length, guard, seed):
    """In order, inside, with room for their guards; about the share that was asked for."""
    found = passages(count, share, length, guard, f"seed {seed}")
    assert found == passages(count, share, length, guard, f"seed {seed}")
    before = 0
    for begin, end in found:
        assert before + guard <= begin < end <= count - guard
        before = end + guard
    total = sum(end - begin for begin, end in found)
    assert total <= round(count * share)
    if count >= smallest(share, guard) and guard == 0:
        assert total == round(count * share)
    if count < smallest(share, guard):
        assert not found


@pytest.mark.parametrize("count, guard, total", [(1_000, 1, 100), (10, 1, 1), (9, 1, 0), (5_000, 3, 500)])
def test_a_tenth_of_each_work(count, guard, total):
    assert sum(end - begin for begin, end in passages(count, 0.1, 32, guard, "s")) == total
