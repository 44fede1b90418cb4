"""Points elsewhere: whoever is killed, late, or away, the store ends up with what the table says and no more."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from revec.app import App
from revec.migrate.check import check
from revec.model.document import Draft
from revec.model.errors import NotFound, StoreUnavailable
from revec.model.index import Collection, Index
from revec.model.reading import Mode
from revec.model.verdict import Outcome
from revec.postgres import indexes
from revec.postgres.database import Connection
from revec.stores import elsewhere, patient, upkeep
from revec.stores.base import Lost
from revec.stores.engines.postgresql import PostgreSQL
from revec.stores.near import Asking
from revec.stores.points import Point
from revec.work import pack, reconcile
from revec.work.reconcile import Reconciler
from revec.work.walking import Walk
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world
from tests.work import hands, test_write_protocol

StoreOf = Callable[[str], str]
HELD = 0.3  # seconds: what somebody else begins and ends meanwhile waits for no network
ONE = Draft(key="one", title="one", body="the first text")
EDITED = replace(ONE, body="the second text")
WRITING = ("points_intended", "points_put", "vectors_written", "before_commit", "after_commit")
GATES = ("completeness", "fidelity", "recall")
TENDING = ("points_condemned", "points_deleted")


class Killed(BaseException):
    """The process ended here: whatever was not committed is undone, nothing else is."""


@asynccontextmanager
async def killed_at(monkeypatch: pytest.MonkeyPatch, name: str) -> AsyncIterator[None]:
    """The body ends at that failpoint."""

    def passing(at: str) -> None:
        if at == name:
            raise Killed

    with monkeypatch.context() as patch:
        for module in (elsewhere, pack, upkeep):
            patch.setattr(module, "failpoint", passing)
        with pytest.raises(BaseException) as ended:  # noqa: PT011 - perhaps among others, of a group
            yield
    assert ended.value.__class__ in {Killed, BaseExceptionGroup}, repr(ended.value)


@asynccontextmanager
async def stopped_at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> AsyncIterator[asyncio.Event]:
    """A call of the store's waits where it is for as long as the body runs: as by SIGSTOP, or a slow network."""
    was, reached, goes_on = getattr(owner, name), asyncio.Event(), asyncio.Event()

    async def waiting(*arguments: Any, **more: Any) -> Any:
        if not goes_on.is_set():
            reached.set()
            await goes_on.wait()
        return await was(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, waiting)
        try:
            yield reached
        finally:
            goes_on.set()


async def indexed(
    app: App, monkeypatch: pytest.MonkeyPatch, store: str, name: str = "c", *, hurried: bool = False
) -> tuple[Collection, Index]:
    monkeypatch.setattr(hands, "STORE", store)
    if not hurried:
        steps.unhurried(app)
    return await hands.indexed(app, name)


async def assert_well(app: App, made: Collection, index: Index) -> None:
    await hands.assert_oracle(app, made)
    await steps.tended(app)
    await steps.assert_tidy(app, index)
    await hands.assert_oracle(app, made)


def scenarios() -> list[Any]:
    """The promises of writes."""
    takes = {"any_app", "app", "loopback", "again"}
    return [
        scenario
        for name, scenario in inspect.getmembers(test_write_protocol, inspect.iscoroutinefunction)
        if name.startswith("test_") and inspect.signature(scenario).parameters.keys() <= takes
    ]


