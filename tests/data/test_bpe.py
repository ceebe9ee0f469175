"""Tokens learned from a text: any text comes back, special ones are never text, the same text gives the same file."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from juliagpt_jax.data import bpe, counts, density, vocabularies
from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.ground import files, sealed
from juliagpt_jax.ground.errors import UserError

LINES = [
    "the nature of the thing is the nature of things\n",
    " It is 42, and <unk> it 's <unk> .\n",
    "\n",
    "x<unk>\n",
] * 30
NASTY = [
    "",
    "\0",
    "a\0b",
    "\r\n\r",
    "\n\n\n",
    " \t \u00a0\u2003 x ",
    "\x1b[31m\x7f\x80\x85",
    "\ufeff\ufffe\uffff\ufffd",
    "e\u0301 \u00e9 \u1e69 \u0b95\u0bbf",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \U0010ffff",
    "<bos><eos><pad> <|endoftext|> <unk>",
    "Ġthe Ċ ▁x ##y <0x0A>",
    "١٢٣ Ⅷ ½ 1234567890",
    "don't DON'T we\u2019ll",
]


@pytest.fixture(scope="module")
def plain():
    return bpe.train(LINES, 300)


@pytest.fixture(scope="module")
def marked():
    return bpe.train(LINES, 300, unk=True)


@pytest.mark.parametrize("text", NASTY)
def test_any_text_comes_back(plain, marked, text):
    for tokenizer in (plain, marked):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text and tokenizer.unknown(text) == ""
        assert not {*tokenizer.special.values()} & {*ids.tolist()}, "what a user writes is text"


@given(text=st.text())
def test_any_text_at_all_comes_back(plain, marked, text):
    for tokenizer in (plain, marked):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text and not {0, 1, 2} & {*ids.tolist()}


def test_every_alphabet_comes_back(plain):
    """Characters of each block of Unicode; half of a surrogate pair, which UTF-8 cannot hold, is refused by name."""
    for start in range(0, 0x110000, 0x4000):
        text = "".join(chr(code) for code in range(start, start + 0x4000, 7) if not 0xD800 <= code < 0xE000)
        ids, _ = plain.encode_each([text])
        assert plain.decode(ids) == text
    with pytest.raises(UserError, match=r"U\+D800"):
        plain.encode_each(["fine", "a\ud800"])


def test_special_tokens_have_names(plain):
    assert plain.special == {"bos": 0, "eos": 1, "pad": 2} and plain.eos == 1 and plain.first is None
    assert plain.decode(np.array([0, 1, 2])) == "<bos><eos><pad>"
    assert plain.lead == plain.newline and plain.decode(np.array([plain.newline])) == "\n"
    assert plain.special_names() == {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    after = plain.begun_by(plain.eos)
    assert after.first == after.lead == 1 and after.eos == 1
    assert tokenizers.digest(after) == tokenizers.digest(plain), "they are the same tokens"


def test_a_rare_word_is_one_token(plain, marked):
    """With its blank, as other words; and only where it is asked for."""
    ids = marked.encode("of <unk> of<unk>").tolist()
    assert [marked.decode(np.array([i])) for i in ids] == ["of", " <unk>", " of", "<unk>"]
    assert len(plain.encode("<unk>")) > 1
    learned = [token for token in marked.content["model"]["vocab"] if "unk" in token]
    assert learned == [], "no place of the vocabulary is spent on its parts"
    assert any("un" in token for token in plain.content["model"]["vocab"])


def test_pieces_are_gpt_2s(plain):
    """Letters, figures, signs and blanks are not joined, but for the blank before a word."""
    for name in plain.content["model"]["vocab"]:
        text = plain.decode(np.array([plain.content["model"]["vocab"][name]]))
        if text not in bpe.SPECIAL:
            word = text.removeprefix(" ")
            assert len({(c.isalpha(), c.isnumeric(), c.isspace()) for c in word} - {(False,) * 3}) <= 1, text


def test_the_same_text_gives_the_same_tokens(monkeypatch):
    """In any order, on one core too."""
    shuffled = random.Random(0).sample(LINES, len(LINES))
    wanted = tokenizers.digest(bpe.train(LINES, 290))
    assert tokenizers.digest(bpe.train(shuffled, 290)) == wanted
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    assert tokenizers.digest(bpe.train(iter(shuffled), 290)) == wanted
    assert tokenizers.digest(bpe.train(LINES[:-2], 290)) != wanted


def test_sizes():
    assert bpe.train(LINES, 259).vocab_size == 259 and bpe.train(LINES, 261, unk=True).vocab_size == 261
    assert bpe.train(LINES, 5000).vocab_size < 400, "a text has as many pairs as it has"
    assert bpe.train(["once"], 5000).vocab_size == 259, "a pair that occurs once is none"
    for vocab, unk, least in [(258, False, 259), (260, True, 261), (-1, False, 259), (2**20 + 1, False, 259)]:
        with pytest.raises(UserError, match=f"vocab={vocab} must be from {least} to"):
            bpe.train(LINES, vocab, unk)


def test_different_words_are_bounded(monkeypatch):
    """Behind the bound only what is known is learned from; a text below it is passed on as it is."""
    texts = ["a bb ccc\n", "a  bb\n", "dddd a e bb bb\n", "new newer a\n", "", "a bb e dddd "]
    bound = bpe.Bound()
    assert list(bound.of(texts)) == texts and bound.left_out == 0
    monkeypatch.setattr(bpe, "DIFFERENT", 14)
    bound = bpe.Bound()
    assert list(bound.of(texts)) == [*texts[:3], "", "", "a bb e dddd "] and bound.left_out == 3
    monkeypatch.setattr(bpe, "DIFFERENT", 1)
    assert list(bpe.Bound().of(texts)) == [texts[0], "a", "a bb", "", "", "a bb"]


def test_an_error_in_the_text_is_its_own():
    def texts():
        yield "a b c\n"
        raise UserError("line 2 is torn")

    with pytest.raises(UserError, match=r"^line 2 is torn$"):
        bpe.train(texts(), 300)


def test_many_texts_at_once(plain):
    """As one by one, and so many of them that they do not fit in one batch."""
    texts = [*LINES, "", *NASTY] * 2
    whole = [plain.encode(text) for text in texts]
    for size in (1, 50, 10**6):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("juliagpt_jax.data.library.BATCH", size)
            ids, lengths = plain.encode_each(iter(texts))
        assert ids.dtype == plain.dtype and lengths.tolist() == [len(own) for own in whole]
        np.testing.assert_array_equal(ids, np.concatenate(whole))
    assert [len(found) for found in plain.encode_each([])] == [0, 0]
    assert plain.decode(plain.encode_each(["a\ud800b", "c"], "skip")[0]) == "abc"


def test_changed_texts_are_seen_in_a_batch(plain):
    replace = {"type": "Replace", "pattern": {"String": "aa"}, "content": "b"}
    changing = tokenizers.LibraryTokenizer(plain.content | {"normalizer": replace}, 300, None)
    with pytest.raises(UserError, match="does not give this text back"):
        changing.encode_each(["fine", "baab"])


def test_what_a_tokenizer_cuts(plain, marked):
    found = density.measure(marked, LINES)
    size = sum(len(line.encode()) for line in LINES)
    assert (found.size, found.characters) == (size, sum(map(len, LINES)))
    words = sum(len(line.split()) for line in LINES) + len(LINES)  # the end of a line is one, as WikiText's <eos>
    assert found.words == counts.of("".join(LINES)).words == words
    assert found.tokens == len(marked.encode_each(LINES)[0]) == sum(kind.used for kind in found.kinds.values())
    assert sum(kind.size for kind in found.kinds.values()) == size, "every byte is in a token of some kind"
    assert sum(kind.known for kind in found.kinds.values()) == marked.vocab_size
    assert found.kinds["<unk>"] == (2, 90, 60 * 6 + 30 * 5) and found.kinds["special"] == (3, 0, 0)
    assert found.kinds["figures"].size == 30 * len(" 42") and "<unk>" not in density.measure(plain, LINES).kinds
    values = found.to_dict()
    assert values["tokens_per_word"] == found.tokens / found.words and values["bytes_per_token"] == size / found.tokens


def test_a_sample_is_spread_over_the_text(monkeypatch):
    monkeypatch.setattr(density, "SAMPLE", 1000)
    monkeypatch.setattr(density, "BLOCK", 50)
    texts = [f"{n:09} " for n in range(1000)]
    sample = density.Sample(10_000)
    assert list(sample.of(texts)) == texts
    assert len(sample.texts) == 100 and sample.texts[0] == texts[0] and sample.texts[-1] > texts[900]
    few = density.Sample(100)
    assert list(few.of(texts[:10])) == texts[:10] == few.texts


def test_written_for_others(plain, marked, tmp_path):
    """What the library reads in transformers/ does with a text what ours does."""
    from tokenizers import Tokenizer

    for name, tokenizer in (("plain", plain), ("marked", marked)):
        files.make_folder(tmp_path / name)
        vocabularies.write(tmp_path / name, tokenizer)
        ours = tokenizers.load(tmp_path / name / "tokenizer.json")
        assert ours.to_dict() == tokenizer.to_dict()
        assert sealed.read_json(tmp_path / name / "tokenizer.json") == tokenizer.to_dict()
        library = Tokenizer.from_file(str(tmp_path / name / "transformers" / "tokenizer.json"))
        library.encode_special_tokens = True
        for text in NASTY:
            assert library.encode(text).ids == ours.encode(text).tolist()
        again = vocabularies.read(tmp_path / name / "transformers")
        assert again.to_dict() == tokenizer.to_dict()
