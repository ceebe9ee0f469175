"""The server over a real socket: OpenAI's shapes, limits, who leaves, who is too many, and how it stops."""

import asyncio
import contextlib
import http.client
import json
import re
import shutil
import socket
import threading
import time

import jax
import numpy as np
import pytest

from juliagpt_jax.data.library import LibraryTokenizer
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.models.build import build_model
from juliagpt_jax.serving.asked import Limits
from juliagpt_jax.serving.engine import Busy, Engine
from juliagpt_jax.training.state import initial_state

pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")
from juliagpt_jax.serving import door, server  # noqa: E402

LETTERS, CONTEXT = "\n abcdefghijk", 32
FRIEND = "http://localhost:3000"  # whose pages may ask


class Served:
    """A server in a thread of this process, with a client of it."""

    def __init__(self, generator: Generator):
        self.generator = generator
        self.tokenizer = CharTokenizer(LETTERS)
        self.engine = Engine(generator, self.tokenizer, rows=2, queue=6, block=4)
        self.limits = Limits(max_tokens=100_000, max_prompt=100, max_body=5_000, texts=8, context=CONTEXT)
        share = lambda text: text.count("a") / len(text)
        said = lambda asked: asked if isinstance(asked, str) else "".join(own["content"] for own in asked)
        verifier = lambda prompts, texts: [share(said(p) + text) for p, text in zip(prompts, texts, strict=True)]
        app = server.application(self.engine, "small", self.limits, ["writer.lan"], [FRIEND], verifier=verifier)
        listener = server.bind("127.0.0.1", 0)
        listener.listen(64)
        self.port = listener.getsockname()[1]
        settings = uvicorn.Config(app, http=door.Connection, ws="none", lifespan="off", log_level="critical")
        self._uvicorn = uvicorn.Server(settings)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._uvicorn.serve(sockets=[listener])))

    def __enter__(self):
        self.engine.start()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.engine.stop()
        self._uvicorn.should_exit = True
        self._thread.join()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method="POST", path="/v1/completions", body=None, headers=None, **fields):
        """Status, headers and the JSON, or text, of an answer."""
        sent = headers or {}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            body = body if body is not None or method != "POST" else json.dumps(fields)
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            text = answer.read().decode()
            is_json = answer.headers.get("content-type") == "application/json"
            return answer.status, answer.headers, json.loads(text) if is_json else text

    def complete(self, **fields):
        status, _, answer = self.ask(**fields)
        assert status == 200, answer
        return answer

    def stream(self, **fields):
        """The events of a stream, without the last, [DONE]."""
        status, headers, text = self.ask(stream=True, **fields)
        assert status == 200 and headers["content-type"].startswith("text/event-stream"), text
        lines = text.split("\n\n")
        assert lines[-2:] == ["data: [DONE]", ""]
        return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]

    def generated(self, prompts, count, rule, seed):
        ids = [self.tokenizer.encode(prompt).astype(int) for prompt in prompts]
        return [self.tokenizer.decode(row) for row in self.generator.generate(ids, count, rule, seed)]

    def wait(self, condition, seconds=30):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (self.engine.busy, self.engine.queued)
            time.sleep(0.005)


@pytest.fixture(scope="module")
def generator(tiny):
    config = tiny("model.width=16", f"model.context={CONTEXT}", "model.tie=false", "seed=0")
    model = build_model(config, len(LETTERS))
    params = jax.jit(lambda: initial_state(config, model).params)()
    return Generator(model, jax.tree.map(lambda p: p * 3 if p.ndim == 2 else p, params))


@pytest.fixture(scope="module")
def served(generator):
    with Served(generator) as served:
        yield served


def test_a_completion(served):
    answer = served.complete(model="small", prompt="abba", max_tokens=40, temperature=0)
    (choice,) = answer["choices"]
    assert choice["text"] == served.generated(["abba"], 40, Rule(greedy=True), 0)[0]
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "length", None)
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 40, "total_tokens": 44}
    assert (answer["object"], answer["model"]) == ("text_completion", "small") and answer["id"].startswith("cmpl-")


def test_several_texts_for_several_prompts(served):
    fields = {"prompt": ["abba", "cab", "abba"], "n": 2, "max_tokens": 12, "temperature": 0.9, "top_k": 9, "seed": 5}
    answer = served.complete(**fields)
    prompts = [prompt for prompt in fields["prompt"] for _ in range(2)]
    texts = served.generated(prompts, 12, Rule(0.9, 9), 5)
    assert [choice["text"] for choice in answer["choices"]] == texts and len(set(texts)) == 6
    assert [choice["index"] for choice in answer["choices"]] == list(range(6))
    assert answer["usage"] == {"prompt_tokens": 11, "completion_tokens": 72, "total_tokens": 83}


