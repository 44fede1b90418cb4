"""The backfill goes tenant by tenant: in the order that a person asked for, shared, resumable, bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from psycopg import sql

from revec.app import App
from revec.migrate import backfill, outlook
from revec.model.index import Collection
from revec.model.migration import State
from revec.postgres import tenants
from revec.postgres.tenants import Said
from revec.work import queue
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world

LANE = "SELECT tenant, count(*) AS n FROM revec.work WHERE index_id = 2 AND lane = 2 GROUP BY tenant"


async def migrating(app: App, **counts: int) -> Collection:
    """A filled collection with so many documents of each tenant, its migration about to backfill."""
    made = await steps.collection(app)
    start = 0
    for tenant, count in counts.items():
        await steps.put(app, made, steps.drafts(count, start=start, tenant=tenant))
        start += count
    await steps.drain(app)
    await app.start(made, steps.NEW)
    await world.tick_to(app, made, State.BACKFILLING)
    return made


async def say(app: App, made: Collection, *said: Said) -> None:
    async with app.database.transaction() as conn:
        await tenants.say(conn, made.id, said)


async def page(app: App, made: Collection) -> dict[str, int]:
    """Enqueue one, whatever the window: whose documents, and how many."""
    before = {row.tenant: row.n for row in await steps.rows(app, LANE)}
    await backfill.enqueue_page(app.database, await world.migration(app, made))
    after = {row.tenant: row.n for row in await steps.rows(app, LANE)}
    return {name: n - before.get(name, 0) for name, n in after.items() if n > before.get(name, 0)}


async def progress(app: App, made: Collection) -> dict[str, Any]:
    migration = await world.migration(app, made)
    async with app.database.transaction() as conn:
        return {row.tenant: row for row in await backfill.progress(conn, migration, 100)}


async def to_the_end(app: App, made: Collection) -> None:
    await steps.drain(app)
    assert await world.state(app, made) is State.READY
    await steps.assert_oracle(app, made)


async def test_priorities_complete_in_order(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No page of a lower priority before the last one of a higher; default tenants have none."""
    monkeypatch.setattr(backfill, "PAGE", 10)
    made = await migrating(app, bronze=15, gold=25, late=5, silver=15)
    await say(app, made, Said("gold", priority=10), Said("silver", priority=5), Said("late", priority=-1))
    pages = []
    while some := await page(app, made):
        pages.append(set(some))
    order = [{"gold"}] * 3 + [{"silver"}] * 2 + [{"bronze"}] * 2 + [{"late"}]
    assert pages == order
    assert (await world.migration(app, made)).cursor_done
    await to_the_end(app, made)


