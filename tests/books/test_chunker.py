"""Chunks: 40 to 256 characters, in order, nothing lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from juliagpt_jax.books.chunker import Limits, chunks, sentences

WORD = st.text("abcdefgh", min_size=1, max_size=9)
SENTENCE = st.lists(WORD, min_size=1, max_size=60).map(lambda words: " ".join(words) + ".")
CLAUSES = st.lists(SENTENCE, min_size=1, max_size=4).map(lambda parts: "; ".join(p[:-1] for p in parts) + ".")
WORK = st.lists(st.lists(st.lists(SENTENCE | CLAUSES, min_size=1, max_size=5), max_size=4), max_size=4)


@settings(max_examples=200)
@given(WORK, st.integers(11, 60), st.integers(3, 6))
def test_nothing_is_lost_and_order_is_kept(sections, shortest, times):
    limits = Limits(shortest, shortest * times)
    made = chunks(sections, limits)
    text = " ".join(s for section in sections for paragraph in section for s in paragraph)
    assert " ".join(made) == text
    assert all(len(chunk) <= limits.longest for chunk in made)
    if len(text) >= shortest:
        assert all(len(chunk) >= shortest for chunk in made), [len(c) for c in made]
    else:
        assert made == ([text] if text else [])


def test_words_longer_than_a_chunk_are_cut():
    made = chunks([[["x" * 1_000 + "."]]])
    assert "".join(made) == "x" * 1_000 + "." and all(40 <= len(c) <= 256 for c in made)


def test_a_chunk_ends_with_a_sentence_where_it_can():
    names = "one two three four five six seven".split()
    made = chunks([[[f"the {name} sentence has some words in it and ends here." for name in names]]])
    assert all(chunk.endswith("here.") for chunk in made)


def test_a_long_sentence_is_cut_at_a_clause():
    clause = "and this goes on for some more words of no great weight"
    (first, *rest) = chunks([[["; ".join([clause] * 6) + "."]]])
    assert first.endswith(";") and all(part.endswith((";", ".")) for part in rest)


def test_sections_do_not_share_a_chunk():
    a, b = (f"a sentence of the {w} section that is long enough to stand alone." for w in ("first", "second"))
    assert chunks([[[a]], [[b]]]) == [a, b]
    assert chunks([[[a, b]]]) == [f"{a} {b}"]


@pytest.mark.parametrize(
    "text, count",
    [
        ("One thing. Another thing! A third? Yes.", 4),
        ("Mr. Smith met Dr. Jones at St. Paul's. They spoke.", 2),
        ("J. S. Mill wrote it, i.e. The book, in vol. II of the works.", 1),
        ("\"Who is there?\" He said nothing. 'Well.' And so on.", 4),
        ("It is so, cf. Plato, etc. But not here.", 1),
        ("no capitals here. so one sentence", 1),
        ("", 0),
    ],
)
def test_sentences(text, count):
    found = sentences(text)
    assert len(found) == count and " ".join(found) == text


@given(st.text("Aab.?!\"') -", max_size=80))
def test_sentences_lose_nothing(text):
    assert "".join(sentences(text)).replace(" ", "") == text.replace(" ", "")
