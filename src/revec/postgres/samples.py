"""How each collection stood, a row a minute: written by the census; `migrate/overall.sql` shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from revec.model.census import Standing
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)
KEPT_DAYS = 8  # a week, and the same day of the week before


async def put(conn: Connection, standings: Mapping[int, Standing]) -> None:
    """Of collection → how it stands, for this minute."""
    for collection_id, standing in standings.items():
        row = asdict(standing)
        del row["name"]
        asked = {"collection": collection_id, "days": KEPT_DAYS, "index": row.pop("index_id"), **row}
        await conn.execute(SQL.put, asked)
