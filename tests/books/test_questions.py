"""Sets of questions come as they were published, under the names that tasks look for."""

import dataclasses
import hashlib
import http.server
import json
import threading

import pytest

from juliagpt_jax import prepare
from juliagpt_jax.books import questions
from juliagpt_jax.data.tasks import build
from juliagpt_jax.data.tasks.task import SPLITS
from juliagpt_jax.ground.errors import StorageError, UserError

CONTENT = {"train.tsv": b"good\t1\n", "dev.tsv": b"bad\t0\n", "test.tsv": b"so so\t0\n"}


@pytest.fixture
def mirror(monkeypatch):
    """A server that has a small SST-2, and the addresses that it was asked for."""
    known, asked = questions.SETS["sst2"], []
    works = {
        name: dataclasses.replace(
            work, source_sha256=hashlib.sha256(CONTENT[name]).hexdigest(), source_bytes=len(CONTENT[name])
        )
        for name, work in known.works.items()
    }
    monkeypatch.setitem(questions.SETS, "sst2", known._replace(works=works))

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            content = CONTENT[self.path.rpartition("/")[2]]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield f"--mirror=http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


def run(out, *flags, source="sst2"):
    prepare.main(prepare.parser().parse([f"--source={source}", f"--out={out}", *flags]))


def test_a_set_comes_as_published(mirror, tmp_path, monkeypatch, capsys):
    """From its pinned place, once; what tells of it says the licence; and the task reads every part of it."""
    monkeypatch.setenv("JULIAGPT_CACHE", str(tmp_path / "cache"))
    flag, asked = mirror
    run(tmp_path / "sst2", flag, "--json")
    said = capsys.readouterr().out
    assert "licence: none stated" in said and f"--task=sst2 --task_data={tmp_path / 'sst2'}" in said
    assert {name: (tmp_path / "sst2" / name).read_bytes() for name in CONTENT} == CONTENT
    place = "/clairett/pytorch-sentiment-classification/457ffd83de90a9d6d472d8ffc31bbffe40a8b236/data/SST2/"
    assert asked == [place + name for name in CONTENT]
    manifest = json.loads((tmp_path / "sst2" / "manifest.json").read_text())
    assert manifest["files"]["dev.tsv"]["sha256"] == hashlib.sha256(CONTENT["dev.tsv"]).hexdigest()
    answers = [[e.answer for e in build.read("sst2", split, str(tmp_path / "sst2"))] for split in SPLITS]
    assert answers == [[" positive"], [" negative"], [" negative"]]
    run(tmp_path / "sst2", flag)  # it is there
    run(tmp_path / "again", flag)  # from the cache
    assert len(asked) == 3 and (tmp_path / "again" / "dev.tsv").read_bytes() == CONTENT["dev.tsv"]


def test_what_is_wrong_is_said(mirror, tmp_path, monkeypatch):
    """A changed file is not replaced, a flag of texts is refused, and without the server nothing is left."""
    monkeypatch.setenv("JULIAGPT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "sst2").mkdir()
    (tmp_path / "sst2" / "dev.tsv").write_text("mine\t1\n")
    with pytest.raises(UserError, match=r"--out=.* is there already"):
        run(tmp_path / "sst2", mirror[0])
    assert (tmp_path / "sst2" / "dev.tsv").read_text() == "mine\t1\n"
    for flag in ("--unit=file", "--tier=core", "--seed=3"):
        with pytest.raises(UserError, match=f"{flag.partition('=')[0]} says nothing of --source=sst2"):
            run(tmp_path / "new", mirror[0], flag)
    with pytest.raises(StorageError, match=r"Without a network: evaluate --task_data=DIR"):
        run(tmp_path / "new", "--mirror=http://no-such-host.invalid")
    assert sorted(file.name for file in tmp_path.iterdir() if file.name != "cache") == ["sst2"]


@pytest.mark.parametrize("word", questions.SETS)
def test_names_and_licence_are_the_tasks(word, tmp_path):
    """A task finds each of its parts among a set's names, and says of both how to fetch it."""
    assert questions.SETS[word].licence == build.TASKS[word].licence
    with pytest.raises(UserError, match=f"juliagpt_jax.prepare --source={word} --out=data/{word}"):
        build.read(word, "test", None)
    for name in questions.SETS[word].works:
        (tmp_path / name).write_text("")
    for split in SPLITS:
        with pytest.raises(UserError, match=r"no example in it|row 1"):
            build.read(word, split, str(tmp_path))
