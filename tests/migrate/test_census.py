"""The census: everything counted once a minute by one worker, kept for the pages, and told as an event."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from typing import Any
from uuid import uuid4

import pytest
from psycopg import sql

from revec.app import App
from revec.migrate import census as module
from revec.migrate.census import CensusTaker, census
from revec.model.census import Census, OfIndex
from revec.observe import events
from revec.postgres import samples
from revec.work import overview, standing
from tests import steps
from tests.loopback import Loopback
from tests.work import hands

SHUT = date(2027, 1, 31)
EXPIRED = "UPDATE revec.work SET lease_until = now() WHERE token IS NOT NULL RETURNING 1"
OLDER = """
    SELECT count(*) FILTER (WHERE minute < now() - interval '1 day') AS of_yesterday,
           count(*) FILTER (WHERE minute < now() - interval '8 days') AS of_last_week FROM revec.sample
"""
OLD_MINUTES = """
    INSERT INTO revec.sample SELECT collection_id, now() - make_interval(hours => h), index_id, documents, approximate,
           done, coverage, backlog, oldest, unprojected, dead, lag, per_second
      FROM revec.sample, unnest(ARRAY[5, 30, 24 * 9]) AS h RETURNING 1
"""


async def taken(app: App) -> Census:
    return await census(app.database, lambda _: SHUT)


async def index_of(app: App) -> OfIndex:
    (one,) = (await taken(app)).indexes
    return one


async def newest(app: App) -> dict[int, Any]:
    """Collection → its newest sample."""
    last = "SELECT DISTINCT ON (collection_id) * FROM revec.sample ORDER BY collection_id, minute DESC"
    return {row.collection_id: row for row in await steps.rows(app, last)}


@asynccontextmanager
async def heard() -> AsyncIterator[list[Census | None]]:
    said: list[Census | None] = []

    def listen(event: events.Event) -> None:
        if isinstance(event, events.CensusTaken):
            said.append(event.census)

    with events.heard(listen):
        yield said


def taker(app: App) -> CensusTaker:
    made = CensusTaker(app.database, lambda _: None, uuid4())
    made._due = 0.0
    return made


async def test_a_census_counts_what_the_overview_counts(any_app: App, loopback: Loopback) -> None:
    """The same done, waiting, failed and excluded, however each was counted."""
    loopback.fault("refuse", times=None, match="poison")
    made = await steps.filled(any_app, 6)
    await steps.put(any_app, made, [*steps.drafts(1, start=50, word="poison"), *steps.drafts(1, start=60)])
    await steps.drain(any_app)
    await steps.put(any_app, made, steps.drafts(4, start=100))
    (index,) = await steps.written(any_app, made)
    await hands.claim(any_app, index, size=1)
    async with any_app.database.transaction() as conn:
        (stats,) = (await overview.overview(conn, made)).indexes
    found = await taken(any_app)
    (one,) = found.indexes
    open_work = {(each.lane, each.state): each.documents for each in one.open}
    assert open_work == {("live", "in hand"): stats.in_hand, ("live", "waiting"): stats.waiting}
    assert (one.done, one.dead, one.excluded) == (stats.done, stats.failed, stats.excluded) == (7, 1, 0)
    standing = found.collections[made.id]
    assert (standing.documents, standing.backlog, standing.done, standing.dead) == (12, 4, 7, 1)
    assert standing.coverage == one.coverage == 7 / 12
    assert standing.lag > 0
    assert standing.per_second > 0, "what was embedded in the last minute"
    assert not standing.approximate
    (model,) = found.models
    assert (model.address, model.is_resting, model.shutdown) == (steps.OLD, False, SHUT)
    await steps.delete(any_app, made, "50")  # the dead letter
    await steps.rows(any_app, EXPIRED)
    await steps.drain(any_app)
    await steps.assert_oracle(any_app, made)


async def test_an_edit_of_a_paused_tenant_is_nobodys_lag(app: App, loopback: Loopback) -> None:
    """It is in the backlog, and its wait is a person's."""
    made = await steps.filled(app, 2)
    await steps.rows(
        app,
        "INSERT INTO revec.tenant (collection_id, tenant, paused_why) VALUES (%(c)s, 'slow', 'x') RETURNING 1",
        c=made.id,
    )
    await steps.put(app, made, steps.drafts(3, start=10, tenant="slow"))
    seen = (await taken(app)).collections[made.id]
    assert (seen.backlog, seen.lag, seen.oldest) == (3, 0, 0)


async def test_a_migration_is_seen_with_its_gates(app: App, loopback: Loopback) -> None:
    """Both indexes, the state, every verdict; the newest index is what the collection's coverage is of."""
    made = await steps.ready(app)
    found = await taken(app)
    (migration,) = found.migrations
    assert (migration.collection, migration.state, migration.rollback_lost) == (made.name, "ready", False)
    assert migration.unguarded is None
    assert migration.verdicts["completeness"] == "PASSED"
    assert [each.is_serving for each in found.indexes] == [True, False]
    written = await steps.written(app, made)
    assert found.collections[made.id].index_id == max(index.id for index in written)
    assert {model.address for model in found.models} == {steps.OLD, steps.NEW}