@pytest.mark.parametrize("scenario", scenarios(), ids=lambda s: s.__name__)
async def test_writes_keep_their_promises_elsewhere(
    scenario: Any, app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very stories of writes to this database, told of an index in another one."""
    monkeypatch.setattr(hands, "STORE", store_of("postgresql"))
    has = {"app": app, "any_app": app, "loopback": loopback, "again": EDITED}
    await scenario(**{name: has[name] for name in inspect.signature(scenario).parameters})
    await steps.tended(app)
    async with app.database.transaction() as conn:
        kept = await indexes.elsewhere(conn)
    for index in kept:
        await steps.assert_tidy(app, index)
    assert await check(app.database, freshness=30) == []


@pytest.mark.parametrize("name", [*WRITING, *TENDING])
async def test_killed_anywhere_it_is_done_again(
    name: str, app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a write, an edit or a deletion: what was begun is finished or undone, by whoever comes next."""
    made, index = await indexed(app, monkeypatch, store_of("postgresql"))
    await steps.put(app, made, steps.drafts(5))
    await steps.drain(app)
    await steps.put(app, made, [replace(each, body="edited") for each in steps.drafts(3)])
    if name == "points_intended":
        await steps.put(app, made, [ONE])
    if name in TENDING:
        await hands.step(app, claim=100)
    async with killed_at(monkeypatch, name):
        if name in TENDING:
            await steps.upkeep(app).tick()
        else:
            await hands.step(app, claim=100)
    await hands.expire(app)
    await steps.rows(app, "UPDATE revec.paid SET lease_until = now() RETURNING 1")
    await steps.rows(app, "UPDATE revec.tombstone SET due = now() WHERE condemned RETURNING 1")
    await steps.delete(app, made, "4")
    await steps.drain(app)
    await assert_well(app, made, index)


async def test_a_late_deletion_hits_nothing_that_came_back(
    app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A → B → A: the deletion of the first A arrives when the second A is written."""
    made, index = await indexed(app, monkeypatch, store_of("postgresql"))
    await steps.put(app, made, [ONE])
    await steps.drain(app)
    await steps.put(app, made, [EDITED])
    await hands.step(app)
    async with stopped_at(monkeypatch, PostgreSQL, "delete") as reached:
        late = asyncio.create_task(steps.upkeep(app).tick())
        await asyncio.wait_for(reached.wait(), hands.PATIENCE)
        await steps.put(app, made, [ONE])
        await hands.step(app)
        assert await hands.work(app) == []
    await late
    await assert_well(app, made, index)


async def test_a_point_put_again_at_the_same_revision_is_another_point(
    app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A try that was given up, and the next one at the same revision: the first one's deletion comes late."""
    made, index = await indexed(app, monkeypatch, store_of("postgresql"))
    await steps.put(app, made, [ONE])
    async with killed_at(monkeypatch, "points_put"):
        await hands.step(app)
    await hands.expire(app)
    await steps.rows(app, "UPDATE revec.paid SET lease_until = now() RETURNING 1")
    await steps.rows(app, "UPDATE revec.tombstone SET due = now() RETURNING 1")
    async with stopped_at(monkeypatch, PostgreSQL, "delete") as reached:
        late = asyncio.create_task(steps.upkeep(app).tick())
        await asyncio.wait_for(reached.wait(), hands.PATIENCE)
        await hands.step(app)
        assert await hands.work(app) == []
    await late
    await assert_well(app, made, index)


async def test_a_writer_that_slept_too_long_writes_nothing(
    app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between putting and writing: its points are deleted, and it refers to none of them."""
    made, index = await indexed(app, monkeypatch, store_of("postgresql"))
    await steps.put(app, made, [ONE])
    async with stopped_at(monkeypatch, pack.Worksite, "_write_once") as reached:
        slept = asyncio.create_task(hands.step(app))
        await asyncio.wait_for(reached.wait(), hands.PATIENCE)
        await steps.tended(app)
    await slept
    await hands.until(lambda: due_again(app))
    await steps.drain(app)
    await assert_well(app, made, index)
    assert set(test_write_protocol.bill(loopback).values()) == {1}


async def test_a_condemned_point_is_written_no_more(
    app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its deletion is under way, and will be over some time: until then the point is still there."""
    made, index = await indexed(app, monkeypatch, store_of("postgresql"))
    await steps.put(app, made, [ONE])
    async with stopped_at(monkeypatch, PostgreSQL, "delete") as deleting:
        async with stopped_at(monkeypatch, pack.Worksite, "_write_once") as reached:
            slept = asyncio.create_task(hands.step(app))
            await asyncio.wait_for(reached.wait(), hands.PATIENCE)
            await steps.rows(app, "UPDATE revec.tombstone SET due = now() RETURNING 1")
            late = asyncio.create_task(steps.upkeep(app).tick())
            await asyncio.wait_for(deleting.wait(), hands.PATIENCE)
        await slept
    await late
    await hands.until(lambda: due_again(app))
    await steps.drain(app)
    await assert_well(app, made, index)


async def test_a_deletion_is_believed_when_it_is_seen(
    app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that says yes and does nothing is asked again, until the points are gone."""
    monkeypatch.setattr(patient, "REST", (0.0, 0.0))
    made, index = await indexed(app, monkeypatch, store_of("postgresql"))
    await steps.put(app, made, [ONE])
    await steps.drain(app)
    await steps.put(app, made, [EDITED])
    await hands.step(app)
    with monkeypatch.context() as patch:
        patch.setattr(PostgreSQL, "delete", said_and_not_done)
        await steps.upkeep(app).tick()
    assert len(await steps.rows(app, "SELECT * FROM revec.tombstone")) == 1
    await assert_well(app, made, index)


async def test_a_backfill_waits_for_the_store_that_it_copies_from(
    app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than pay again for all; what somebody has just written is not kept waiting by it."""
    monkeypatch.setattr(patient, "REST", (0.05, 0.05))
    made, _ = await indexed(app, monkeypatch, store_of("postgresql"))
    await steps.put(app, made, steps.drafts(10))
    await steps.drain(app)
    paid = test_write_protocol.bill(loopback)
    home, here = await indexed(app, monkeypatch, "pg", "home")
    await steps.put(app, home, steps.drafts(10))
    await steps.rows(app, "UPDATE revec.work SET lane = 2 RETURNING 1")
    with monkeypatch.context() as patch:
        patch.setattr(PostgreSQL, "fetch", gone)
        for _ in range(3):
            await hands.step(app)
            await hands.until(lambda: due_again(app))
        assert test_write_protocol.bill(loopback) == paid
        assert len(await hands.work(app)) == 10
        await steps.put(app, home, [replace(steps.drafts(1)[0], title="x"), ONE])
        await hands.until(lambda: written(app, here, 2))
    summary = await steps.drain(app)
    assert summary.embedded == 0
    await hands.assert_oracle(app, home)


async def test_a_backfill_does_not_wait_for_what_a_store_has_lost(
    app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store answers, and knows the index no more: it will never have those vectors, so they are paid for."""
    made, index = await indexed(app, monkeypatch, store_of("postgresql"))
    await steps.put(app, made, steps.drafts(10))
    await steps.drain(app)
    home, _ = await indexed(app, monkeypatch, "pg", "home")
    await steps.put(app, home, steps.drafts(10))
    await steps.rows(app, "UPDATE revec.work SET lane = 2 RETURNING 1")
    await app.store_at(index.place.store).drop(index.place.name)
    summary = await steps.drain_soon(app)
    assert (summary.embedded, await hands.work(app)) == (10, [])


async def test_what_is_put_after_its_deletion_is_found(
    app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before putting, resumed after its tombstones were served: it buries its points once more."""
    made, index = await indexed(app, monkeypatch, store_of("postgresql"))
    await steps.put(app, made, [ONE])
    async with stopped_at(monkeypatch, PostgreSQL, "put") as reached:
        slept = asyncio.create_task(hands.step(app))
        await asyncio.wait_for(reached.wait(), hands.PATIENCE)
        await steps.tended(app)
    await slept
    await hands.until(lambda: due_again(app))
    await steps.drain(app)
    await assert_well(app, made, index)


async def test_the_sweep_leaves_a_write_in_flight_alone(
    app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its points are put and nothing refers to them yet: they are known all the same."""
    made, index = await indexed(app, monkeypatch, store_of("postgresql"))
    await steps.put(app, made, [ONE])
    async with stopped_at(monkeypatch, pack.Worksite, "_write_once") as reached:
        writing = asyncio.create_task(hands.step(app))
        await asyncio.wait_for(reached.wait(), hands.PATIENCE)
        await swept(app, index)
    summary = await writing
    assert (summary.written, await hands.work(app)) == (1, [])
    await assert_well(app, made, index)


async def test_the_sweep_finds_what_nobody_knows(
    app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page by page, whoever put it there; what is known stays."""
    monkeypatch.setattr(upkeep, "PAGE", 7)
    made, index = await indexed(app, monkeypatch, store_of("postgresql"))
    await steps.put(app, made, steps.drafts(20))
    await steps.drain(app)
    await put_strangers(app, index, 30)
    await swept(app, index)
    assert await steps.rows(app, "SELECT found FROM revec.sweep") == [(30,)]
    await assert_well(app, made, index)


@pytest.mark.parametrize("kind", ["postgresql", "chroma", "qdrant"])
async def test_a_strangers_point_is_never_shown(
    kind: str, app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orphans that are nearer than anything: there are as many hits as without them."""
    made, index = await indexed(app, monkeypatch, store_of(kind))
    await steps.put(app, made, steps.drafts(8))
    await steps.drain(app)
    await serve(app, made, index)
    query = "text of document 3"
    before = await app.retriever.search("c", query, k=5, tenant="default")
    assert len(before.hits) == 5
    vector = await app.retriever.embedded(index, query)
    await put_strangers(app, index, 100, vector)
    after = await app.retriever.search("c", query, k=5, tenant="default")
    assert [hit.id for hit in after.hits] == [hit.id for hit in before.hits]


async def test_a_store_that_is_away_keeps_nobody_waiting(
    app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own documents wait, paid for once; another index's are written meanwhile. Then all is done."""
    monkeypatch.setattr(patient, "REST", (0.2, 0.2))
    store = store_of("postgresql")
    made, index = await indexed(app, monkeypatch, store)
    other, _ = await indexed(app, monkeypatch, "pg", "d")
    with monkeypatch.context() as patch:
        patch.setattr(PostgreSQL, "put", gone)
        await steps.put(app, made, steps.drafts(5))
        worker = app.worker()
        working = asyncio.create_task(worker.run(drain=False))
        await hands.until(lambda: given_back(app))
        await steps.put(app, other, steps.drafts(5, start=100))
        await hands.until(lambda: all_written(app, other))
        assert len(await hands.work(app)) == 5
        worker.stop()
        await working
    await steps.drain(app)
    for each in (made, other):
        await hands.assert_oracle(app, each)
    assert set(test_write_protocol.bill(loopback).values()) == {1}
    await assert_well(app, made, index)


async def test_a_search_of_a_store_that_is_away_is_by_words(
    app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Degraded, with why; by vectors alone the caller hears that nobody answers. Nothing hangs."""
    monkeypatch.setattr(patient, "REST", (0.05, 0.05))
    made, index = await indexed(app, monkeypatch, store_of("postgresql"), hurried=True)
    await steps.put(app, made, steps.drafts(8))
    await steps.drain(app)
    await serve(app, made, index)
    for trouble in (gone, never):
        with monkeypatch.context() as patch:
            patch.setattr(PostgreSQL, "nearest", trouble)
            reading = await app.retriever.search("c", "document 3", tenant="default", mode=Mode.HYBRID)
            assert reading.degraded
            assert "the store of the vectors is away" in reading.why
            assert index.place.store not in reading.why
            assert reading.hits
            await asyncio.sleep(0.1)
            with pytest.raises(StoreUnavailable):
                await app.retriever.search("c", "document 3", tenant="default")
            await asyncio.sleep(0.1)
    reading = await app.retriever.search("c", "document 3", tenant="default", mode=Mode.HYBRID)
    assert not reading.degraded


@pytest.mark.parametrize("error", [psycopg.errors.ReadOnlySqlTransaction("x"), KeyError("ids")])
async def test_whatever_an_engine_stumbles_over_is_a_store_that_is_away(
    error: Exception, app: App, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It rests, and no worker ends by it; one that says that it has no such index is well."""
    store = app.store_at(store_of("postgresql"))

    async def failing(*_: Any) -> None:
        raise error

    with pytest.raises(NotFound):
        await store.count("nothing")
    assert not store.rests
    with monkeypatch.context() as patch:
        patch.setattr(PostgreSQL, "count", failing)
        with pytest.raises(StoreUnavailable, match=type(error).__name__):
            await store.count("nothing")
    assert store.rests


@pytest.mark.parametrize("slow", ["store", "table"])
async def test_a_search_that_ran_out_of_time_blames_whom_it_asked(
    slow: str, app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store rests if it was the one; it does not where the table here kept the search waiting."""
    made, index = await indexed(app, monkeypatch, store_of("postgresql"))
    await steps.put(app, made, steps.drafts(3))
    await steps.drain(app)
    store = app.store_at(index.place.store)
    vector = (await app.store.sample(app.database, index, 1)).rows[0][2]
    store.reading = 0.5
    monkeypatch.setattr(PostgreSQL, "nearest", none_near)
    monkeypatch.setattr(*((PostgreSQL, "fetch") if slow == "store" else (Asking, "_joined")), never)
    with pytest.raises(StoreUnavailable):
        await app.store.ahead(index, [vector], limit=5, tenant="default")
    assert store.rests == (slow == "store")


async def test_no_transaction_waits_for_the_network(
    app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a store is asked, for a search, a write, copies or a deletion, no session here is in one."""
    made, index = await indexed(app, monkeypatch, store_of("postgresql"))
    open_ones: dict[str, list[Any]] = {}

    def watched(name: str) -> Any:
        was = getattr(PostgreSQL, name)

        async def watching(self: PostgreSQL, *arguments: Any, **more: Any) -> Any:
            await asyncio.sleep(HELD)
            open_ones.setdefault(name, []).extend(
                await steps.rows(
                    app,
                    "SELECT query FROM pg_stat_activity WHERE datname = current_database()"
                    " AND xact_start < clock_timestamp() - make_interval(secs => %(held)s)"
                    " AND pid <> pg_backend_pid() AND query NOT LIKE '%%autovacuum%%'",
                    held=HELD,
                )
            )
            return await was(self, *arguments, **more)

        return watching

    for name in ("put", "delete", "fetch", "nearest"):
        monkeypatch.setattr(PostgreSQL, name, watched(name))
    await steps.put(app, made, [ONE, Draft("two", body="two")])
    await hands.step(app)
    await steps.put(app, made, [EDITED, Draft("three", body="two")])
    await hands.step(app)
    await steps.upkeep(app).tick()
    await serve(app, made, index)
    for mode in (Mode.HYBRID, Mode.VECTOR):
        await app.retriever.search("c", "the second text", tenant="default", mode=mode)
    assert open_ones == {"put": [], "delete": [], "fetch": [], "nearest": []}


async def test_no_gate_passes_what_a_store_has_lost(
    app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One point, then all of them: each gate says what it saw of it. Whole, and empty, they pass."""
    made, index = await indexed(app, monkeypatch, store_of("postgresql"))
    for gate in GATES:
        assert (await world.judged(app, gate, index)).outcome is Outcome.PASSED, f"{gate} of an empty index"
    await steps.put(app, made, steps.drafts(20))
    await steps.drain(app)
    for gate in GATES:
        assert (await world.judged(app, gate, index)).outcome is Outcome.PASSED, gate
    points = [row.point_id for row in await steps.rows(app, f"SELECT point_id FROM revec.vectors_{index.id}")]
    for lost in (1, 20):
        await app.store_at(index.place.store).delete(index.place.name, points[:lost])
        told = {gate: await world.judged(app, gate, index) for gate in GATES}
        assert told["completeness"].why == f"of 20 documents: {lost} missing"
        assert told["fidelity"].why == f"the store has lost {lost} of 20 sampled vectors"
        assert {told["completeness"].outcome, told["fidelity"].outcome} == {Outcome.FAILED}
        assert told["recall"].outcome is not Outcome.PASSED
        assert told["recall"].evidence["lost"] == lost


async def test_a_walk_through_a_store_goes_in_pages(
    app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off behind each page, the store is asked for that one again and for none before; what was lost is
    put there again.
    """
    made, index = await with_lost_points(app, monkeypatch, store_of("chroma"))
    asked: list[UUID | None] = []
    lost, kept = app.store.lost, reconcile._keep

    async def told(index: Index, after: UUID | None = None) -> Lost:
        asked.append(after)
        return await lost(index, after)

    async def cut_off(conn: Connection, walk: Walk, by: str) -> Any:
        if asked and asked.count(asked[-1]) == 1:
            raise InterruptedError
        return await kept(conn, walk, by)

    monkeypatch.setattr(app.store, "lost", told)
    monkeypatch.setattr(reconcile, "_keep", cut_off)
    report = None
    while report is None:
        try:
            report = await reconcile.reconcile(app.database, app.store, made)
        except InterruptedError:
            continue
    assert report.found == {"lost": 3}
    assert len(asked) == 2 * len(set(asked)) == 10, "four pages of five, and nothing behind them"
    assert asked[::2] == asked[1::2] == [None, *sorted(each for each in asked[2::2] if each)]
    monkeypatch.undo()
    await steps.drain(app)
    await assert_well(app, made, index)
    assert (await world.judged(app, "completeness", index)).outcome is Outcome.PASSED


async def test_a_late_answer_moves_no_walk(
    app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker went through all of it meanwhile: its report stands, and nothing begins anew."""
    await with_lost_points(app, monkeypatch, store_of("chroma"))
    last = "SELECT part, after, last - 'ended' - 'seconds' AS last FROM revec.walk WHERE begun_by = 'workers'"
    slow, quick = (Reconciler(app.database, app.store, every=3600) for _ in range(2))
    await slow.tick()
    await steps.rows(app, "UPDATE revec.walk SET counted_from = '-infinity' RETURNING 1")
    lost, seen = app.store.lost, []

    async def overtaken(index: Index, after: UUID | None = None) -> Lost:
        page = await lost(index, after)
        if after is not None and not seen:
            seen.append(after)
            while (await steps.rows(app, last))[0].last is None:
                await quick.tick()
            seen.extend(await steps.rows(app, last))
        return page

    monkeypatch.setattr(app.store, "lost", overtaken)
    slow._look_at = 0.0
    while await slow.tick():
        """Until it is told that there is no more."""
    assert seen[1:] == await steps.rows(app, last)
    assert seen[1].last["found"] == {"lost": 3}


async def with_lost_points(app: App, monkeypatch: pytest.MonkeyPatch, store: str) -> tuple[Collection, Index]:
    """Twenty documents, asked for by fives; the store has lost three of their points."""
    made, index = await indexed(app, monkeypatch, store)
    await steps.put(app, made, steps.drafts(20))
    await steps.drain(app)
    points = [row.point_id for row in await steps.rows(app, f"SELECT point_id FROM revec.vectors_{index.id}")]
    await app.store_at(index.place.store).delete(index.place.name, points[::7])
    monkeypatch.setattr(elsewhere, "PAGE", 5)
    return made, index


async def test_what_is_replaced_meanwhile_is_not_lost(
    app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit between the table's answer and the store's: none is held against the store, and none passes."""
    made, index = await indexed(app, monkeypatch, store_of("postgresql"))
    await steps.put(app, made, [ONE])
    await steps.drain(app)
    fetch = PostgreSQL.fetch

    async def fetch_late(store: PostgreSQL, place: str, ids: Sequence[UUID]) -> Any:
        await steps.rows(app, f"UPDATE revec.vectors_{index.id} SET point_id = gen_random_uuid() RETURNING 1")
        await store.delete(place, ids)
        return await fetch(store, place, ids)

    monkeypatch.setattr(PostgreSQL, "fetch", fetch_late)
    sample = await app.store.sample(app.database, index, 10)
    assert (sample.rows, sample.drawn, sample.lost) == ([], 1, 0)
    for gate in ("fidelity", "recall"):
        assert (await world.judged(app, gate, index)).outcome is Outcome.INCONCLUSIVE


# --- hands ----------------------------------------------------------------------------------------


async def gone(*_: Any, **__: Any) -> Any:
    raise StoreUnavailable("the store is gone")


async def never(*_: Any, **__: Any) -> Any:
    await asyncio.Event().wait()


async def none_near(*_: Any, **__: Any) -> list[Any]:
    return []


async def said_and_not_done(*_: Any) -> None:
    return


async def written(app: App, index: Index, count: int) -> bool:
    await hands.step(app)
    return len(await steps.chunks_of(app, index)) >= count


async def due_again(app: App) -> bool:
    """Work that was given back may be claimed."""
    return all(row.due for row in await hands.work(app))


async def given_back(app: App) -> bool:
    kept = await hands.paid(app)
    return len(kept) == 5 and all(row.kept for row in kept)


async def all_written(app: App, made: Collection) -> bool:
    (row,) = await steps.rows(
        app,
        "SELECT count(*) AS open FROM revec.work w JOIN revec.index i ON i.id = w.index_id"
        " WHERE i.collection_id = %(c)s",
        c=made.id,
    )
    return row.open == 0


async def swept(app: App, index: Index) -> None:
    """One whole walk through the index's store."""
    await steps.rows(
        app,
        "INSERT INTO revec.sweep (index_id, due) VALUES (%(i)s, now())"
        " ON CONFLICT (index_id) DO UPDATE SET due = now() RETURNING 1",
        i=index.id,
    )
    for _ in range(20):
        await steps.upkeep(app).tick()
        await steps.rows(
            app,
            "UPDATE revec.sweep SET due = now() WHERE due < now() + interval '1 hour' RETURNING 1",
        )


async def put_strangers(app: App, index: Index, points: int, vector: Any = None) -> list[UUID]:
    import numpy as np

    ids = [uuid4() for _ in range(points)]
    like = np.ones(index.space.dims, np.float16) if vector is None else vector
    strangers: Sequence[Point] = [Point(each, "default", like) for each in ids]
    await app.store_at(index.place.store).put(index.place.name, strangers)
    return ids


async def serve(app: App, made: Collection, index: Index) -> None:
    await steps.rows(
        app,
        "UPDATE revec.route SET serving = %(i)s, epoch = epoch + 1 WHERE collection_id = %(c)s RETURNING 1",
        i=index.id,
        c=made.id,
    )
