"""From any path to two token arrays, or to one line that says why not; and a damaged cache is never used."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from juliagpt_jax.data import bpe
from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.data.corpus import load, read_tokens
from juliagpt_jax.data.reading import read_text
from juliagpt_jax.data.tokenizer import CharTokenizer, LibraryTokenizer
from juliagpt_jax.ground import config_file, sealed
from juliagpt_jax.ground.devices import cache_folder
from juliagpt_jax.ground.errors import StorageError, UserError

BASE = str(Path(__file__).parents[2] / "configs" / "base.py")
TEXT = "abcdefghijklmnopqrstuvwxyz\n" * 10


def data(path, **changes):
    return dataclasses.replace(config_file.load(BASE).data, path=str(path), **changes)


def texts(corpus):
    return corpus.tokenizer.decode(corpus.train), corpus.tokenizer.decode(corpus.val)


@pytest.fixture
def pair(tmp_path):
    """A folder with train.txt and val.txt."""
    (tmp_path / "train.txt").write_text(TEXT)
    (tmp_path / "val.txt").write_text("thequickbrownfox\njumpsover\n")
    return tmp_path


# Sources.


def test_train_and_val(pair):
    corpus = load(data(pair), 8)
    assert texts(corpus) == (TEXT, "thequickbrownfox\njumpsover\n")
    assert corpus.tokenizer.characters == "\nabcdefghijklmnopqrstuvwxyz" and corpus.train.dtype == np.uint8


def test_one_file(tmp_path):
    """The last tenth, by position, is validation."""
    (tmp_path / "book.txt").write_text(TEXT)
    corpus = load(data(tmp_path / "book.txt"), 8)
    assert texts(corpus) == (TEXT[:243], TEXT[243:])
    assert any("last 10% of the file" in note for note in corpus.notes)
    assert np.isnan(corpus.entropy)


def test_a_folder_of_files(tmp_path):
    """Each file gives its own last tenth; files follow their names."""
    parts = {"b.txt": "bcd" * 100, "a.txt": "abcd" * 50, "c.text": "not read"}
    for name, text in parts.items():
        (tmp_path / name).write_text(text)
    corpus = load(data(tmp_path), 8)
    assert texts(corpus) == ("abcd" * 45 + "\n" + "bcd" * 90, "abcd" * 5 + "\n" + "bcd" * 10)
    assert corpus.notes[0] == "1 other files of the folder are not read: c.text"


def test_line_ends_and_byte_order_marks_are_not_text(pair):
    plain = load(data(pair), 8)
    (pair / "train.txt").write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    windows = load(data(pair), 8)
    assert texts(windows) == texts(plain)
    assert windows.fingerprint != plain.fingerprint


def test_a_lone_carriage_return_is_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"ab\rcd\n" * 40)
    assert "\r" in load(data(tmp_path / "a.txt"), 8).tokenizer.characters


def test_a_last_line_without_its_end_gets_one(pair):
    (pair / "val.txt").write_text("thequickbrownfox")
    assert texts(load(data(pair), 8))[1] == "thequickbrownfox\n"


# What is refused.


@pytest.mark.parametrize(
    "files, path, says",
    [
        ({}, "nowhere", "does not exist"),
        ({}, "nowhere.txt", "does not exist"),
        ({}, "", "neither train.txt and val.txt nor any other .txt file"),
        (
            {"a.md": TEXT},
            "",
            "nor any other .txt.*1 other files of the folder are not read: a.md; .*prepare takes",
        ),
        ({"train.txt": TEXT}, "", "no val.txt"),
        ({"val.txt": TEXT}, "", "no train.txt"),
        ({"train.txt": TEXT, "val.txt/x.txt": TEXT}, "", "no val.txt"),
        ({"a.txt/x.txt": TEXT}, "", "a.txt"),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_missing_paths(tmp_path, files, path, says):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=says) as error:
        load(data(tmp_path / path), 8)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "train, val, found",
    [
        ("", "", "0 training tokens"),
        ("", TEXT, "0 training tokens"),
        ("abc", TEXT[:20], "4 training tokens, 9 needed"),
        (TEXT, "", "0 validation tokens, 9 needed"),
        (TEXT, "abc", "4 validation tokens, 9 needed"),
        ("abcdefgh", "abcdefgh", None),
    ],
)
def test_fault_14_too_short(tmp_path, train, val, found):
    """The tokens found and those needed, in the message."""
    (tmp_path / "train.txt").write_text(train)
    (tmp_path / "val.txt").write_text(val)
    settings = data(tmp_path, unknown="skip")
    if found is None:
        assert len(load(settings, 8).train) == 9
        return
    with pytest.raises(UserError, match=found) as error:
        load(settings, 8)
    assert "needed" in str(error.value)


def test_fault_14_too_small_to_split(tmp_path):
    (tmp_path / "a.txt").write_text("abcdefghi")
    with pytest.raises(UserError, match="0 validation tokens, 3 needed"):
        load(data(tmp_path / "a.txt"), 2)


@pytest.mark.parametrize(
    "before", [b"", b"abc\n", b"\xef\xbb\xbf", b"a\r\nb\r\n\r\n", b"\xef\xbb\xbf\xc3\xa9\r\nb\r\n"], ids=repr
)
@pytest.mark.parametrize("bad", [b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xf0\x9f\x98"], ids=repr)
def test_fault_15_not_utf8(pair, before, bad):
    """The file, and the offset of the byte in it as it lies on the disk."""
    (pair / "val.txt").write_bytes(before + bad + TEXT.encode())
    with pytest.raises(UserError) as error:
        load(data(pair), 8)
    assert f"val.txt: byte {len(before)} is not UTF-8" in str(error.value)
    assert "errors=replace" in str(error.value)


def test_fault_15_replaced_and_counted(pair):
    (pair / "train.txt").write_bytes(TEXT.encode() + b"a\xffb\xfe\xfdc" + "\ufffd".encode())
    corpus = load(data(pair, errors="replace"), 8)
    assert texts(corpus)[0] == TEXT + "a\ufffdb\ufffd\ufffdc\ufffd\n"
    assert [note for note in corpus.notes if "train.txt" in note and " 3 replacement" in note], corpus.notes


def test_unknown_validation_characters(pair):
    (pair / "val.txt").write_text("abcé defgß\nhijkl\n")
    with pytest.raises(UserError, match=r"' ' \(U\+0020\), 'ß' \(U\+00DF\), 'é' \(U\+00E9\).*unknown=skip"):
        load(data(pair), 8)
    corpus = load(data(pair, unknown="skip"), 8)
    assert texts(corpus)[1] == "abcdefg\nhijkl\n"
    assert any("3 validation characters left out" in note and "U+00DF" in note for note in corpus.notes)


def test_held_out_text(pair, tmp_path_factory):
    assert read_text(pair, data(pair)) == (pair / "val.txt").read_text()
    assert read_text(pair / "train.txt", data(pair)) == TEXT
    empty = tmp_path_factory.mktemp("empty")
    for path in (empty, empty / "nothing.txt"):
        with pytest.raises(UserError, match=str(path)):
            read_text(path, data(pair))


# Fingerprint and cache.


def test_fingerprint(pair):
    """Of the bytes and of how they are read, not of where they lie."""
    first = load(data(pair), 8).fingerprint
    assert load(data(pair), 4).fingerprint == first
    others = {first, load(data(pair, errors="replace"), 8).fingerprint, load(data(pair, unknown="skip"), 8).fingerprint}
    for name in ("train.txt", "val.txt"):
        with open(pair / name, "a") as file:
            file.write("a")
        others.add(load(data(pair), 8).fingerprint)
    assert len(others) == 5
    now = load(data(pair), 8).fingerprint
    pair.rename(pair.parent / "elsewhere")
    assert load(data(pair.parent / "elsewhere"), 8).fingerprint == now


def caches():
    return sorted((cache_folder() / "corpora").iterdir())


def same(one, other):
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name == "tokenizer":
            assert a.to_dict() == b.to_dict()
        elif field.name.endswith("_chunks"):
            np.testing.assert_array_equal(a.lengths, b.lengths)
            assert a.columns.keys() == b.columns.keys()
            for name, column in a.columns.items():
                assert type(b.columns[name]) is type(column)
                for mine, its in zip(column, b.columns[name], strict=True):
                    np.testing.assert_array_equal(mine, its)
        elif field.name == "entropy":
            assert a == b or (np.isnan(a) and np.isnan(b))
        else:
            np.testing.assert_array_equal(a, b)
            assert getattr(a, "dtype", None) == getattr(b, "dtype", None)


@pytest.mark.parametrize("source", ["pair", "schoolroom"])
def test_a_cached_corpus_is_the_same(source, pair):
    settings = data(pair if source == "pair" else "schoolroom")
    first = load(settings, 8)
    second = load(settings, 8)
    same(first, second)
    assert isinstance(second.train, np.memmap) and not isinstance(first.train, np.memmap)
    assert len(caches()) == 1
    assert np.isnan(first.entropy) == (source == "pair")


def test_a_cached_corpus_is_held_to_the_context_too(pair):
    load(data(pair), 8)
    with pytest.raises(UserError, match="270 training tokens, 1001 needed"):
        load(data(pair), 1000)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-10])


def rewrite(change):
    def damage(path):
        facts = json.loads(path.read_text())
        change(facts)
        path.write_text(json.dumps(facts))

    return damage


DAMAGES = {
    "train.npy cut short": ("train.npy", truncate),
    "val.npy empty": ("val.npy", lambda p: p.write_bytes(b"")),
    "val.npy gone": ("val.npy", lambda p: p.unlink()),
    "train.npy is text": ("train.npy", lambda p: p.write_text("abc")),
    "train.npy is a pickle": ("train.npy", lambda p: np.save(p, np.array([{}], object), allow_pickle=True)),
    "id past the vocabulary": ("train.npy", lambda p: np.save(p, np.full(270, 27, np.uint8))),
    "another length": ("train.npy", lambda p: np.save(p, np.zeros(269, np.uint8))),
    "numbers of another kind": ("val.npy", lambda p: np.save(p, np.zeros(30))),
    "chunks.npz cut short": ("chunks.npz", truncate),
    "chunks.npz empty": ("chunks.npz", lambda p: p.write_bytes(b"")),
    "chunks.npz gone": ("chunks.npz", lambda p: p.unlink()),
    "chunks of another length": ("chunks.npz", lambda p: np.savez(p, **{"train/": np.ones(1), "val/": np.ones(1)})),
    "corpus.json cut short": ("corpus.json", truncate),
    "corpus.json empty": ("corpus.json", lambda p: p.write_bytes(b"")),
    "corpus.json not UTF-8": ("corpus.json", lambda p: p.write_bytes(b"\xff")),
    "corpus.json a list": ("corpus.json", lambda p: p.write_text("[1]")),
    "corpus.json null": ("corpus.json", lambda p: p.write_text("null")),
    "no tokenizer": ("corpus.json", rewrite(lambda f: f.pop("tokenizer"))),
    "no vocabulary": ("corpus.json", rewrite(lambda f: f["tokenizer"].update(characters=""))),
    "a smaller vocabulary": ("corpus.json", rewrite(lambda f: f["tokenizer"].update(characters="abc"))),
    "another source": ("corpus.json", rewrite(lambda f: f.update(fingerprint="0" * 64))),
    "no notes": ("corpus.json", rewrite(lambda f: f.update(notes=None))),
    "other counts": ("corpus.json", rewrite(lambda f: f.update(tokens=[1, 2]))),
}


@pytest.mark.parametrize("name, damage", DAMAGES.values(), ids=DAMAGES)
def test_fault_18_a_damaged_cache_is_refused_and_made_again(pair, capsys, name, damage):
    first = load(data(pair), 8)
    damage(caches()[0] / name)
    capsys.readouterr()
    same(load(data(pair), 8), first)
    warning = capsys.readouterr().err
    assert warning.startswith("warning: cached corpus refused and made again") and warning.count("\n") == 1
    same(load(data(pair), 8), first)
    assert capsys.readouterr().err == "", "it has been mended"


def test_a_cache_that_cannot_be_written_costs_time_only(pair, monkeypatch, capsys):
    blocked = pair / "blocked"
    blocked.write_text("a file where the cache folder should be")
    monkeypatch.setenv("JULIAGPT_CACHE", str(blocked))
    assert texts(load(data(pair), 8))[0] == TEXT
    assert capsys.readouterr().err.startswith("note: the corpus is not cached")


@pytest.mark.parametrize(
    "array, says",
    [
        (np.array([0, 3, 26], np.uint8), None),
        (np.array([], np.uint8), None),
        (np.array([0, 27], np.uint8), "token id 27 in a vocabulary of 27"),
        (np.array([2**32 - 1], np.uint32), "token id 4294967295"),
        (np.array([0, 1], np.int32), "not a token file"),
        (np.array([0.0]), "not a token file"),
        (np.zeros((2, 2), np.uint8), "not a token file"),
        (np.array(1, np.uint8), "not a token file"),
    ],
    ids=str,
)
def test_fault_18_token_files(tmp_path, array, says):
    np.save(tmp_path / "t.npy", array)
    if says is None:
        np.testing.assert_array_equal(read_tokens(tmp_path / "t.npy", 27), array)
        return
    with pytest.raises(StorageError, match=says):
        read_tokens(tmp_path / "t.npy", 27)


@pytest.mark.parametrize("keep", [0, 3, 20, 100, 127, 128, 137])
def test_fault_18_torn_token_files(tmp_path, keep):
    """Cut anywhere: in the magic number, the header, between header and data, in the data."""
    np.save(tmp_path / "t.npy", np.zeros(10, np.uint8))
    content = (tmp_path / "t.npy").read_bytes()
    assert len(content) == 138
    (tmp_path / "t.npy").write_bytes(content[:keep])
    with pytest.raises(StorageError, match=r"t\.npy: torn or not a token file"):
        read_tokens(tmp_path / "t.npy", 27)


def test_fault_18_no_pickle(tmp_path):
    np.save(tmp_path / "t.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(StorageError, match="torn or not a token file"):
        read_tokens(tmp_path / "t.npy", 27)


# A tokenizer that is given


def syllables() -> LibraryTokenizer:
    """Bytes, and a few pairs of them: "th", "the", and the end of a line twice."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [("t", "h"), ("th", "e"), ("\u010a", "\u010a")]
    vocab |= {a + b: len(vocab) + i for i, (a, b) in enumerate(merges)}
    library = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    library.decoder = decoders.ByteLevel()
    return LibraryTokenizer(json.loads(library.to_str()), 300, None)


