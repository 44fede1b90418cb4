"""How each collection stood, a row a minute: written by the census, read by whoever shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from revec.model.census import Standing
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)
KEPT_DAYS = 8  # a week, and the same day of the week before


@dataclass(frozen=True, slots=True)
class Sample:
    """One collection in one minute; what a field means stands with the table, in 0029_sample.sql."""

    minute: datetime
    index_id: int | None
    documents: int
    approximate: bool
    done: int
    coverage: float | None
    backlog: int
    oldest: float  # seconds
    unprojected: int
    dead: int
    lag: float  # seconds
    per_second: float


async def put(conn: Connection, standings: Mapping[int, Standing]) -> None:
    """Of collection → how it stands, for this minute."""
    for collection_id, standing in standings.items():
        row = asdict(standing)
        del row["name"]
        asked = {"collection": collection_id, "days": KEPT_DAYS, "index": row.pop("index_id"), **row}
        await conn.execute(SQL.put, asked)


async def last_day(conn: Connection, collection_id: int) -> list[Sample]:
    """The last 24 hours of a collection, the oldest first: up to 1,440; a minute may be missing."""
    rows = await conn.execute(SQL.last_day, {"collection": collection_id})
    return [Sample(*row) for row in await rows.fetchall()]


async def newest(conn: Connection) -> dict[int, Sample]:
    """Collection → its newest sample, however old that is; without the collections that have none."""
    rows = await conn.execute(SQL.newest)
    return {row[0]: Sample(*row[1:]) for row in await rows.fetchall()}
