"""The backfill: a keyset cursor in each tenant, and a bounded window of work ahead of the workers.

The next page is of the tenants of the highest priority that are not through, shared by weight.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from psycopg import sql

from revec.model.migration import Migration
from revec.observe.failpoints import failpoint
from revec.postgres.database import Connection, Database
from revec.postgres.queries import beside
from revec.work import gather

SQL = beside(__file__)
PAGE = 2_500
WINDOW = 2 * PAGE  # rows of work ahead: 10^9 documents never mean 10^9 rows
PATIENT_WINDOW = 20 * gather.FULL  # so many batches at the provider
TENANTS = 1_000  # in one page, each with a document at least: many small tenants need few pages
NAMED = 5  # paused tenants that a sentence names


async def enqueue_page(database: Database, migration: Migration) -> int:
    """Enqueue the next page; how many documents the cursors passed."""
    asked = {"migration": migration.id, "size": PAGE, "tenants": TENANTS}
    async with database.transaction() as conn:
        locked = await (await conn.execute(SQL.lock, asked)).fetchone()
        if locked is None:
            return 0
        asked["collection"] = locked.collection
        if not locked.enumerated:
            await conn.execute(SQL.forget, asked)
            await conn.execute(SQL.enumerate, asked)
        room: Any = await (await conn.execute(SQL.room, asked)).fetchone()
        asked["size"] = room.documents
        turn = await (await conn.execute(SQL.turn, asked)).fetchall() if room.documents > 0 else []
        if room.ends:
            turn = _within(turn, room.documents)
        passed = await _enqueue(conn, migration, turn) if turn else 0
        await conn.execute(SQL.turned, asked | {"passed": passed})
        failpoint("backfill_page_enqueued")
    return passed


def _within(turn: list[Any], room: int) -> list[Any]:
    """A page of a course that ends somewhere: shares are rounded up, and the last one would go beyond."""
    taken = accumulate((each.share for each in turn), initial=0)
    shares = [
        each._replace(share=min(each.share, room - before)) for each, before in zip(turn, taken, strict=False)
    ]
    return [each for each in shares if each.share > 0]


async def _enqueue(conn: Connection, migration: Migration, turn: list[Any]) -> int:
    """Each tenant's next documents; all of `turn` have one priority."""
    assert migration.new_index is not None
    query = SQL.next_page.format(vectors=sql.Identifier("revec", f"vectors_{migration.new_index}"))
    rows = await conn.execute(
        query,
        {
            "migration": migration.id,
            "collection": migration.collection_id,
            "index": migration.new_index,
            "priority": turn[0].priority,
            "patient": migration.patient,
            "tenants": [each.tenant for each in turn],
            "after": [each.after_id for each in turn],
            "shares": [each.share for each in turn],
        },
    )
    return sum([row.documents for row in await rows.fetchall()])


async def can_go_on(conn: Connection, migration: Migration) -> bool:
    """Whether a tenant that is not paused has documents before its cursor."""
    row = await (await conn.execute(SQL.can_go_on, {"migration": migration.id})).fetchone()
    return row is not None and bool(row.it_can)


async def held_up(conn: Connection, migration: Migration) -> list[str]:
    """Paused tenants that lack vectors, each with the reason of its pause."""
    rows = await conn.execute(
        SQL.held_up,
        {
            "migration": migration.id,
            "collection": migration.collection_id,
            "index": migration.new_index,
            "limit": NAMED,
        },
    )
    return [f"{row.tenant} ({row.why})" for row in await rows.fetchall()]


async def waiting(conn: Connection, migration: Migration) -> str | None:
    """Whom it leaves out for now, in words; None where it is everybody's."""
    row = await (await conn.execute(SQL.waiting, {"migration": migration.id, "limit": NAMED})).fetchone()
    if row is None or not row.tenants:
        return None
    more = f" and {row.tenants - NAMED:,} more" if row.tenants > NAMED else ""
    return f"{row.documents:,} documents of tenants that it is not for yet: {', '.join(row.some)}{more}"


async def progress(conn: Connection, migration: Migration, limit: int) -> list[Any]:
    """By tenant: state (pending, active, complete), done and all in documents, open, dead, its error."""
    rows = await conn.execute(
        SQL.progress,
        {
            "migration": migration.id,
            "collection": migration.collection_id,
            "index": migration.new_index,
            "limit": limit,
        },
    )
    return await rows.fetchall()
