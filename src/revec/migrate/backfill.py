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
    async with database.transaction() as conn:
        row = await (
            await conn.execute(
                query,
                {"migration": migration.id, "index": migration.new_index, "size": PAGE},
            )
        ).fetchone()
        failpoint("backfill_page_enqueued")
    return 0 if row is None else int(row.passed)
