"""A running worker does what it was just told, and yields to those who search."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from revec.app import App
from revec.model.errors import BadInput
from revec.model.index import Collection, Index
from revec.observe import events
from revec.postgres import pulses
from revec.search import pulse
from revec.work import brake, calls, control, queue, worker
from revec.work.control import Control
from revec.work.queue import BACKFILL, LIVE
from revec.work.worker import Worker
from tests import steps
from tests.conftest import settings_for
from tests.loopback import Loopback
from tests.migrate import world
from tests.work import hands

ANY: Any = SimpleNamespace(collection_id=1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks every few milliseconds, where people's are a second apart."""
    monkeypatch.setattr(control, "LOOK_EVERY", 0.01)


async def slow_down(app: App, made: Collection, **limits: Any) -> None:
    async with app.database.transaction() as conn:
        await control.throttle(conn, made, who="test", **limits)


async def lift(app: App, made: Collection) -> None:
    async with app.database.transaction() as conn:
        await control.lift_throttle(conn, made)


async def passes(app: App, seconds: float) -> None:
    """For the buckets."""
    await steps.rows(
        app, "UPDATE revec.quota SET at = at - make_interval(secs => %(s)s) RETURNING 1", s=seconds
    )


async def backfill(app: App, made: Collection, index: Index, count: int, *, start: int = 0) -> None:
    """So many documents, as a backfill enqueues them."""
    await steps.put(app, made, steps.drafts(count, start=start))
    await steps.rows(app, "UPDATE revec.work SET lane = 2 RETURNING 1")


async def claimed(app: App, hand: Control, index: Index, lane: int = BACKFILL, size: int = 100) -> int:
    """How many documents a worker with this control gets; they are its own for good."""
    await hand.look()
    async with app.database.transaction("worker") as conn:
        claim = await hand.claim(conn, index, lane, size=size, lease=60.0)
        return len(claim.jobs) if claim else 0


@asynccontextmanager
async def at_work(app: App, **pace: Any) -> AsyncIterator[Worker]:
    """A worker beside the body."""
    busy = app.worker(**pace)
    running = asyncio.create_task(busy.run(drain=False))
    try:
        yield busy
    finally:
        busy.stop()
        await running


async def stored(app: App, index: Index) -> int:
    return len(await steps.stored(app, index))


async def rows_where(app: App, index: Index, count: int) -> bool:
    return await stored(app, index) == count


# --- the throttle -----------------------------------------------------------------------------------


async def test_documents_a_second_are_shared_by_all_workers(any_app: App) -> None:
    """Two of them get ten a second together, a second's worth at a time, and spill none of three seconds."""
    app = any_app
    made, index = await hands.indexed(app)
    await backfill(app, made, index, 150)
    await slow_down(app, made, docs_per_second=10)
    one, another = Control(app.database), Control(app.database)
    assert await claimed(app, one, index) == 0
    await passes(app, 0.5)
    assert await claimed(app, one, index) == 0
    await passes(app, 0.7)
    got = await claimed(app, one, index) + await claimed(app, another, index)
    assert 10 <= got <= 16
    await passes(app, 3600)
    assert await claimed(app, another, index) == 30
    assert await claimed(app, one, index) == 0


async def test_edits_are_never_throttled(any_app: App) -> None:
    """However little is allowed to the backfill; and what they take is not taken from it."""
    app = any_app
    made, index = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(50))
    await slow_down(app, made, docs_per_second=0.001)
    hand = Control(app.database)
    assert await claimed(app, hand, index, LIVE) == 50
    await backfill(app, made, index, 5, start=50)
    await passes(app, 1001)
    assert await claimed(app, hand, index) == 1


async def test_a_running_worker_obeys(app: App, loopback: Loopback) -> None:
    """Throttled in the middle of a backfill, an edit still gets through; lifted, all is done."""
    made, index = await hands.indexed(app)
    async with at_work(app, claim=5) as busy:
        await steps.put(app, made, steps.drafts(1, start=400))
        await hands.until(lambda: rows_where(app, index, 1))
        await slow_down(app, made, docs_per_second=0.001)
        await hands.until(lambda: throttled(busy))
        await backfill_held(app, made, index, 40)
        await steps.put(app, made, steps.drafts(1, start=500))
        await hands.until(lambda: rows_where(app, index, 2))
        assert len(await hands.work(app)) == 40
        await lift(app, made)
        await hands.until(lambda: rows_where(app, index, 42))
    await hands.assert_oracle(app, made)


