"""The embedded corpus is known by its text's hash without being written each time."""

import json

import pytest

from juliagpt_jax.data import embedded
from juliagpt_jax.schoolroom import passages


@pytest.fixture
def written(monkeypatch):
    """How many times the text was written; it is a short one."""
    short, times = passages.corpus(characters=3_000), []
    monkeypatch.setattr(passages, "corpus", lambda: times.append(1) or short)
    return times


def test_it_is_written_once_for_one_code(written, monkeypatch):
    first, sides = embedded.fingerprint()
    assert sides and first == passages.digest(sides) and len(written) == 1
    assert embedded.fingerprint() == (first, None) and len(written) == 1
    monkeypatch.setattr(embedded, "_code", lambda: "another")
    assert embedded.fingerprint()[0] == first and len(written) == 2


def test_another_code_is_one_with_another_file(monkeypatch, tmp_path):
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("x = 1")
    monkeypatch.setattr(passages, "__file__", str(tmp_path / "a.py"))
    codes = [embedded._code()]
    for name, text in [("b.py", "x = 2"), ("c.py", "")]:
        (tmp_path / name).write_text(text)
        codes.append(embedded._code())
    (tmp_path / "c.py").rename(tmp_path / "d.py")
    assert len({*codes, embedded._code()}) == 4


def test_a_damaged_note_is_not_believed(written):
    first, _ = embedded.fingerprint()
    for damaged in (embedded._file().read_text().replace(first[:8], "00000000"), "[]", "{", json.dumps({"sha256": 1})):
        embedded._file().write_text(damaged)
        before = len(written)
        assert embedded.fingerprint()[0] == first and len(written) == before + 1


def test_without_a_cache(written, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JULIAGPT_CACHE", str(tmp_path / "file"))
    assert embedded.fingerprint()[0] == embedded.fingerprint()[0] and len(written) == 2
