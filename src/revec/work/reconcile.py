"""Reconcile: one walk through a collection's tables, documents and indexes, for what no trigger told of.

A walk goes on in pages. Each is a transaction of its own that looks, enqueues what is to be mended, and
moves the cursor: killed anywhere, the next worker goes on there; no snapshot is older than a page. Whoever
writes documents and vectors writes them still: a walk only says which keys to look at.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from revec.model.errors import NotFound
from revec.model.index import Collection
from revec.observe import events
from revec.observe.failpoints import failpoint
from revec.postgres import collections
from revec.postgres.database import Connection, Database, first_line
from revec.postgres.queries import beside
from revec.stores.base import Store
from revec.work import walking
from revec.work.walking import Report, Walk

SQL = beside(__file__)
LOOK_EVERY = 5.0  # seconds between looks for a walk that is due
LONGEST_REST = 1.0  # seconds between pages: a walk takes half of one connection's time
PATIENCE, SOON = 300.0, 0.5  # seconds that a person's walk waits for a page, and between two tries
WORKERS, PERSON = "workers", "person"
NOT_NOW = (psycopg.errors.UndefinedTable, psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled)


class Reconciler:
    """A duty of every worker. `every`: seconds within which drift is found; 0: never by itself."""

    def __init__(self, database: Database, store: Store, *, every: float) -> None:
        self._database, self._store, self._every = database, store, every
        self._look_at = 0.0

    async def tick(self) -> bool:
        """The next page of a walk that is under way or due; whether there was one."""
        began = time.monotonic()
        if not self._every or began < self._look_at:
            return False
        try:
            moved = await self._page()
        except NOT_NOW as error:
            events.emit(events.TryAgain(first_line(error)))
            moved = False
        if not moved:
            self._look_at = time.monotonic() + LOOK_EVERY
            return False
        await asyncio.sleep(min(LONGEST_REST, time.monotonic() - began))
        return True

    async def _page(self) -> bool:
        async with self._database.transaction() as conn:
            await conn.execute(SQL.known)
            row = await (await conn.execute(SQL.next, {"every": self._every})).fetchone()
            if row is None:
                return False
            walk = _walk(row)
            walk.is_careful = True
            if not walking.is_over_a_network(walk):
                await walking.look(conn, self._store, walk, heal=True)
                if walk.waits:
                    events.emit(events.TryAgain(walk.waits))
                    return False
                failpoint("walk_page")
                await _keep(conn, walk, WORKERS)
                return True
        await _ask_store(self._database, self._store, walk, WORKERS)
        return True


async def reconcile(
    database: Database,
    store: Store,
    collection: Collection,
    *,
    source: str | None = None,
    heal: bool = True,
    tell: Callable[[Walk], None] = lambda _: None,
) -> Report:
    """One whole walk now. One that a person began and that was cut off is gone on with.

    Without `heal` nothing is written, no cursor either.

    Raises:
        NotFound: the collection has no such source.
    """
    if source is not None:
        async with database.transaction() as conn:
            await collections.source(conn, collection, source)
    if not heal:
        return await _look_only(database, store, collection, source, tell)
    async with database.transaction() as conn:
        await conn.execute(SQL.begin, {"collection": collection.id, "source": source})
    report, give_up_at = None, time.monotonic() + PATIENCE
    while report is None:
        async with database.transaction() as conn:
            row = await (await conn.execute(SQL.own, {"collection": collection.id})).fetchone()
            if row is None:  # somebody else asked for it too, and has just come to its end
                return await _last(conn, collection)
            walk = _walk(row)
            if not walking.is_over_a_network(walk):
                await walking.look(conn, store, walk, heal=True)
                if walk.waits and time.monotonic() > give_up_at:
                    await walking.give_up_part(conn, walk)
                if not walk.waits:
                    failpoint("walk_page")
                    report = await _keep(conn, walk, PERSON)
                    give_up_at = time.monotonic() + PATIENCE
        if walk.waits:
            await asyncio.sleep(SOON)
            continue
        if walking.is_over_a_network(walk):
            report = await _ask_store(database, store, walk, PERSON)
        tell(walk)
    return report


async def _look_only(
    database: Database,
    store: Store,
    collection: Collection,
    source: str | None,
    tell: Callable[[Walk], None],
) -> Report:
    walk = Walk(collection.id, source, part=())
    while not walk.is_over:
        if walking.is_over_a_network(walk):
            lost = await walking.lost(database, store, walk)
            async with database.transaction() as conn:
                await walking.note_lost(conn, store, walk, lost, heal=False)
        else:
            async with database.transaction() as conn:
                await walking.look(conn, store, walk, heal=False)
                if walk.waits:  # nothing comes of waiting for what only a healing walk lets through
                    await walking.give_up_part(conn, walk)
        tell(walk)
    return walk.report(PERSON)


async def walks(conn: Connection, collection_id: int) -> list[Any]:
    """begun_by, last, under_way, looked, age and took (seconds) of the workers' walk and of a person's."""
    return await (await conn.execute(SQL.walks, {"collection": collection_id})).fetchall()


def _walk(row: Any) -> Walk:
    part = None if row.part is None else tuple(row.part)
    found = Counter(row.found)
    return Walk(
        row.collection_id,
        row.source,
        part,
        row.after,
        row.looked,
        found,
        row.examples,
        row.notes,
        row.began_at,
    )


async def _ask_store(database: Database, store: Store, walk: Walk, by: str) -> Report | None:
    """A page of what a store elsewhere has lost: it is asked outside transactions, so the cursor is looked at
    once more before anything is kept.
    """
    here = (walk.part, walk.after)
    lost = await walking.lost(database, store, walk)
    async with database.transaction() as conn:
        asked = {"collection": walk.collection_id, "by": by}
        row = await (await conn.execute(SQL.still, asked)).fetchone()
        if row is None or (tuple(row.part or ()), row.after) != here:
            return None  # another worker was faster
        await walking.note_lost(conn, store, walk, lost, heal=True)
        return await _keep(conn, walk, by)


async def _keep(conn: Connection, walk: Walk, by: str) -> Report | None:
    """The cursor, with what the page enqueued; the report where it is over."""
    whose = {"collection": walk.collection_id, "by": by, "began_at": walk.began_at}
    if walk.is_over:
        report = walk.report(by)
        await conn.execute(SQL.end, whose | {"seconds": report.seconds, "report": Jsonb(asdict(report))})
        return report
    await conn.execute(
        SQL.keep,
        whose
        | {
            "part": list(walk.part or ()),
            "after": walk.after,
            "looked": walk.looked,
            "found": Jsonb(walk.found),
            "examples": Jsonb(walk.examples),
            "notes": Jsonb(walk.notes),
        },
    )
    return None


async def _last(conn: Connection, collection: Collection) -> Report:
    for row in await walks(conn, collection.id):
        if row.begun_by == PERSON and row.last:
            return Report(**row.last)
    raise NotFound(f"{collection.name} was not walked through yet: run `revec reconcile {collection.name}`")
