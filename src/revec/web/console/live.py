"""What pages show while they stay open: computed once for everybody who watches, and sent as events.

A view is computed by one task while somebody watches it, however many do, and not at all when nobody does.
All tabs get the same bytes; a tab that reads slowly skips to the newest ones. What did not change is a beat,
so that a page knows how old it is; what could not be computed is a sentence, and the page shows its age.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from fastapi.responses import HTMLResponse, Response
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from revec.model.access import Caller
from revec.model.errors import TooMuch
from revec.observe import events
from revec.postgres import sessions
from revec.postgres.database import Database
from revec.web import problems
from revec.web.console.guests import Guest
from revec.web.doorkeeper import ANYBODY
from revec.web.entrance import told
from revec.web.streams import CONTENT_TYPE, HEADERS

EVERY = 1.0  # seconds between two computations
BUSY = 5.0  # times what one took, at least: a view takes a fifth of a connection at most
BEAT = 5.0  # seconds without a word, at most
KEPT = 30.0  # seconds that a view is kept which nobody watches
FRESH = 2.0  # seconds that a snapshot is shown without a look for a newer one, where nobody watches
LOOK = 2.0  # seconds between two looks at whose sessions stand still
STALLED = 30.0  # seconds that a tab may take to read what is sent
DEADLINE = 10.0  # seconds of a computation: whoever waits longer hears that there is nothing newer
MOST = 256  # streams open in this process
OF_ONE = 16  # of them one caller's
OF_ANYBODY = 64  # where nobody has a name
LATER = 10.0  # seconds, and there may be room

T = TypeVar("T")
Compute = Callable[[], Awaitable[T]]
Render = Callable[[T], str]


class View:
    """One thing that is watched, and how it was last seen."""

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.tabs = 0
        self.snapshot: Any = None
        self.number = 0  # of what is sent: counts when it changes
        self.sent = b""
        self.trouble = b""  # why there is nothing newer; empty: there is
        self.rounds: asyncio.Task[None] | None = None
        self.turn = asyncio.Event()  # of the next round; each round has its own
        self.at = float("-inf")
        self.took = 0.0
        self._outdated = 0  # times
        self._busy = asyncio.Lock()

    async def fresh(self, compute: Compute[Any], age: float) -> Any:
        """The snapshot, computed where the last one is older than that; together with whoever else asks.

        Raises:
            TimeoutError: it takes too long.
        """
        async with self._busy:
            if time.monotonic() - self.at > age:
                outdated = self._outdated
                async with asyncio.timeout(DEADLINE):
                    self.snapshot = await compute()
                if outdated == self._outdated:  # else it may be of before: whoever asks next has a newer one
                    self.at = time.monotonic()
        return self.snapshot

    def outdate(self) -> None:
        self._outdated += 1
        self.at = float("-inf")

    @property
    def is_busy(self) -> bool:
        return self._busy.locked()

    async def renew(self, compute: Compute[Any]) -> None:
        with suppress(Exception):  # whoever asks next hears of it
            await self.fresh(compute, FRESH)

    async def round(self, compute: Compute[Any], render: Render[Any]) -> None:
        """Compute it once more, and wake whoever watches."""
        began = time.monotonic()
        try:
            said = block(render(await self.fresh(compute, 0)))
            self.trouble = b""
            if said != self.sent:
                self.sent = said
                self.number += 1
        except Exception as error:  # noqa: BLE001 - the page says so, and the next round tries again
            self.trouble = _trouble(self.key, error)
        self.took = time.monotonic() - began
        self.turn.set()
        self.turn = asyncio.Event()


@dataclass(frozen=True, slots=True)
class Standing:
    """An open stream: the hash of the session that it stands on, empty without one; and a caller's name."""

    session: bytes
    whose: str


