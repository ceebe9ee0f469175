"""Made-up texts are what their docstrings say, and a function of seed and step."""

import numpy as np
import pytest

from juliagpt_jax.data.abilities import ABILITIES
from juliagpt_jax.data.batch import IGNORED

SIZES = {
    "recall": {"length": 40, "pairs": 6, "vocab": 32},
    "palindrome": {"length": 12, "vocab": 9},
    "parity": {"length": 20},
}


def made(word, step=0, seed=3, rows=50):
    return ABILITIES[word](seed, step, rows, **SIZES[word])


@pytest.mark.parametrize("word", ABILITIES)
def test_a_function_of_seed_and_step(word):
    once, again = made(word), made(word)
    np.testing.assert_array_equal(once.inputs, again.inputs)
    np.testing.assert_array_equal(once.targets, again.targets)
    for other in (made(word, step=1), made(word, seed=4)):
        assert (other.inputs != once.inputs).any(axis=1).all()
    assert once.inputs.dtype == once.targets.dtype == np.int32
    assert once.inputs.shape == once.targets.shape == (50, SIZES[word]["length"])


def test_recall():
    """Each key stands twice, has one value, and is asked for once; nothing else is."""
    inputs, targets, *_ = made("recall")
    gaps = []
    for text, asked in zip(inputs, targets, strict=True):
        pairs = dict(zip(text[0:12:2].tolist(), text[1:12:2].tolist(), strict=True))
        assert len(pairs) == 6 and all(0 < k < 16 <= v < 32 for k, v in pairs.items())
        (at,) = np.nonzero(asked != IGNORED)
        assert at.min() >= 12 and sorted(text[at]) == sorted(pairs)
        assert [pairs[key] for key in text[at].tolist()] == asked[at].tolist()
        assert not text[12:][asked[12:] == IGNORED].any()
        gaps.append(at[0] - 12)
    assert np.median(gaps) < 4, "most of the first queries follow soon"
    with pytest.raises(ValueError, match="7 pairs do not fit into 20 tokens of 32"):
        ABILITIES["recall"](0, 0, 1, length=20, pairs=7, vocab=32)


def test_palindrome():
    inputs, targets, *_ = made("palindrome")
    assert (inputs[:, 6] == 0).all() and (inputs[:, :6] > 0).all() and (targets[:, :6] == IGNORED).all()
    np.testing.assert_array_equal(targets[:, 6:], inputs[:, 5::-1])
    np.testing.assert_array_equal(inputs[:, 7:], targets[:, 6:-1])


def test_parity():
    inputs, targets, *_ = made("parity")
    for text, odd in zip(inputs, targets, strict=True):
        assert [sum(text[: t + 1]) % 2 for t in range(20)] == odd.tolist()
    assert 0.4 < inputs.mean() < 0.6
