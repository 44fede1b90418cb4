"""A worker's hands, one step at a time, and a witness of all that they wrote."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import sql

from revec.app import App
from revec.migrate.planning.recipe import AS_IT_IS, Long
from revec.model.index import Collection, Index, Kind
from revec.model.place import PG
from revec.postgres import documents, indexes
from revec.postgres.database import Connection, Database
from revec.work import queue
from revec.work.calls import Caller
from revec.work.pack import Worksite
from revec.work.queue import Claim
from revec.work.reading import Piece, Reader
from revec.work.tally import Summary
from tests import steps
from tests.loopback import Loopback
from tests.model.test_chunking import by_bytes

STORE = PG  # where `indexed` has its index
PATIENCE = 10.0  # seconds until a signal that does not come is a failure

WITNESS = """
CREATE TABLE IF NOT EXISTS revec.stale_write (doc_id bigint);
CREATE OR REPLACE FUNCTION revec.witness() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO revec.stale_write
    SELECT NEW.doc_id
     WHERE NOT EXISTS (SELECT FROM revec.document d
                        WHERE d.id = NEW.doc_id AND d.input_hash = NEW.input_hash);
    RETURN NULL;
END $$;
"""
WATCH = "CREATE TRIGGER witness AFTER INSERT OR UPDATE ON {} FOR EACH ROW EXECUTE FUNCTION revec.witness()"


async def indexed(
    app: App,
    name: str = "c",
    model: str = steps.OLD,
    kind: Kind = Kind.EXACT,
    long: Long = AS_IT_IS,
) -> tuple[Collection, Index]:
    """A collection with one index that is written and no migration; a witness stands at its table."""
    made = await steps.collection(app, name, model=None)
    plan = await app.plan(made, model, kind=kind if STORE == PG else None, long=long, store=STORE)
    await app.store.prepare(plan.place, plan.space.dims)
    async with app.database.transaction() as conn:
        await indexes.put_space(conn, plan.space)
        index = await indexes.register(conn, made.id, plan.space, plan.query, plan.kind, place=plan.place)
        await app.store.create(conn, index)
    await watch(app, index)
    return made, index


async def watch(app: App, index: Index) -> None:
    """A witness stands at its table."""
    async with app.database.transaction() as conn:
        await conn.execute(WITNESS)
        table = sql.Identifier("revec", f"vectors_{index.id}")
        await conn.execute(sql.SQL(WATCH).format(table))


async def site(app: App, index: Index, database: Database | None = None) -> Worksite:
    """A worker's place at one index, on a database session of the test's own where it has one."""
    database = database or app.database
    provider = await app.provider(index.space.address, index.space.dims)
    return Worksite(database, app.store, provider, Caller(database), index, lease=60.0)


async def assert_oracle(app: App, made: Collection) -> None:
    """The oracle; and nothing stale, and nothing of a deleted document, was ever committed."""
    stale = await steps.rows(app, "SELECT doc_id FROM revec.stale_write")
    assert stale == [], "vectors were written of contents that were no longer theirs"
    await steps.assert_oracle(app, made)


async def step(app: App, **pace: Any) -> Summary:
    """A worker claims once, if there is anything to claim, and works it off."""
    worker = app.worker(**pace)
    await worker._embed_step()
    return worker.summary


@asynccontextmanager
async def embedding(app: App, loopback: Loopback, **pace: Any) -> AsyncIterator[asyncio.Task[Summary]]:
    """A worker's step whose request waits at the provider for as long as the body runs."""
    loopback.hold()
    working = asyncio.create_task(step(app, **pace))
    try:
        await asyncio.to_thread(loopback.wait_held)
        yield working
    finally:
        loopback.release()
        await working


async def claim(app: App, index: Index, *, size: int = 100, lease: float = 60.0) -> Claim:
    """A claim without a worker, so that nobody renews its lease."""
    async with app.database.transaction("worker") as conn:
        return await queue.claim(conn, index.id, queue.LIVE, size=size, lease=lease)


async def read(site: Worksite, claim: Claim) -> list[Piece]:
    """The claimed documents' texts."""
    async with site.database.transaction("worker") as conn:
        contents = await documents.contents(conn, await documents.measured(conn, claim.to_embed))
    return Reader(site.index.space, by_bytes, None).pieces(claim, contents)


async def expire(app: App) -> None:
    """All leases on work have run out."""
    await steps.rows(app, "UPDATE revec.work SET lease_until = now() - interval '1 second' RETURNING doc_id")


async def work(app: App) -> list[Any]:
    """What is not done, in the order of documents; `key` is None of those that are gone."""
    return await steps.rows(
        app,
        "SELECT w.doc_id, w.rev, w.action, w.lane, w.tenant, w.token, w.attempts, w.lease_until, d.key, w.lease_until > now() AS leased, w.not_before <= now() AS due"
        "  FROM revec.work w LEFT JOIN revec.document d ON d.id = w.doc_id ORDER BY w.doc_id",
    )


async def paid(app: App) -> list[Any]:
    """Rights to pay, and vectors that were paid for and could not be written."""
    return await steps.rows(app, "SELECT text_hash, vector IS NOT NULL AS kept, lease_until FROM revec.paid")


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Look again and again, until it is so."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not await condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"it is not so after {PATIENCE:g} s") from None


async def has_to_wait(conn: Connection, doing: Awaitable[object], *, patience: str = "300ms") -> bool:
    """Whether somebody's lock is in the way."""
    await conn.execute("SELECT set_config('lock_timeout', %s, true)", (patience,))
    try:
        async with conn.transaction():
            await doing
    except psycopg.errors.LockNotAvailable:
        return True
    return False


async def lock_waiters(app: App) -> list[Any]:
    """Sessions of this database that wait for somebody's lock."""
    return await steps.rows(
        app,
        "SELECT pid, query FROM pg_stat_activity"
        " WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0",
    )
