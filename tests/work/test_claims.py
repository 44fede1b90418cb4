"""Claims: shared fairly, ours for as long as the lease runs, and nobody else's to touch."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from functools import partial

import psycopg
import pytest
from psycopg import sql

from revec.app import App
from revec.model.document import Draft
from revec.model.index import Kind
from revec.observe import events
from revec.postgres import indexes
from revec.work import pack, queue
from tests import loopback as fake
from tests import steps
from tests.loopback import Loopback
from tests.work import hands

ONE = Draft(key="one", title="one", body="the first text")
HELD = "UPDATE revec.index SET held = %(held)s WHERE id = %(index)s RETURNING id"


async def test_a_zombie_cannot_touch_another_ones_claim(any_app: App) -> None:
    """Its lease ran out and another claimed: it can neither acknowledge, release, extend nor bury."""
    app = any_app
    made, index = await hands.indexed(app)
    await steps.put(app, made, [ONE])
    zombie = await hands.claim(app, index)
    await hands.expire(app)
    owner = await hands.claim(app, index)
    assert [job.doc_id for job in owner.jobs] == [job.doc_id for job in zombie.jobs]
    before = await hands.work(app)
    async with app.database.transaction("worker") as conn:
        assert await queue.settle(conn, zombie) == 0
        await queue.release(conn, zombie, blameless=True)
        await queue.extend(conn, zombie, 1e6)
        assert not await queue.bury(conn, zombie, zombie.jobs[0], b"", "because")
    assert await hands.work(app) == before
    assert await steps.rows(app, "SELECT FROM revec.dead") == []
    async with app.database.transaction("worker") as conn:
        await queue.release(conn, owner, blameless=True)
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def test_only_the_claimed_revision_is_acknowledged(app: App) -> None:
    """Not even the right token acknowledges, releases or buries work of another revision."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, [ONE])
    claim = await hands.claim(app, index)
    (job,) = claim.jobs
    older = replace(claim, jobs=(replace(job, rev=job.rev - 1),))
    before = await hands.work(app)
    async with app.database.transaction("worker") as conn:
        assert await queue.settle(conn, older) == 0
        await queue.release(conn, older, blameless=True)
        assert not await queue.bury(conn, older, older.jobs[0], b"", "because")
    assert await hands.work(app) == before
    await hands.expire(app)
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def test_an_edit_ends_the_claim(any_app: App) -> None:
    """Newer work is free at once: it waits for no lease, and whoever claimed the old one lost it."""
    app = any_app
    made, index = await hands.indexed(app)
    await steps.put(app, made, [ONE])
    claim = await hands.claim(app, index)
    await steps.put(app, made, [replace(ONE, body="the second text")])
    (row,) = await hands.work(app)
    assert (row.token, row.leased, row.due, row.attempts) == (None, None, True, 0)
    async with app.database.transaction("worker") as conn:
        assert await queue.settle(conn, claim) == 0
    await hands.step(app)
    await hands.assert_oracle(app, made)
    assert await hands.work(app) == []