@pytest.fixture
def given(tmp_path):
    tokenizers.save(syllables(), tmp_path / "tokenizer.json")
    return str(tmp_path / "tokenizer.json")


def test_tokens_of_more_than_one_character(given, tmp_path):
    """A chunk stays a line, a whole number of tokens; characters are still counted as characters."""
    lines = [f"the {a}{b} thé of a line that is long enough to be a passage\n" for a in "abcdefgh" for b in "ijklmnop"]
    lines[3] = "\n"
    (tmp_path / "train.txt").write_text("".join(lines))
    (tmp_path / "val.txt").write_text("thethe\n" * 9 + "".join(lines[1:3]))
    corpus = load(data(tmp_path, tokenizer=given, max_leak=1.0), 8)
    assert texts(corpus)[0] == "".join(lines)
    ends = np.cumsum(corpus.train_chunks.lengths)
    assert ends[-1] == len(corpus.train) and len(ends) == len(lines)
    for line, begin, end in zip(lines, [0, *ends], ends, strict=False):
        assert corpus.tokenizer.decode(corpus.train[begin:end]) == line
    assert corpus.val_chunks.lengths.tolist()[:9] == [3] * 9
    val = texts(corpus)[1]
    assert corpus.characters_per_token[1] == pytest.approx(len(val) / len(corpus.val)) and len(val) > len(corpus.val)
    words = len(val.split()) + val.count("\n")
    assert corpus.counts[1] == (len(val), len(val.encode()), words)
    plain = load(data(tmp_path, max_leak=1.0), 8)
    assert plain.counts == corpus.counts and (plain.unit, corpus.unit) == ("character", "token")
    assert plain.characters_per_token == (1, 1) and plain.fingerprint != corpus.fingerprint
    assert corpus.leaks == plain.leaks and corpus.leaks.exact == 2
    again = load(data(tmp_path, tokenizer=given, max_leak=1.0), 8)  # from the cache
    assert again.counts == corpus.counts and isinstance(again.train, np.memmap)
    np.testing.assert_array_equal(again.train, corpus.train)