async def test_one_worker_counts_and_the_next_one_when_it_leaves(app: App, loopback: Loopback) -> None:
    """Two that tick write one row; the one that loses the lease says that its figures are over."""
    made = await steps.filled(app, 3)
    await steps.rows(app, "DELETE FROM revec.lease RETURNING 1")
    first, second = taker(app), taker(app)
    async with heard() as said:
        await first.tick()
        await second.tick()
        assert len(said) == 1
        assert said[0] is not None
        await first.leave()
        second._due = 0.0
        await second.tick()
        first._due = 0.0
        await first.tick()
    assert [each is None for each in said] == [False, False, True]
    sample = (await newest(app))[made.id]
    assert (sample.documents, sample.done, sample.coverage) == (3, 3, 1.0)


async def test_nothing_is_counted_twice_a_minute(app: App, loopback: Loopback) -> None:
    """A worker ticks many times a second."""
    await steps.collection(app)
    counting = taker(app)
    async with heard() as said:
        await counting.tick()
        await counting.tick()
    assert len(said) == 1


async def test_a_new_collection_is_counted_at_once(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the worker that counts, not with the minute; and once."""
    monkeypatch.setattr(module, "LOOK_EVERY", 0.0)
    await steps.collection(app)
    await steps.rows(app, "DELETE FROM revec.lease RETURNING 1")
    counting, other = taker(app), taker(app)
    async with heard() as said:
        await counting.tick()
        await other.tick()
        counting._look_at = 0.0
        made = await steps.collection(app, "d")
        for each in (other, counting, counting):
            await each.tick()
    assert len(said) == 2
    assert made.id in await newest(app)


async def test_samples_are_kept_for_eight_days(app: App, loopback: Loopback) -> None:
    """What is older goes with the next one."""
    await steps.filled(app, 3)
    await taker(app).tick()
    await steps.rows(app, OLD_MINUTES)
    async with app.database.transaction() as conn:
        await samples.put(conn, (await taken(app)).collections)
        kept = await (await conn.execute(OLDER)).fetchone()
    assert (kept.of_yesterday, kept.of_last_week) == (1, 0), "thirty hours ago, and nine days ago"


async def test_too_many_documents_are_estimated(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the planner's statistics, and it says so."""
    monkeypatch.setattr(standing, "COUNTED", -2)
    made = await steps.filled(app, 40)
    async with app.database.transaction() as conn:
        await conn.execute("ANALYZE revec.document")
    seen = (await taken(app)).collections[made.id]
    assert (seen.documents, seen.approximate) == (40, True)


GIVEN_UP = "pg_cancel_backend(pg_backend_pid()) AND pg_sleep(60) IS NULL"  # as a timeout ends it, and at once
SLOW = {
    "documents": ("revec.document", f"revec.document WHERE {GIVEN_UP}"),
    "all_work": ("revec.work", f"revec.work WHERE {GIVEN_UP}"),
    "left_out": ("WHERE i.writing", f"WHERE i.writing AND (%(most)s::bigint > 0 OR {GIVEN_UP})"),
}


async def test_what_cannot_be_counted_takes_nothing_else_with_it(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planner's estimate stands for it, also where nobody has counted the table since a restore."""
    made = await steps.filled(app, 30)
    await steps.put(app, made, steps.drafts(10, start=100))
    async with app.database.transaction() as conn:
        await conn.execute("ANALYZE revec.document, revec.work")
    monkeypatch.setattr(standing, "AT_HAND", 4)
    monkeypatch.setattr(standing, "PATIENCE", "1s")
    for name, slowly in SLOW.items():
        was = standing.SQL._queries[name].as_string(None)
        monkeypatch.setitem(standing.SQL._queries, name, sql.SQL(was.replace(*slowly)))  # type: ignore[arg-type]
    await steps.rows(app, "DELETE FROM revec.sample RETURNING 1")
    await steps.rows(app, "DELETE FROM revec.lease RETURNING 1")
    await taker(app).tick()
    sample = (await newest(app)).get(made.id)
    assert sample is not None
    assert (sample.documents, sample.backlog, sample.done, sample.dead) == (40, 10, 30, 0)
    assert sample.approximate
    await steps.drain(app)
    await steps.assert_oracle(app, made)


async def test_a_census_that_takes_too_long_is_given_up(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told as trouble, nothing is kept, and the next minute has another one."""
    await steps.collection(app)
    await steps.rows(app, "DELETE FROM revec.sample RETURNING 1")
    said: list[events.Event] = []
    with events.heard(said.append):
        counting = taker(app)
        monkeypatch.setattr(module, "census", slow)
        await counting.tick()
        await counting.tick()
    assert [type(event) for event in said] == [events.TryAgain]
    assert not await newest(app)


async def slow(database: object, shutdown_of: object) -> Census:
    async with database.transaction() as conn:  # type: ignore[attr-defined]
        await conn.execute("SELECT set_config('statement_timeout', '1ms', true)")
        await conn.execute("SELECT pg_sleep(1)")
    raise AssertionError