async def throttled(busy: Worker) -> bool:
    return bool(busy._control._throttles)


async def backfill_held(app: App, made: Collection, index: Index, count: int) -> None:
    """Documents of a backfill that no worker sees before all of them are."""
    async with app.database.transaction() as conn:
        await conn.execute("UPDATE revec.index SET held = true")
    await backfill(app, made, index, count)
    async with app.database.transaction() as conn:
        await conn.execute("UPDATE revec.index SET held = false")


async def test_a_claim_is_no_larger_than_allowed(app: App) -> None:
    """In every lane, and never larger than the worker's own."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(40))
    hand = Control(app.database)
    await slow_down(app, made, claim=7)
    assert await claimed(app, hand, index, LIVE) == 7
    await slow_down(app, made, claim=1000)
    assert await claimed(app, hand, index, LIVE, size=3) == 3


async def test_only_so_many_claims_at_once(app: App, loopback: Loopback) -> None:
    """Of three places one works; an edit is not kept waiting by the backfill's next claim."""
    made, index = await hands.indexed(app)
    await slow_down(app, made, concurrency=1)
    await backfill(app, made, index, 60)
    loopback.hold()
    async with at_work(app, claim=5, concurrency=3) as busy:
        await asyncio.to_thread(loopback.wait_held)
        seen = await claims_in_a_while(busy)
        await steps.put(app, made, steps.drafts(1, start=500))
        loopback.release()
        assert seen == {1}
        await hands.until(lambda: rows_where(app, index, 61))
    await hands.assert_oracle(app, made)


async def claims_in_a_while(busy: Worker) -> set[int]:
    """Of 20 looks."""
    seen = set()
    for _ in range(20):
        seen.add(busy._at_work)
        await asyncio.sleep(0.02)
    return seen


