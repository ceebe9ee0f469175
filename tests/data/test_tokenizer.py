"""One token a character, and the text comes back."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.data.tokenizer import CharTokenizer, LibraryTokenizer
from juliagpt_jax.ground.errors import UserError

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
    written = json.loads((tmp_path / "t.json").read_text())
    assert len(written.pop("sha256")) == 64 and written == {"type": "char", "characters": "\nhloé"}


# Tokenizers from outside


def byte_pairs(text: str) -> dict:
    """The content of a byte-level BPE tokenizer.json trained on a text, with a special token, as GPT-2's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|end|>"], initial_alphabet=alphabet)
    library.train_from_iterator([text], trainer)
    return json.loads(library.to_str())


@pytest.fixture(scope="module")
def bpe():
    return LibraryTokenizer(byte_pairs("the nature of the thing is the nature of things " * 20), 320, 0)


@given(text=st.text())
def test_library_tokenizer_round_trip(bpe, text):
    ids = bpe.encode(text)
    assert ids.dtype == np.uint16 and (len(ids) == 0 or ids.max() < 300)
    assert bpe.decode(ids) == text and bpe.unknown(text) == ""


@given(text=st.text(st.sampled_from("theé😀 \n"), min_size=1), cut=st.integers(0, 10))
def test_streamed_text_is_the_text(bpe, text, cut):
    """In pieces that cut characters of several bytes apart: no half of one is shown."""
    for tokenizer in (bpe, CharTokenizer.train(text)):
        ids = tokenizer.encode(text).tolist()
        pieces = [[i] for i in ids[cut:]]
        shown = list(tokenizers.stream_text(tokenizer, ids[:cut], pieces))
        before = tokenizer.decode(np.array(ids[:cut], int))
        if "\ufffd" not in before:
            assert "".join(shown) == text[len(before) :]
            assert "\ufffd" not in "".join(shown)


def test_library_tokenizer(bpe, tmp_path):
    assert len(bpe.encode("the nature of things")) < 8, "it has learned pairs"
    special = bpe.encode("<|end|>")
    assert 0 not in special and bpe.decode(special) == "<|end|>", "text is text"
    assert bpe.decode(np.array([0])) == "<|end|>" and bpe.decode(np.array([310])) == ""
    assert (bpe.lead, bpe.prefix, bpe.vocab_size) == (0, (), 320)
    with pytest.raises(IndexError):
        bpe.decode(np.array([320]))
    with pytest.raises(UserError, match=r"U\+D800"):
        bpe.encode("a\ud800")
    assert bpe.decode(bpe.encode("a\ud800b", "skip")) == "ab"
    tokenizers.save(bpe, tmp_path / "tokenizer.json")
    again = tokenizers.load(tmp_path / "tokenizer.json")
    assert again.to_dict() == bpe.to_dict() and again.encode("the x").tolist() == bpe.encode("the x").tolist()
    count = 1 + max(bpe.content["model"]["vocab"].values())
    LibraryTokenizer(bpe.content, count, None)
    with pytest.raises(UserError, match=f"ids up to {count - 1}, and the model {count - 1} embeddings"):
        LibraryTokenizer(bpe.content, count - 1, None)


def test_library_tokenizer_with_a_prefix(bpe):
    one = {"SpecialToken": {"id": "<|end|>", "type_id": 0}}
    special = {"<|end|>": {"id": "<|end|>", "ids": [0], "tokens": ["<|end|>"]}}
    template = {"type": "TemplateProcessing", "single": [one, {"Sequence": {"id": "A", "type_id": 0}}]}
    template |= {"pair": [one, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}]}
    begins = LibraryTokenizer(bpe.content | {"post_processor": template | {"special_tokens": special}}, 320, None)
    assert begins.prefix == (0,) and begins.lead == 0
    assert begins.encode("the").tolist() == bpe.encode("the").tolist(), "a text in itself has none"
    for text in ("the", ""):
        for whole in (False, True):
            ids, hidden = begins.prompt(text, begins=whole)
            assert ids.tolist() == [0, *bpe.encode(text).tolist()] and hidden == 1


