"""Tokenizers of others: GPT-2's two files give its ids, and what is damaged is refused in a line."""

import json
import shutil
from pathlib import Path

import pytest

from juliagpt_jax.data import bpe, vocabularies
from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.ground.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden" / "gpt2_bpe"
WHOLE = Path(__file__).parents[2] / ".." / "shared" / "data" / "gpt2_bpe"


@pytest.fixture(scope="module")
def cases():
    """Strings, and their ids by tiktoken, with GPT-2's first 1,500 merges and with all; see tests/golden/README.md."""
    return json.loads((GOLDEN / "cases.json").read_text(encoding="utf-8"))


def test_gpt2s_ids(cases):
    tokenizer = vocabularies.read(GOLDEN)
    assert tokenizer.vocab_size == 1757 and tokenizer.special == {"bos": 1756, "eos": 1756} and tokenizer.first is None
    assert len(cases) >= 1000
    for case in cases:
        assert tokenizer.encode(case["text"]).tolist() == case["cut"], case["text"]
        assert tokenizer.decode(tokenizer.encode(case["text"])) == case["text"]
    assert tokenizer.decode([1756]) == "<|endoftext|>" and 1756 not in tokenizer.encode("<|endoftext|>")


def test_gpt2s_ids_with_all_of_its_vocabulary(cases):
    if not WHOLE.exists():
        pytest.skip("needs GPT-2's encoder.json and vocab.bpe in ../shared/data/gpt2_bpe")
    tokenizer = vocabularies.read(WHOLE)
    assert tokenizer.vocab_size == 50257 and tokenizer.eos == 50256 and tokenizer.newline == 198
    ids, lengths = tokenizer.encode_each(case["text"] for case in cases)
    assert lengths.tolist() == [len(case["whole"]) for case in cases]
    assert ids.tolist() == [token for case in cases for token in case["whole"]]


def test_under_the_names_that_others_use(tmp_path):
    shutil.copy(GOLDEN / "encoder.json", tmp_path / "vocab.json")
    shutil.copy(GOLDEN / "vocab.bpe", tmp_path / "merges.txt")
    assert vocabularies.read(tmp_path).to_dict() == vocabularies.read(GOLDEN).to_dict()


def swap(text: str, one: str, other: str) -> str:
    assert one in text and other in text
    return text.replace(one, "\x00").replace(other, one).replace("\x00", other)