def test_defaults_are_openais(served):
    """16 tokens at temperature 1, another text each time."""
    texts = {served.complete(prompt="a")["choices"][0]["text"] for _ in range(4)}
    assert len(texts) > 1 and set(map(len, texts)) == {16}
    assert served.complete(prompt="a", max_tokens=None, stop=None, n=None)["usage"]["completion_tokens"] == 16


def test_prompts_as_ids(served):
    ids = served.tokenizer.encode("abba").tolist()
    by_text = served.complete(prompt="abba", temperature=0)["choices"][0]["text"]
    assert served.complete(prompt=ids, temperature=0)["choices"][0]["text"] == by_text
    both = served.complete(prompt=[ids, [3]], temperature=0, echo=True, max_tokens=3)["choices"]
    assert [choice["text"][:4] for choice in both] == ["abba", "b" + both[1]["text"][1:4]]


def test_an_empty_prompt_begins_a_text(served):
    answer = served.complete(prompt="", temperature=0, echo=True)
    assert answer["choices"][0]["text"] == served.generated(["\n"], 16, Rule(greedy=True), 0)[0]


def test_a_stream_is_the_whole_in_pieces(served):
    fields = {"prompt": "abba", "max_tokens": 70, "seed": 3, "n": 2, "logprobs": 2, "echo": True}
    whole = served.complete(**fields)
    *events, last = served.stream(**fields, stream_options={"include_usage": True})
    assert len(events) > 20 and last["choices"] == [] and last["usage"] == whole["usage"]
    assert all(event["usage"] is None for event in events), "as OpenAI has it once usage was asked for"
    for choice in whole["choices"]:
        own = [event["choices"][0] for event in events if event["choices"][0]["index"] == choice["index"]]
        assert "".join(part["text"] for part in own) == choice["text"]
        assert [part["finish_reason"] for part in own] == [None] * (len(own) - 1) + ["length"]
        for key, values in choice["logprobs"].items():
            assert [value for part in own for value in part["logprobs"][key]] == values
    assert {event["id"] for event in [*events, last]} == {last["id"]}


def test_logprobs(served):
    choice = served.complete(prompt="abba", max_tokens=3, temperature=0, logprobs=2, echo=True)["choices"][0]
    found = choice["logprobs"]
    assert found["tokens"] == list(choice["text"]) and found["text_offset"] == list(range(7))
    assert found["token_logprobs"][0] is None and found["top_logprobs"][0] is None
    rows = list(zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True))
    for text, value, top in rows[1:]:
        assert top[text] == value < 0 and 2 <= len(top) <= 3
    assert all(max(top, key=top.get) == text for text, _, top in rows[4:])


def test_stop(served):
    whole = served.complete(prompt="abba", max_tokens=60, temperature=0)["choices"][0]["text"]
    stop = whole[30:32]
    answer = served.complete(prompt="abba", max_tokens=60, temperature=0, stop=["zzz", stop])
    cut = whole.find(stop)
    assert (answer["choices"][0]["text"], answer["choices"][0]["finish_reason"]) == (whole[:cut], "stop")
    assert answer["usage"]["completion_tokens"] == cut + 2
    streamed = served.stream(prompt="abba", max_tokens=60, temperature=0, stop=stop)
    assert "".join(event["choices"][0]["text"] for event in streamed) == whole[:cut]


def test_the_end_of_a_text(served, monkeypatch):
    """At the token that ends one, which neither shows nor is scored; `ignore_eos` goes on. Rows end one by one."""
    fields = {"prompt": "abba", "max_tokens": 60, "seed": 3, "logprobs": 0}
    whole = served.complete(**fields)["choices"][0]["text"]
    letter = max(set(whole), key=whole.find)  # the one that comes first last
    cut = whole.find(letter)
    drawn = {"prompt": "abba", "max_tokens": 60, "n": 4, "seed": 1}
    rows = [choice["text"] for choice in served.complete(**drawn)["choices"]]
    monkeypatch.setattr(served.tokenizer, "stops", (LETTERS.index(letter),), raising=False)
    answer = served.complete(**fields)
    choice = answer["choices"][0]
    assert cut and (choice["text"], choice["finish_reason"]) == (whole[:cut], "stop")
    assert choice["logprobs"]["tokens"] == list(whole[:cut]) and answer["usage"]["completion_tokens"] == cut + 1
    *events, last = served.stream(**fields, stream_options={"include_usage": True})
    parts = [event["choices"][0] for event in events]
    assert "".join(part["text"] for part in parts) == whole[:cut] and parts[-1]["finish_reason"] == "stop"
    assert last["usage"] == answer["usage"]
    ended = [(choice["text"], choice["finish_reason"]) for choice in served.complete(**drawn)["choices"]]
    assert ended == [(row.partition(letter)[0], "stop" if letter in row else "length") for row in rows]
    assert len({text.find(letter) for text in rows}) > 1, "they end at different places"
    assert served.complete(**fields, ignore_eos=True)["choices"][0]["text"] == whole
    stop = served.complete(**fields, stop=whole[cut - 2 : cut])["choices"][0]
    assert stop["text"] == whole[: whole.find(whole[cut - 2 : cut])]