def test_prompts_of_a_tokenizer_without_a_prefix(bpe):
    """All of a prompt is text; of an empty one the token that begins a text. What begins a text has it in any case."""
    letters = CharTokenizer.train("\nab")
    for tokenizer in (bpe, letters):
        own = tokenizer.encode("ab").tolist()
        prompt = tokenizer.prompt("ab")
        assert prompt.ids.tolist() == own and prompt.hidden == 0 and prompt.ids.dtype == np.int32
        begins = tokenizer.prompt("ab", begins=True)
        assert begins.ids.tolist() == [tokenizer.lead, *own] and begins.hidden == 1
        for nothing in (tokenizer.prompt(""), tokenizer.prompt("", begins=True), tokenizer.prompt("\ud800", "skip")):
            assert nothing.ids.tolist() == [tokenizer.lead] and nothing.hidden == 1
        with pytest.raises(UserError, match=r"U\+D800"):
            tokenizer.prompt("a\ud800")
    assert letters.prompt("a\tb", "skip").ids.tolist() == letters.encode("ab").tolist()


def test_library_tokenizer_that_changes_the_text(bpe):
    lower = LibraryTokenizer(bpe.content | {"normalizer": {"type": "Lowercase"}}, 320, 0)
    with pytest.raises(UserError, match="'T'"):
        lower.encode("The")
    replace = {"type": "Replace", "pattern": {"String": "aa"}, "content": "b"}
    replaced = LibraryTokenizer(bpe.content | {"normalizer": replace}, 320, 0)
    with pytest.raises(UserError, match="does not give this text back"):
        replaced.encode("baab")


def start_marks(kind: str) -> LibraryTokenizer:
    """A tokenizer of SentencePiece's kind: a blank is part of the word behind it, and a text begins with a mark."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    library = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=kind == "llama"))
    special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    if kind == "llama":
        library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        library.decoder = decoders.Sequence(parts)
    else:
        special = special[:1]
        library.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind)
        library.decoder = decoders.Metaspace(prepend_scheme=kind)
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=["\n"], show_progress=False)
    library.train_from_iterator(["the nature of the thing", "is the nature of things"], trainer)
    return LibraryTokenizer(json.loads(library.to_str()), 400, None)


@pytest.mark.parametrize("kind", ["first", "always", "never", "llama"])
def test_a_tokenizer_that_marks_the_start_of_words(kind):
    """A blank alone does not come back from it, and a text with blanks does."""
    tokenizer = start_marks(kind)
    for text in ("the nature", "the\nnature of  things\n\n", "\n", "n\n t"):
        assert tokenizer.decode(tokenizer.encode(text)) == text and tokenizer.unknown(text) == ""
    assert tokenizer.decode(np.array([tokenizer.newline])) == "\n" and tokenizer.lead == tokenizer.newline
    assert tokenizer.marks_start == (kind != "never")
    assert "▁" in tokenizer.unknown("the ▁"), "it would come back as a blank"
    with pytest.raises(UserError, match=r"U\+2581"):
        tokenizer.encode("the ▁")


def test_byte_pairs_mark_no_start(bpe):
    assert not bpe.marks_start


@given(text=ANYTHING)
def test_the_character_tokenizer_in_the_library(text):
    """The library does with our tokenizer.json what we do; and from there it comes back as ours."""
    tokenizer = CharTokenizer.train(text)
    if any("\ud800" <= c <= "\udfff" for c in text):
        with pytest.raises(UserError, match="surrogates"):
            tokenizer.to_huggingface()
        return
    content = json.loads(json.dumps(tokenizer.to_huggingface()))
    library = LibraryTokenizer(content, tokenizer.vocab_size, None)
    assert library.encode(text).tolist() == tokenizer.encode(text).tolist()
    assert library.decode(library.encode(text)) == text
    assert library.lead == tokenizer.lead and library.newline == tokenizer.newline
    again = tokenizers.from_huggingface(content, tokenizer.vocab_size, None)
    assert type(again) is CharTokenizer and again.characters == tokenizer.characters
