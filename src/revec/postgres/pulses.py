"""How long searches and the database took lately, and in quiet times: what the brake looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)

KEPT = 600.0  # seconds
ECHO = 10.0  # seconds after a backfill that are not quiet yet
ENOUGH = 50  # times that say what is usual
SEARCH, DATABASE = "search", "database"


async def put(conn: Connection, kind: str, name: str, ms: Sequence[float]) -> None:
    """Times in milliseconds: of searches of a collection, or of the database as seen from a host."""
    await conn.execute(SQL.put, {"kind": kind, "name": name, "ms": list(ms), "kept": KEPT})


async def put_backfill(conn: Connection) -> None:
    await conn.execute(SQL.put_backfill)


async def lately(conn: Connection, host: str, *, seconds: float) -> list[Any]:
    """What has a quiet time to be compared with: kind, name, n, calm, ms."""
    rows = await conn.execute(SQL.lately, {"host": host, "seconds": seconds})
    return await rows.fetchall()


async def learn(conn: Connection) -> None:
    await conn.execute(SQL.learn, {"echo": ECHO, "enough": ENOUGH})


async def searches_per_second(conn: Connection, collection: str) -> float | None:
    """Of the last minutes, no more than the samples hold; None where none were seen."""
    row = await (await conn.execute(SQL.searches, {"name": collection})).fetchone()
    assert row is not None
    return row.n / row.seconds if row.n and row.seconds else None
