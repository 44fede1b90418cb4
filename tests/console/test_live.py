"""What pages show while they stay open: computed once for all of them, and with its age when it stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from revec.app import App
from revec.model.access import Role
from revec.model.errors import Unavailable
from revec.postgres import keys, sessions
from revec.web.console import live as lives
from revec.web.console.guests import Guest
from revec.web.console.live import Live, Stream
from tests.web import door

PATIENCE = 10.0  # seconds
QUICK = 0.02


class Counter:
    """Something to compute, that counts how often it was."""

    def __init__(self, moves: bool = True) -> None:  # noqa: FBT002
        self.computed = 0
        self.moves = moves
        self.trouble: Exception | None = None
        self.again = asyncio.Condition()

    async def compute(self) -> int:
        if self.trouble:
            raise self.trouble
        self.computed += 1
        async with self.again:
            self.again.notify_all()
        return self.computed if self.moves else 0

    async def until(self, computed: int) -> None:
        async with asyncio.timeout(PATIENCE), self.again:
            await self.again.wait_for(lambda: self.computed >= computed)


def render(value: int) -> str:
    return f"<b>{value}</b>\n<i>and more</i>"


class Tab:
    """One page that watches, without a socket."""

    def __init__(self) -> None:
        self.bodies: asyncio.Queue[bytes] = asyncio.Queue()
        self.gone = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            await self.bodies.put(message.get("body", b""))

    async def hears(self, what: Callable[[bytes], bool] = bool) -> bytes:
        async with asyncio.timeout(PATIENCE):
            while not what(body := await self.bodies.get()):
                pass
        return body


@asynccontextmanager
async def watching(
    live: Live, counter: Counter, tab: Tab, session: bytes | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    async with asyncio.timeout(None) as patience:
        scope = {"type": "http", "state": {"patience": patience, "guest": Guest("", session)}}
        answer: Awaitable[None] = Stream(live, "key", counter.compute, render)(scope, tab.receive, tab.send)
        task = asyncio.ensure_future(answer)
        try:
            yield task
        finally:
            tab.gone.set()
            async with asyncio.timeout(PATIENCE):
                await task


async def test_fifty_tabs_are_one_computation(app: App) -> None:
    """All of them get the same bytes."""
    live, counter = Live(app.database, PATIENCE), Counter()
    tabs = [Tab() for _ in range(50)]
    async with AsyncExitStack() as watched:
        for tab in tabs:
            await watched.enter_async_context(watching(live, counter, tab))
        assert {await tab.hears(lambda body: b"<b>" in body) for tab in tabs} == {lives.block(render(1))}
        assert live.watched == {"key": 50}
    assert counter.computed == 1
    live.close()


async def test_when_nobody_watches_nothing_is_computed(app: App) -> None:
    live, counter = Live(app.database, QUICK), Counter()
    async with watching(live, counter, Tab()):
        await counter.until(3)
    assert live.watched == {}
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*live.tasks)  # the rounds come to their end by themselves


async def test_a_page_begins_with_what_others_see(app: App) -> None:
    live, counter = Live(app.database, PATIENCE), Counter()
    tab = Tab()
    async with watching(live, counter, tab):
        await tab.hears(lambda body: body == lives.block(render(1)))
        assert await live.newest("key", counter.compute) == 1
    assert counter.computed == 1


async def test_what_did_not_change_is_a_beat_and_what_cannot_be_known_a_sentence(app: App) -> None:
    """And after that it goes on."""
    live, counter = Live(app.database, QUICK), Counter(moves=False)
    tab = Tab()
    async with watching(live, counter, tab):
        assert await tab.hears(lambda body: b"<b>" in body) == lives.block(render(0))
        assert await tab.hears() == lives.BEAT_BLOCK
        counter.trouble = Unavailable("nobody answers")
        assert b"nobody answers" in await tab.hears(lambda body: body.startswith(b"event: trouble"))
        counter.trouble = None
        await tab.hears(lambda body: body == lives.BEAT_BLOCK)


async def test_a_server_that_leaves_ends_its_streams(app: App) -> None:
    live, counter = Live(app.database, QUICK), Counter()
    tab = Tab()
    async with watching(live, counter, tab) as task:
        await tab.hears()
        live.close()
        async with asyncio.timeout(PATIENCE):
            await task


async def test_a_stream_ends_with_the_key_that_it_stands_on(app: App) -> None:
    """Another one's goes on."""
    live, counter = Live(app.database, QUICK), Counter()
    lives.LOOK, was = QUICK, lives.LOOK
    try:
        streams = []
        for _ in range(2):
            key = await door.made_key(app, Role.ADMIN)
            async with app.database.transaction() as conn:
                caller = await keys.holder(conn, key)
                assert caller is not None
                streams.append((key, sessions.hash_of(await sessions.begin(conn, caller))))
        (revoked, his), (_, hers) = streams
        async with (
            watching(live, counter, Tab(), his) as ends,
            watching(live, counter, tab := Tab(), hers) as goes_on,
        ):
            await tab.hears()
            async with app.database.transaction() as conn:
                await keys.revoke(conn, revoked, by="a test")
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await asyncio.shield(ends)
            assert ends.done()
            assert not goes_on.done()
    finally:
        lives.LOOK = was
