"""Which works there are: the project's list, folders with and without a manifest, and every bad one."""

import hashlib
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from juliagpt_jax.books import download, sources
from juliagpt_jax.ground.errors import UserError

ENTRY = {
    "file": "a.txt",
    "title": "A",
    "author": "B",
    "translator": None,
    "phase": "trivium",
    "art": "logic",
    "tier": "core",
}


def folder(path, entries, **files):
    for name, text in ({"a": "text"} | files).items():
        (path / f"{name}.txt").write_text(text)
    content = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    (path / "source_manifest.json").write_bytes(content)
    return path


def test_the_projects_list():
    works, notes = sources.classics()
    assert len(works) == 64 and len(sources.classics("core")[0]) == 46
    assert {w.phase for w in works} == {"trivium", "quadrivium", "philosophy"}
    assert len({w.id for w in works}) == len(works) and all(w.author and w.title and w.art for w in works)
    assert "LaTeX" in notes[0] and "euclid_elements" in notes[0]
    for work in works:
        address = download.url(work)
        assert address.startswith("https://raw.githubusercontent.com/") and f"/{work.commit}/" in address
        assert " " not in address and work.source_bytes > 0


def test_a_folder_with_a_manifest(tmp_path):
    entry = ENTRY | {"sha256": hashlib.sha256(b"text").hexdigest()}
    folder(tmp_path, [entry, ENTRY | {"file": "b.txt", "tier": "extra"}], b="more", c="not named")
    works, notes = sources.local(tmp_path)
    assert [(w.id, w.title, w.translator, w.phase) for w in works] == [
        ("a", "A", "", "trivium"),
        ("b", "A", "", "trivium"),
    ]
    assert "1 files of the folder" in notes[0]
    assert [w.id for w in sources.local(tmp_path, "core")[0]] == ["a"]
    (tmp_path / "a.txt").write_text("texT")
    with pytest.raises(UserError, match=r"a\.txt: SHA-256 is"):
        sources.local(tmp_path)


def test_a_folder_without_one(tmp_path):
    (tmp_path / "Sub dir").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ["b.txt", "a.txt", "a.epub", "Sub dir/C d.zip", "x.md", "LICENSE.md", ".hidden/e.txt", "n\u00e9.html"]:
        (tmp_path / name).write_text("x")
    assert [w.id for w in sources.local(tmp_path)[0]] == ["sub_dir_c_d", "a_epub", "a_txt", "b", "n", "x"]
    assert sources.local(tmp_path / "b.txt")[0][0].id == "b_txt"
    with pytest.raises(UserError, match="--tier=core"):
        sources.local(tmp_path, "core")


def test_two_files_of_one_name(tmp_path):
    for name in ["a b.txt", "a-b.txt"]:
        (tmp_path / name).write_text("x")
    with pytest.raises(UserError, match="two files would both be called 'a_b_txt'"):
        sources.local(tmp_path)


@pytest.mark.parametrize("what", ["nowhere", "empty"])
def test_nothing_there(tmp_path, what):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="does not exist" if what == "nowhere" else "holds no .txt"):
        sources.local(tmp_path / what)


@pytest.mark.parametrize(
    "entries, says",
    [
        (b"[{", "not JSON"),
        (b"\xff", "byte 0 is not UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b'[{"file": "a.txt", "file": "b.txt"}]', "'file' comes twice"),
        ({}, "must be a JSON list"),
        ([], "not empty"),
        ([3], "entry 1: must be an object, not int"),
        ([{"title": "A"}], 'entry 1: has no "file"'),
        ([ENTRY, ENTRY], "entry 2: 'a' comes twice"),
        ([ENTRY | {"title": 3}], "entry 1: title must be a string, not int"),
        ([ENTRY | {"author": "A\nB"}], "author has a control character"),
        ([ENTRY | {"sha256": "12"}], "sha256 must be 64 hex digits"),
        ([ENTRY | {"commit": "main"}], "commit must be 40 hex digits"),
        ([ENTRY | {"source_bytes": "12"}], "source_bytes must be a whole number"),
        ([ENTRY | {"file": "b.txt"}], "b.txt: missing"),
        ([ENTRY | {"file": "../a.txt"}], "must be a plain relative path"),
        ([ENTRY | {"file": "/etc/passwd"}], "must be a plain relative path"),
        ([ENTRY | {"file": "x/../../a.txt"}], "must be a plain relative path"),
        ([ENTRY | {"file": "C:\\a.txt"}], "must be a plain relative path"),
        ([ENTRY | {"file": "."}], "must be a plain relative path"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_faults_13_and_22_bad_manifests(tmp_path, entries, says):
    with pytest.raises(UserError) as error:
        sources.local(folder(tmp_path, entries))
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_mark_and_crlf_are_no_fault(tmp_path):
    content = b"\xef\xbb\xbf" + json.dumps([ENTRY], indent=1).replace("\n", "\r\n").encode()
    assert [w.id for w in sources.local(folder(tmp_path, content))[0]] == ["a"]


def test_a_manifest_too_large_to_be_one(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_LARGEST_MANIFEST", 100)
    with pytest.raises(UserError, match="a manifest has at most 100"):
        sources.local(folder(tmp_path, [ENTRY] * 10))


@pytest.mark.parametrize("manifest", [True, False])
def test_fault_22_links_that_lead_out(tmp_path, manifest):
    (tmp_path / "secret.txt").write_text("x")
    inner = tmp_path / "in"
    inner.mkdir()
    if manifest:
        folder(inner, [ENTRY])
        (inner / "a.txt").unlink()
    os.symlink(tmp_path / "secret.txt", inner / "a.txt")
    with pytest.raises(UserError, match="a link that leads out"):
        sources.local(inner)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=3))
def test_damaged_manifests_give_one_line(tmp_path_factory, flips):
    content = bytearray(json.dumps([ENTRY, ENTRY | {"file": "b.txt"}]).encode())
    for place, value in flips:
        content[place % len(content)] = value
    file = tmp_path_factory.getbasetemp() / "damaged.json"
    file.write_bytes(bytes(content))
    try:
        works = sources.read_manifest(file, file.parent)
        assert all(work.path.is_relative_to(file.parent) for work in works)
    except UserError as error:
        assert "\n" not in str(error)
