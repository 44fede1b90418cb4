"""Answers as server-sent events: each leaves when it is there.

The head leaves with the first event, so what goes wrong before that is a problem like any other; what goes
wrong later is an event. A caller that leaves stops nothing: what was begun is paid for, and remembered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastapi.responses import Response
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from revec.web.entrance import problem_of

CONTENT_TYPE = "text/event-stream"
# Nothing on the way collects events or keeps them (the second header is nginx's).
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
LAST_WORD = 1.0  # seconds after the deadline, to say that it has passed

Say = Callable[[str, str], Awaitable[None]]  # an event's name, its data as JSON
Tell = Callable[[Say], Awaitable[None]]


def are_wanted(request: Request) -> bool:
    """By `Accept`: events, and not JSON as well."""
    named = ",".join(request.headers.getlist("accept")).lower().split(",")
    kinds = {each.partition(";")[0].strip() for each in named}
    return CONTENT_TYPE in kinds and "application/json" not in kinds


class Events(Response):
    """What `tell` says, until it returns; the last event is `error` where it did not."""

    def __init__(self, tell: Tell) -> None:
        self.status_code = 200
        self.media_type = CONTENT_TYPE
        self.background = None
        self._tell = tell
        self.init_headers(HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive  # a caller that leaves is not looked for
        begun = False

        async def say(event: str, data: str) -> None:
            nonlocal begun
            if not begun:
                begun = True
                head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                await send(head)
            body = f"event: {event}\ndata: {data}\n\n".encode()  # JSON is one line
            await send({"type": "http.response.body", "body": body, "more_body": True})

        try:
            async with asyncio.timeout_at(_end(scope)):
                await self._tell(say)
        except Exception as error:
            if not begun:
                raise
            problem = problem_of(error, scope)
            scope["state"]["ended"] = problem.status_code
            await say("error", bytes(problem.body).decode())
        await send({"type": "http.response.body", "body": b""})


def _end(scope: Scope) -> float | None:
    """The request's deadline, which itself comes a little later from here on."""
    patience: asyncio.Timeout = scope["state"]["patience"]
    end = patience.when()
    if end is not None:
        patience.reschedule(end + LAST_WORD)
    return end
