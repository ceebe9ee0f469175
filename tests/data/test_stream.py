"""A tokenizer learns from what a run trains on, and sees nothing of its validation text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from juliagpt_jax.data import reading, stream
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.schoolroom import passages as schoolroom


def source(tiny, path):
    return reading.source(tiny(f"data.path={path}", "data.unknown=skip").data)[1]()


def as_a_run(tiny, path) -> None:
    """Hold the passages of a path to the training text of a run there."""
    found = stream.open_source(str(path), "strict")
    passages = list(found.texts())
    assert list(found.texts()) == passages, "from the beginning each time"
    assert found.characters == pytest.approx(sum(map(len, passages)), abs=len(passages))
    joined = "".join(passage if passage.endswith("\n") else passage + "\n" for passage in passages)
    train = source(tiny, path).train
    assert joined == (train if train.endswith("\n") else train + "\n")


def rows(*texts: str) -> str:
    return "".join(json.dumps({"text": text, "n": i}) + "\n" for i, text in enumerate(texts))


def test_files_and_folders(tiny, tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"line {n} of a\n" for n in range(50)))
    (tmp_path / "B.TXT").write_bytes("".join(f"Zeile {n} von B\r\n" for n in range(30)).encode("utf-16"))
    (tmp_path / "rows.jsonl").write_text(rows(*(f"row {n}" for n in range(25))))
    for path in (tmp_path, tmp_path / "a.txt", tmp_path / "B.TXT", tmp_path / "rows.jsonl"):
        as_a_run(tiny, path)
    assert stream.open_source(str(tmp_path), "strict").notes == (
        "B.TXT, a.txt: the last 10% of each is left to validation",
        "1 other files of the folder are not read: rows.jsonl",
    )


@pytest.mark.parametrize("kind", ["text", "rows", "both"])
def test_a_folder_with_two_sides(tiny, tmp_path, kind):
    for side in ("train", "val"):
        lines = [f"{side} passage {n}" for n in range(20)]
        if kind != "rows":
            (tmp_path / f"{side}.txt").write_text("".join(line + "\n" for line in lines))
        if kind != "text":
            (tmp_path / f"{side}_enriched.jsonl").write_text(rows(*lines))
    as_a_run(tiny, tmp_path)
    found = stream.open_source(str(tmp_path), "strict")
    assert not any("val" in text for text in found.texts()) and found.characters > 20 * 15
    assert len(found.hashes) == 1 and "validation text is not read" in found.notes[0]


def test_the_embedded_corpus(tiny, monkeypatch):
    sides = schoolroom.sample(30, 0), schoolroom.sample(10, 1)
    sides = tuple([passage for passage, _ in side] for side in sides)
    monkeypatch.setattr(schoolroom, "corpus", lambda: sides)
    found = stream.open_source("schoolroom", "strict")
    assert "".join(found.texts()) == source(tiny, "schoolroom").train
    assert found.characters == len("".join(found.texts()))


def test_documents_are_whole(tmp_path):
    (tmp_path / "a.jsonl").write_text(rows("one\n\ntwo\n", "three", *["rest"] * 8))
    assert list(stream.open_source(str(tmp_path / "a.jsonl"), "strict").texts())[:2] == ["one\n\ntwo\n", "three\n"]


@given(text=st.text("ab \n", max_size=60), size=st.integers(1, 9), longest=st.integers(2, 8))
def test_lines(text, size, longest):
    """However a text comes in blocks, the passages are its lines, long ones cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "LONGEST", longest)
        found = list(stream.lines(text[at : at + size] for at in range(0, len(text), size)))
        whole = list(stream.lines([text]))
    assert found == whole and "".join(found) == text
    assert all(0 < len(passage) <= longest and "\n" not in passage[:-1] for passage in found)


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("none", None, "--source=.*none does not exist"),
        ("a.txt", b"", "there is no text in it"),
        ("a.jsonl", b"", "there is no text in it"),
        ("a.txt", b"caf\xe9" * 20, "byte 3 is not UTF-8"),
        ("a.txt", b"%PDF-1.4", "a PDF document"),
        ("a.txt", bytes(range(256)) * 20, "binary data"),
        ("a.jsonl", b'{"text": "a"}\n{"text": 5}\n', r'a\.jsonl:2: "text" is a number'),
        ("a.jsonl", b'{"text": "a"}\n{"tex', r"a\.jsonl:2: .*Unterminated string"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', r"a\.jsonl:1: .*half of a surrogate pair"),
        ("a.jsonl", b'{"text": "caf\xe9"}\n', r"a\.jsonl:1: byte 13 is not UTF-8"),
        ("a.jsonl", b"[" * 100_000, r"a\.jsonl:1: "),
    ],
)
def test_what_is_no_source(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says):
        stream.open_source(str(tmp_path / name), "strict")


def test_all_bad_files_are_named(tmp_path):
    (tmp_path / "a.txt").write_text("fine " * 20)
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    (tmp_path / "c.txt").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match=r"2 of 3 files cannot be read: .*b\.txt.*c\.txt"):
        stream.open_source(str(tmp_path), "strict")
    (tmp_path / "c.txt").unlink()
    assert "caf\ufffd" in "".join(stream.open_source(str(tmp_path), "replace").texts())


def test_a_prepared_text_that_was_changed_is_refused(tmp_path):
    from juliagpt_jax.ground import files, sealed

    for side in ("train", "val"):
        (tmp_path / f"{side}.txt").write_text("a passage\n" * 9)
    hashes = {f"{side}.txt": files.sha256(tmp_path / f"{side}.txt") for side in ("train", "val")}
    sealed.write_json(tmp_path / "manifest.json", {"files": hashes})
    assert stream.open_source(str(tmp_path), "strict").hashes == {"train.txt": hashes["train.txt"]}
    (tmp_path / "train.txt").write_text("another\n" * 9)
    with pytest.raises(UserError, match=r"--source: .*train\.txt: changed since it was prepared"):
        stream.open_source(str(tmp_path), "strict")
