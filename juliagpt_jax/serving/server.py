"""A model over HTTP: OpenAI's completions and chat completions, /health, and a page to write with. FastAPI and uvicorn
around an engine."""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import AsyncGenerator, Iterable, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from juliagpt_jax.ground.command import finite
from juliagpt_jax.ground.errors import StorageError, UserError
from juliagpt_jax.search.verifying import Verify
from juliagpt_jax.serving.asked import Limits, Refused, error_body
from juliagpt_jax.serving.chat import ChatAnswer, ChatCompletion
from juliagpt_jax.serving.completions import Answer, Completion
from juliagpt_jax.serving.door import MOST_NOTES, Connection, Door
from juliagpt_jax.serving.engine import Busy, Closed, Engine
from juliagpt_jax.serving.job import Job, Piece
from juliagpt_jax.serving.job import Request as Text

BODY_SECONDS = 30  # that a client may take to send a body
GRACE_SECONDS = 3  # that connections may take to send what is left, after the last text is written
CLIENT_LEFT = 499  # nginx's status for a request whose sender is gone
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:"


def application(
    engine: Engine,
    name: str,
    limits: Limits,
    names: Iterable[str] = (),
    origins: Iterable[str] = (),
    unknown: str = "error",
    verifier: Verify | None = None,
    adapters: Sequence[str] = (),
) -> Door:
    """Return the routes behind their door, for an engine whose thread runs.

    Args:
        name: of the model, as clients ask for it.
        names, origins: who may ask; see `Door`.
        unknown: what becomes of characters that the tokenizer lacks; see `folding.encode`.
        verifier: scores whole texts for who asks to `verify` them.
        adapters: names of the engine's adapters: as models of their own, which a request may ask for.
    """
    app = FastAPI(title="juliagpt_jax", docs_url=None, redoc_url=None, openapi_url=None)
    page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    begun, failures = int(time.time()), itertools.count()
    known = [name, *adapters]
    card = {
        "object": "model",
        "created": begun,
        "owned_by": "juliagpt_jax",
        "context": limits.context,
        "max_tokens": limits.max_tokens,
        "max_prompt": limits.max_prompt,
        "max_texts": limits.texts,
        "verifier": verifier is not None,
    }

    @app.get("/")
    async def show_page() -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})

    @app.get("/health")
    async def health() -> Response:
        status = "stopping" if engine.closed else "ok"
        load = {"queued": engine.queued, "queue": engine.limit, "busy": engine.busy, "rows": engine.rows}
        return JSONResponse({"status": status, "model": name, **load}, 503 if engine.closed else 200)

    @app.get("/v1/models")
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [{"id": one, **card} for one in known]})

    @app.get("/v1/models/{model}")
    async def model(model: str) -> Response:
        return JSONResponse({"id": known[_number(model, known)], **card})

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        return await write(request, Completion, Answer)

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await write(request, ChatCompletion, ChatAnswer)

    async def write(request: Request, kind: type[Completion | ChatCompletion], shape: type[Answer]) -> Response:
        _check_kind(request.headers.get("content-type", ""))
        asked = kind.read(await _body(request, limits.max_body))
        number = _number(asked.model, known)
        if asked.verify:
            _check_verifiable(asked, verifier)
        texts = asked.requests(engine.tokenizer, limits, unknown)
        texts = [dataclasses.replace(text, adapter=number) for text in texts]
        delivery = Delivery(engine, texts)
        answer = shape(known[number], texts, asked.include_usage)
        if asked.stream:
            return EventStream(delivery, answer)
        async with contextlib.aclosing(delivery.pieces(request.receive)) as pieces:
            async for number, piece in pieces:
                if piece.error:
                    raise Refused(500, piece.error)
                answer.add(number, piece)
        if not delivery.complete:
            return Response(status_code=CLIENT_LEFT)
        whole = answer.whole()
        if asked.verify and verifier:
            try:
                prompts, written = answer.read(engine.tokenizer)
                scores = await asyncio.to_thread(verifier, asked.questions(prompts), written)
            except UserError as error:
                raise Refused(400, f"verify: {error}", "verify") from error
            for choice, score in zip(whole["choices"], scores, strict=True):
                choice["verifier"] = float(score)
        return JSONResponse(finite(whole))

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        headers = {"Retry-After": str(error.retry_after)} if error.retry_after else None
        return JSONResponse(error.body, error.status, headers)

    @app.exception_handler(ClientDisconnect)
    async def left(_: Request, __: Exception) -> Response:
        return Response(status_code=CLIENT_LEFT)  # in the middle of a body: nobody reads this, and it is no fault

    @app.exception_handler(HTTPException)
    async def no_such_route(request: Request, error: HTTPException) -> Response:
        there = "there is POST /v1/completions, and /v1/chat/completions for a model with a chat template"
        says = f"{request.method} {request.url.path}: {error.detail}; {there}"
        return JSONResponse(error_body(error.status_code, says), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        if next(failures) < MOST_NOTES:  # uvicorn's own log would also tell of every request that a stop cuts off
            traceback.print_exception(error)
        return JSONResponse(error_body(500, f"{type(error).__name__} in the server"), 500)

    return Door(app, names, origins)


def _check_kind(content_type: str) -> None:
    """Refuse a body that is declared to be something else than JSON. curl's default, the type of a form, passes: from
    a form of a foreign page it does not get here (`Door`)."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in ("", "application/json", "application/x-www-form-urlencoded") and not kind.endswith("+json"):
        raise Refused(415, f"Content-Type is {kind[:80]!r}; the body must be application/json")


def _number(asked: str | None, known: Sequence[str]) -> int:
    """Return the place of the model that is asked for; without a name that of the first, which has no adapter."""
    if asked is not None and asked not in known:
        there = ", ".join(known)
        raise Refused(404, f"no model is called {asked[:80]!r}; there is: {there}", "model", "model_not_found")
    return 0 if asked is None else known.index(asked)


def _check_verifiable(asked: Completion | ChatCompletion, verifier: Verify | None) -> None:
    if verifier is None:
        raise Refused(400, "verify: this server has no verifier (--verifier=DIR)", "verify", "unsupported_parameter")
    if asked.stream:
        raise Refused(400, "verify does not go with stream: whole texts are scored", "verify")


async def _body(request: Request, most: int) -> bytes:
    """Read the body of a request.

    Raises:
        Refused: it has more than `most` bytes, of which no more are read, or takes too long.
    """
    too_large = Refused(413, f"the body has more than {most} bytes")
    announced = request.headers.get("content-length", "0")
    if announced.isascii() and announced.isdigit() and int(announced) > most:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise too_large
    except TimeoutError as error:
        raise Refused(408, f"the body did not come in {BODY_SECONDS} s") from error
    return bytes(body)


class Delivery:
    """The way of texts from the engine's thread to the task of a request.

    Raises:
        Refused: the engine's queue is full, or it takes no more.
    """

    def __init__(self, engine: Engine, texts: list[Text]):
        self._engine, self._left, self._loop = engine, len(texts), asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[int, Piece] | None] = asyncio.Queue()
        try:
            self._jobs: list[Job] = engine.submit(texts, self._deliver)
        except Busy as error:
            raise Refused(429, str(error), code="rate_limit_exceeded", retry_after=error.retry_after) from error
        except Closed as error:
            raise Refused(503, str(error), code="stopping", retry_after=GRACE_SECONDS) from error

    def _deliver(self, number: int, piece: Piece) -> None:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, (number, piece))

    @property
    def complete(self) -> bool:
        return not self._left

    async def pieces(self, receive: Any) -> AsyncGenerator[tuple[int, Piece], None]:
        """Yield each piece with the number of its text, until all have ended or the client has left; for one that has
        left nothing more is computed."""
        watch = asyncio.create_task(self._watch(receive))
        try:
            while self._left and (item := await self._queue.get()):
                self._left -= bool(item[1].finish or item[1].error)
                yield item
        finally:
            watch.cancel()
            if self._left:
                self._engine.cancel(self._jobs)

    async def _watch(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._queue.put_nowait(None)


class EventStream(Response):
    """Server-sent events: a `data:` line for each piece, and `data: [DONE]`."""

    def __init__(self, delivery: Delivery, answer: Answer):
        super().__init__(media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._delivery, self._answer = delivery, answer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})

        async def write(text: str, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": f"data: {text}\n\n".encode(), "more_body": more})

        async with contextlib.aclosing(self._delivery.pieces(receive)) as pieces:
            async for number, piece in pieces:
                if piece.error:
                    return await write(json.dumps(error_body(500, piece.error)), more=False)
                await write(json.dumps(finite(self._answer.chunk(number, piece))))
        if self._answer.usage_asked:
            await write(json.dumps(self._answer.last_chunk()))
        await write("[DONE]", more=False)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket at this address; with port 0 at a free one. It does not listen yet.

    Raises:
        UserError: there is no such address here, or it is taken.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with contextlib.ExitStack() as unless_bound:
            found = unless_bound.enter_context(socket.socket(family, socket.SOCK_STREAM))
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not held by connections that are closing
            found.bind(address)
            unless_bound.pop_all()
        return found
    except OSError as error:
        raise UserError(f"--host={host} --port={port}: {error.strerror or error}; --port=0 takes a free one") from error


class _Server(uvicorn.Server):
    """uvicorn whose caller handles signals: its own way closes the door before what runs is done."""

    @contextlib.contextmanager
    def capture_signals(self):
        yield


def run(app: Door, engine: Engine, listener: socket.socket, drain: float) -> int:
    """Serve until SIGTERM or Ctrl-C, and return which. Then those who come are refused (503), what was taken is
    finished, for at most `drain` seconds, and the rest ends with an error. A second signal ends the process at once.

    Raises:
        StorageError: the engine broke.
    """
    settings = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )

    async def main() -> int:
        loop = asyncio.get_running_loop()
        stop: asyncio.Future[int] = loop.create_future()

        def on_signal(number: int) -> None:
            if stop.done():
                os._exit(128 + number)
            print("\nfinishing what was taken; once more to stop at once", file=sys.stderr, flush=True)
            stop.set_result(number)

        def on_broken(error: Exception) -> None:
            says = StorageError(f"the model failed time and again, at last: {error}")
            loop.call_soon_threadsafe(lambda: stop.done() or stop.set_exception(says))

        engine.broken = on_broken
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal, number)
        server = _Server(settings)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await asyncio.wait([serving, stop], return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
            return await stop
        finally:
            engine.close()
            await asyncio.to_thread(engine.wait_idle, drain)
            await asyncio.to_thread(engine.stop)
            server.should_exit = True
            await serving

    engine.start()
    return asyncio.run(main())
