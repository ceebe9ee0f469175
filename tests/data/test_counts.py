"""Characters, bytes and words of a text, and of any of its tokens: exact, and parts add up."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from juliagpt_jax.data import counts
from juliagpt_jax.data.counts import TextCounts
from juliagpt_jax.data.tokenizer import CharTokenizer, LibraryTokenizer

tokenizers = pytest.importorskip("tokenizers")
TEXT = "one naïve  café\n\n世界 is big\t🙂🙂 \u3000end\u00a0of it\n" * 3


def by_hand(text: str) -> TextCounts:
    return TextCounts(len(text), len(text.encode()), len(text.split()) + text.count("\n"))


@pytest.fixture(scope="module")
def bytewise() -> LibraryTokenizer:
    """A byte-level BPE with few merges: most characters outside ASCII are several tokens."""
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    library.train_from_iterator(
        ["one big end of it naïve"] * 9,
        tokenizers.trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet, show_progress=False),
    )
    return LibraryTokenizer(json.loads(library.to_str()), library.get_vocab_size(), None)


@given(st.text(alphabet="ab é世🙂\n\t\u00a0\u3000\x1c", max_size=40), st.integers(0, 40))
def test_of_a_text_and_of_its_two_halves(text, cut):
    assert counts.of(text) == by_hand(text)
    halves = counts.of(text[:cut]), counts.of(text[cut:], text[:cut][-1:])
    assert tuple(map(sum, zip(*halves, strict=True))) == by_hand(text)


def test_blanks_are_those_of_split():
    everything = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x20000)]))
    assert counts.of(everything).words == len(everything.split()) + 1


def test_long_texts_are_counted_in_blocks(monkeypatch):
    monkeypatch.setattr(counts, "BLOCK", 5)
    assert counts.of(TEXT) == by_hand(TEXT)


@pytest.mark.parametrize("kind", ["char", "library"])
def test_tokens_of_parts_add_up(kind, bytewise):
    """Also where a part begins within a word, or within a character; and a part is what its tokens say."""
    tokenizer = CharTokenizer.train(TEXT) if kind == "char" else bytewise
    tokens = tokenizer.encode(TEXT)
    assert len(tokens) > len(TEXT) or kind == "char"
    assert counts.of_tokens(tokenizer, tokens) == by_hand(TEXT)
    rng = np.random.default_rng(0)
    for share in (0.1, 0.5, 0.9):
        chosen = rng.random(len(tokens)) < share
        parts = [counts.of_tokens(tokenizer, tokens, part) for part in (chosen, ~chosen)]
        assert tuple(map(sum, zip(*parts, strict=True))) == by_hand(TEXT)
    first = np.arange(len(tokens)) < len(tokenizer.encode("one naïve  café\n"))
    assert counts.of_tokens(tokenizer, tokens, first) == by_hand("one naïve  café\n")


@pytest.mark.parametrize("kind", ["char", "library"])
def test_long_texts_are_decoded_in_blocks(kind, bytewise, monkeypatch):
    tokenizer = CharTokenizer.train(TEXT) if kind == "char" else bytewise
    monkeypatch.setattr(counts, "BLOCK", 7)
    assert counts.of_tokens(tokenizer, tokenizer.encode(TEXT)) == by_hand(TEXT)


def test_a_character_belongs_to_its_last_token(bytewise):
    tokens = bytewise.encode("a世b")
    size = [counts.of_tokens(bytewise, tokens, np.arange(5) == i) for i in range(5)]
    assert size == [(1, 1, 1), (0, 0, 0), (0, 0, 0), (1, 3, 0), (1, 1, 0)]


def test_the_end_of_a_document_is_no_text(bytewise, monkeypatch):
    monkeypatch.setattr(bytewise, "eos", bytewise.encode("#")[0], raising=False)
    tokens = np.concatenate([bytewise.encode("one end"), [bytewise.eos], bytewise.encode("big\n"), [bytewise.eos]])
    assert counts.of_tokens(bytewise, tokens) == (11, 11, 4)
    last = np.arange(len(tokens)) > len(tokens) - 5
    assert counts.of_tokens(bytewise, tokens, last).words == 2, "a word behind the end of a document begins there"
