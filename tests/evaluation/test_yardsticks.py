"""Counted n-grams as a yardstick, beside the same sum written out."""

import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from juliagpt_jax.evaluation import yardsticks


def written_out(train: list[int], vocab: int, n: int):
    """Witten and Bell's share of a token after a context, by the recursion."""

    def share(context: tuple[int, ...], token: int) -> float:
        shorter = share(context[1:], token) if context else 1 / vocab
        after = Counter(
            train[i + len(context)]
            for i in range(len(train) - len(context))
            if tuple(train[i : i + len(context)]) == context
        )
        if not after:
            return shorter
        return (after[token] + len(after) * shorter) / (after.total() + len(after))

    return share


@pytest.mark.parametrize("vocab", [3, 7])
def test_equals_the_recursion_and_shares_sum_to_one(vocab):
    rng = np.random.default_rng(vocab)
    train, val = rng.integers(0, vocab - 1, 60), rng.integers(0, vocab, 25)  # one token the training text lacks
    bits = yardsticks.ngram_bits(train, val, vocab, longest=4)
    assert list(bits) == [1, 2, 3, 4]
    for n in bits:
        share = written_out(train.tolist(), vocab, n)
        text = val.tolist()
        logs = [math.log2(share(tuple(text[max(0, i - n + 1) : i]), text[i])) for i in range(len(text))]
        assert bits[n] == pytest.approx(-sum(logs) / len(logs), rel=1e-12)
        assert sum(share(tuple(text[: n - 1]), token) for token in range(vocab)) == pytest.approx(1)


def test_a_text_that_repeats_is_known_by_heart():
    text = np.tile([0, 1, 2, 3], 500)
    bits = yardsticks.ngram_bits(text, text, 4)
    assert bits[1] == pytest.approx(2, abs=0.01) and bits[2] < 0.01


def test_long_texts_are_read_in_stretches(monkeypatch):
    monkeypatch.setattr(yardsticks, "TRAIN_TOKENS", 640)
    text = np.arange(6400)
    read = yardsticks._stretches(text, 640)
    assert len(read) == 640 and read[0] == 0 and read[-1] == 6399, "from the begin to the end"
    assert len(yardsticks._stretches(text, 6400)) == 6400
    assert np.isfinite(yardsticks.ngram_bits(text % 5, text % 5, 5)[6])


def test_codes_that_would_not_fit_are_left_out():
    text = np.random.default_rng(0).integers(0, 50_000, 1000)
    assert list(yardsticks.ngram_bits(text, text, 50_000)) == [1, 2, 3]
    short = np.array([0, 1, 0])
    assert list(yardsticks.ngram_bits(short, short, 2)) == [1, 2, 3]


def test_of_a_corpus_pairs_and_the_best_in_bits_a_character():
    rng = np.random.default_rng(0)
    # Each token follows from the two before it: three in a row know all.
    train = [0, 1]
    for _ in range(4000):
        train.append((train[-1] + train[-2] + int(rng.random() < 0.02)) % 5)
    tokens = np.array(train)
    corpus = SimpleNamespace(
        train=tokens[:3000], val=tokens[3000:], tokenizer=SimpleNamespace(vocab_size=5), characters_per_token=(1.0, 2.0)
    )
    counted = yardsticks.of(corpus)  # pyright: ignore[reportArgumentType]
    bits = yardsticks.ngram_bits(tokens[:3000], tokens[3000:], 5)
    assert counted == {2: bits[2] / 2, 3: bits[3] / 2}
