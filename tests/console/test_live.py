"""What pages show while they stay open: computed once for all of them, and with its age when it stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest

from revec.app import App
from revec.model.access import Caller, Role
from revec.model.errors import TooMuch, Unavailable
from revec.observe.metrics import Metrics
from revec.postgres import keys, sessions
from revec.web.console import live as lives
from revec.web.console.guests import Guest
from revec.web.console.live import Live, Stream, View
from revec.web.doorkeeper import ANYBODY
from tests.console.visiting import guest
from tests.web import door

PATIENCE = 10.0  # seconds
QUICK = 0.02
MOST, OF_ONE, OF_ANYBODY = 256, 16, 64  # streams: of all, of a caller, of those without a name


class Counter:
    """Something to compute, that counts how often it was."""

    def __init__(self, moves: bool = True) -> None:  # noqa: FBT002
        self.computed = 0
        self.moves = moves
        self.trouble: Exception | None = None
        self.again = asyncio.Condition()
        self.begun, self.goes_on = asyncio.Event(), asyncio.Event()
        self.goes_on.set()

    async def compute(self) -> int:
        self.begun.set()
        await self.goes_on.wait()
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
    live: Live, counter: Counter, tab: Tab, session: bytes | None = None, whose: str = "ann"
) -> AsyncIterator[asyncio.Task[None]]:
    async with asyncio.timeout(None) as patience:
        caller = Caller(whose, Role.ADMIN, None)
        scope = {
            "type": "http",
            "state": {"patience": patience, "guest": Guest("", session), "caller": caller},
        }
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
        for number, tab in enumerate(tabs):
            await watched.enter_async_context(watching(live, counter, tab, whose=f"{number}"))
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


async def test_streams_are_so_many_and_so_many_of_one(app: App) -> None:
    """Who leaves makes room; whoever has no name shares a larger share."""
    live = Live(app.database)

    async def opened(whose: str, most: int = 1000) -> int:
        for count in range(most):
            try:
                await everybody.enter_async_context(live.standing(None, whose))
            except TooMuch:
                return count
        return most

    async with AsyncExitStack() as everybody:
        async with AsyncExitStack() as first:
            await first.enter_async_context(live.standing(None, "ann"))
            assert await opened("ann") == OF_ONE - 1
        assert await opened("ann") == 1
        assert await opened(ANYBODY.name) == OF_ANYBODY
        room = MOST - OF_ONE - OF_ANYBODY
        assert sum([await opened(f"{number}", 1) for number in range(room + 5)]) == room
    assert await opened("ann", 1) == 1


async def test_one_stream_too_many_is_an_answer_and_no_stream(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lives, "OF_ONE", 0)
    async with guest(app) as client:
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await client.get("/console/live/overview")
        except TimeoutError:
            pytest.fail("it is a stream")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
        assert "close some" in answer.text


async def test_how_long_a_page_stays_open_is_no_request_s_time(app: App) -> None:
    """Its stream is counted, and not among the times of requests, where it would be the slowest of all."""
    metrics = Metrics()
    async with guest(app, metrics=metrics) as client:
        live: Live = client._transport.app.state.live  # type: ignore[attr-defined]
        stream = asyncio.create_task(client.get("/console/live/overview"))
        async with asyncio.timeout(PATIENCE):
            while not live.watched:
                await asyncio.sleep(0)
            live.close()
            assert (await stream).status_code == 200
        await client.get("/console/live/overview?once")
    text = metrics.exposition().decode()
    route = 'route="/console/live/overview"'
    assert f'revec_http_requests_total{{method="GET",{route},status="200"}} 2.0' in text
    assert f"revec_http_request_duration_seconds_count{{{route}}} 1.0" in text


async def test_what_takes_too_long_is_said_and_holds_nobody_up(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next round, or whoever asks next, tries again."""
    monkeypatch.setattr(lives, "DEADLINE", QUICK)
    live, counter, tab = Live(app.database, QUICK), Counter(), Tab()
    counter.goes_on.clear()
    async with watching(live, counter, tab):
        assert b"deadline" in await tab.hears(lambda body: body.startswith(b"event: trouble"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await live.newest("key", counter.compute)
        counter.goes_on.set()
        await tab.hears(lambda body: b"<b>" in body)


async def test_what_is_done_during_a_look_is_seen_by_the_next(app: App) -> None:
    live, counter = Live(app.database), Counter()
    counter.goes_on.clear()
    looks = asyncio.create_task(live.newest("key", counter.compute))
    await counter.begun.wait()
    live.outdate()
    counter.goes_on.set()
    assert await looks == 1
    assert await live.newest("key", counter.compute) == 2
    assert await live.newest("key", counter.compute) == 2


async def test_what_is_slow_to_show_is_shown_less_often() -> None:
    view, counter = View("key"), Counter()

    def slowly(value: int) -> str:
        time.sleep(QUICK)  # it holds the loop up, as templates do
        return render(value)

    await view.round(counter.compute, slowly)
    assert view.took >= QUICK


async def test_sessions_are_looked_at_again_whatever_went_wrong(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lives, "LOOK", QUICK)
    looks = 0

    async def good(*_: Any) -> set[bytes]:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise LookupError("nobody thought of this")
        return set()

    monkeypatch.setattr(sessions, "good", good)
    live = Live(app.database, QUICK)
    async with watching(live, Counter(), Tab(), b"a session") as ends, asyncio.timeout(PATIENCE):
        await ends


async def test_a_tab_that_reads_no_more_leaves_nothing_behind(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stream ends without an end, and whatever waited for it."""
    monkeypatch.setattr(lives, "STALLED", QUICK)
    live, counter, tab = Live(app.database, QUICK), Counter(), Tab()
    said = []

    async def send(message: dict[str, Any]) -> None:
        said.append(message)
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    monkeypatch.setattr(tab, "send", send)
    before = asyncio.all_tasks()
    async with watching(live, counter, tab) as stream, asyncio.timeout(PATIENCE):
        await stream
        await asyncio.gather(*live.tasks)
        left = [each for each in asyncio.all_tasks() - before if not each.cancelling()]
        assert not [each for each in left if each.get_coro().__qualname__ in {"Event.wait", "_left"}]  # type: ignore[union-attr]
    assert [each["type"] for each in said] == ["http.response.start", "http.response.body"]
