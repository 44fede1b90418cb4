"""Collections and the sources that feed them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from revec.model.errors import BadInput, NotFound, Refused
from revec.model.index import Collection
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)
PUSH = "push"
INLINE, QUEUED = "inline", "queued"  # modes of writing


@dataclass(frozen=True, slots=True)
class Source:
    id: int
    collection_id: int
    name: str
    mapping: dict[str, Any] | None  # None: documents are pushed
    trigger_of: str | None
    scan: str | None  # the half of the full pass under way
    scan_after: str | None
    fault: str | None
    paused_why: str | None


async def create(conn: Connection, name: str) -> Collection:
    """A collection and its route; the one that exists where the name is taken."""
    try:
        await conn.execute(SQL.create, {"name": name})
    except psycopg.errors.CheckViolation as error:
        raise BadInput(
            f"{name!r} cannot name a collection: use a-z, 0-9, _ and -, a letter first, at most 63"
        ) from error
    collection = await named(conn, name)
    await conn.execute(SQL.create_route, {"collection": collection.id})
    return collection


async def named(conn: Connection, name: str) -> Collection:
    row = await (await conn.execute(SQL.named, {"name": name})).fetchone()
    if row is None:
        known = [other.name for other in await (await conn.execute(SQL.all)).fetchall()]
        there_is = f"there is {', '.join(known)}" if known else "there is none yet"
        raise NotFound(
            f"no collection is named {name!r} ({there_is}): "
            f"`revec collections create {name} --model MODEL` makes it"
        )
    return Collection(row.id, row.name)


async def by_id(conn: Connection, collection_id: int) -> Collection:
    row = await (await conn.execute(SQL.by_id, {"id": collection_id})).fetchone()
    assert row is not None
    return Collection(row.id, row.name)


async def listed(conn: Connection) -> list[Any]:
    return await (await conn.execute(SQL.all)).fetchall()


async def write_mode(conn: Connection, collection_id: int) -> str:
    """Whether a write of handed-in documents is answered when they are searchable, or when they are kept."""
    row = await (await conn.execute(SQL.write_mode, {"collection": collection_id})).fetchone()
    assert row is not None
    return str(row.write_mode)


async def set_write_mode(conn: Connection, collection: Collection, mode: str) -> None:
    await conn.execute(SQL.set_write_mode, {"collection": collection.id, "mode": mode})


async def add_source(
    conn: Connection,
    collection: Collection,
    name: str,
    *,
    mapping: dict[str, Any] | None = None,
    trigger_of: str | None = None,
) -> int:
    """Register a source, or the new mapping of one; a table is read from its first row on.

    Raises:
        Refused: a column is adopted into the collection, and this is not its table.
    """
    asked = {"collection": collection.id, "name": name}
    adopted = await (await conn.execute(SQL.column_of_another, asked)).fetchone()
    if adopted is not None:
        raise Refused(
            f"{collection.name} takes no documents of {name}: it has the column {adopted.column}, with "
            "vectors of one table; take a collection of another name, or migrate away from the column "
            f"and end that with `revec finish {collection.name}`"
        )
    row = await (
        await conn.execute(
            SQL.add_source,
            {
                "collection": collection.id,
                "name": name,
                "mapping": None if mapping is None else Jsonb(mapping),
                "trigger_of": trigger_of,
                "scan": None if mapping is None else "rows",
            },
        )
    ).fetchone()
    assert row is not None
    return int(row.id)


async def sources(conn: Connection, collection_id: int) -> list[Source]:
    rows = await (await conn.execute(SQL.sources, {"collection": collection_id})).fetchall()
    return [Source(*row) for row in rows]


async def source(conn: Connection, collection: Collection, name: str) -> Source:
    found = await sources(conn, collection.id)
    for each in found:
        if each.name == name:
            return each
    there_is = f"it has {', '.join(each.name for each in found)}" if found else "it has none yet"
    raise NotFound(f"{collection.name} has no source {name!r} ({there_is})")


async def pause_source(conn: Connection, source: Source, why: str | None) -> None:
    """Leave the source's changes where they are; None: project them again."""
    await conn.execute(SQL.pause_source, {"source": source.id, "why": why})


async def tenants(conn: Connection, collection: Collection) -> list[str]:
    """Up to 20 tenants, for sentences."""
    rows = await (await conn.execute(SQL.tenants, {"collection": collection.id})).fetchall()
    return [row.tenant for row in rows]


async def unread(conn: Connection, collection_id: int) -> str | None:
    """Why not all rows of the sources are documents, or None."""
    row = await (await conn.execute(SQL.unread, {"collection": collection_id})).fetchone()
    return None if row is None else str(row.why)
