"""The command: how it starts, how it stops, and what it says when it cannot."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import sys
import time

import pytest

from juliagpt_jax import serve, serving
from juliagpt_jax.ground.errors import StorageError, UserError

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
from juliagpt_jax.serving import completions, server  # noqa: F401


@pytest.fixture
def process(micro, clean):
    """The command, on a free port."""
    process = micro.start("serve", f"--workdir={clean}", "--port=0", "--name=micro", "--rows=2", "--context=12")
    lines = [process.stdout.readline() for _ in range(2)]
    if not lines[1].startswith("serving on"):
        process.kill()
        pytest.fail(f"{lines}\n{process.stderr.read()}")
    assert "2 rows of 12 tokens" in lines[0]
    process.port = int(re.search(r":(\d+);", lines[1])[1])
    yield process
    process.kill()
    process.communicate()


@contextlib.contextmanager
def post(port, **fields):
    """The answer, whose connection is closed afterwards."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST", "/v1/completions", json.dumps(fields))
        yield connection.getresponse()


def test_sigterm_finishes_what_was_taken(process):
    """A text that is being read comes to its end, a new one is refused, and the process leaves with 143."""
    with (
        post(process.port, prompt="the ", max_tokens=4000, stream=True) as running,
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", process.port, timeout=60)) as other,
    ):
        assert running.readline().startswith(b"data: ")

        def health():
            other.request("GET", "/health")
            answer = other.getresponse()
            return answer.status, json.load(answer)

        assert health()[1]["busy"] == 1
        process.send_signal(signal.SIGTERM)
        end = time.monotonic() + 30
        while health()[1]["status"] != "stopping":
            assert time.monotonic() < end
        assert health()[0] == 503
        with post(process.port, prompt="the ") as refused:
            assert refused.status == 503 and b"stopping" in refused.read() and refused.headers["retry-after"]
        rest = running.read().decode()
    assert rest.endswith("data: [DONE]\n\n") and '"finish_reason": "length"' in rest
    assert process.wait(30) == 143
    lines = process.stderr.read().strip().splitlines()
    assert lines == ["finishing what was taken; once more to stop at once", "serve: stopped by SIGTERM"]


def test_it_answers_this_machine_alone(process):
    """Unless --host says otherwise: what listens is bound to 127.0.0.1, as the kernel has it."""
    listening = "0A"
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    (bound,) = {row[1] for row in rows if row[3] == listening and int(row[1].split(":")[1], 16) == process.port}
    assert bound.split(":")[0] == "0100007F"


def test_a_second_signal_ends_it_at_once(process):
    """In the middle of a text, which then has no end."""
    with post(process.port, prompt="the ", max_tokens=4096, stream=True) as running:
        assert running.readline().startswith(b"data: ")
        process.send_signal(signal.SIGTERM)
        assert process.stderr.readline() == "\n"
        assert process.stderr.readline().startswith("finishing what was taken")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            while True:
                assert b"[DONE]" not in (running.read(4096) or b"[DONE]")
    assert process.stderr.read() == ""


def test_a_stop_does_not_wait_for_half_a_request(process):
    """Half a head and half a body: SIGTERM ends the process when their grace is over."""
    half = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
    with contextlib.ExitStack() as open_:
        for sent in (half, half + b"\r\n{"):
            open_.enter_context(socket.create_connection(("127.0.0.1", process.port))).sendall(sent)
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", process.port, timeout=60)) as other:
            other.request("GET", "/health")
            assert other.getresponse().status == 200
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
        assert time.monotonic() - begun < server.GRACE_SECONDS + 6
    assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    "flag, says",
    [
        ("--rows=0", "--rows=0 must be in 1 .. 1024"),
        ("--port=65536", "--port=65536 must be in"),
        ("--context=1", "--context=1 must be in 2 .."),
        ("--context=17", "--context=17: the model was made for 16 tokens"),
        ("--row=3", "no flag is called --row.*--rows"),
        ("--origin=localhost:3000", "--origin=localhost:3000: an origin is like"),
        ("--host=no.such.host.invalid", "--host=no.such.host.invalid --port=8000: .*--port=0"),
        ("--ode_steps=3", "no layer of this model is an ODE"),
        ("--workdir=nowhere", "nowhere/config.json does not exist"),
    ],
)
def test_a_bad_flag(flag, says, clean, own_environment):
    with pytest.raises(UserError, match=says):
        serve.main(serve.parser().parse([f"--workdir={clean}", *(["--port=0"] if "ode" in flag else []), flag]))


@pytest.fixture
def own_environment(monkeypatch):
    """The command sets variables for JAX, which is there already."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


def test_a_port_in_use(clean, own_environment):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"--port={port}: Address already in use"):
            serve.main(serve.parser().parse([f"--workdir={clean}", f"--port={port}"]))


def test_out_of_memory(clean, own_environment, monkeypatch):
    """Fault 20: what was wanted, the model, the rows and the context, and what to try."""

    def fail(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes.\nAnd more.")

    monkeypatch.setattr("juliagpt_jax.serving.batch.Batch.compile", fail)
    with pytest.raises(StorageError, match=r"allocating 123 bytes.*8 rows of 16 tokens, f32; try fewer --rows"):
        serve.main(serve.parser().parse([f"--workdir={clean}", "--port=0"]))


def test_without_the_extra(clean, own_environment, monkeypatch):
    for name in ("completions", "server"):
        monkeypatch.delitem(sys.modules, f"juliagpt_jax.serving.{name}")
        monkeypatch.delattr(serving, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UserError, match=r"pip install 'juliagpt-jax\[serve\]'"):
        serve.main(serve.parser().parse([f"--workdir={clean}"]))
