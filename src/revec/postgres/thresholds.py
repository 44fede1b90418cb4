"""From which score on two documents are called similar: one a collection and space, since scores differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)


@dataclass(frozen=True, slots=True)
class Threshold:
    value: float  # cosine similarity
    carried_from: str | None  # the space whose hit rate it keeps; None: a person said it
    evidence: Mapping[str, Any]


async def kept(conn: Connection, collection_id: int) -> dict[str, Threshold]:
    """By the id of the space."""
    rows = await conn.execute(SQL.kept, {"collection": collection_id})
    return {
        row.space_id: Threshold(row.value, row.carried_from, row.evidence) for row in await rows.fetchall()
    }


async def keep(conn: Connection, collection_id: int, space_id: str, threshold: Threshold) -> None:
    await conn.execute(
        SQL.keep,
        {
            "collection": collection_id,
            "space": space_id,
            "value": threshold.value,
            "carried_from": threshold.carried_from,
            "evidence": Jsonb(dict(threshold.evidence)),
        },
    )
