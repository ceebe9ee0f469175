"""One token a character, and the text comes back."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.errors import UserError

# With surrogates, which a Python string may hold and UTF-8 may not.
ANYTHING = st.text(st.characters(exclude_categories=[]), min_size=1)


@given(ANYTHING)
def test_round_trip(text):
    tokenizer = CharTokenizer.train(text)
    ids = tokenizer.encode(text)
    assert len(ids) == len(text), "one token a character"
    assert ids.max() < tokenizer.vocab_size == len(set(text))
    assert tokenizer.decode(ids) == text
    assert list(tokenizer.characters) == sorted(set(text))


@pytest.mark.parametrize(
    "text", ["\0", "\n\r\n\r", "\ufeffa", "é vs e\u0301", "😀\U0010ffff", "\ud83d|\ude00", "<|endoftext|>"]
)
def test_round_trip_of_the_notorious(text):
    tokenizer = CharTokenizer.train(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode("")[:0]) == ""


@given(st.text(min_size=1))
def test_saved_and_loaded(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    before = CharTokenizer.train(text)
    tokenizers.save(before, path)
    after = tokenizers.load(path)
    assert after.to_dict() == before.to_dict() and after.dtype == before.dtype
    assert after.decode(after.encode(text)) == text
    assert path.read_bytes().isascii()


@given(known=ANYTHING, text=ANYTHING)
def test_unknown_characters(known, text):
    """Named when refused, left out when skipped, and nothing else is."""
    tokenizer = CharTokenizer.train(known)
    unknown = [c for c in text if c not in known]
    assert tokenizer.unknown(text) == "".join(sorted(set(unknown)))
    assert tokenizer.decode(tokenizer.encode(text, "skip")) == "".join(c for c in text if c in known)
    if not unknown:
        assert tokenizer.decode(tokenizer.encode(text)) == text
        return
    with pytest.raises(UserError) as error:
        tokenizer.encode(text)
    assert f"U+{ord(min(unknown)):04X}" in str(error.value)


def test_unknown_characters_are_named_with_their_code_points():
    with pytest.raises(UserError) as error:
        CharTokenizer.train("abc").encode("a\té😀b")
    for name in ("'\\t' (U+0009)", "'é' (U+00E9)", "'😀' (U+1F600)"):
        assert name in str(error.value)
    with pytest.raises(UserError) as error:
        CharTokenizer.train("abc").encode("defghijklmnop")
    assert "'m' (U+006D) and 3 more" in str(error.value) and "'n'" not in str(error.value)


@pytest.mark.parametrize("size, dtype", [(1, "u1"), (256, "u1"), (257, "u2"), (65536, "u2"), (65537, "u4")])
def test_ids_are_as_small_as_they_can_be(size, dtype):
    characters = "".join(map(chr, range(size)))
    tokenizer = CharTokenizer.train(characters)
    ids = tokenizer.encode(characters)
    assert ids.dtype == dtype
    np.testing.assert_array_equal(ids, np.arange(size))


@pytest.mark.parametrize("bad", [3, 1000, -1, -4])
def test_ids_outside_the_vocabulary_are_refused(bad):
    with pytest.raises(IndexError):
        CharTokenizer.train("abc").decode(np.array([0, bad]))


@pytest.mark.parametrize("characters", ["", "ba", "aa", "aab"])
def test_not_a_vocabulary(characters):
    with pytest.raises(UserError, match="vocabulary"):
        CharTokenizer(characters)


@pytest.mark.parametrize(
    "content, says",
    [
        (None, "does not exist"),
        (b"", "not a tokenizer file"),
        (b"{", "not a tokenizer file"),
        (b"\xff\xfe", "not a tokenizer file"),
        (b"[]", "not a tokenizer file"),
        (b"null", "not a tokenizer file"),
        (b"{}", "not a tokenizer file"),
        (b'{"type": "char"}', "not a tokenizer file"),
        (b'{"type": ["char"], "characters": "ab"}', "not a tokenizer file"),
        (b'{"type": "char", "characters": 5}', "not a tokenizer file"),
        (b'{"type": "char", "characters": ["ab", "c"]}', "not a tokenizer file"),
        (b'{"type": "char", "characters": "ba"}', "vocabulary"),
        (b'{"type": "char", "characters": ""}', "vocabulary"),
        (b'{"type": "chars", "characters": "ab"}', "'chars'; did you mean char"),
        ("folder", "tokenizer.json"),
    ],
    ids=str,
)
def test_bad_files(tmp_path, content, says):
    path = tmp_path / "tokenizer.json"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=says) as error:
        tokenizers.load(path)
    assert "\n" not in str(error.value)


def test_a_file_is_plain_json(tmp_path):
    tokenizers.save(CharTokenizer.train("héllo\n"), tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text()) == {"type": "char", "characters": "\nhloé"}