VOCAB, MERGES = "encoder.json", "vocab.bpe"
FAULTS = {
    "empty table": (VOCAB, lambda text: "", "not JSON"),
    "torn table": (VOCAB, lambda text: text[:5000], "not JSON"),
    "a list": (VOCAB, lambda text: "[1, 2]", "not a JSON object"),
    "nested": (VOCAB, lambda text: "[" * 100_000, "not JSON"),
    "a hole": (VOCAB, lambda text: text.replace(": 1000,", ": 2000,"), "where 1000 is due: ids must be 0 .. 1,756"),
    "a huge id": (VOCAB, lambda text: text.replace(": 1756", f": {2**40}"), "where 1756 is due"),
    "an id twice": (VOCAB, lambda text: text.replace(": 1000,", ": 999,"), "has id 999 where 1000 is due"),
    "a negative id": (VOCAB, lambda text: text.replace(": 0,", ": -1,"), "has id -1 where 0 is due"),
    "an id in words": (VOCAB, lambda text: text.replace(": 7,", ': "seven",'), "is no whole number"),
    "an id with a point": (VOCAB, lambda text: text.replace(": 7,", ": 7.0,"), "is no whole number"),
    "no bytes": (VOCAB, lambda text: text.replace('"A": ', '"AAAA": '), "1 of the 256 bytes have no id: 'A'"),
    "another's table": (VOCAB, lambda text: text.replace('"er": ', '"eer": '), "'er' has no id in encoder.json"),
    "empty merges": (MERGES, lambda text: "", "no merges are in it"),
    "only a version": (MERGES, lambda text: "#version: 0.2\n", "no merges are in it"),
    "three in a line": (MERGES, lambda text: text.replace("h e\n", "h e r\n"), r"vocab\.bpe:4: 'h e r' is no pair"),
    "one in a line": (MERGES, lambda text: text.replace("h e\n", "he\n"), r"vocab\.bpe:4: 'he' is no pair"),
    "a pair twice": (MERGES, lambda text: text.replace("i n\n", "h e\n", 1), "a pair stands there twice"),
    "merges out of order": (MERGES, lambda text: swap(text, "h e\n", "Ġt he\n"), "'he' is merged before it is made"),
    "merges changed about": (MERGES, lambda text: swap(text, "Ġ a\n", "h e\n"), "a lower id than a merge before it"),
    "merges cut short": (MERGES, lambda text: text[:2000], "merges are lost|no pair of tokens"),
    "merges cut a little": (MERGES, lambda text: "".join(text.splitlines(keepends=True)[:-2]), "nor 1 more of .*lost"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_files_of_gpt2s(fault, tmp_path):
    name, change, says = FAULTS[fault]
    for file in (VOCAB, MERGES):
        text = (GOLDEN / file).read_text(encoding="utf-8")
        (tmp_path / file).write_text(change(text) if file == name else text, encoding="utf-8")
    with pytest.raises(UserError, match=says) as error:
        vocabularies.read(tmp_path)
    assert name in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize("name", [VOCAB, MERGES])
@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x80" * 1000, b"\0" * 1000])
def test_binary_files(name, content, tmp_path):
    for file in (VOCAB, MERGES):
        shutil.copy(GOLDEN / file, tmp_path / file)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        vocabularies.read(tmp_path)


def test_what_is_no_tokenizer(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"is no folder with a tokenizer: encoder\.json and vocab\.bpe, or "):
            vocabularies.read(path)
    with open(tmp_path / "tokenizer.json", "wb") as file:
        file.truncate(vocabularies.LARGEST + 1)
    with pytest.raises(UserError, match="too large to be what its name says"):
        vocabularies.read(tmp_path)


# The library would panic.
PREFIXED = {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"], "continuing_subword_prefix": "#########"}


@pytest.fixture(scope="module")
def content():
    return bpe.train(["the nature of the thing is the nature of things\n"] * 9, 290).content


@pytest.mark.parametrize(
    "change, says",
    [
        ({"model": None}, 'it has no "model"'),
        ({"model": {}}, "not a tokenizer that the library"),
        ({"model": {"type": "Quantum", "vocab": {}, "merges": []}}, "not a tokenizer that the library"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}, "not a tokenizer that the library"),
        ({"model": {"type": "BPE", "vocab": {"a": 2**33}, "merges": []}}, "it has ids up to 8,589,934,592"),
        ({"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}, "not a tokenizer that the library"),
        ({"model": {"type": "BPE", "vocab": {"a": "x"}, "merges": []}}, "not a tokenizer that the library"),
        ({"added_tokens": 5}, '"added_tokens" are no list'),
        ({"added_tokens": [{"id": 1}]}, '"added_tokens" are no list'),
        ({"added_tokens": [{"id": "x", "content": "y"}]}, "not a tokenizer that the library"),
        ({"added_tokens": [{"id": 1, "content": ["x"], "special": True}]}, "not a tokenizer that the library"),
        ({"model": PREFIXED}, "not a tokenizer that the library tokenizers reads: merge .* without continuing_subword"),
        ({"pre_tokenizer": {"type": "None"}}, "not a tokenizer that the library"),
        ({"type": "library", "content": {}}, "a tokenizer of this project"),
    ],
)
def test_damaged_tokenizer_json(content, change, says, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(content | change))
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        with pytest.raises(UserError, match=says):
            vocabularies.read(path)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"content": {}}, "not a tokenizer that the library"),
        ({"content": None}, "not a tokenizer that the library"),
        ({"vocab_size": 10}, "ids up to 276, and the model 10 embeddings"),
        ({"vocab_size": "290"}, "not a tokenizer file: TypeError"),
        ({"vocab_size": 290.0}, "not a tokenizer file: TypeError"),
        ({"vocab_size": 2**40}, "and the model"),
        ({"first": -1}, "and the model"),
        ({"special": {"eos": 290}}, "ids up to 290"),
        ({"special": {"eos": -1}}, "and the model"),
        ({"special": {"eos": "1"}}, "not a tokenizer file: TypeError"),
        ({"special": [1]}, "not a tokenizer file"),
        ({"special": None}, "not a tokenizer file"),
        ({"type": "libary"}, "no tokenizer is called 'libary'; did you mean library"),
    ],
)
def test_damaged_files_of_our_own(content, change, says, tmp_path):
    values = tokenizers.LibraryTokenizer(content, 290, None, {"eos": 1}).to_dict()
    (tmp_path / "tokenizer.json").write_text(json.dumps(values | change))
    with pytest.raises(UserError, match=says) as error:
        tokenizers.load(tmp_path / "tokenizer.json")
    assert str(error.value).startswith(f"{tmp_path}")


def test_home_is_known(content, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    tokenizers.save(tokenizers.LibraryTokenizer(content, 290, None), tmp_path / "tokenizer.json")
    assert tokenizers.load(Path("~/tokenizer.json")).vocab_size == 290


def test_a_tokenizer_json_of_others_is_not_a_runs(content, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"python -m juliagpt_jax\.tokenize --from=FOLDER --out=DIR makes one of it"):
        tokenizers.load(tmp_path / "tokenizer.json")


def test_files_of_before_have_no_tasks(content, tmp_path):
    """A tokenizer without ids that have a task says so as it always did."""
    values = tokenizers.LibraryTokenizer(content, 290, 0).to_dict()
    assert {*values} == {"type", "content", "vocab_size", "first"}
    assert tokenizers.from_dict(values).eos is None
