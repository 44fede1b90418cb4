"""Tenants take turns: by lane, by priority, by weight; a paused one waits and keeps nobody waiting."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from revec.app import App
from revec.model.document import Draft
from revec.model.index import Collection, Index
from revec.postgres import tenants
from revec.postgres.tenants import Said
from revec.work import queue
from tests import steps
from tests.loopback import Loopback
from tests.work import hands

BACKFILL = "UPDATE revec.work SET lane = 2, priority = %(priority)s WHERE tenant = %(tenant)s RETURNING 1"


async def say(app: App, made: Collection, *said: Said) -> None:
    async with app.database.transaction() as conn:
        await tenants.say(conn, made.id, said)


async def pause(app: App, made: Collection, *names: str) -> None:
    async with app.database.transaction() as conn:
        await tenants.pause(conn, made.id, names, "because")


async def resume(app: App, made: Collection, *names: str) -> None:
    async with app.database.transaction() as conn:
        await tenants.resume(conn, made.id, names)


async def claim(app: App, index: Index, lane: int, size: int = 100, after: str = "") -> list[str]:
    """Whose documents are claimed; the claim is kept."""
    async with app.database.transaction("worker") as conn:
        found = await queue.claim(conn, index.id, lane, size=size, lease=60, after_tenant=after)
    return [job.tenant for job in found.jobs]


async def ready(app: App) -> list[int]:
    """The lanes that have something to claim."""
    async with app.database.transaction("worker") as conn:
        return [lane for _, lane in await queue.ready(conn)]


async def waiting(app: App, made: Collection, **counts: int) -> None:
    """So many new documents of each tenant."""
    start = (await steps.rows(app, "SELECT count(*) FROM revec.document"))[0].count
    for tenant, count in counts.items():
        await steps.put(app, made, steps.drafts(count, start=start, tenant=tenant))
        start += count


async def to_backfill(app: App, tenant: str, priority: int = 0) -> None:
    await steps.rows(app, BACKFILL, tenant=tenant, priority=priority)


async def all_done(app: App, made: Collection) -> None:
    await hands.expire(app)
    await steps.drain(app)
    assert await hands.work(app) == []
    await hands.assert_oracle(app, made)


async def test_an_edit_waits_for_no_pack_of_a_backfill(app: App, loopback: Loopback) -> None:
    """The only place is at a pack of another tenant's backfill, and the provider is slow: the edit is sent."""
    made, _ = await hands.indexed(app)
    await waiting(app, made, large=50)
    await to_backfill(app, "large")
    loopback.hold()
    worker = app.worker(concurrency=1, claim=10)
    running = asyncio.create_task(worker.run(drain=False))

    async def held(wanted: int) -> bool:
        return await asyncio.to_thread(loopback.held) >= wanted

    await hands.until(lambda: held(1))
    await steps.put(app, made, [Draft("edit", body="just written", tenant="small")])
    try:
        await hands.until(lambda: held(2))
        sent = True
    except TimeoutError:
        sent = False
    worker.stop()
    loopback.release()
    await running
    assert sent, "the edit waited for the backfill's pack"
    await all_done(app, made)


async def test_the_express_place_takes_no_backfill(app: App, loopback: Loopback) -> None:
    """Or it would be taken itself when the edit comes."""
    made, _ = await hands.indexed(app)
    await waiting(app, made, large=50)
    await to_backfill(app, "large")
    loopback.hold()
    worker = app.worker(concurrency=1, claim=10)
    running = asyncio.create_task(worker.run(drain=False))
    await asyncio.to_thread(loopback.wait_held)
    await asyncio.sleep(0.3)  # several looks of the express place
    assert loopback.held() == 1
    worker.stop()
    loopback.release()
    await running
    await all_done(app, made)


async def test_shares_go_by_weight(any_app: App) -> None:
    """Three times the weight, three times the documents of each claim; a tenant nobody spoke of has one."""
    app = any_app
    made, index = await hands.indexed(app)
    await say(app, made, Said("a", weight=3))
    await waiting(app, made, a=100, b=100)
    claimed = await claim(app, index, queue.LIVE, size=40)
    assert (claimed.count("a"), claimed.count("b")) == (30, 10)
    await waiting(app, made, newcomer=5)
    assert "newcomer" in await claim(app, index, queue.LIVE, size=40)
    await all_done(app, made)


async def test_the_lightest_tenant_gets_something(app: App) -> None:
    """Beside one of a thousand times its weight."""
    made, index = await hands.indexed(app)
    await say(app, made, Said("b", weight=1000))
    await waiting(app, made, a=20, b=20)
    assert "a" in await claim(app, index, queue.LIVE, size=10)
    await all_done(app, made)


async def test_a_claim_is_as_large_as_it_may_be(app: App) -> None:
    """What a division by tenants leaves over is somebody's: nearly a tenth of this one."""
    made, index = await hands.indexed(app)
    await waiting(app, made, a=20, b=20, c=20)
    claimed = await claim(app, index, queue.LIVE, size=11)
    assert sorted(claimed.count(tenant) for tenant in "abc") == [3, 4, 4]
    await all_done(app, made)