async def test_a_throttled_drain_is_not_stuck(
    dsn: str, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes as long as it takes, also where nothing changes for longer than patience lasts."""
    monkeypatch.setattr(worker, "STUCK_AFTER", 0.1)
    async with App(settings_for(dsn, loopback.url, lease=0.1)) as app:
        made, index = await hands.indexed(app)
        await backfill(app, made, index, 3)
        await slow_down(app, made, docs_per_second=2)
        summary = await steps.drain(app)
        assert (summary.stuck, await stored(app, index)) == ([], 3)
        await hands.assert_oracle(app, made)


async def test_a_throttle_keeps_what_is_not_named_and_never_stops(app: App) -> None:
    """Each limit by itself; all lifted at once; nothing and less is refused with the verb that stops."""
    made, _ = await hands.indexed(app)
    await slow_down(app, made, claim=9)
    await slow_down(app, made, docs_per_second=2.5)
    async with app.database.transaction() as conn:
        now = await control.throttle_of(conn, made.id)
    assert (now.docs_per_second, now.concurrency, now.claim) == (2.5, None, 9)
    for nothing in ({"docs_per_second": 0.0}, {"concurrency": 0}, {"claim": -1}):
        with pytest.raises(BadInput, match="`revec pause c` does that"):
            await slow_down(app, made, **nothing)
    await lift(app, made)
    async with app.database.transaction() as conn:
        assert await control.throttle_of(conn, made.id) is None
    assert await steps.rows(app, "SELECT FROM revec.quota") == []


# --- the brake --------------------------------------------------------------------------------------


async def pulsed(app: App, ms: float, *, count: int = 60, ago: float = 0.0, kind: str = "search") -> None:
    """So many searches took about so long, so many seconds ago."""
    await steps.rows(
        app,
        "INSERT INTO revec.pulse (kind, name, at, ms) SELECT %(kind)s, 'c',"
        " clock_timestamp() - make_interval(secs => %(ago)s), array_agg(%(ms)s::real)"
        "  FROM generate_series(1, %(count)s) RETURNING 1",
        kind=kind,
        ms=ms,
        ago=ago,
        count=count,
    )


async def test_a_backfill_yields_to_searches(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow searches: it rests between its claims and says why; edits do not; quick again: it goes on."""
    monkeypatch.setattr(brake, "STEP", 0.0)
    told: list[events.Event] = []
    events.listen(told.append)
    hand = Control(app.database)
    await pulsed(app, 30.0, ago=60)
    await hand.look()
    assert hand.brake == brake.Brake()
    await pulsed(app, 90.0)
    await look_again(hand)
    assert hand.brake.speed == pytest.approx(0.5, abs=0.01)
    assert hand.brake.why == "searches of c take 90 ms, 30 ms in quiet times"
    hand.worked(0, BACKFILL, 60.0)
    hand.worked(1, LIVE, 60.0)
    assert [hand.lets(ANY, BACKFILL, 0), hand.lets(ANY, LIVE, 0), hand.lets(ANY, BACKFILL, 1)] == [
        False,
        True,
        True,
    ]
    await steps.rows(app, "UPDATE revec.pulse SET at = at - interval '1 minute' RETURNING 1")
    for _ in range(14):
        await look_again(hand)
    assert hand.brake == brake.Brake()
    assert hand.lets(ANY, BACKFILL, 0)
    events._listeners.remove(told.append)
    assert [event.why is None for event in told if isinstance(event, events.Braked)] == [False, True]


async def look_again(hand: Control) -> None:
    hand._look_at = 0.0
    await hand.look()


async def test_a_backfill_yields_to_the_database(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's own round trips became slow, while nobody searches."""
    monkeypatch.setattr(brake, "STEP", 0.0)
    took = 1.0

    async def ping(_: object) -> float:
        return took

    monkeypatch.setattr(control, "_ping", ping)
    monkeypatch.setattr(pulses, "ENOUGH", 5)
    hand = Control(app.database)
    for _ in range(6):
        hand._learn_at = 0.0
        await look_again(hand)
    assert hand.brake == brake.Brake()
    took = 40.0
    hand._learn_at = time.monotonic() + 60
    for _ in range(12):
        await look_again(hand)
    assert hand.brake.speed < 0.5
    assert "the database takes" in str(hand.brake.why)


async def test_a_brake_that_is_off_is_off(dsn: str, loopback: Loopback) -> None:
    """Nothing is measured, nothing yields."""
    async with App(settings_for(dsn, loopback.url, brake=False)) as app:
        await pulsed(app, 30.0, ago=60)
        await pulsed(app, 90.0)
        busy = app.worker()
        await busy._control.look()
        assert busy._control.brake == brake.Brake()
        assert await steps.rows(app, "SELECT FROM revec.calm") == []


async def test_what_is_usual_is_learnt_in_quiet_times_only(app: App) -> None:
    """Nothing of a backfill, nor of the seconds after it: or the brake would get used to being too slow."""
    await pulsed(app, 90.0, ago=120)
    await pulsed(app, 0.0, ago=100, kind="backfill", count=1)
    await pulsed(app, 80.0, ago=95)
    await learn(app)
    assert await steps.rows(app, "SELECT FROM revec.calm") == []
    await pulsed(app, 30.0, ago=50)
    await learn(app)
    assert await steps.rows(app, "SELECT name, ms, n FROM revec.calm") == [("c", 30.0, 60)]
    made = await steps.collection(app)
    await steps.put(app, made, steps.drafts(5))
    await world.tick_to(app, made, world.State.BACKFILLING)
    await Control(app.database).look()
    await pulsed(app, 99.0)
    await learn(app)
    assert await steps.rows(app, "SELECT ms FROM revec.calm WHERE kind = 'search'") == [(30.0,)]


async def learn(app: App) -> None:
    async with app.database.transaction("worker") as conn:
        await pulses.learn(conn)


async def test_status_and_the_list_of_workers_say_who_yields_to_what(app: App) -> None:
    """What each does, what it takes, and why it is slow."""
    made = await steps.filled(app)
    busy = app.worker()
    busy._control.brake = brake.Brake(0.25, "searches of c take 90 ms, 30 ms in quiet times")
    async with app.database.transaction("worker") as conn:
        await queue.beat(conn, busy._vitals())
        (row,) = await queue.workers(conn)
    assert (row.speed, row.claims, row.rss_mb > 10) == (0.25, 0, True)
    await slow_down(app, made, docs_per_second=5)
    seen = await world.look(app, made)
    assert seen.braked == "25% of its speed: searches of c take 90 ms, 30 ms in quiet times"
    assert seen.throttle is not None
    assert seen.throttle["docs_per_second"] == 5


# --- searches tell ----------------------------------------------------------------------------------


async def test_searches_tell_how_long_they_take(any_app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bounded sample, by collection, in one write for many."""
    monkeypatch.setattr(pulse, "FLUSH_EVERY", 0.05)
    app = any_app
    await steps.filled(app, 5)
    await app.retriever.search("c", "document 3", tenant="default")
    for _ in range(1000):
        app.retriever._note("c", 0.01)
    await hands.until(lambda: steps.rows(app, "SELECT FROM revec.pulse WHERE kind = 'search'"))
    (row,) = await steps.rows(app, "SELECT name, ms FROM revec.pulse WHERE kind = 'search'")
    assert row.name == "c"
    assert len(row.ms) == pulse.SAMPLE


async def test_a_pulse_that_cannot_be_written_hurts_no_search(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is locked, then gone: hits all the same, at once, and later pulses are written again."""
    monkeypatch.setattr(pulse, "FLUSH_EVERY", 0.0)
    monkeypatch.setattr(pulse, "PATIENCE", 10.0)
    await steps.filled(app, 5)

    async def search() -> None:
        assert (await app.retriever.search("c", "document 3", tenant="default")).hits

    async def written() -> list[Any]:
        await search()
        return await steps.rows(app, "SELECT FROM revec.pulse WHERE kind = 'search'")

    async with app.database.transaction() as conn:
        await conn.execute("LOCK TABLE revec.pulse")
        for _ in range(20):
            await at_once(search(), "a search waits for its pulse")
            await asyncio.sleep(0.01)
        await conn.execute("ALTER TABLE revec.pulse RENAME TO pulse_elsewhere")
    for _ in range(5):
        await search()
        await asyncio.sleep(0.01)
    async with app.database.transaction() as conn:
        await conn.execute("ALTER TABLE revec.pulse_elsewhere RENAME TO pulse")
    await hands.until(written)


async def test_old_pulses_go_with_new_ones(app: App) -> None:
    """Minutes are kept, whoever writes."""
    await pulsed(app, 30.0, ago=3600)
    await pulsed(app, 30.0, ago=300)
    async with app.database.transaction("worker") as conn:
        await pulses.put(conn, pulses.SEARCH, "c", [1.0])
    assert len(await steps.rows(app, "SELECT FROM revec.pulse")) == 2


# --- told to leave ----------------------------------------------------------------------------------


async def test_a_worker_whose_packs_wait_for_their_turn_leaves_at_once(app: App, loopback: Loopback) -> None:
    """Nothing was sent, everything is given back, no attempt is counted."""
    made, _ = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(40))
    await limited(app, seconds=15)
    asked = loopback.requests()["requests"]
    busy = app.worker(claim=10, concurrency=3)
    running = asyncio.create_task(busy.run(drain=False))
    await hands.until(lambda: steps.rows(app, "SELECT FROM revec.provider"))
    await hands.until(lambda: all_at_work(busy))
    busy.stop()
    await at_once(running, "it waits for the provider's limit instead of leaving")
    assert loopback.requests()["requests"] == asked
    assert {(row.attempts, row.token) for row in await hands.work(app)} == {(0, None)}
    assert await hands.paid(app) == []
    assert await steps.rows(app, "SELECT FROM revec.worker") == []
    await steps.rows(app, "DELETE FROM revec.quota RETURNING 1")
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def all_at_work(busy: Worker) -> bool:
    return busy._at_work >= 3


async def at_once(doing: Awaitable[object], instead: str) -> None:
    try:
        async with asyncio.timeout(2.0):
            await doing
    except TimeoutError:
        raise AssertionError(instead) from None


async def limited(app: App, *, seconds: float) -> None:
    """The provider's limit lets nothing through for so long."""
    async with app.database.transaction() as conn:
        await calls.declare(conn, steps.OLD, "tokens", 60_000_000)
        await conn.execute(
            "UPDATE revec.quota SET at = clock_timestamp(), level = 0.05 * capacity - rate * %s", (seconds,)
        )