@pytest.mark.parametrize(
    "fields, status, param, says",
    [
        ({}, 400, "prompt", "prompt is missing"),
        ({"prompt": "naïve"}, 400, "prompt", r"'n' (U+006E), 'v' (U+0076), 'ï' (U+00EF)"),
        ({"prompt": ["a", 3]}, 400, "prompt", "a text, a list of texts, a list of ids"),
        ({"prompt": []}, 400, "n", "0 prompts"),
        ({"prompt": [[]]}, 400, "prompt", "has no ids"),
        ({"prompt": [3, 13]}, 400, "prompt", "id 13 is outside the vocabulary of 13"),
        ({"prompt": [-1]}, 400, "prompt", "id -1 is outside"),
        ({"prompt": [2**70]}, 400, "prompt", "outside the vocabulary"),
        ({"prompt": "a" * 101}, 400, "prompt", "has 101 tokens; this server reads up to 100"),
        ({"prompt": "a" * 33, "echo": True, "logprobs": 1}, 400, "prompt", "the model's context is 32"),
        ({"prompt": "a", "max_tokens": 100_001}, 400, "max_tokens", "writes up to 100000"),
        ({"prompt": "a", "max_tokens": -1}, 400, "max_tokens", "greater than or equal to 0, not -1"),
        ({"prompt": "a", "max_tokens": "5"}, 400, "max_tokens", "not '5'"),
        ({"prompt": "a", "max_tokens": 2.5}, 400, "max_tokens", "not 2.5"),
        ({"prompt": "a", "temperature": -0.1}, 400, "temperature", "not -0.1"),
        ({"prompt": "a", "temperature": "hot"}, 400, "temperature", "not 'hot'"),
        ({"prompt": "a", "top_p": 0}, 400, "top_p", "greater than 0, not 0"),
        ({"prompt": "a", "top_p": 1.5}, 400, "top_p", "not 1.5"),
        ({"prompt": "a", "top_k": -2}, 400, "top_k", "not -2"),
        ({"prompt": "a", "repetition_penalty": 1.1}, 400, "repetition_penalty", "not supported"),
        ({"prompt": "a", "seed": 2**32}, 400, "seed", "less than 4294967296"),
        ({"prompt": "a", "logprobs": 21}, 400, "logprobs", "less than or equal to 20"),
        ({"prompt": "a", "n": 0}, 400, "n", "not 0"),
        ({"prompt": "a", "n": 9}, 400, "n", "n=9: this server takes 1 .. 8 texts"),
        ({"prompt": "a", "stop": ""}, 400, "stop", "1 .. 256 characters"),
        ({"prompt": "a", "stop": ["b"] * 17}, 400, "stop", "up to 16 texts"),
        ({"prompt": "a", "stop": 5}, 400, "stop", "a text or a list of texts"),
        ({"prompt": "a", "temprature": 1}, 400, "temprature", "did you mean temperature?"),
        ({"prompt": "a", "stream_options": {"x": 1}}, 400, "stream_options.x", "no field is called"),
        ({"prompt": "a", "best_of": 2}, 400, "best_of", "not supported"),
        ({"prompt": "a", "logit_bias": {"3": 1}}, 400, "logit_bias", "not supported"),
        ({"prompt": "a", "presence_penalty": 0.5}, 400, "presence_penalty", "not supported"),
        ({"prompt": "a", "model": "gpt-9"}, 404, "model", "no model is called 'gpt-9'; there is: small"),
    ],
    ids=str,
)
def test_a_bad_request_is_told_why(fields, status, param, says, served):
    found, _, answer = served.ask(**fields)
    assert found == status and says in answer["error"]["message"], answer
    assert answer["error"]["param"] == param and answer["error"]["type"] == "invalid_request_error"
    assert "\n" not in answer["error"]["message"]


def test_what_has_no_effect_is_accepted(served):
    served.complete(
        prompt="a", presence_penalty=0, frequency_penalty=0.0, logit_bias={}, suffix="", best_of=1, user="me"
    )
    served.complete(prompt="a", repetition_penalty=1.0, min_p=0, typical_p=1, use_beam_search=False)
    served.complete(prompt="a", top_k=-1, seed=-1)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b'{"prompt": "\xff"}', b'{"prompt":"\\ud800"}', b"[" * 4000])
def test_a_body_that_is_no_request(body, served):
    status, _, answer = served.ask(body=body)
    assert status == 400 and answer["error"]["message"].startswith(("the body", "prompt: characters")), answer


def test_mangled_bodies(served):
    """Random edits of a request's bytes are answered, never with a failure of the server."""
    rng = np.random.default_rng(0)
    sound = json.dumps({"prompt": ["ab", "c"], "max_tokens": 2, "stop": ["a"], "logprobs": 1, "echo": True}).encode()
    for _ in range(150):
        body = bytearray(sound)
        for _ in range(rng.integers(1, 4)):
            body[rng.integers(len(body))] = rng.choice([*b'09[]{}",:-ae\\\xff'])
        assert served.ask(body=bytes(body))[0] in (200, 400), body


