"""A text cut into token files is the text: the same ids, read where they lie, and nothing of them when damaged."""

import gzip
import json
import random
import shutil

import numpy as np
import pytest

from juliagpt_jax import shard
from juliagpt_jax.data import corpus, reading, sampler, sharding, shards, stream
from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.data.bpe import train
from juliagpt_jax.ground import formats, sealed
from juliagpt_jax.ground.errors import StorageError, UserError

WORDS = "the nature of truth is a line and number that goes on in time with all of us caf\u00e9".split()


def lines(count, seed, k=9):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=k)) + ".\n" for _ in range(count)]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A tokenizer, and folders: of lines, of documents, and the shards of both."""
    folder = tmp_path_factory.mktemp("shards")
    tokenizers.save(train(lines(200, 0), 300), folder / "tokenizer.json")
    (folder / "lines").mkdir()
    (folder / "documents").mkdir()
    for side, count, seed in (("train", 4_000, 1), ("val", 200, 2)):
        text = "".join(lines(count, seed))
        (folder / "lines" / f"{side}.txt").write_text(text.removesuffix("\n"))
        rows = [{"text": "".join(lines(5, 1_000 * seed + i))} for i in range(count // 10)]
        rows = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "documents" / f"{side}_enriched.jsonl").write_text(rows)
    for kind in ("lines", "documents"):
        flags = f"--source={folder / kind} --tokenizer={folder / 'tokenizer.json'} --out={folder / kind}_shards"
        shard.main(shard.parser().parse([*flags.split(), "--shard_tokens=30000"]))
    return folder


def settings(tiny, path, *more):
    return tiny(f"data.path={path}", *more).data


@pytest.mark.parametrize("kind", ["lines", "documents"])
def test_shards_are_the_text(own, tiny, kind):
    """The same ids, counts and batches as from the text itself."""
    whole = corpus.load(settings(tiny, own / kind, f"data.tokenizer={own / 'tokenizer.json'}"), 16)
    found = corpus.load(settings(tiny, own / f"{kind}_shards"), 16)
    assert len(list((own / f"{kind}_shards").glob("train_*.bin"))) > 1
    for one, other in ((found.train, whole.train), (found.val, whole.val)):
        np.testing.assert_array_equal(np.asarray(one), other)
    assert found.counts == whole.counts and found.tokenizer.first == whole.tokenizer.first
    index = shards.open_index(own / f"{kind}_shards")
    chunks = [len(ids) for s in index.sides["train"] for ids in shards.passages(index, s)]
    np.testing.assert_array_equal(chunks, whole.train_chunks.lengths)
    size = len(whole.train)
    plan = sampler.Plan(size, 16, 8, 3)
    for step in (0, 5):
        for one, other in zip(
            sampler.batch(found.train, plan, step), sampler.batch(whole.train, plan, step), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    for key in (slice(5, size, 977), -1, np.array([[0, size - 1], [3, 4]]), np.asarray(whole.train) == 7, slice(9, 9)):
        np.testing.assert_array_equal(found.train[key], np.asarray(whole.train)[key])
    with pytest.raises(IndexError):
        found.train[np.array([size])]


def test_opening_reads_no_ids_and_a_window_its_blocks_alone(own, tiny):
    found = corpus.load(settings(tiny, own / "lines_shards"), 16)
    assert all(file._ids is None for file in found.train._files)
    assert found.train[40_000:40_100].shape == (100,)
    assert [file._ids is not None for file in found.train._files].count(True) == 1


def test_damage_is_refused_by_name(own, tiny, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(own / "lines_shards", folder)
    load = lambda: corpus.load(settings(tiny, folder), 16)
    file = folder / "train_00001.bin"
    content = bytearray(file.read_bytes())
    content[20_000] ^= 1
    file.write_bytes(content)
    found = load()  # of the right size
    assert len(found.train[:20_000]) == 20_000  # another file
    with pytest.raises(StorageError, match=r"train_00001\.bin: damaged: bytes 0 to 65,536"):
        found.train[35_000:35_010]
    file.write_bytes(content[:-2])
    with pytest.raises(StorageError, match=r"train_00001\.bin: has [\d,]+ bytes"):
        load()
    file.unlink()
    with pytest.raises(StorageError, match=r"train_00001\.bin: is missing"):
        load()
    content[20_000] ^= 1
    file.write_bytes(content)
    checks = folder / "train_00001.checks.npy"
    checks.write_bytes(checks.read_bytes()[:-1] + b"\1")
    with pytest.raises(StorageError, match=r"train_00001\.checks\.npy: damaged"):
        load().train[35_000:35_010]
    index = folder / shards.INDEX
    index.write_text(index.read_text().replace('"documents": false', '"documents": true'))
    with pytest.raises(UserError, match=r"shards\.json: changed"):
        load()


@pytest.mark.parametrize(
    "more, says",
    [
        (["data.filter=quality >= 0.5"], "data.filter: shards have no fields"),
        (["data.order=easy_first"], "data.order: shards have no fields"),
        (["data.windows=documents"], "data.windows: shards are not shuffled"),
        (["data.tokenizer=bpe"], "data.tokenizer: bpe is not what the shards"),
    ],
)
def test_knobs_that_say_nothing_of_shards(own, tiny, more, says):
    with pytest.raises(UserError, match=says):
        corpus.check(settings(tiny, own / "lines_shards", *more))


def test_the_side_of_a_document_is_in_its_hash(own, tmp_path):
    """Rows without sides: the same document never stands on both, and the share is met."""
    texts = [f"{text}again {i % 900}" for i, text in enumerate(lines(900, 5) * 2)]
    (tmp_path / "rows").mkdir()
    for i in range(3):
        with (gzip.open if i else open)(tmp_path / "rows" / f"{i}.jsonl{'.gz' if i else ''}", "wt") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in texts[i::3])
    made = sharding.make(
        str(tmp_path / "rows"), tokenizers.load(own / "tokenizer.json"), tmp_path / "out", 0.1, most=10_000
    )
    index = shards.open_index(tmp_path / "out")
    own_ids = index.tokenizer()
    found = {
        side: [own_ids.decode(ids[:-1]) for s in index.sides[side] for ids in shards.passages(index, s)]
        for side in shards.SIDES
    }
    assert sorted(found["train"] + found["val"]) == sorted(map(reading.ended, texts))
    assert not set(found["train"]) & set(found["val"]) and made["leaked"] == 0
    assert abs(len(set(found["val"])) - 90) < 3 * np.sqrt(900 * 0.1 * 0.9)


def test_a_text_file_is_split_by_position_as_a_run_splits_it(own, tiny, tmp_path):
    (tmp_path / "book.txt").write_text("".join(lines(500, 8)).removesuffix("\n"))
    file = own / "tokenizer.json"
    whole = corpus.load(settings(tiny, tmp_path / "book.txt", f"data.tokenizer={file}"), 16)
    sharding.make(str(tmp_path / "book.txt"), tokenizers.load(file), tmp_path / "out", reading.VALIDATION_SHARE)
    found = corpus.load(settings(tiny, tmp_path / "out"), 16)
    np.testing.assert_array_equal(np.asarray(found.train), whole.train)
    np.testing.assert_array_equal(found.val, whole.val)


def test_leaks_between_given_sides_are_counted(own, tiny, tmp_path):
    for side, text in (("train", lines(300, 1)), ("val", lines(20, 1) + lines(20, 9))):
        (tmp_path / f"{side}.txt").write_text("".join(text))
    sharding.make(str(tmp_path), tokenizers.load(own / "tokenizer.json"), tmp_path / "out", 0.1)
    with pytest.raises(UserError, match="of 40 validation passages 20 stand word for word"):
        corpus.load(settings(tiny, tmp_path / "out"), 16)


@pytest.mark.parametrize("end, needs", [(".jsonl.zst", "zstandard"), (".parquet", "pyarrow")])
def test_packed_rows(tmp_path, end, needs):
    library = pytest.importorskip(needs)
    texts, file = lines(50, 3), tmp_path / f"rows{end}"
    if needs == "pyarrow":
        import pyarrow.parquet

        pyarrow.parquet.write_table(library.table({"text": texts, "n": [*range(50)]}), file)
    else:
        rows = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        file.write_bytes(library.ZstdCompressor().compress(rows.encode()))
    assert list(formats.documents(file)) == texts


def test_bad_rows_and_sources(own, tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "one"}\n{"txt": "two"}\n')
    tokenizer = tokenizers.load(own / "tokenizer.json")
    with pytest.raises(UserError, match=r'a\.jsonl:2: has no "text"'):
        sharding.make(str(file), tokenizer, tmp_path / "out", 0.1)
    assert not (tmp_path / "out").exists()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "one"}\n' * 99)[:-20])
    with pytest.raises(UserError, match=r"a\.jsonl\.gz: damaged"):
        list(formats.documents(tmp_path / "a.jsonl.gz"))
    for source, says in (
        ("generated:maze:5", "no kind"),
        ("generated:arc:x", "COUNT"),
        (f"{tmp_path}/no", "not exist"),
    ):
        with pytest.raises(UserError, match=says):
            sharding.make(source, tokenizer, tmp_path / "out", 0.1)


def test_an_index_of_one_token_file_written_by_hand(own):
    """What a reader in another language needs: sizes, hashes, little-endian ids."""
    folder = own / "lines_shards"
    row = sealed.read_json(folder / shards.INDEX)["sides"]["val"][0]
    ids = np.frombuffer((folder / f"{row['name']}.bin").read_bytes(), "<u2")
    ends = np.load(folder / f"{row['name']}.ends.npy")
    text = (own / "lines" / "val.txt").read_text() + "\n"
    assert len(ids) == row["tokens"] == ends[-1] and len(ends) == row["documents"] == text.count("\n")
    assert tokenizers.load(folder / "tokenizer.json").decode(ids) == text
    assert list(stream.lines([text]))[3] == tokenizers.load(own / "tokenizer.json").decode(ids[ends[2] : ends[3]])