async def test_a_page_is_shared_by_weight(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three to one, for as long as both have documents; then all is the other one's."""
    monkeypatch.setattr(backfill, "PAGE", 8)
    made = await migrating(app, a=12, b=12)
    await say(app, made, Said("a", weight=3))
    assert [await page(app, made) for _ in range(3)] == [{"a": 6, "b": 2}, {"a": 6, "b": 2}, {"b": 8}]
    await to_the_end(app, made)


async def test_a_new_priority_counts_from_the_next_page_on(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said in mid-backfill; the tenant that was at it goes on where it was."""
    monkeypatch.setattr(backfill, "PAGE", 4)
    made = await migrating(app, a=6, z=6)
    await say(app, made, Said("a", priority=1))
    assert await page(app, made) == {"a": 4}
    await say(app, made, Said("z", priority=2))
    assert [await page(app, made) for _ in range(3)] == [{"z": 4}, {"z": 2}, {"a": 2}]
    await to_the_end(app, made)


async def test_a_high_priority_overtakes_what_is_enqueued(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of the one that was put first is claimed before the rest of the page before it."""
    monkeypatch.setattr(backfill, "PAGE", 4)
    made = await migrating(app, a=4, z=4)
    assert await page(app, made) == {"a": 2, "z": 2}
    await say(app, made, Said("z", priority=2))
    assert await page(app, made) == {"z": 2}
    async with app.database.transaction("worker") as conn:
        claim = await queue.claim(conn, 2, queue.BACKFILL, size=2, lease=0)
    assert [job.tenant for job in claim.jobs] == ["z", "z"]
    assert {job.doc_id for job in claim.jobs} == {7, 8}
    await to_the_end(app, made)


async def test_many_small_tenants_take_few_pages(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page is of as many tenants as it has room for, and knows who is through: no second look."""
    monkeypatch.setattr(backfill, "PAGE", 60)
    monkeypatch.setattr(backfill, "TENANTS", 20)
    made = await migrating(app, **{f"t{n:02}": 3 for n in range(60)})
    sizes = [sum((await page(app, made)).values()) for _ in range(3)]
    assert sizes == [60, 60, 60]
    assert (await world.migration(app, made)).cursor_done
    await to_the_end(app, made)


async def test_who_waited_longest_comes_first(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More tenants than a page has room for take turns: the last of the alphabet is in the second page."""
    monkeypatch.setattr(backfill, "PAGE", 4)
    monkeypatch.setattr(backfill, "TENANTS", 2)
    made = await migrating(app, a=6, b=6, c=6, d=6)
    assert [sorted(await page(app, made)) for _ in range(4)] == [["a", "b"], ["c", "d"]] * 2
    await to_the_end(app, made)


async def test_a_paused_tenant_waits_and_the_others_go_on(app: App, loopback: Loopback) -> None:
    """The drain ends; the migration says whom it waits for and how to go on; then it does."""
    made = await migrating(app, a=5, b=5)
    await app.commands.pause_tenants(made, ["a"], "over its budget")
    assert (await steps.drain_soon(app)).stuck == []
    found = await progress(app, made)
    assert {name: (row.state, row.done) for name, row in found.items()} == {
        "a": ("pending", 0),
        "b": ("complete", 5),
    }
    seen = await world.look(app, made)
    assert seen.state == "backfilling"
    assert "paused tenants are left: a (over its budget)" in seen.next
    assert "`revec tenants resume c TENANT`" in seen.next
    assert seen.paused_tenants == {"a": "over its budget"}
    assert await app.commands.resume_tenants(made, ["a", "b"], "paid") == ["a"]
    told = [row.why for row in await world.history(app, made)]
    assert {"paused a: over its budget", "resumed a: paid"} <= set(told)
    await to_the_end(app, made)


async def test_a_tenant_that_is_paused_in_mid_page_holds_up_no_window(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its enqueued documents wait; they take no room from the others."""
    monkeypatch.setattr(backfill, "PAGE", 4)
    monkeypatch.setattr(backfill, "WINDOW", 4)
    made = await migrating(app, a=8, b=20)
    await say(app, made, Said("a", priority=1))
    assert await page(app, made) == {"a": 4}
    await app.commands.pause_tenants(made, ["a"], "because")
    await steps.drain_soon(app)
    found = await progress(app, made)
    assert (found["a"].state, found["a"].done, found["b"].state) == ("active", 0, "complete")
    await app.commands.resume_tenants(made, ["a"], "done")
    await to_the_end(app, made)


async def test_a_page_between_two_looks_is_in_both_or_in_none(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No work before it and no document left after it would read as: nothing is to be done."""
    made = await migrating(app, a=5)
    migration = await world.migration(app, made)
    real = queue.open_work

    async def a_page_comes_then(*asked: Any) -> Any:
        found = await real(*asked)
        await backfill.enqueue_page(app.database, migration)
        return found

    monkeypatch.setattr(queue, "open_work", a_page_comes_then)
    seen = await outlook.snapshot(app.database, app.store, migration, app.limits)
    assert (seen.cursor_done, seen.backfill_open) == (False, 0)
    monkeypatch.setattr(queue, "open_work", real)
    seen = await outlook.snapshot(app.database, app.store, migration, app.limits)
    assert (seen.cursor_done, seen.backfill_open) == (True, 5)
    await to_the_end(app, made)


async def test_an_edit_of_a_paused_tenant_keeps_the_migration_waiting(app: App, loopback: Loopback) -> None:
    """Its backfill is through; what it wrote since is not in the new index, and nothing advances on that."""
    made = await migrating(app, a=5, b=5)
    await page(app, made)
    await app.worker(concurrency=1)._embed_step()
    await app.commands.pause_tenants(made, ["a"], "because")
    await steps.put(app, made, steps.drafts(2, tenant="a", word="edited"))
    await steps.drain_soon(app)
    seen = await world.look(app, made)
    assert (seen.state, "a (because)" in seen.next) == ("backfilling", True)
    await app.commands.resume_tenants(made, ["a"], "done")
    await to_the_end(app, made)


async def test_tenants_that_come_meanwhile_need_no_cursor(app: App, loopback: Loopback) -> None:
    """Their documents are live work; progress shows them until they are through."""
    made = await migrating(app, a=5)
    await world.tick(app)
    await steps.put(app, made, steps.drafts(3, start=50, tenant="newcomer"))
    found = await progress(app, made)
    assert (found["newcomer"].state, found["newcomer"].open, found["newcomer"].all) == ("active", 3, None)
    await to_the_end(app, made)
    assert (await progress(app, made)).keys() == {"a"}


async def test_progress_by_tenant(app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pending, active, complete; done of all; what died, and of what."""
    monkeypatch.setattr(backfill, "PAGE", 4)
    made = await migrating(app, a=4, b=6, c=5)
    await say(app, made, Said("a", tier="gold", priority=2), Said("b", priority=1))
    assert await progress(app, made) == {}
    await page(app, made)
    await app.worker(concurrency=1)._embed_step()
    await page(app, made)
    found = await progress(app, made)
    shown = {name: (row.state, row.done, row.all, row.open) for name, row in found.items()}
    assert list(shown.items()) == [
        ("a", ("complete", 4, 4, 0)),
        ("b", ("active", 0, 6, 4)),
        ("c", ("pending", 0, 5, 0)),
    ]
    assert found["a"].tier == "gold"
    await to_the_end(app, made)
    assert {row.state for row in (await progress(app, made)).values()} == {"complete"}


async def test_progress_says_what_died(app: App, loopback: Loopback) -> None:
    """The count by tenant, and the cause that most of them have."""
    made = await migrating(app, a=2, b=2)
    await page(app, made)
    await steps.rows(
        app,
        "INSERT INTO revec.dead (index_id, doc_id, input_hash, rev, tenant, cause, attempts)"
        " SELECT index_id, doc_id, '', rev, tenant, 'too rude', 1 FROM revec.work WHERE tenant = 'b' RETURNING 1",
    )
    found = await progress(app, made)
    assert [(row.dead, row.error) for row in found.values()] == [(0, None), (2, "too rude")]
    await to_the_end(app, made)


class KilledError(Exception):
    """As by `kill -9`: the transaction is never committed."""


async def test_a_kill_in_mid_page_loses_and_repeats_nothing(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither cursor nor work is kept of that page; the next one is the same."""
    monkeypatch.setattr(backfill, "PAGE", 6)
    made = await migrating(app, a=9, b=9)
    await page(app, made)
    before = await steps.rows(app, "SELECT * FROM revec.backfill ORDER BY tenant")

    def kill(_: str) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(backfill, "failpoint", kill)
        with pytest.raises(KilledError):
            await page(app, made)
    assert await steps.rows(app, "SELECT * FROM revec.backfill ORDER BY tenant") == before
    assert await page(app, made) == {"a": 3, "b": 3}
    await to_the_end(app, made)
    (seen,) = await steps.rows(app, "SELECT seen FROM revec.migration WHERE id = 2")
    assert seen.seen == 18


class Explained:
    """A connection that keeps the plan of each statement that reads documents."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self.plans: list[str] = []

    async def execute(self, query: Any, parameters: Any = None) -> Any:
        plan = await self._conn.execute(sql.SQL("EXPLAIN ") + query, parameters)
        self.plans.append("\n".join(row[0] for row in await plan.fetchall()))
        return await self._conn.execute(query, parameters)


@asynccontextmanager
async def many(app: App, *, analyzed: bool) -> AsyncIterator[tuple[Collection, Any]]:
    """One tenant of 20,000 documents and 2,000 of two; a connection, and the turn of the first page."""
    made = await migrating(app, a=1)
    await steps.rows(
        app,
        "INSERT INTO revec.document (collection_id, source_id, key, tenant, body)"
        " SELECT 1, 1, 'x' || n, CASE WHEN n <= 20000 THEN 'large' ELSE 't' || n % 2000 END, 'body ' || n"
        "   FROM generate_series(1, 24000) AS n RETURNING 1",
    )
    await steps.rows(app, "DELETE FROM revec.work RETURNING 1")
    if analyzed:
        async with app.database.transaction() as conn:
            await conn.execute("ANALYZE revec.document")
    asked = {"migration": 2, "collection": made.id, "size": backfill.PAGE, "tenants": backfill.TENANTS}
    async with app.database.transaction() as conn:
        await conn.execute(backfill.SQL.enumerate, asked)
        turn = await (await conn.execute(backfill.SQL.turn, asked)).fetchall()
        yield made, (Explained(conn), turn)


@pytest.mark.parametrize("analyzed", [False, True])
async def test_one_index_page_is_enough(app: App, loopback: Loopback, *, analyzed: bool) -> None:
    """Each tenant's documents are read by the cursors' index, from the cursor on: no scan, no sort."""
    async with many(app, analyzed=analyzed) as (made, (conn, turn)):
        assert len(turn) == backfill.TENANTS
        await backfill._enqueue(conn, await world.migration(app, made), turn)
        alone = [each for each in turn if each.tenant == "large"]
        alone = [each._replace(share=backfill.PAGE) for each in alone]
        await backfill._enqueue(conn, await world.migration(app, made), alone)
    for plan in conn.plans:
        (reads,) = [line for line in plan.splitlines() if "on document d" in line]
        assert "Index Scan using document_cursor" in reads, plan
