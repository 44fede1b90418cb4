"""What guards know of a migration, and that somebody watches it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from revec.model.migration import Migration
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)


@dataclass(frozen=True, slots=True)
class Kept:
    """One guard. `watch`: the plain values of its e-process; None where no requests are counted."""

    name: str
    watch: dict[str, Any] | None = None
    bar: float | None = None  # milliseconds that are slow
    fired: bool = False
    why: str | None = None
    told: bool = False


async def beat(conn: Connection, migration: Migration) -> None:
    await conn.execute(SQL.beat, {"id": migration.id})


async def silent(conn: Connection, seconds: float) -> dict[int, float]:
    """Migration → how many seconds nobody has watched it, though users may see its new index."""
    rows = await conn.execute(SQL.silent, {"seconds": seconds})
    return {row.id: row.seconds for row in await rows.fetchall()}


async def of(conn: Connection, migration: Migration) -> dict[str, Kept]:
    rows = await (await conn.execute(SQL.of_migration, {"id": migration.id})).fetchall()
    return {row.name: Kept(*row) for row in rows}


async def keep(
    conn: Connection,
    migration: Migration,
    name: str,
    *,
    watch: Mapping[str, Any] | None = None,
    bar: float | None = None,
    why: str | None = None,
) -> None:
    """`why`: it has fired, and stays so."""
    row = {"id": migration.id, "name": name, "bar": bar, "why": why}
    await conn.execute(SQL.keep, {**row, "watch": None if watch is None else Jsonb(dict(watch))})


async def told(conn: Connection, migration: Migration, name: str) -> None:
    await conn.execute(SQL.told, {"id": migration.id, "name": name})


async def mended(conn: Connection, migration: Migration, name: str) -> None:
    await conn.execute(SQL.mended, {"id": migration.id, "name": name})


async def forget(conn: Connection, migration: Migration) -> list[str]:
    """What had fired."""
    rows = await (await conn.execute(SQL.forget, {"id": migration.id})).fetchall()
    return [f"the alarm of guard {row.name}: {row.why}" for row in rows if row.fired]


async def waits(conn: Connection, index_ids: Sequence[int]) -> dict[int, float]:
    """Index → seconds that its oldest document waits."""
    rows = await conn.execute(SQL.waits, {"indexes": list(index_ids)})
    return dict.fromkeys(index_ids, 0.0) | {row.index_id: row.seconds for row in await rows.fetchall()}


async def calm(conn: Connection, collection_id: int) -> float | None:
    """Milliseconds that 95% of the searches stay below in quiet times."""
    row = await (await conn.execute(SQL.calm, {"collection": collection_id})).fetchone()
    return None if row is None else float(row.ms)
