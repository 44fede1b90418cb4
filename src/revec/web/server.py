"""The door on a port: it listens, and on leaving answers what it has begun."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from revec.model.errors import BadInput, Unavailable
from revec.web import problems
from revec.web.entrance import MOST_HEAD

MOST_CONNECTIONS = 512  # further ones are answered 503 by the server itself
PATIENCE = 10.0  # seconds for a head to come in
LAST_PORT = 65_535
KEEP_ALIVE = 30  # seconds between two requests of a connection
UNREAD = 60_000  # milliseconds that what is sent may lie there unread: then the connection is gone


class Protocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, with an end to heads that dribble in; what is no HTTP gets a problem."""

    _end_of_patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._wait_for_head()
        else:
            self._wait_no_more()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """Who does not even read what was answered is not waited for: closing waits until all is sent."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(PATIENCE, self.transport.abort)

    def _wait_for_head(self) -> None:
        if self._end_of_patience is None:
            self._end_of_patience = self.loop.call_later(PATIENCE, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._end_of_patience is not None:
            self._end_of_patience.cancel()
            self._end_of_patience = None

    def send_400_response(self, msg: str) -> None:
        said = problems.problem(400, f"{msg.rstrip('.')}; a head has at most {MOST_HEAD >> 10} kB")
        head = h11.Response(
            status_code=400, headers=[*said.raw_headers, (b"connection", b"close")], reason=b"Bad Request"
        )
        for event in (head, h11.Data(data=bytes(said.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class Server(uvicorn.Server):
    """Signals are for whoever started us: uvicorn's way ends the process before the App is closed."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.listens.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def listening(api: FastAPI, host: str, port: int, *, deadline: float) -> AsyncIterator[int]:
    """Answer at the port (0: a free one, which is handed out) while the body runs.

    What was begun then is answered still, within `deadline` seconds.

    Raises:
        BadInput: there is no such port.
        Unavailable: it cannot be listened at.
    """
    config = uvicorn.Config(
        api,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        h11_max_incomplete_event_size=MOST_HEAD,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=math.ceil(deadline),
    )
    server = Server(config)
    with _socket(host, port) as opened:
        running = asyncio.create_task(server.serve(sockets=[opened]))
        try:
            await server.listens.wait()
            yield int(opened.getsockname()[1])
        finally:
            api.state.live.close()  # or its streams would be waited for
            server.should_exit = True
            with suppress(asyncio.CancelledError):
                await running


def _socket(host: str, port: int) -> socket.socket:
    if not 0 <= port <= LAST_PORT:
        raise BadInput(f"{port} is no port: take one up to {LAST_PORT}, or 0 for a free one")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        opened = socket.create_server((host, port), family=family)
    except OSError as error:
        raise Unavailable(f"cannot listen at {host}:{port}: {error.strerror or error}") from error
    # An answer's head and body are two writes, and the second would wait 40 ms for the client to acknowledge
    # the first. asyncio sees to that only where a socket names its protocol; what is accepted inherits this.
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Closing waits until all is sent; to whoever reads no more that is never. It is inherited, too.
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD)
    return opened
