"""Fault 23: a server that cuts, corrupts, stalls, fails, sends pages, knows ranges or does not."""

import hashlib
import http.server
import threading
import time
from typing import ClassVar

import pytest

from juliagpt_jax.books.download import fetch, url
from juliagpt_jax.books.sources import Work
from juliagpt_jax.ground.errors import StorageError, UserError

CONTENT = bytes(range(256)) * 2_000  # 512 kB
COMMIT = "a" * 40


class Server(http.server.BaseHTTPRequestHandler):
    """Does what the next item of `script` says, "whole" once it is empty. `seen` are the ranges asked for."""

    script: ClassVar[list[str]] = []
    seen: ClassVar[list[str]] = []
    ranges = True
    release = threading.Event()

    def do_GET(self):
        what = self.script.pop(0) if self.script else "whole"
        self.seen.append(self.headers.get("Range", ""))
        if what.isdigit():
            return self.send_error(int(what))
        begin = int(self.headers["Range"][6:-1]) if self.ranges and "Range" in self.headers else 0
        body = CONTENT[begin:]
        if what == "page":
            body, begin = b"<!DOCTYPE html><html>Please log in</html>", 0
        if what == "corrupt":
            body = body[:-1] + b"!"
        if what == "longer":
            body += b"x" * 200_000
        if what == "wrong range":
            begin = 7
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}")
        if what != "silent cut":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if what in ("cut", "silent cut"):
            body = body[: len(body) // 2]
        if what == "stall":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.release.wait(10)
            return None
        self.wfile.write(body)
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Server.script, Server.seen, Server.ranges = [], [], True
    Server.release.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        Server.release.set()
        running.shutdown()
        thread.join()


def work(**changes):
    facts = {
        "repo": "github.com/Some/Book_1",
        "commit": COMMIT,
        "source_path": "a b.txt",
        "source_sha256": hashlib.sha256(CONTENT).hexdigest(),
        "source_bytes": len(CONTENT),
    }
    return Work("book", None, **(facts | changes))


def get(server, folder, **more):
    return fetch(work(), folder, server, **({"timeout": 1.0, "sleep": lambda _: None} | more))


def test_the_address():
    assert url(work()) == f"https://raw.githubusercontent.com/Some/Book_1/{COMMIT}/a%20b.txt"
    for change in [{"repo": "example.org/a/b"}, {"repo": ""}, {"commit": ""}, {"source_sha256": ""}]:
        with pytest.raises(UserError, match=r"lacks a github\.com repository"):
            url(work(**change))
    with pytest.raises(UserError, match="must begin with https"):
        fetch(work(), None, "file:///etc")


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize(
    "script, resumes",
    [
        ([], 0),
        (["500", "503", "429"], 0),
        (["cut"], 1),
        (["cut", "cut", "cut"], 3),
        (["silent cut"], 1),
        (["stall"], 1),
        (["corrupt"], 0),
        (["page"], None),
        (["cut", "corrupt"], 1),
        (["longer"], 0),
        (["cut", "wrong range"], 1),
    ],
    ids=str,
)
def test_fault_23_it_comes_whole_in_the_end(server, tmp_path, script, resumes, ranges):
    Server.script, Server.ranges = list(script), ranges
    started = time.perf_counter()
    path = get(server, tmp_path / "new")
    assert time.perf_counter() - started < 5  # a stall costs the time-out, not the server's patience
    assert path.read_bytes() == CONTENT
    assert [f.name for f in path.parent.iterdir()] == [path.name]
    assert len(Server.seen) == len(script) + 1
    if resumes is not None:
        assert sum(r != "" for r in Server.seen) == resumes
    assert get(server, tmp_path / "new") == path and len(Server.seen) == len(script) + 1  # from the disk


@pytest.mark.parametrize(
    "script, says, left",
    [
        (["corrupt"] * 4, "another SHA-256", 0),
        (["page"] * 4, "web page", 0),
        (["longer"] * 4, "another SHA-256", 0),
        (["500"] * 4, "500", 0),
        (["404"], "404", 0),
        (["stall"] * 2, "no byte in", 1),
        (["cut"] * 4, "bytes came", 1),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else "",
)
def test_fault_23_or_not_at_all(server, tmp_path, script, says, left):
    """A file with a wrong hash leaves nothing; one that was cut leaves its part, to go on from."""
    Server.script = list(script)
    with pytest.raises(StorageError, match=says) as error:
        get(server, tmp_path, tries=len(script))
    assert len(Server.seen) == len(script) and "--source=DIR" in str(error.value) and "\n" not in str(error.value)
    assert [f.suffix for f in tmp_path.iterdir()] == [".part"] * left
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_damaged_file_on_the_disk_is_fetched_again(server, tmp_path):
    path = get(server, tmp_path)
    path.write_bytes(CONTENT[:-1])
    assert get(server, tmp_path).read_bytes() == CONTENT and len(Server.seen) == 2


def test_pauses_grow(server, tmp_path):
    Server.script = ["500"] * 3
    pauses = []
    get(server, tmp_path, sleep=pauses.append, pause=0.5)
    assert pauses == [0.5, 1.0, 2.0]


def test_no_network(tmp_path):
    """Nobody listens: one line, after the tries; an unknown host is not asked twice."""
    with pytest.raises(StorageError, match=r"refused.*tried 2 times"):
        fetch(work(), tmp_path, "http://127.0.0.1:9", tries=2, sleep=lambda _: None)
    with pytest.raises(StorageError, match="tried 1 times"):
        fetch(work(), tmp_path, "http://no-such-host.invalid", tries=4, sleep=lambda _: None)
