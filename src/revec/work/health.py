"""/livez, /readyz and /metrics of a worker, for whoever restarts processes and whoever watches them.

`/livez`: the event loop turns, or nobody would answer. `/readyz`: its own database and schema answer; never
the provider, whose outage no restart mends. Answers are one line, but for the
metrics, in which no tenant and no text is. A stranger costs next to nothing: few
connections, small requests, little time, and the database is asked once a second whoever asks us.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from revec.model.errors import BadInput, RevecError, Unavailable
from revec.postgres import schema
from revec.postgres.database import DATABASE_TROUBLE, Database

HOST = "127.0.0.1"
MOST_BYTES = 4096  # of a request's head
MOST_CONNECTIONS = 16
PATIENCE = 2.0  # seconds: for a request to come in, and for the database
ASK_EVERY = 1.0  # seconds

Scraped = Callable[[], bytes]  # in Prometheus' text format
Asked = Callable[[], Awaitable[str | None]]  # why it is not ready, or None

PHRASES = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Unavailable"}


@asynccontextmanager
async def serving(
    address: str | None, database: Database, metrics: Scraped | None = None
) -> AsyncIterator[int]:
    """Answer at HOST:PORT while the body runs; the port. None: answer nowhere. `metrics`: and what to scrape.

    Raises:
        BadInput: no such address.
        Unavailable: it cannot be listened at.
    """
    if address is None:
        yield 0
        return
    host, port = parsed(address)
    health = Health(once_a_second(lambda: unready(database)), metrics)
    try:
        server = await asyncio.start_server(health.answer, host, port, limit=MOST_BYTES)
    except OSError as error:
        raise Unavailable(f"cannot listen at {address}: {error.strerror or error}") from error
    async with server:
        yield int(server.sockets[0].getsockname()[1])


def parsed(address: str) -> tuple[str, int]:
    """`7341`, `127.0.0.1:7341`, `[::1]:7341`: only who asks for it is heard beyond this machine."""
    found = re.fullmatch(
        r"(?:(?:\[(?P<six>[0-9a-fA-F:]+)\]|(?P<host>[^\s:\[\]]+)):)?(?P<port>\d{1,5})", address
    )
    if found is None or int(found["port"]) > 65_535:  # noqa: PLR2004 - the last port there is
        raise BadInput(f"{address!r} is no address to answer at: write {HOST}:7341")
    return found["six"] or found["host"] or HOST, int(found["port"])


async def unready(database: Database) -> str | None:
    """Why the worker's own database is no use to it; on a connection that the work does not have."""
    try:
        async with asyncio.timeout(PATIENCE), database.alone() as conn:
            lacking = await schema.pending(conn)
    except TimeoutError:
        return f"the database does not answer within {PATIENCE:g} s"
    except RevecError as error:
        return str(error)
    except DATABASE_TROUBLE as error:  # its words name hosts and logins
        return f"the database does not answer ({type(error).__name__})"
    return f"the schema lacks {lacking[0].name}: run `revec schema apply`" if lacking else None


def once_a_second(ask: Asked) -> Asked:
    """However many want to know."""
    asked_at, said = -ASK_EVERY, None
    asking = asyncio.Lock()

    async def answer() -> str | None:
        nonlocal asked_at, said
        async with asking:
            if time.monotonic() - asked_at >= ASK_EVERY:
                said, asked_at = await ask(), time.monotonic()
        return said

    return answer


class Health:
    """The least of HTTP/1.1: one request's first line is read, one answer is written, and that is all."""

    def __init__(self, unready: Asked, metrics: Scraped | None = None) -> None:
        self._unready = unready
        self._metrics = metrics
        self._open = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= MOST_CONNECTIONS:
                with suppress(TimeoutError, ConnectionError):
                    async with asyncio.timeout(2 * PATIENCE):
                        writer.write(_reply(*await self._said(reader)))
                        await writer.drain()
        finally:
            self._open -= 1
            writer.close()

    async def _said(self, reader: asyncio.StreamReader) -> tuple[int, str | bytes]:
        try:
            async with asyncio.timeout(PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return 400, "not a request"
        method, _, rest = head.split(b"\r\n")[0].partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        scraped = self._metrics if path == b"/metrics" else None
        if path not in (b"/livez", b"/readyz") and scraped is None:
            return 404, "there is /livez, /readyz, and /metrics of a worker"
        if method != b"GET":
            return 405, "GET it"
        if scraped is not None:
            return 200, scraped()
        why = await self._unready() if path == b"/readyz" else None
        return (503, why) if why else (200, "ok")


def _reply(status: int, said: str | bytes) -> bytes:
    """A line, or metrics as they are."""
    body = said if isinstance(said, bytes) else " ".join(said.split()).encode() + b"\n"
    version = "" if isinstance(said, str) else " version=0.0.4;"
    head = f"HTTP/1.1 {status} {PHRASES[status]}\r\nContent-Type: text/plain;{version} charset=utf-8\r\n"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
