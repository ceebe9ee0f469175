"""Scores: formulas by hand, directions that must hold, and independence from a chunk's own text."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from juliagpt_jax.books import scorer
from juliagpt_jax.books.scorer import Judge, Scores, dictionary, flesch, mtld, ranks, syllables

PROSE = (
    "we must first state the subject of our inquiry and the faculty to which it belongs, and say what it is we want."
)
SYLLABLES = (
    "the:1 table:2 walked:1 wanted:2 boxes:2 makes:1 careful:2 philosophy:4 nature:2 science:2 idea:3 society:4 "
    "reason:2 virtue:2 being:2 courageous:3 material:4 geometry:4 soul:1 people:2 justice:2 government:3 "
    "created:3 poem:2 real:1 area:3 special:2 nation:2 patience:2 quality:3 question:2 royal:2 seven:2 evil:2 "
    "every:2 theory:3 usual:3 various:3 experience:4 ruin:2 doing:2 little:2 candle:2 houses:2 ages:2 things:1 "
    "loved:1 added:2 opinion:3 union:2 piety:3 friend:1 cause:1 purpose:2 equal:2 square:1 language:2 ocean:2 "
    "musician:3 christian:2 dialogue:3 socrates:3 knowledge:2 divine:2 triangle:3 liberty:3 imagination:5 "
    "ancient:2 judge:1 education:4 individual:5 advantage:3 changed:1 beautiful:3 eternal:3 temple:2 hypothesis:4"
)


def test_syllables():
    """The rule is right for nine words in ten, and never far off."""
    pairs = [(word, int(n)) for word, n in (item.split(":") for item in SYLLABLES.split())]
    wrong = [(word, n, syllables(word)) for word, n in pairs if syllables(word) != n]
    assert len(wrong) <= len(pairs) // 10, wrong
    assert all(abs(n - found) == 1 for _, n, found in wrong)


def test_flesch_by_hand():
    """Eight words in two sentences, ten syllables."""
    text = "the cat sat on a table. virtue is."
    assert sum(map(syllables, scorer.words(text))) == 10
    assert flesch(text) == pytest.approx(206.835 - 1.015 * 8 / 2 - 84.6 * 10 / 8)
    assert flesch("") == 0


def test_mtld_by_hand():
    """Threshold 0.72. "a b a" falls to 2/3: one factor in three words. "c d" stays at 1: no part of a factor."""
    assert mtld("a b a c d".split()) == pytest.approx((5 / 1 + 5 / ((1 - 4 / 5) / 0.28)) / 2)
    assert mtld(["a"] * 10) == pytest.approx(2.0)  # a factor every two words
    assert mtld([]) == 0


@given(st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=60))
def test_mtld_is_finite_and_symmetric(found):
    assert 0 < mtld(found) < math.inf
    assert mtld(found) == pytest.approx(mtld(found[::-1]))


def test_ranks():
    assert ranks([3.0, 1.0, 2.0]).tolist() == [1.0, 0.0, 0.5]
    assert ranks([1.0, 1.0, 5.0]).tolist() == [0.25, 0.25, 1.0]
    assert ranks([7.0]).tolist() == [0.5] and len(ranks([])) == 0


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=30))
def test_ranks_keep_the_order_and_the_mean(values):
    result = ranks(values)
    assert result.min() >= 0 and result.max() <= 1 and result.mean() == pytest.approx(0.5)
    for a, b in itertools.pairwise(values):
        assert np.sign(a - b) == np.sign(result[values.index(a)] - result[values.index(b)])


def test_difficulty_is_the_mean_of_three_ranks():
    make = lambda compression, mtld, flesch: Scores(compression, mtld, flesch, 1, 1, 1, 1, 0, 0)
    scores = [make(0.4, 50, 90), make(0.5, 40, 20), make(0.6, 60, 50)]
    assert scorer.difficulty(scores) == pytest.approx([(0 + 0.5 + 0) / 3, (0.5 + 0 + 1) / 3, (1 + 1 + 0.5) / 3])


def judge(text="", **counts):
    found = scorer.words(text)
    counts = counts or {word: 10 for word in scorer.words(PROSE)} | {word: 10 for word in found}
    return Judge(dictionary([PROSE], 0), counts, 100)


def test_a_dictionary_of_the_corpus_tells_familiar_text_from_strange():
    """Without it, two chunks of this length would compress alike."""
    inside = PROSE[:100]
    strange = "quixotic zephyrs jolt, and vexed wizards fling bombastic lyrics past my gloomy jackdaw's cold quay."
    bare = Judge(b"", {}, 0)
    assert judge().compression(inside) < 0.5 * judge().compression(strange)
    assert bare.compression(inside) > 0.8 * bare.compression(strange)
    assert judge().compression(inside) == judge().compression(inside)  # judging leaves no trace


def test_the_dictionary_is_drawn_by_the_seed_and_has_its_size():
    texts = [f"text number {i} " + "word " * 50 for i in range(1_000)]
    assert dictionary(texts, 0) == dictionary(texts, 0) != dictionary(texts, 1)
    assert len(dictionary(texts, 0)) == scorer.DICTIONARY_BYTES


@pytest.mark.parametrize(
    "text, low, high",
    [
        (PROSE, 0.99, 1),
        ("'what then?' said he. 'is it so?' 'it is.' 'and do we say that it must be so of all?' 'we do.'", 0.7, 1),
        ("quidquid delirant reges plectuntur achivi quapropter hoc primum quisque remediis animi habeat", 0, 0.3),
        ("a, b; c, d. e: f, g; h. ab, cd: ef. k, l; m, n. p q r s t u v w x y z", 0, 0.3),
        ("thirty-four thousand and twelve, thirty-five thousand and one, ninety-six thousand, two", 0, 0.3),
        ("ditto the same ditto the same ditto the same ditto the same ditto the same ditto the same ditto", 0, 0.4),
        (". . . - - ( ) . , ; : . . 'x' ' . . - - - - - - - - - - - - - - - - -", 0, 0),
        ("", 0, 0),
    ],
)
def test_quality(text, low, high):
    assert low <= judge(text).score(text).quality <= high


def test_words_are_known_from_elsewhere_only():
    """All words of the chunk occur in the corpus; but "virtue" only in the chunk itself."""
    text = "virtue is virtue"
    assert Judge(b"", {"virtue": 2, "is": 5}, 100).score(text).known == pytest.approx(1 / 3)
    assert Judge(b"", {"virtue": 3, "is": 5}, 100).score(text).known == 1
    assert Judge(b"", {"virtue": 3, "is": 5}, 200_000).score(text).known == pytest.approx(1 / 3)
