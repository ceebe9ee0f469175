"""Guard the door of a server: the names and origins that may ask, and the time that their clients have.

Any page that a browser shows can send requests to a server on the reader's own machine. It cannot read the answers, but
it can make the server compute, and under a name of its own that points to this machine (DNS rebinding) it could read
them, too. So the Host must be a name of this server, and a page of another origin is refused unless it is allowed.
"""

import asyncio
import ipaddress
import sys
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import h11
from fastapi.responses import JSONResponse
from starlette.middleware.cors import CORSMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.serving.asked import error_body

HEAD_SECONDS = 10  # that a client may take to send a request's head
READ_SECONDS = 60  # that a client may leave what is written for it unread
MOST_NOTES = 10  # refused origins, and faults of ours, that are told on the terminal: what reads it may be full


class Door:
    """An ASGI application that lets through to another what may ask it; everything else gets 403 and one reason.

    Args:
        names: by which the server is known beside localhost and every IP address. (An address in the Host is never the
            work of DNS rebinding.)
        origins: of pages that may ask from elsewhere, as `origins_of` gives them. Their preflights are answered as the
            CORS protocol wants it (https://fetch.spec.whatwg.org/#http-cors-protocol).
    """

    def __init__(self, app: Any, names: Iterable[str] = (), origins: Iterable[str] = ()):
        self._names = {name.lower().rstrip(".") for name in names}
        self._origins = frozenset(origins)
        self._told: set[str] = set()
        self._app = app
        if self._origins:
            methods, told = ["GET", "POST"], ["Retry-After"]
            self._app = CORSMiddleware(app, list(self._origins), methods, ["*"], expose_headers=told)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        says = self._refusal(headers.get(b"host", ""), headers.get(b"origin", ""))
        app = JSONResponse(error_body(403, says, code="forbidden"), 403) if says else self._app
        await app(scope, receive, send)

    def _refusal(self, host: str, origin: str) -> str:
        """Why a request from a page of this origin, to this host, is refused; "" where it is not."""
        if host and not self._is_own(host):
            return f"this server is not called {host[:80]!r}; --allow_host={_hostname(host) or 'NAME'} makes it so"
        if not origin or not self._origins.isdisjoint({"*", origin}) or urlsplit(origin).netloc == host.lower():
            return ""
        says = f"a page of {origin[:80]!r} may not ask; --origin={origin[:80]} lets it"
        if origin not in self._told and len(self._told) < MOST_NOTES:
            self._told.add(origin)
            print(f"serve: {says}", file=sys.stderr, flush=True)
        return says

    def _is_own(self, host: str) -> bool:
        name = _hostname(host)
        if name in self._names or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            return bool(ipaddress.ip_address(name))
        except ValueError:
            return False


def _hostname(host: str) -> str:
    """Return the name in a Host header, without its port; "" where there is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def origins_of(texts: Iterable[str]) -> list[str]:
    """Return origins as browsers write them, in small letters and without a path; "*" stands for all.

    Raises:
        UserError: one is no origin.
    """
    found = []
    for text in texts:
        parts = urlsplit(text.lower())
        if text not in ("*", "null") and (not parts.scheme or not parts.netloc or parts.path.strip("/")):
            raise UserError(f"--origin={text}: an origin is like http://localhost:3000, without a path; *: every page")
        found.append(text.lower().rstrip("/"))
    return found


class Connection(H11Protocol):
    """uvicorn's connection, which also ends when a request's head, or the reading of an answer, takes too long: who
    sends half a head, or reads nothing, would have it for ever."""

    _late: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._late = _cancel(self._late)
        self._unread = _cancel(self._unread)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self._unread or self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread = _cancel(self._unread)

    def _watch_head(self) -> None:
        """One clock for a head, from the end of what came before it: more bytes do not set it back."""
        if self.conn.their_state is not h11.IDLE:
            self._late = _cancel(self._late)
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self.transport.abort)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
