"""The bridge of a migration that is served early, as it is kept: its fits, and what each is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from revec.model.errors import NotFound
from revec.model.index import Early
from revec.postgres.arrays import BigInts
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of a bridge, without itself."""

    version: int  # 0: not fitted yet
    drawn: int  # documents that are embedded first; 0: it never will be fitted
    pairs: int
    counted: int  # documents of the new index when it was fitted: what another fit goes by
    holds: bool
    why: str
    measure: Mapping[str, Any]
    at: datetime


async def kept(conn: Connection, migration_id: int) -> Kept | None:
    row = await (await conn.execute(SQL.kept, {"migration": migration_id})).fetchone()
    return None if row is None else Kept(*row)


async def way(conn: Connection, early: Early) -> tuple[int, int, bytes]:
    """(old index, new index, the bridge as bytes).

    Raises:
        NotFound: it does not hold any more, or a newer one does.
    """
    asked = {"migration": early.migration_id, "version": early.version}
    row = await (await conn.execute(SQL.way, asked, binary=True)).fetchone()
    if row is None:
        raise NotFound(f"the bridge of migration {early.migration_id} was replaced meanwhile")
    return row.old_index, row.new_index, row.bridge


async def begin(conn: Connection, migration_id: int, *, drawn: Sequence[int], why: str) -> bool:
    """Whether nobody had begun before. `drawn`: documents that are embedded first."""
    asked = {"migration": migration_id, "drawn": BigInts(drawn), "why": why}
    return await (await conn.execute(SQL.begin, asked)).fetchone() is not None


async def drawn(conn: Connection, migration_id: int) -> list[int]:
    """The documents that are embedded first, by which a bridge is measured."""
    row = await (await conn.execute(SQL.drawn, {"migration": migration_id})).fetchone()
    return [] if row is None else list(row.drawn)


async def put(
    conn: Connection,
    migration_id: int,
    seen: Kept,
    *,
    pairs: int,
    counted: int,
    bridge: bytes | None,
    holds: bool,
    why: str,
    measure: Mapping[str, Any],
) -> bool:
    """A newer fit; False where somebody else put one since the caller looked."""
    put = await conn.execute(
        SQL.put,
        {
            "migration": migration_id,
            "seen": seen.version,
            "pairs": pairs,
            "counted": counted,
            "bridge": bridge,
            "holds": holds,
            "why": why,
            "measure": Jsonb(dict(measure)),
        },
    )
    return put.rowcount > 0


async def close(conn: Connection, migration_id: int, why: str) -> None:
    """Nobody is answered early from this commit on."""
    await conn.execute(SQL.close, {"migration": migration_id, "why": why})


async def counted(conn: Connection, new_index: int, most: int) -> int:
    """Documents that the index being filled has, counted up to so many."""
    vectors = sql.Identifier("revec", f"vectors_{new_index}")
    row = await (await conn.execute(SQL.counted.format(vectors=vectors), {"most": most})).fetchone()
    assert row is not None
    return int(row.documents)
