"""How many rows there are, where counting them would take too long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import sql

from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)


async def estimated(conn: Connection, query: sql.Composable, asked: Mapping[str, Any]) -> int:
    """What the planner expects a query to find: as good as the last ANALYZE, and at once."""
    row = await (await conn.execute(SQL.explained.format(query=query), asked)).fetchone()
    assert row is not None
    return int(row[0][0]["Plan"]["Plan Rows"])
