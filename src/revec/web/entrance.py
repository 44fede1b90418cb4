"""What every request passes before a route sees it, and what every answer passes on its way out.

In this order: its head is small and plain, its body will be small, who asks is known and has a request
left, and there is an end to it. Nothing of a body is read before all that is so.
"""

from __future__ import annotations

import asyncio
import re
import time
import traceback
from pathlib import Path
from typing import Any
from uuid import uuid4

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from revec.model.access import Caller
from revec.observe import context, events
from revec.observe.metrics import Metrics
from revec.web import problems
from revec.web.console import refusal
from revec.web.console.guests import Guests
from revec.web.console.headers import guard, is_of_console
from revec.web.doorkeeper import Doorkeeper
from revec.web.purses import Purses

MOST_HEAD = 16 << 10  # bytes: of all headers, and of the address
MOST_BODY = 64 << 10  # bytes
MOST_LIKENESS = 512 << 10  # bytes: of a body with a vector, or a text as long as a document
MOST_DOCUMENTS = 16 << 20  # bytes: of a body with documents
OPEN = {"/livez", "/readyz", "/openapi.json"}  # to everybody
NO_ROUTE = "none"
REQUEST_ID = b"x-request-id"
# Of names that others give to a request: nothing else gets into a log.
_PLAIN = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Entrance:
    def __init__(
        self,
        app: ASGIApp,
        *,
        doorkeeper: Doorkeeper,
        guests: Guests,
        purses: Purses,
        metrics: Metrics,
        deadline: float,
    ) -> None:
        self._app = app
        self._doorkeeper = doorkeeper
        self._guests = guests
        self._purses = purses
        self._metrics = metrics
        self._deadline = deadline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        named = _request_id(scope)
        with context.of(request=(named or uuid4().hex.encode()).decode()):
            answer = Answer(send, named, is_guarded=is_of_console(scope["path"]))
            await self._answered(scope, receive, answer)

    async def _answered(self, scope: Scope, receive: Receive, answer: Answer) -> None:
        began = time.perf_counter()
        body = Body(receive, _most(scope["path"]))
        self._metrics.in_flight.inc()
        try:
            async with asyncio.timeout(self._deadline) as patience:
                scope["state"] = {"patience": patience, "metrics": self._metrics}
                await self._admit(scope, body)
                await self._app(scope, body.receive, answer.send)
        except Exception as error:
            if answer.status:  # too late for another one: the server ends the connection
                raise
            await _refuse(error, scope, body, answer)
        finally:
            self._metrics.in_flight.dec()
            state = scope.get("state", {})
            ended = state.get("ended", answer.status)  # of a stream: how, not how it began
            seconds = None if "watched" in state else time.perf_counter() - began
            self._metrics.note(scope["method"], _route(scope), ended, seconds)

    async def _admit(self, scope: Scope, body: Body) -> None:
        """Who asks is known from here on, except where everybody may.

        Raises:
            HTTPException: the request's form.
            NotIdentified: nobody that is known asks.
            TooMuch: or too often.
        """
        _require_small_and_plain(scope, body)
        caller = await self._caller(scope)
        if caller is not None:
            self._purses.take(caller.purse)
            scope["state"]["caller"] = caller

    async def _caller(self, scope: Scope) -> Caller | None:
        """Who asks; None: this is for everybody. The console's pages know people by a cookie."""
        if scope["path"] in OPEN:
            return None
        if is_of_console(scope["path"]):
            return await self._guests.admit(scope)
        return await self._doorkeeper.caller(scope["headers"])


class Body:
    """What is received of a request, as far as it is let in."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive = receive
        self._size = 0
        self.most = most
        self.is_whole = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            if self._size > self.most:
                raise self.too_large()
            self.is_whole = not message.get("more_body", False)
        return message

    def too_large(self) -> HTTPException:
        return HTTPException(413, f"a body here has at most {self.most >> 10:,} kB: send it in parts")


class Answer:
    """What is sent, and its status; 0 before there is one. `named`: the request, by whoever asked."""

    def __init__(self, send: Send, named: bytes | None, *, is_guarded: bool) -> None:
        self._send = send
        self._named = named
        self._is_guarded = is_guarded
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._named:  # ours would make two answers differ that must not
                message["headers"] = [*message["headers"], (REQUEST_ID, self._named)]
            if self._is_guarded:
                guard(message)
        await self._send(message)


def extend(request: Request, seconds: float) -> None:
    """Give a request that said so longer than others have."""
    patience: asyncio.Timeout = request.state.patience
    now = asyncio.get_running_loop().time()
    patience.reschedule(max(patience.when() or now, now + seconds))


async def _refuse(error: Exception, scope: Scope, body: Body, answer: Answer) -> None:
    if isinstance(error, TimeoutError) and not body.is_whole and scope["method"] not in {"GET", "DELETE"}:
        error = HTTPException(408, "the body did not come in time", {"connection": "close"})
    said = problem_of(error, scope)
    if not body.is_whole:  # what is still on its way is not waited for
        said.headers["connection"] = "close"
    await said(scope, body.receive, answer.send)


def problem_of(error: Exception, scope: Scope) -> Response:
    """What the caller hears of it; what nobody thought of is told to the log."""
    said = problems.response(error)
    if said.status_code == 500:  # noqa: PLR2004
        events.emit(events.RequestFailed(_route(scope), told(error)))
    return refusal.refused(said, scope) if is_of_console(scope["path"]) else said


def _request_id(scope: Scope) -> bytes | None:
    """As whoever asks calls it, or a proxy before us; None: nobody does, or not in plain letters."""
    said = bytes(dict(scope["headers"]).get(REQUEST_ID, b""))
    return said if _PLAIN.fullmatch(said) else None


def _route(scope: Scope) -> str:
    """Its template, without anybody's names."""
    return getattr(scope.get("route"), "path", NO_ROUTE)


def told(error: Exception) -> str:
    """What it was and where, without its words: a document's text may be among them."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {place.name}, {Path(place.filename).name}:{place.lineno}"


def _most(path: str) -> int:
    if path.startswith("/v1/") and "/documents" in path:
        return MOST_DOCUMENTS
    return MOST_LIKENESS if path.startswith("/v1/") and path.endswith("/similar") else MOST_BODY


def _require_small_and_plain(scope: Scope, body: Body) -> None:
    """By what the head says, before anything else is read.

    Raises:
        HTTPException: 413, 415, 431.
    """
    headers = scope["headers"]
    size = sum(len(name) + len(value) for name, value in headers)
    if size + len(scope["path"]) + len(scope["query_string"]) > MOST_HEAD:
        raise HTTPException(431, f"the address and the headers have at most {MOST_HEAD >> 10} kB together")
    said: dict[bytes, Any] = dict(headers)
    if said.get(b"content-encoding", b"identity") != b"identity":
        # A few kilobytes may unpack to gigabytes: whoever unpacks has to count, and we need not.
        raise HTTPException(
            415, "a packed body is not read: send it as it is", {"accept-encoding": "identity"}
        )
    if int(said.get(b"content-length", b"0")) > body.most:
        raise body.too_large()