class Live:
    """The views of one process."""

    def __init__(self, database: Database, every: float = EVERY) -> None:
        self._database = database
        self._every = every
        self._views: dict[Hashable, View] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self._open: dict[asyncio.Event, Standing] = {}  # by how a stream is ended
        self._looking: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()

    async def newest(self, key: Hashable, compute: Compute[T]) -> T:
        """What a page shows first: the last snapshot, where there is one; then the page's stream goes on.

        One that is older than FRESH is shown as well, and a new one computed behind the answer.
        """
        self._forget()
        view = self._views.setdefault(key, View(key))
        age = time.monotonic() - view.at
        if age > KEPT:
            await view.fresh(compute, FRESH)
        elif age > FRESH and not view.tabs and not view.is_busy:
            self._begin(view.renew(compute))
        return cast("T", view.snapshot)

    async def within(self, key: Hashable, compute: Compute[T]) -> T:
        """A snapshot that several views show, each in its own way: computed once for all of them."""
        view = self._views.setdefault(key, View(key))
        return cast("T", await view.fresh(compute, self._every / 2))

    def outdate(self) -> None:
        """Somebody did something here: no page shows first what was before it."""
        for view in self._views.values():
            view.outdate()

    def view(self, request: Request, key: Hashable, compute: Compute[T], render: Render[T]) -> Response:
        """The answer to a page that watches; with `?once`, for one that cannot hold a stream, one snapshot.

        `key` says all that it depends on: whoever asks for the same gets the same bytes.
        """
        if "once" in request.query_params:
            return Once(self, key, compute, render)
        return Stream(self, key, compute, render)

    def close(self) -> None:
        """End every stream: the server is leaving."""
        self._closed.set()
        for end in self._open:
            end.set()
        for task in self.tasks:
            task.cancel()

    @property
    def watched(self) -> dict[Hashable, int]:
        """How many tabs have each view open."""
        return {key: view.tabs for key, view in self._views.items() if view.tabs}

    @asynccontextmanager
    async def watching(
        self, key: Hashable, compute: Compute[Any], render: Render[Any]
    ) -> AsyncIterator[View]:
        view = self._views.setdefault(key, View(key))
        view.tabs += 1
        if view.rounds is None or view.rounds.done():
            view.rounds = self._begin(self._rounds(view, compute, render))
        try:
            yield view
        finally:
            view.tabs -= 1

    @asynccontextmanager
    async def standing(self, session: bytes | None, whose: str) -> AsyncIterator[asyncio.Event]:
        """Set when the stream is to end: the server leaves, or the session does not stand any more.

        Raises:
            TooMuch: so many are open.
        """
        self._require_room(whose)
        end = asyncio.Event()
        self._open[end] = Standing(session or b"", whose)
        if self._closed.is_set():
            end.set()
        if session is not None and (self._looking is None or self._looking.done()):
            self._looking = self._begin(self._look())
        try:
            yield end
        finally:
            del self._open[end]

    def _require_room(self, whose: str) -> None:
        most = OF_ANYBODY if whose == ANYBODY.name else OF_ONE
        if len(self._open) >= MOST or sum(each.whose == whose for each in self._open.values()) >= most:
            raise TooMuch(
                f"pages that stay up to date hold a stream each, and there are {most} of yours or {MOST} "
                "of everybody: close some",
                retry_after=LATER,
            )

    def _begin(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def _rounds(self, view: View, compute: Compute[Any], render: Render[Any]) -> None:
        while view.tabs:
            await view.round(compute, render)
            await asyncio.sleep(max(self._every, view.took * BUSY))

    async def _look(self) -> None:
        """One question for all streams: whose sessions are over."""
        while hashes := {each.session for each in self._open.values() if each.session}:
            try:
                async with self._database.transaction("worker") as conn:
                    good = await sessions.good(conn, hashes)
                for end, each in self._open.items():
                    if each.session in hashes - good:
                        end.set()
            except Exception as error:  # noqa: BLE001 - nobody's session ends because we cannot look
                _trouble("whose sessions stand", error)  # which the log hears of
            await asyncio.sleep(LOOK)

    def _forget(self) -> None:
        now = time.monotonic()
        for key, view in list(self._views.items()):
            if not view.tabs and now - view.at > KEPT and not view.is_busy:
                del self._views[key]


class Once(Response):
    """One snapshot, for a page that asks now and then."""

    def __init__(self, live: Live, key: Hashable, compute: Compute[T], render: Render[T]) -> None:
        self._live, self._key = live, key
        self._compute, self._render = compute, render
        self.status_code = 200
        self.background = None
        self.init_headers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        snapshot = await self._live.newest(self._key, self._compute)
        await HTMLResponse(self._render(snapshot))(scope, receive, send)


class Stream(Response):
    """A view as server-sent events, until the tab goes, the session ends or the server leaves."""

    def __init__(self, live: Live, key: Hashable, compute: Compute[T], render: Render[T]) -> None:
        self._live, self._key = live, key
        self._compute, self._render = compute, render
        self.status_code = 200
        self.media_type = CONTENT_TYPE
        self.background = None
        self.init_headers(HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        patience: asyncio.Timeout = scope["state"]["patience"]
        patience.reschedule(None)
        guest: Guest = scope["state"]["guest"]
        caller: Caller = scope["state"]["caller"]
        async with (
            self._live.standing(guest.session, caller.name) as end,
            self._live.watching(self._key, self._compute, self._render) as view,
        ):
            scope["state"]["watched"] = True  # how long is the tab's doing, not ours
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                with _meanwhile(_left(receive, end)):
                    await self._tell(view, end, send)
            except TimeoutError:  # nobody reads there: without an end of the answer the server closes it
                return
        await send({"type": "http.response.body", "body": b""})

    async def _tell(self, view: View, end: asyncio.Event, send: Send) -> None:
        seen = 0
        with _meanwhile(end.wait()) as ended:
            while not end.is_set():
                turn = view.turn
                body = view.sent if view.number != seen else view.trouble or BEAT_BLOCK
                seen = view.number
                async with asyncio.timeout(STALLED):
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                with _meanwhile(turn.wait()) as woken:
                    await asyncio.wait({woken, ended}, timeout=BEAT, return_when=asyncio.FIRST_COMPLETED)


BEAT_BLOCK = b"event: beat\ndata: 0\n\n"


def block(text: str, event: str | None = None) -> bytes:
    """One event: every line of the text is a line of data."""
    head = f"event: {event}\n" if event else ""
    lines = "".join(f"data: {line}\n" for line in text.splitlines() or [""])
    return f"{head}{lines}\n".encode()


def _trouble(key: Hashable, error: Exception) -> bytes:
    said = problems.response(error)
    if said.status_code == 500:  # noqa: PLR2004
        events.emit(events.RequestFailed(f"the console's view {key}", told(error)))
    return block(json.loads(bytes(said.body))["detail"], "trouble")


@contextmanager
def _meanwhile(work: Any) -> Iterator[asyncio.Task[Any]]:
    """It goes on as long as the body does, however that ends."""
    task: asyncio.Task[Any] = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()


async def _left(receive: Receive, end: asyncio.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    end.set()
