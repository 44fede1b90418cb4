"""The backfill: a keyset cursor that keeps a bounded window of work ahead of the workers."""

from __future__ import annotations

from psycopg import sql

from revec.model.migration import Migration
from revec.observe.failpoints import failpoint
from revec.postgres.database import Database
from revec.postgres.queries import beside

SQL = beside(__file__)
PAGE = 2_500
WINDOW = 2 * PAGE  # rows of work ahead: 10^9 documents never mean 10^9 rows


async def enqueue_page(database: Database, migration: Migration) -> int:
    """Enqueue the next page; how many documents the cursor passed."""
    assert migration.new_index is not None
    query = SQL.next_page.format(vectors=sql.Identifier("revec", f"vectors_{migration.new_index}"))
    asked = {"migration": migration.id, "index": migration.new_index, "size": PAGE}
    async with database.transaction() as conn:
        cursor = await (await conn.execute(SQL.cursor, asked)).fetchone()
        if cursor is None:
            return 0
        row = await (await conn.execute(query, asked | cursor._asdict())).fetchone()
        failpoint("backfill_page_enqueued")
    assert row is not None
    return int(row.passed)