def test_a_given_character_tokenizer(pair, tmp_path):
    path = tmp_path / "tokenizer.json"
    tokenizers.save(CharTokenizer("\nabcdefghijklmnopqrstuvwxy"), path)
    with pytest.raises(UserError, match="'z'"):
        load(data(pair, tokenizer=str(path)), 8)
    corpus = load(data(pair, tokenizer=str(path), unknown="skip"), 8)
    assert texts(corpus)[0] == TEXT.replace("z", "") and corpus.characters_per_token == (1, 1)
    assert any("10 training characters left out: 'z'" in note for note in corpus.notes)
    with pytest.raises(UserError, match=r"nowhere\.json does not exist"):
        load(data(pair, tokenizer="nowhere.json"), 8)


def test_byte_level_bpe_of_the_training_text(pair):
    """It is learned from the training side alone, as `bpe.train` does from its lines, and again from the cache."""
    (pair / "train.txt").write_text("the sleepy cat\n" * 30)
    (pair / "val.txt").write_text("fox fox fox fox fox fox the cat\n" * 30)
    wanted = bpe.train(["the sleepy cat\n"] * 30, 280)
    for _ in range(2):
        corpus = load(data(pair, tokenizer="bpe", vocab=280, max_leak=1.0), 8)
        assert corpus.tokenizer.to_dict() == wanted.to_dict() and corpus.unit == "token"
        assert texts(corpus)[0] == "the sleepy cat\n" * 30
        assert corpus.tokenizer.decode(corpus.tokenizer.encode("fox")[:1]) == "f"  # never seen together
    other = load(data(pair, tokenizer="bpe", vocab=270, max_leak=1.0), 8)
    assert other.fingerprint != corpus.fingerprint and other.tokenizer.vocab_size == 270