async def test_a_zombie_at_work_harms_nobody(
    any_app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease ran out while its request was under way: another one's claim and payment stand."""
    app = any_app

    async def stopped(*_: object) -> None:
        """As in a process that is stopped, nobody renews."""

    monkeypatch.setattr(queue, "extend", stopped)
    monkeypatch.setattr(queue, "extend_payment", stopped)
    made, _ = await hands.indexed(app)
    await steps.put(app, made, [ONE])
    async with hands.embedding(app, loopback) as zombie:
        await steps.rows(app, "UPDATE revec.paid SET lease_until = '-infinity' RETURNING 1")
        await hands.expire(app)
        second = asyncio.create_task(hands.step(app))
        await asyncio.to_thread(loopback.wait_held, 2)
        await steps.put(app, made, [replace(ONE, body="the second text")])
        assert not zombie.done()
    await second
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def test_a_large_tenant_does_not_keep_small_ones_waiting(app: App) -> None:
    """One tenant wrote 500 documents, two wrote one each: the two are in the first claim."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(500, tenant="a"))
    await steps.put(app, made, steps.drafts(1, start=500, tenant="b"))
    await steps.put(app, made, steps.drafts(1, start=501, tenant="c"))
    claim = await hands.claim(app, index, size=99)
    tenants = [job.tenant for job in claim.jobs]
    assert (tenants.count("b"), tenants.count("c")) == (1, 1)
    assert tenants.count("a") == 33
    await hands.expire(app)
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def test_tenants_whose_work_is_taken_hide_nobody(app: App) -> None:
    """Behind more tenants than one claim reaches there are others: the next worker finds them."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, [replace(ONE, key=f"{n}", tenant=f"{n:03}") for n in range(100)])
    first = await hands.claim(app, index)
    second = await hands.claim(app, index)
    assert len(first.jobs) == 64
    assert {job.tenant for job in second.jobs} == {f"{n:03}" for n in range(64, 100)}
    await hands.expire(app)
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def test_an_edit_does_not_wait_behind_a_backfill(app: App) -> None:
    """Of two lanes the live one is worked off first, however much of the other came before."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(20))
    await steps.rows(app, "UPDATE revec.work SET lane = 2 RETURNING 1")
    await steps.put(app, made, [replace(steps.drafts(20)[7], body="edited just now")])
    await hands.step(app, claim=4)
    ((edited,),) = await steps.rows(app, "SELECT id FROM revec.document WHERE key = '7'")
    assert list(await steps.stored(app, index)) == [edited]
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def test_an_index_that_is_being_built_is_left_alone(any_app: App) -> None:
    """Its work is not claimed, so no writer of documents waits for the build, and none is lost."""
    app = any_app
    made, index = await hands.indexed(app, kind=Kind.HNSW)
    await steps.put(app, made, [ONE])
    await steps.rows(app, HELD, held=True, index=index.id)
    async with app.database.transaction() as build:
        await build.execute(f"LOCK TABLE revec.vectors_{index.id} IN SHARE MODE")
        working = asyncio.create_task(hands.step(app))

        async def is_settled() -> bool:
            return working.done() or bool(await hands.lock_waiters(app))

        await hands.until(is_settled)
        async with app.database.transaction() as writer:
            edit = writer.execute("UPDATE revec.document SET body = body || ' edited'")
            waited = await hands.has_to_wait(writer, edit)
    await working
    assert not waited, "a writer waited for the build"
    async with app.database.transaction() as conn:
        await app.store.build(conn, index)
    await steps.rows(app, HELD, held=False, index=index.id)
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def test_whoever_holds_an_index_sees_every_claim(any_app: App) -> None:
    """A claim that has not committed yet is waited for; after that there is none."""
    app = any_app
    made, index = await hands.indexed(app, kind=Kind.HNSW)
    await steps.put(app, made, [ONE])

    async def hold() -> int:
        async with app.database.transaction() as conn:
            await indexes.hold(conn, index.id, held=True)
        async with app.database.transaction() as conn:
            return (await queue.open_work(conn, [index.id]))[index.id].leased

    async with app.database.transaction("worker") as conn:
        claim = await queue.claim(conn, index.id, queue.LIVE, size=1, lease=60)
        holding = asyncio.create_task(hold())

        async def is_settled() -> bool:
            return holding.done() or bool(await hands.lock_waiters(app))

        await hands.until(is_settled)
    assert await holding == len(claim.jobs) == 1
    assert (await hands.claim(app, index)).jobs == ()
    await hands.expire(app)
    assert (await hands.claim(app, index)).jobs == ()
    await steps.rows(app, HELD, held=False, index=index.id)
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def test_a_locked_table_costs_no_payment(
    any_app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody locks the vectors' table: the vector is kept, the claim given back, nobody stalls."""
    app = any_app
    monkeypatch.setattr(pack, "WRITE_LOCK_TIMEOUT", "50ms")
    monkeypatch.setattr(pack, "LOCKED_PAUSE", 0.0)
    made, index = await hands.indexed(app)
    await steps.put(app, made, [ONE])
    asked = loopback.requests()["requests"]
    async with app.database.transaction() as other:
        await other.execute(f"LOCK TABLE revec.vectors_{index.id} IN SHARE MODE")
        with suppress(psycopg.errors.LockNotAvailable):  # as a worker's loop does
            await hands.step(app)
        (row,) = await hands.work(app)
        assert (row.attempts, row.token, row.leased) == (0, None, None)
    assert [kept.kept for kept in await hands.paid(app)] == [True]
    await steps.drain(app)
    assert loopback.requests()["requests"] == asked + 1
    await hands.assert_oracle(app, made)


async def test_giving_back_and_renewing_wait_for_no_writer(any_app: App) -> None:
    """A writer holds the work of one document: the claim's other documents are given back at once."""
    app = any_app
    made, index = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(2))
    claim = await hands.claim(app, index)
    async with app.database.transaction() as writer:
        await writer.execute("UPDATE revec.document SET body = 'edited' WHERE key = '1'")
        async with app.database.transaction("worker") as conn:
            assert not await hands.has_to_wait(conn, queue.extend(conn, claim, 60))
            bury = queue.bury(conn, claim, claim.jobs[1], b"", "because")
            assert not await hands.has_to_wait(conn, bury)
            assert not await hands.has_to_wait(conn, queue.release(conn, claim, blameless=True))
        assert await steps.rows(app, "SELECT FROM revec.dead") == []
        given_back = {row.key: row.token is None for row in await hands.work(app)}
        assert given_back == {"0": True, "1": False}
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def test_payments_are_locked_in_one_order(app: App) -> None:
    """Two workers with the same texts, one leasing and one done with them, do not deadlock."""
    made, index = await hands.indexed(app)
    space, one, two = index.space.id, b"1", b"2"
    async with app.database.transaction("worker") as conn:
        late = await queue.lease_payment(conn, space, [two], 60)  # a scan meets it first
        await queue.lease_payment(conn, space, [one], 60)
        await conn.execute("UPDATE revec.paid SET token = %s", (late.token,))

    async def lease() -> None:
        async with app.database.transaction("worker") as conn:
            await queue.lease_payment(conn, space, [one, two], 60)

    async def done() -> None:
        async with app.database.transaction("worker") as conn:
            await conn.execute("SET LOCAL enable_indexscan = off")
            await conn.execute("SET LOCAL enable_bitmapscan = off")
            await queue.close_payment(conn, space, late.token, [one, two], {})

    both = []
    async with app.database.transaction() as other:
        await other.execute("SELECT FROM revec.paid WHERE text_hash = %s FOR UPDATE", (one,))
        for number, story in enumerate((lease, done), start=1):
            both.append(asyncio.create_task(story()))

            async def are_waiting(wanted: int = number) -> bool:
                return len(await hands.lock_waiters(app)) >= wanted

            await hands.until(are_waiting)
    assert await asyncio.gather(*both, return_exceptions=True) == [None, None]
    await hands.assert_oracle(app, made)