async def test_everybody_has_a_turn_before_anybody_has_two(app: App) -> None:
    """Two hundred tenants: each claim goes on behind the last one served."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, [Draft(f"{n}", body=f"text {n}", tenant=f"{n % 200:03}") for n in range(400)])
    served, after = [], ""
    for _ in range(3):
        some = await claim(app, index, queue.LIVE, size=50, after=after)
        served, after = served + some, max(some)
    assert len(set(served)) == len(served) == 3 * 64
    rest = set(await claim(app, index, queue.LIVE, size=50, after=after))
    assert len(rest) == 8
    assert not rest & set(served)
    await all_done(app, made)


async def test_the_highest_priority_is_backfilled_first(any_app: App) -> None:
    """As long as it has work that nobody holds; only then the next."""
    app = any_app
    made, index = await hands.indexed(app)
    await waiting(app, made, a=20, b=20, z=20)
    for tenant, priority in (("a", 0), ("b", -5), ("z", 7)):
        await to_backfill(app, tenant, priority)
    claims = [set(await claim(app, index, queue.BACKFILL, size=20)) for _ in range(3)]
    assert claims == [{"z"}, {"a"}, {"b"}]
    await all_done(app, made)


async def test_live_work_knows_no_priority(app: App) -> None:
    """An edit of a document that waited in the backfill lane is as live as any other."""
    made, index = await hands.indexed(app)
    await say(app, made, Said("z", priority=9))
    await waiting(app, made, a=3, z=3)
    await to_backfill(app, "z", 9)
    await steps.put(app, made, [replace(steps.drafts(4, tenant="z")[3], body="edited")])
    assert sorted(await claim(app, index, queue.LIVE)) == ["a", "a", "a", "z"]
    await all_done(app, made)


async def test_of_a_paused_tenant_nothing_is_claimed(any_app: App) -> None:
    """In no lane; the tenants behind it are found, also where its priority is higher."""
    app = any_app
    made, index = await hands.indexed(app)
    await waiting(app, made, a=5, b=5, c=5)
    await to_backfill(app, "b", 5)
    await to_backfill(app, "c", 0)
    await pause(app, made, "a", "b")
    assert await ready(app) == [queue.BACKFILL]
    assert await claim(app, index, queue.LIVE) == []
    assert set(await claim(app, index, queue.BACKFILL)) == {"c"}
    await resume(app, made, "a", "b")
    assert await ready(app) == [queue.LIVE, queue.BACKFILL]
    await all_done(app, made)


async def test_what_a_paused_tenant_deletes_is_removed(any_app: App) -> None:
    """Behind all its other work, and by a worker's own way."""
    app = any_app
    made, index = await hands.indexed(app)
    await waiting(app, made, a=10)
    await steps.drain(app)
    await pause(app, made, "a")
    await steps.put(app, made, steps.drafts(9, tenant="a", word="edited"))
    await steps.delete(app, made, "9")
    assert await ready(app) == [queue.LIVE]
    await steps.drain_soon(app)
    assert {row.action for row in await hands.work(app)} == {"embed"}
    assert 10 not in await steps.stored(app, index)
    assert await ready(app) == []
    await resume(app, made, "a")
    await all_done(app, made)


async def test_a_drain_does_not_wait_for_a_paused_tenant(app: App) -> None:
    """It ends with that work open, nothing is stuck, and the others are done."""
    made, index = await hands.indexed(app)
    await waiting(app, made, a=5, b=5)
    await pause(app, made, "a")
    summary = await steps.drain_soon(app)
    assert (summary.stuck, summary.written) == ([], 5)
    assert {row.tenant for row in await hands.work(app)} == {"a"}
    async with app.database.transaction() as conn:
        assert (await queue.open_work(conn, [index.id]))[index.id].paused == 5
    await resume(app, made, "a")
    await all_done(app, made)


async def test_what_is_live_stays_live(app: App) -> None:
    """A document that somebody waits for is raised out of the backfill, and never lowered."""
    made, index = await hands.indexed(app)
    await waiting(app, made, a=1)
    async with app.database.transaction("worker") as conn:
        await queue.enqueue(conn, index.id, [1])
    assert [row.lane for row in await hands.work(app)] == [queue.LIVE]
    await all_done(app, made)


async def test_a_document_that_is_waited_for_comes_before_the_backfill(any_app: App) -> None:
    """Raised or new, once however often it is asked for; what is claimed is left in its hands."""
    app = any_app
    made, index = await hands.indexed(app)
    await waiting(app, made, a=4)
    await steps.drain(app)
    await steps.put(app, made, steps.drafts(3, tenant="a", word="edited"))
    await to_backfill(app, "a")
    await claim(app, index, queue.BACKFILL, size=1)
    before = await hands.work(app)
    for _ in range(2):
        async with app.database.transaction("worker") as conn:
            await queue.enqueue(conn, index.id, [1, 2, 4, 999])
    after = await hands.work(app)
    assert after[0] == before[0], "a leased row was touched"
    assert [(row.doc_id, row.lane) for row in after] == [(1, 2), (2, 1), (3, 2), (4, 1)]
    assert await ready(app) == [queue.JIT, queue.BACKFILL]
    await all_done(app, made)


async def test_nobody_waits_for_an_index_that_is_not_written(app: App) -> None:
    """Nor for a document of another collection."""
    made, index = await hands.indexed(app)
    await waiting(app, made, a=1)
    other, foreign = await hands.indexed(app, "other")
    await steps.put(app, other, steps.drafts(1, tenant="a"))
    await steps.drain(app)
    await steps.rows(app, "UPDATE revec.index SET writing = false WHERE id = %(i)s RETURNING 1", i=index.id)
    async with app.database.transaction("worker") as conn:
        await queue.enqueue(conn, index.id, [1])
        await queue.enqueue(conn, foreign.id, [1])
    assert await hands.work(app) == []
    await steps.rows(app, "UPDATE revec.index SET writing = true RETURNING 1")
    await all_done(app, made)