def test_a_body_too_large_is_not_read(served):
    status, _, answer = served.ask(prompt="a" * 6_000)
    assert status == 413 and "5000 bytes" in answer["error"]["message"]
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as sock:
        head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        sock.sendall(head.encode() + b"".join(b"400\r\n" + b"a" * 1024 + b"\r\n" for _ in range(6)))  # and no end
        assert sock.recv(100).startswith(b"HTTP/1.1 413 ")


# Who may ask.


@pytest.mark.parametrize(
    "host", ["localhost:99", "127.0.0.1", "[::1]:99", "192.168.1.7:8000", "Writer.LAN", "a.localhost"]
)
def test_a_name_of_its_own(host, served):
    assert served.ask("GET", "/health", headers={"Host": host})[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example", "[::1", "x:y"])
def test_a_name_that_somebody_else_gave_it(host, served):
    """DNS rebinding: a page's own name that points here."""
    status, _, answer = served.ask(headers={"Host": host}, prompt="a")
    assert status == 403 and "--allow_host=" in answer["error"]["message"]


@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost:3001", "null", "https://localhost:3000"])
def test_a_page_of_another_origin_makes_nothing_compute(origin, served, monkeypatch, capsys):
    """Also with the type of a form, of which browsers ask nobody before they send it."""
    monkeypatch.setattr(served.engine, "submit", lambda *_: pytest.fail("a foreign page was served"))
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json"):
        status, headers, answer = served.ask(headers={"Origin": origin, "Content-Type": kind}, prompt="a")
        assert status == 403 and f"--origin={origin}" in answer["error"]["message"]
        assert "access-control-allow-origin" not in headers
    assert served.ask("OPTIONS", headers={"Origin": origin, "Access-Control-Request-Method": "POST"})[0] == 403
    assert capsys.readouterr().err.count(origin) in (0, 2), "told once on the terminal"


SAFE_TYPES = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data")


def fetch(served, origin, headers, shown=(), **fields):
    """POST as the fetch() of a page of `origin` does, by the CORS protocol of the Fetch standard: a preflight where
    the headers are not those of a form, whose answer must allow each of them by name; an answer that does not name the
    page is kept from it. Returns the status, the JSON or text, and the headers `shown` that the page may read.

    Raises:
        PermissionError: what the browser's console says.
    """
    safe = lambda name, value: name.lower() == "content-type" and value.partition(";")[0] in SAFE_TYPES
    asked = sorted(name.lower() for name, value in headers.items() if not safe(name, value))

    def named(answer, what):
        if answer["access-control-allow-origin"] not in ("*", origin):
            raise PermissionError(f"{what} has no Access-Control-Allow-Origin of this page")
        if answer["access-control-allow-origin"] != "*" and "origin" not in (answer["vary"] or "").lower():
            raise PermissionError(f"{what} may be taken from a cache for another page: no Vary: Origin")

    if asked:
        asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": ",".join(asked)}
        status, answer, _ = served.ask("OPTIONS", headers={"Origin": origin, "Sec-Fetch-Mode": "cors", **asks})
        named(answer, "the preflight")
        allowed = {name.strip().lower() for name in (answer["access-control-allow-headers"] or "").split(",")}
        if not 200 <= status < 300:
            raise PermissionError(f"the preflight got {status}")
        for name in asked:  # a star stands for every name but this one
            if name not in allowed and not ("*" in allowed and name != "authorization"):
                raise PermissionError(f"the preflight does not allow {name}")
    status, answer, got = served.ask(headers={"Origin": origin, "Sec-Fetch-Mode": "cors", **headers}, **fields)
    named(answer, "the answer")
    readable = {name.strip().lower() for name in (answer["access-control-expose-headers"] or "").split(",")}
    return status, got, {name: answer[name] for name in shown if name.lower() in readable}


def test_a_page_that_may_ask(served, monkeypatch):
    """From a browser: what OpenAI's client sends, streamed and refused ones too, and a refusal for a time whose
    length it may read."""
    client = {"Content-Type": "application/json", "Authorization": "Bearer none", "X-Stainless-Lang": "js"}
    status, answer, _ = fetch(served, FRIEND, client, prompt="abba", max_tokens=5, temperature=0)
    assert status == 200 and answer["choices"][0]["text"] == served.generated(["abba"], 5, Rule(greedy=True), 0)[0]
    status, events, _ = fetch(served, FRIEND, client, prompt="a", stream=True)
    assert status == 200 and events.endswith("data: [DONE]\n\n")
    assert fetch(served, FRIEND, client, prompt="é")[0] == 400, "a page must be able to read what was wrong"
    assert fetch(served, FRIEND, {"Content-Type": "text/plain"}, prompt="a")[0] == 415, "without a preflight"
    busy = lambda *_: (_ for _ in ()).throw(Busy(7))
    with monkeypatch.context() as patch:
        patch.setattr(served.engine, "submit", busy)
        status, _, seen = fetch(served, FRIEND, client, ["Retry-After"], prompt="a")
    assert (status, seen) == (429, {"Retry-After": "7"})
    for origin in ("http://evil.example", "http://localhost:3001"):
        with pytest.raises(PermissionError, match="the preflight has no"):
            fetch(served, origin, client, prompt="a")
        with pytest.raises(PermissionError, match="the answer has no"):
            fetch(served, origin, {"Content-Type": "text/plain"}, prompt="a")


def test_its_own_page_may_ask(served):
    own = {"Host": f"localhost:{served.port}", "Origin": f"http://localhost:{served.port}"}
    assert served.ask(headers=own, prompt="a")[0] == 200


@pytest.mark.parametrize("text, found", [("*", "*"), ("HTTP://Localhost:3000/", FRIEND), ("null", "null")])
def test_an_origin(text, found):
    assert door.origins_of([text]) == [found]


@pytest.mark.parametrize("text", ["localhost:3000", "http://a/b", "a", ""])
def test_no_origin(text):
    with pytest.raises(UserError, match="an origin is like http://localhost:3000"):
        door.origins_of([text])


@pytest.mark.parametrize("kind, status", [("text/plain", 415), ("multipart/form-data", 415), ("application/json", 200)])
def test_the_type_of_a_body(kind, status, served):
    assert served.ask(headers={"Content-Type": f"{kind}; charset=utf-8"}, prompt="a")[0] == status


@pytest.mark.parametrize("before", [b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_half_a_head_does_not_keep_a_connection(before, served, monkeypatch):
    """As the first request or the second, and however slowly more of it comes."""
    monkeypatch.setattr(door, "HEAD_SECONDS", 1.0)
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as sock:
        sock.sendall(before)
        if before:
            assert sock.recv(10_000).startswith(b"HTTP/1.1 200")
        begun, ended = time.monotonic(), False
        sock.settimeout(0.2)
        while not ended and time.monotonic() - begun < 20:
            try:
                sock.sendall(b"G" if before else b"GET / HTTP/1.1\r\nX: 1")
                ended = not sock.recv(10_000)
            except TimeoutError:
                continue
            except OSError:
                ended = True
        assert ended and time.monotonic() - begun < 10


def test_half_a_body_does_not_keep_a_connection(served, monkeypatch):
    monkeypatch.setattr(server, "BODY_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as sock:
        sock.sendall(b'POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{"prompt"')
        assert sock.recv(10_000).startswith(b"HTTP/1.1 408 ")


def test_who_leaves_in_the_middle_of_a_body_is_no_fault(served, capfd):
    """Nothing is said of it: a traceback for each would fill a pipe that nobody reads, and then stop the server."""
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", served.port), timeout=30) as sock:
            sock.sendall(b'POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{"prompt"')
            time.sleep(0.1)
    assert served.complete(prompt="a", max_tokens=1)["choices"]
    time.sleep(0.2)
    assert capfd.readouterr().err == ""


def test_who_reads_nothing_is_let_go(served, monkeypatch):
    monkeypatch.setattr(door, "READ_SECONDS", 0.5)
    body = json.dumps({"prompt": "abba", "n": 2, "max_tokens": 100_000, "stream": True, "logprobs": 20}).encode()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        sock.settimeout(60)
        sock.connect(("127.0.0.1", served.port))
        sock.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        served.wait(lambda: served.engine.busy == 2)
        served.wait(lambda: served.engine.busy == 0, 60)


def test_other_routes(served):
    _, _, models = served.ask("GET", "/v1/models")
    assert [model["id"] for model in models["data"]] == ["small"] and models["object"] == "list"
    assert served.ask("GET", "/v1/models/small")[2] == models["data"][0]
    assert served.ask("GET", "/v1/models/x")[0] == 404
    health = {"status": "ok", "model": "small", "queued": 0, "queue": 6, "busy": 0, "rows": 2}
    served.wait(lambda: not served.engine.busy)
    assert served.ask("GET", "/health")[2] == health
    status, _, answer = served.ask(path="/v1/embeddings", prompt="a")
    assert status == 404 and "there is POST /v1/completions" in answer["error"]["message"]
    assert served.ask("GET", "/v1/completions")[0] == 405


def test_the_page_asks_nobody_else(served):
    status, headers, page = served.ask("GET", "/")
    assert status == 200 and headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert not re.findall(r"(?:src|href)\s*=\s*(?![\"']?data:)|https?://|@import|url\(", page)


@pytest.fixture
def held(served, monkeypatch):
    """The engine waits before each block until the event is set."""
    go, advance = threading.Event(), served.engine.batch.advance
    monkeypatch.setattr(served.engine.batch, "advance", lambda *flags: (go.wait(60), advance(*flags))[1])
    yield go
    go.set()
    served.wait(lambda: not served.engine.busy)


def test_too_many_are_told_to_come_again(served, held):
    answers = []
    first = [threading.Thread(target=lambda: answers.append(served.ask(prompt="abba", n=4, seed=1))) for _ in range(2)]
    for number, thread in enumerate(first, 1):
        thread.start()
        served.wait(lambda number=number: served.engine.busy + served.engine.queued == 4 * number)
    for more in ({}, {"stream": True}):
        status, headers, answer = served.ask(prompt="a", **more)
        assert status == 429 and int(headers["retry-after"]) >= 1
        assert answer["error"]["type"] == "rate_limit_error" and "full" in answer["error"]["message"]
    held.set()
    for thread in first:
        thread.join()
    assert [status for status, _, _ in answers] == [200, 200]
    texts = [[choice["text"] for choice in answer["choices"]] for _, _, answer in answers]
    assert texts[0] == texts[1] == served.generated(["abba"] * 4, 16, Rule(), 1)


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_gives_the_place_away(stream, served):
    """A text of 100,000 characters ends when its reader hangs up, running or waiting."""
    body = json.dumps({"prompt": "abba", "n": 5, "max_tokens": 100_000, "stream": stream}).encode()
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as sock:
        sock.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        if stream:
            assert b"data: {" in sock.recv(100_000) + sock.recv(100_000)
        served.wait(lambda: (served.engine.busy, served.engine.queued) == (2, 3))
    served.wait(lambda: (served.engine.busy, served.engine.queued) == (0, 0))
    assert served.complete(prompt="a")


def test_a_failed_model_is_an_error_of_the_server(served, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("no more memory")

    with monkeypatch.context() as patch:
        patch.setattr(served.engine.batch, "advance", fail)
        status, _, answer = served.ask(prompt="a")
        assert status == 500 and answer["error"]["type"] == "server_error"
        assert "no more memory" in answer["error"]["message"]
        status, _, text = served.ask(prompt="a", stream=True)
        assert status == 200 and "server_error" in text and "[DONE]" not in text
    assert served.complete(prompt="a"), "the next one is served"


def test_the_official_client(served):
    openai = pytest.importorskip("openai", reason="pip install '.[serve-test]'")
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["small"]
        assert client.models.retrieve("small").owned_by == "juliagpt_jax"
        ask = {"model": "small", "prompt": "abba", "max_tokens": 20, "seed": 4}
        whole = client.completions.create(**ask, logprobs=2, extra_body={"top_k": 5})
        assert whole.choices[0].text == served.generated(["abba"], 20, Rule(top_k=5), 4)[0]
        assert whole.choices[0].finish_reason == "length" and whole.usage.total_tokens == 24
        assert whole.choices[0].logprobs.tokens == list(whole.choices[0].text)
        with client.completions.create(**ask, stream=True, extra_body={"top_k": 5}) as stream:
            assert "".join(event.choices[0].text for event in stream) == whole.choices[0].text
        with pytest.raises(openai.BadRequestError, match="U\\+00E9"):
            client.completions.create(model="small", prompt="é")
        with pytest.raises(openai.NotFoundError, match="there is: small"):
            client.completions.create(model="large", prompt="a")


def test_the_official_client_comes_again(served, held):
    openai = pytest.importorskip("openai", reason="pip install '.[serve-test]'")
    others = threading.Thread(target=lambda: served.ask(prompt="abba", n=8))
    others.start()
    served.wait(lambda: served.engine.busy + served.engine.queued == 8)
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.RateLimitError):
            client.completions.create(model="small", prompt="a")
        threading.Timer(0.3, held.set).start()
        assert client.with_options(max_retries=4).completions.create(model="small", prompt="a").choices[0].text
    others.join()


@pytest.mark.slow
def test_the_page_in_a_browser(served):
    """Type, see chances at the cursor, write, point at a character, stop."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install '.[serve-test]'")
    expect = playwright.expect
    expect.set_options(timeout=30_000)
    served.complete(prompt="abba")  # compiled
    browser = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
    if not browser:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as p:
        page = p.chromium.launch(executable_path=browser, args=["--no-sandbox"]).new_page()
        heard, asked = [], []
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(served.url)
        page.locator("#text").press_sequentially("abba")
        expect(page.locator("#where")).to_contain_text("behind the text")
        chances = page.locator("#chances tr").all_inner_texts()
        best = served.complete(prompt="abba", max_tokens=1, temperature=0)["choices"][0]["text"]
        assert len(chances) == 10 and chances[0].split()[0] == best.replace(" ", "\u2423").replace("\n", "\u21b5")

        page.fill("#seed", "7")
        page.locator("#temperature").fill("0.5")
        page.locator("#top_k").fill("4")
        page.locator("#max_tokens").fill("60")
        page.click("#write")
        expect(page.locator("#status")).to_contain_text("60 characters")
        expect(page.locator("#write")).to_be_enabled()
        text = page.locator("#text").input_value()
        assert text == "abba" + served.generated(["abba"], 60, Rule(0.5, 4), 7)[0]
        assert page.locator("#mirror").inner_text().rstrip("\u200b") == text
        assert page.locator("#mirror span.new").count() == 60

        for place in (2, 9):  # typed: asked for; written: known from the stream
            box = page.locator(f"#mirror span[data-at='{place}']").bounding_box()
            page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            page.wait_for_selector(f"#mirror span.at[data-at='{place}']")
            scored = served.complete(prompt=text[: place + 1], max_tokens=0, echo=True, logprobs=10)["choices"][0]
            wanted = 100 * np.exp(scored["logprobs"]["token_logprobs"][place])
            where = page.locator("#where").inner_text()
            assert where.startswith("under the pointer: ")
            assert float(where.split()[-1].rstrip("%")) == pytest.approx(wanted, rel=0.06)
            assert page.locator("#chances tr.taken").count() == 1

        page.locator("#max_tokens").evaluate("slider => { slider.max = 100000; slider.value = 100000 }")
        page.click("#write")
        expect(page.locator("#mirror span.new").nth(100)).to_be_attached()
        assert page.locator("#write").is_disabled()
        page.click("#stop")
        served.wait(lambda: not served.engine.busy)
        expect(page.locator("#write")).to_be_enabled()
        assert page.locator("#status").inner_text() == "stopped"

        page.fill("#text", "xyz")
        page.click("#write")
        page.wait_for_selector("#status.bad")
        assert "U+0078" in page.locator("#status").inner_text()
        assert all(url.startswith(served.url) for url in asked), asked
        assert all("400 (Bad Request)" in line for line in heard), heard


class TalkedTo(Served):
    """A server of a model with a chat template, whose end of a turn is its letter "e"."""

    def __init__(self, generator: Generator):
        super().__init__(generator)
        vocab = {letter: i for i, letter in enumerate(LETTERS)}
        split = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}
        model = {"type": "WordLevel", "vocab": vocab, "unk_token": "?"}
        content = {"version": "1.0", "added_tokens": [], "pre_tokenizer": split, "decoder": {"type": "Fuse"}}
        template = "{% for m in messages %}{{ m.role[0] | replace('u', 'a') }}{{ m.content }}\n{% endfor %}"
        content, special = content | {"model": model}, {"eos": vocab["e"]}
        self.tokenizer = LibraryTokenizer(content, len(LETTERS), None, special, (), template)
        self.engine.tokenizer = self.tokenizer


@pytest.fixture(scope="module")
def talked_to(generator):
    with TalkedTo(generator) as served:
        yield served


CHAT = "/v1/chat/completions"


def says(*texts):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def test_a_chat_completion(talked_to):
    answer = talked_to.complete(path=CHAT, model="small", messages=says("bad"), max_tokens=20, temperature=0)
    whole = talked_to.generated(["abad\n"], 20, Rule(greedy=True), 0)[0]
    (choice,) = answer["choices"]
    text = whole.split("e")[0]
    assert choice["message"] == {"role": "assistant", "content": text}
    assert choice["finish_reason"] == ("stop" if "e" in whole else "length") and choice["logprobs"] is None
    count = len(text) + ("e" in whole)
    assert answer["usage"] == {"prompt_tokens": 5, "completion_tokens": count, "total_tokens": 5 + count}
    assert answer["object"] == "chat.completion" and answer["id"].startswith("chatcmpl-")


def test_a_turn_ends_where_the_model_ends_it(talked_to):
    """Unless the client says no; and the same in the other route."""
    fields = {"max_tokens": 60, "temperature": 1.5, "seed": 3, "n": 4}
    wholes = talked_to.generated(["acab\n"] * 4, 60, Rule(1.5), 3)
    assert any("e" in whole for whole in wholes)
    cut, uncut = [whole.split("e")[0] for whole in wholes], wholes
    texts = lambda answer: [choice["message"]["content"] for choice in answer["choices"]]
    assert texts(talked_to.complete(path=CHAT, messages=says("cab"), **fields)) == cut
    assert texts(talked_to.complete(path=CHAT, messages=says("cab"), ignore_eos=True, **fields)) == uncut
    plain = talked_to.complete(prompt="acab\n", **fields)
    assert [choice["text"] for choice in plain["choices"]] == cut


def test_a_stream_of_a_chat(talked_to):
    fields = {"path": CHAT, "messages": says("bad", "ace", "k"), "max_tokens": 20, "temperature": 0}
    whole = talked_to.complete(**fields)
    events = talked_to.stream(**fields, stream_options={"include_usage": True})
    deltas = [event["choices"][0]["delta"] for event in events[:-1]]
    assert "".join(delta.get("content", "") for delta in deltas) == whole["choices"][0]["message"]["content"]
    assert deltas[0]["role"] == "assistant" and not any("role" in delta for delta in deltas[1:])
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert events[-1]["usage"] == whole["usage"] and events[-1]["choices"] == []
    assert events[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]


def test_chances_of_a_chat(talked_to):
    fields = {"path": CHAT, "messages": says("bad"), "max_tokens": 5, "temperature": 0}
    (choice,) = talked_to.complete(**fields, logprobs=True, top_logprobs=2)["choices"]
    content = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in content) == choice["message"]["content"]
    assert all(len(token["top_logprobs"]) == 2 and token["logprob"] <= 0 for token in content)
    assert content[0]["bytes"] == list(content[0]["token"].encode())
    status, _, answer = talked_to.ask(**fields, top_logprobs=2)
    assert status == 400 and "top_logprobs needs logprobs=true" in answer["error"]["message"]


@pytest.mark.parametrize(
    "fields, says_",
    [
        ({"messages": []}, "messages: there is none"),
        ({}, "messages is missing"),
        ({"messages": says("a"), "prompt": "a"}, "no field is called 'prompt'"),
        ({"messages": [{"role": "god", "content": "a"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, "messages"),
        ({"messages": says("a"), "tools": [{"type": "function"}]}, "tools is not supported"),
        (
            {"messages": says("a"), "response_format": {"type": "json_object"}},
            "response_format: json_object is JSON without end",
        ),
        ({"messages": says("a"), "presence_penalty": 1}, "presence_penalty is not supported"),
        ({"messages": says("a" * 40)}, "the conversation has 42 tokens; this server reads 1 .. 31"),
        ({"messages": says("xyz")}, "characters the tokenizer lacks"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_in_a_chat(fields, says_, talked_to):
    status, _, answer = talked_to.ask(path=CHAT, **fields)
    assert status == 400 and says_ in answer["error"]["message"]


def test_parts_of_a_message_and_a_model_without_a_template(talked_to, served):
    parts = [{"role": "user", "content": [{"type": "text", "text": "ba"}, {"type": "text", "text": "d"}]}]
    fields = {"path": CHAT, "max_completion_tokens": 9, "temperature": 0, "tools": []}
    whole = talked_to.complete(messages=says("bad"), **fields)["choices"]
    assert talked_to.complete(messages=parts, **fields)["choices"] == whole
    status, _, answer = served.ask(messages=says("bad"), **fields)
    assert status == 400 and "this model has no chat template" in answer["error"]["message"]


def test_a_text_of_a_given_form(served):
    """The same in one piece and streamed; what is asked for wrongly is refused."""
    asked = {"prompt": "ab", "max_tokens": 9, "n": 3, "seed": 1}
    labels = {"type": "grammar", "grammar": "labels:abba,bed"}
    texts = [choice["text"] for choice in served.complete(**asked, response_format=labels)["choices"]]
    assert {text.strip() for text in texts} <= {"abba", "bed"}
    streamed = ["", "", ""]
    for event in served.stream(**asked, response_format=labels):
        streamed[event["choices"][0]["index"]] += event["choices"][0]["text"]
    assert streamed == texts
    schema = {"enum": ["abba"]}
    for field, says in [
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}, "lacks characters"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "x"}}}}, "no type is called"),
        ({"response_format": {"type": "grammar", "grammar": "json:/etc/passwd"}}, "json_schema"),
        ({"response_format": labels, "stop": "a"}, "stop does not go with"),
        ({"response_format": labels, "max_tokens": 2}, "3 tokens at the least"),
        ({"response_format": {"type": "xml"}}, "type must be text"),
        ({"response_format": 3}, "type must be text"),
        ({"calculator": True}, "needs the signs"),
    ]:
        status, _, answer = served.ask(**asked | field)
        assert status == 400 and says in answer["error"]["message"], answer


def test_answers_of_a_chat_with_the_verifiers_scores(talked_to):
    """It is asked what was said, and not what the template made of it."""
    answer = talked_to.complete(path=CHAT, messages=says("bad"), max_tokens=9, n=4, verify=True, temperature=1.5)
    for choice in answer["choices"]:
        text = "bad" + choice["message"]["content"]
        assert choice["verifier"] == text.count("a") / len(text)


def test_texts_with_the_verifiers_scores(served):
    answer = served.complete(prompt="ab", max_tokens=9, n=4, verify=True)
    for choice in answer["choices"]:
        text = "ab" + choice["text"]
        assert choice["verifier"] == text.count("a") / len(text)
    assert "verifier" not in served.complete(prompt="ab", max_tokens=2)["choices"][0]
    assert served.ask("GET", "/v1/models")[2]["data"][0]["verifier"] is True
    status, _, answer = served.ask(prompt="ab", verify=True, stream=True)
    assert status == 400 and "whole texts are scored" in answer["error"]["message"]