async def test_documents_are_written_in_one_order(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers with the same documents, each in another order, do not deadlock."""
    told: list[events.Event] = []
    monkeypatch.setattr(events, "emit", told.append)
    made, index = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(3))
    writing = []
    for order in (1, -1):
        await hands.expire(app)
        claim = await hands.claim(app, index)
        site = await hands.site(app, index)
        pieces = (await hands.read(site, claim))[::order]
        texts = [piece.texts[0] for piece in pieces]
        vectors = dict(
            zip(
                [piece.hashes[0] for piece in pieces],
                fake.vectors(texts, index.space.model),
                strict=True,
            )
        )
        writing.append(partial(site._write, claim, pieces, vectors, claim.token))
    both = []
    async with app.database.transaction() as other:
        table = sql.Identifier("revec", f"vectors_{index.id}")
        taken = sql.SQL(
            "INSERT INTO {} SELECT min(id) + 1, 0, 'default', '', '', 1, array_fill(1, ARRAY[%s])::halfvec"
            "  FROM revec.document"
        )
        await other.execute(taken.format(table), (index.space.dims,))
        for number, write in enumerate(writing, start=1):
            both.append(asyncio.create_task(write()))

            async def are_waiting(wanted: int = number) -> bool:
                return len(await hands.lock_waiters(app)) >= wanted

            await hands.until(are_waiting)
        raise psycopg.Rollback  # and the place of the document in the middle is free
    await asyncio.gather(*both)
    assert told == []
    assert await hands.work(app) == []
    await hands.assert_oracle(app, made)