def test_main_reads_and_refuses_the_files_that_prepare_does(tmp_path):
    """Through one module: hidden files are none, capitals in a name are nothing, and a document is named as what it
    is; all bad files at once."""
    (tmp_path / "A.TXT").write_text("abcd" * 50)
    (tmp_path / "b.txt").write_bytes(("bcd" * 100).encode("utf-16"))
    (tmp_path / "._b.txt").write_bytes(b"\0\x05\x16\x07\xff")
    assert texts(load(data(tmp_path), 8))[1] == "abcd" * 5 + "\n" + "bcd" * 10
    (tmp_path / "c.txt").write_bytes(b"%PDF-1.4 x")
    (tmp_path / "d.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=r"2 of 4 files .*c\.txt: a PDF document.*d\.txt: byte 3.*config\.data\.errors"):
        load(data(tmp_path), 8)
    with pytest.raises(UserError, match="a PDF document") as error:
        load(data(tmp_path / "c.txt", errors="replace"), 8)
    assert "errors=replace" not in str(error.value)


def test_home_behind_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_text("abcd" * 50)
    assert texts(load(data("~/a.txt"), 8))[0] == "abcd" * 45


def test_a_prepared_folder_is_held_to_its_manifest(tmp_path):
    row = lambda n, difficulty: json.dumps({"text": f"passage {n} of some text", "difficulty": difficulty}) + "\n"
    for side, numbers in [("train", range(40)), ("val", range(40, 50))]:
        (tmp_path / f"{side}.txt").write_text("".join(f"passage {n} of some text\n" for n in numbers))
        (tmp_path / f"{side}_enriched.jsonl").write_text("".join(row(n, 0.212) for n in numbers))
    files = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in tmp_path.iterdir()}
    sealed.write_json(tmp_path / "manifest.json", {"files": files})
    read = lambda: load(data(tmp_path, max_leak=1.0, unknown="skip"), 8)
    assert set(read().train_chunks.columns["difficulty"]) == {0.212}
    path = tmp_path / "train_enriched.jsonl"
    sound = path.read_text()
    path.write_text(sound.replace("0.212", "4.212", 1))
    with pytest.raises(UserError, match=r"train_enriched\.jsonl: changed since it was prepared; prepare it again"):
        read()
    path.write_text(sound)
    whole = (tmp_path / "manifest.json").read_text()
    (tmp_path / "manifest.json").write_text(whole.replace("train.txt", "trbin.txt"))
    with pytest.raises(UserError, match=r"manifest\.json: changed since it was written"):
        read()
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match=r"manifest\.json: not what prepare wrote"):
        read()
    (tmp_path / "manifest.json").unlink()
    read()
