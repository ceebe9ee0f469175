"""A frozen folder is what was frozen, or it is refused; a dataset made of it holds its passages."""

import itertools
import json
import random

import pytest

from juliagpt_jax import snapshot
from juliagpt_jax.data import corpus, sharding, shards, snapshots
from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground.errors import UserError

WORDS = "the nature of truth is a line and number".split()


def run(capsys, *flags):
    snapshot.main(snapshot.parser().parse([*map(str, flags), "--json"]))
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture
def rows(tmp_path):
    """A folder of rows, in two files."""
    rng = random.Random(0)
    folder = tmp_path / "rows"
    folder.mkdir()
    for i in range(2):
        texts = [" ".join(rng.choices(WORDS, k=9)) + f"\n{i} {n} again." for n in range(200)]
        (folder / f"{i}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


@pytest.fixture
def cut(rows, tmp_path):
    """Shards of them."""
    tokenizers.save(CharTokenizer.train((rows / "0.jsonl").read_text() + "\n"), tmp_path / "tokenizer.json")
    sharding.make(str(rows), tokenizers.load(tmp_path / "tokenizer.json"), tmp_path / "shards", 0.1, most=5_000)
    return tmp_path / "shards"


def test_freeze_verify_and_train_on_it_alone(rows, tiny, capsys):
    found = run(capsys, f"--freeze={rows}", "--licence=CC0", "--filters=none")
    assert (found["files"], found["documents"], found["licences"]) == (2, 400, ["CC0"])
    manifest = (rows / snapshots.FILE).read_bytes()
    assert run(capsys, f"--freeze={rows}", "--licence=CC0", "--filters=none") == found
    assert (rows / snapshots.FILE).read_bytes() == manifest
    assert run(capsys, f"--verify={rows}", f"--sha256={found['sha256']}") == found
    load = lambda sha: corpus.load(tiny(f"data.path={rows}", f"data.snapshot={sha}").data, 16)
    assert len(load(found["sha256"]).train_chunks) == 360  # the manifest is no text
    with pytest.raises(UserError, match=rf"data.snapshot: .* is the snapshot {found['sha256'][:12]}"):
        load("0" * 64)
    with pytest.raises(UserError, match="a snapshot of other files, or of other words"):
        run(capsys, f"--freeze={rows}", "--licence=MIT")
    file = rows / "1.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"7 again", b"8 again"))
    (rows / "2.jsonl").write_text("{}\n")
    (rows / "0.jsonl").unlink()
    with pytest.raises(UserError, match=r"0\.jsonl is missing, 1\.jsonl has other bytes, 2\.jsonl is new"):
        load(found["sha256"])
    lines = manifest.decode().splitlines(keepends=True)
    (rows / snapshots.FILE).write_text("".join([lines[0], lines[1].replace("CC0", "MIT"), lines[2]]))
    with pytest.raises(UserError, match=r"manifest\.jsonl:2: changed"):
        run(capsys, f"--verify={rows}")


def test_shards_are_held_by_their_index_and_wholly_by_verify(cut, tiny, capsys):
    found = run(capsys, f"--freeze={cut}", "--licence=CC0")
    index = shards.open_index(cut)
    assert found["tokens"] == sum(s.tokens for side in shards.SIDES for s in index.sides[side])
    file = cut / "train_00001.bin"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    loaded = corpus.load(tiny(f"data.path={cut}", f"data.snapshot={found['sha256']}").data, 16)
    with pytest.raises(Exception, match=r"train_00001\.bin: damaged"):
        loaded.train[:]
    with pytest.raises(UserError, match=r"train_00001\.bin has other bytes"):
        run(capsys, f"--verify={cut}")


def test_a_dataset_folder(rows, cut, tmp_path, capsys):
    for folder in (rows, cut):
        run(capsys, f"--freeze={folder}", "--licence=CC0")
        made = run(capsys, f"--export={folder}", f"--out={tmp_path / f'{folder.name}_hf'}")
        texts = lambda file: [json.loads(line)["text"] for line in file.read_text().splitlines()]
        found = {file.stem: texts(file) for file in (tmp_path / f"{folder.name}_hf" / "data").iterdir()}
        assert {name: len(texts) for name, texts in found.items()} == made["rows"]
        whole = [text for file in sorted(rows.glob("?.jsonl")) for text in texts(file)]
        assert sorted(itertools.chain(*found.values())) == sorted(whole)
        card = (tmp_path / f"{folder.name}_hf" / "README.md").read_text()
        assert card.startswith("---\n") and made["sha256"] in card and "- CC0" in card
        datasets = (
            pytest.importorskip("datasets", reason="the library datasets is not installed") if folder is cut else None
        )
        if datasets:
            opened = datasets.load_dataset(str(tmp_path / f"{folder.name}_hf"), cache_dir=str(tmp_path / "cache"))
            assert {name: opened[name]["text"][:] for name in opened} == found
