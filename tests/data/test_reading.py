"""Passages that are documents: a row's whole text, encoded whole, with the id that ends a document behind it."""

import hashlib
import json

import numpy as np
import pytest

from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.data.corpus import load, recoded, texts
from juliagpt_jax.data.reading import read_passages
from juliagpt_jax.data.tokenizer import CharTokenizer, LibraryTokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.sealed import write_json

EOS = 256
STORIES = [f"{a} fox of {a * 5}\n\nran to the {b}den and sat there for a while\n" for a in "abcdefg" for b in "klmn"]


def rows(stories, **fields) -> bytes:
    return "".join(
        json.dumps({"text": story, "part": i % 2, **fields}) + "\n" for i, story in enumerate(stories)
    ).encode()


def with_eos() -> LibraryTokenizer:
    """Bytes, one pair of them that reaches over the end of a line, and <eos>."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    library = Tokenizer(models.BPE(vocab=vocab | {"<eos>": EOS, "\u010a\u010a": 257}, merges=[("\u010a", "\u010a")]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([AddedToken("<eos>", special=True)])
    return LibraryTokenizer(json.loads(library.to_str()), 300, None, {"eos": EOS})


@pytest.fixture
def given(tmp_path_factory):
    path = tmp_path_factory.mktemp("given") / "tokenizer.json"
    tokenizers.save(with_eos(), path)
    return str(path)


@pytest.fixture
def folder(tmp_path):
    """A folder of documents as prepare writes one, without its manifest."""
    (tmp_path / "train_enriched.jsonl").write_bytes(rows(STORIES))
    (tmp_path / "val_enriched.jsonl").write_bytes(rows([s.replace("fox", "owl") for s in STORIES[:8]]))
    (tmp_path / "test.txt").write_text("not read")
    return tmp_path


def marked(folder, **more) -> None:
    files = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.glob("*.jsonl")}
    write_json(folder / "manifest.json", {"files": files} | more)


def test_documents_are_passages(folder, tiny):
    corpus = load(tiny(f"data.path={folder}", "data.max_leak=1").data, 16)
    assert isinstance(corpus.tokenizer, CharTokenizer) and corpus.tokenizer.eos is None
    assert texts(corpus.tokenizer, corpus.train, corpus.train_chunks.lengths) == STORIES
    assert np.array(corpus.train_chunks.columns["part"]).tolist() == [0, 1] * 14 and len(corpus.val_chunks) == 8
    assert any("a passage is a document" in note for note in corpus.notes) and corpus.leaks.passages == 8
    again = load(tiny(f"data.path={folder}", "data.max_leak=1").data, 16)  # from the cache
    assert again.documents and corpus.documents
    np.testing.assert_array_equal(again.train_chunks.lengths, corpus.train_chunks.lengths)


def test_a_document_is_encoded_whole_and_ended(folder, given, tiny):
    corpus = load(tiny(f"data.path={folder}", "data.max_leak=1", f"data.tokenizer={given}").data, 16)
    assert corpus.tokenizer.eos == corpus.tokenizer.lead == EOS, "a text begins as every other document does"
    assert tokenizers.digest(corpus.tokenizer) == tokenizers.digest(with_eos())
    parts = np.split(corpus.train, np.cumsum(corpus.train_chunks.lengths)[:-1])
    for part, story in zip(parts, STORIES, strict=True):
        assert part[-1] == EOS and EOS not in part[:-1] and corpus.tokenizer.decode(part[:-1]) == story
        assert 257 in part, "a token may hold the ends of two lines of a document"
    assert texts(corpus.tokenizer, corpus.val, corpus.val_chunks.lengths)[0] == STORIES[0].replace("fox", "owl")
    assert len(corpus.val) == corpus.val_chunks.lengths.sum() and (corpus.val == EOS).sum() == 8
    whole = "".join(STORIES)
    assert corpus.characters_per_token[0] == pytest.approx(len(whole) / len(corpus.train)), "<eos> is no text"
    other = CharTokenizer.train(whole)
    tokens, lengths = recoded(corpus, other)
    assert other.decode(tokens) == whole and lengths.tolist() == [*map(len, STORIES)]


def test_a_copied_document_leaks(folder, given, tiny):
    (folder / "val_enriched.jsonl").write_bytes(rows([STORIES[3], *(s[::-1] for s in STORIES[:7])]))
    for more in ([], [f"data.tokenizer={given}"]):
        corpus = load(tiny(f"data.path={folder}", "data.max_leak=1", *more).data, 16)
        assert corpus.leaks.exact == 1 and corpus.leaks.passages == 8


def test_a_manifest_says_that_single_lines_are_documents(folder, given, tiny):
    for name in ("train", "val"):
        (folder / f"{name}_enriched.jsonl").write_bytes(rows([s.replace("\n", " ") for s in STORIES]))
    settings = tiny(f"data.path={folder}", "data.max_leak=1", f"data.tokenizer={given}").data
    lines = load(settings, 16)
    assert EOS not in lines.train and not lines.documents
    marked(folder, unit="story")
    stories = load(settings, 16)
    assert (lines.tokenizer.lead, stories.tokenizer.lead) == (with_eos().newline, EOS)
    assert (stories.train == EOS).sum() == len(STORIES) and stories.fingerprint != lines.fingerprint
    marked(folder, unit="chunk")
    assert load(settings, 16).fingerprint == lines.fingerprint


def test_a_file_of_documents_is_split_by_documents(tmp_path, tiny):
    (tmp_path / "stories.jsonl").write_bytes(rows(STORIES))
    corpus = load(tiny(f"data.path={tmp_path / 'stories.jsonl'}", "data.max_leak=1").data, 16)
    assert [len(corpus.train_chunks), len(corpus.val_chunks)] == [26, 2]
    assert corpus.notes[0] == "validation is the last 10% of the documents of the file"


def test_validation_characters_that_are_left_out_shorten_their_document(folder, tiny):
    (folder / "val_enriched.jsonl").write_bytes(rows([STORIES[0] + "Ω!", STORIES[1]]))
    settings = tiny(f"data.path={folder}", "data.max_leak=1", "data.unknown=skip").data
    corpus = load(settings, 16)
    assert corpus.val_chunks.lengths.tolist() == [len(STORIES[0]) + 1, len(STORIES[1])]
    with pytest.raises(UserError, match="characters that the training text lacks"):
        load(tiny(f"data.path={folder}", "data.max_leak=1").data, 16)


def test_a_tokenizer_of_bytes_lacks_no_character(folder, given, tiny):
    """What the training text lacks is no matter to it: the validation text stays as it is."""
    (folder / "val_enriched.jsonl").write_bytes(rows([STORIES[0] + "Ω!", STORIES[1]]))
    corpus = load(tiny(f"data.path={folder}", "data.max_leak=1", f"data.tokenizer={given}").data, 16)
    assert texts(corpus.tokenizer, corpus.val, corpus.val_chunks.lengths)[0] == STORIES[0] + "Ω!\n"


@pytest.mark.parametrize(
    "field, value, says", [("quality", 1.5, "0 to 1"), ("difficulty", -0.1, "0 to 1"), ("words", -3, "0 to inf")]
)
def test_fields_of_a_prepared_folder_are_within_their_range(folder, tiny, field, value, says):
    lines = rows(STORIES, **{field: 0.5}).split(b"\n")
    lines[4] = lines[4].replace(b"0.5", str(value).encode())
    (folder / "train_enriched.jsonl").write_bytes(b"\n".join(lines))
    plain = [f"data.path={folder}", "data.max_leak=1"]
    assert np.array(load(tiny(*plain).data, 16).train_chunks.columns[field])[4] == value, (
        "a field of the user's own has no range"
    )
    marked(folder, unit="story")
    with pytest.raises(UserError, match=rf'train_enriched.jsonl:5: "{field}" is {value}; prepare writes .* {says}'):
        load(tiny(*plain).data, 16)
    corpus = load(tiny(*plain, "data.on_bad=skip", "data.max_bad=0.1").data, 16)
    assert len(corpus.train_chunks) == len(STORIES) - 1 and any("line 5" in note for note in corpus.notes)


def test_a_held_out_text_in_pieces(folder, tiny):
    """Documents where it has some, so that they are scored as those of a run are; else one text."""
    settings = tiny().data
    assert read_passages(folder, settings) == ([s.replace("fox", "owl") for s in STORIES[:8]], True)
    assert read_passages(folder / "test.txt", settings) == (["not read"], False)
    (folder / "other.jsonl").write_bytes(rows(["one line", "another"]))
    assert read_passages(folder / "other.jsonl", settings) == (["one line\n", "another\n"], False)
    (folder / "manifest.json").write_text("[1]")
    assert not read_passages(folder / "other.jsonl", settings)[1]
    files = {"other.jsonl": hashlib.sha256((folder / "other.jsonl").read_bytes()).hexdigest()}
    write_json(folder / "manifest.json", {"files": files, "unit": "row"})
    assert read_passages(folder / "other.jsonl", settings)[1]
