"""Documents: one copy of every text per collection, and the fence that guards what is made of it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from revec.model.document import Content, Draft
from revec.model.errors import NotFound
from revec.model.filter import Filter
from revec.model.reading import Hit
from revec.postgres import filters
from revec.postgres.arrays import BigInts
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)


async def lock_source(conn: Connection, source_id: int) -> None:
    await conn.execute(SQL.lock_source, {"source": source_id})


async def put(conn: Connection, source_id: int, drafts: Iterable[Draft]) -> None:
    """Insert, update or leave alone; the last of equal keys wins. Call under `lock_source`."""
    latest = {draft.key: draft for draft in drafts}
    if not latest:
        return
    columns: dict[str, Any] = {
        "source": source_id,
        "keys": list(latest),
        "tenants": [draft.tenant for draft in latest.values()],
        "titles": [draft.title for draft in latest.values()],
        "bodies": [draft.body for draft in latest.values()],
        "metadata": [json.dumps(draft.metadata) for draft in latest.values()],
    }
    await conn.execute(SQL.leave_tenant, {name: columns[name] for name in ("source", "keys", "tenants")})
    await conn.execute(SQL.upsert.format(rows=SQL.handed_in), columns)


async def move(conn: Connection, source_id: int, tenants: Mapping[str, str], rows: sql.Composed) -> None:
    """Put rows of a table, `tenants` by their keys, without reading them. Call under `lock_source`.

    `rows`: a query of key, kept, tenant, title, body and metadata by `%(keys)s`.
    """
    if tenants:
        keys = {"source": source_id, "keys": list(tenants), "tenants": list(tenants.values())}
        await conn.execute(SQL.leave_tenant, keys)
        await conn.execute(SQL.upsert.format(rows=SQL.moved.format(rows=rows)), keys)


async def delete(
    conn: Connection, source_id: int, keys: Sequence[str], *, tenant: str | None = None
) -> dict[str, int]:
    """Delete the source's documents of these keys, of one tenant (None: of any); the ids that they had.

    Call under `lock_source`.
    """
    if not keys:
        return {}
    asked = {"source": source_id, "keys": list(keys), "tenant": tenant}
    rows = await conn.execute(SQL.delete_keys, asked)
    return {row.key: row.id for row in await rows.fetchall()}


async def taken(conn: Connection, source_id: int, keys: Sequence[str], tenant: str) -> str | None:
    """One of these keys that another tenant's document has; None: there is none. Call under `lock_source`."""
    asked = {"source": source_id, "keys": list(keys), "tenant": tenant}
    row = await (await conn.execute(SQL.foreign, asked)).fetchone()
    return None if row is None else str(row.key)


async def ids_of(conn: Connection, source_id: int, keys: Sequence[str]) -> dict[str, int]:
    rows = await conn.execute(SQL.ids_of, {"source": source_id, "keys": list(keys)})
    return {row.key: row.id for row in await rows.fetchall()}


async def one(
    conn: Connection, collection_id: int, source: str, key: str, *, tenant: str | None, where: Filter | None
) -> Any:
    """The document, if it is the tenant's and may be seen; else None, whether there is one or not."""
    matching, parameters = filters.condition(where)
    asked = {"collection": collection_id, "source": source, "key": key, "tenant": tenant}
    return await (await conn.execute(SQL.one.format(matching=matching), asked | parameters)).fetchone()


def no_document(collection: str, key: str) -> NotFound:
    """The same whether it is another tenant's or nobody's."""
    return NotFound(f"{collection} has no document {key!r} for you")


async def keys_after(conn: Connection, source_id: int, after: str | None, limit: int) -> list[str]:
    rows = await conn.execute(SQL.keys_after, {"source": source_id, "after": after, "limit": limit})
    return [row.key for row in await rows.fetchall()]


@dataclass(frozen=True, slots=True)
class Measure:
    """What there is to know of a document without reading its text."""

    size: int  # bytes of title and body
    input_hash: bytes


async def measured(conn: Connection, ids: Collection[int]) -> dict[int, Measure]:
    rows = await conn.execute(SQL.measured, {"ids": BigInts(ids)}, binary=True)
    return {row.doc_id: Measure(row.size, row.input_hash) for row in await rows.fetchall()}


async def sampled(conn: Connection, collection_id: int, size: int) -> dict[int, Measure]:
    """Of some documents, spread evenly over the ids."""
    rows = await conn.execute(SQL.sampled, {"collection": collection_id, "size": size}, binary=True)
    return {row.doc_id: Measure(row.size, row.input_hash) for row in await rows.fetchall()}


async def contents(conn: Connection, sized: Mapping[int, Measure]) -> dict[int, Content]:
    """The documents that are still what was measured; another text may be of any length."""
    hashes = [each.input_hash for each in sized.values()]
    rows = await conn.execute(SQL.contents, {"ids": BigInts(sized), "hashes": hashes}, binary=True)
    return {row.doc_id: Content(*row) for row in await rows.fetchall()}


async def lock_current(conn: Connection, ids: Sequence[int], hashes: Sequence[bytes]) -> set[int]:
    """The documents that still have this content, locked against change until the commit."""
    rows = await conn.execute(SQL.lock_current, {"ids": BigInts(ids), "hashes": list(hashes)}, binary=True)
    return {row.id for row in await rows.fetchall()}


async def hydrate(
    conn: Connection, ids: Sequence[int], tenant: str | None, where: Filter | None = None, *, room: int = 0
) -> dict[int, Any]:
    """The live documents among `ids` that the filter lets through; what was deleted is not among them.

    Their contents as far as there is room (bytes; None: no more), in the order of `ids`.
    """
    matching, parameters = filters.condition(where)
    asked = {"ids": BigInts(ids), "tenant": tenant, "room": room}
    rows = await conn.execute(SQL.hydrate.format(matching=matching), asked | parameters)
    return {row.doc_id: row for row in await rows.fetchall()}


async def of_key(
    conn: Connection,
    collection_id: int,
    key: str,
    *,
    source: str | None,
    tenant: str | None,
    where: Filter | None,
) -> list[Any]:
    """doc_id, source: of each document of this key that may be seen."""
    matching, parameters = filters.condition(where)
    asked = {"collection": collection_id, "key": key, "source": source, "tenant": tenant}
    rows = await conn.execute(SQL.of_key.format(matching=matching), asked | parameters)
    return await rows.fetchall()


async def mates(conn: Connection, collection_id: int, tenant: str, chances: Sequence[float]) -> list[int]:
    """Some documents of the tenant; each chance in [0, 1) leads to one."""
    asked = {"collection": collection_id, "tenant": tenant, "chances": list(chances)}
    return [row.doc_id for row in await (await conn.execute(SQL.mates, asked)).fetchall()]


async def ids_of_hits(
    conn: Connection, collection_id: int, hits: Sequence[Hit], *, tenant: str | None, where: Filter | None
) -> dict[int, tuple[str, str]]:
    """doc_id → (source, key) of the hits that are still there, and let through."""
    matching, parameters = filters.condition(where)
    asked = {
        "collection": collection_id,
        "sources": [hit.source for hit in hits],
        "keys": [hit.id for hit in hits],
        "tenant": tenant,
    }
    rows = await conn.execute(SQL.ids_of_hits.format(matching=matching), asked | parameters)
    return {row.doc_id: (row.source, row.key) for row in await rows.fetchall()}


async def last_rev(conn: Connection) -> int:
    return await _number(conn, SQL.last_rev, {})


async def count(conn: Connection, collection_id: int) -> int:
    return await _number(conn, SQL.count, {"collection": collection_id})


async def largest_tenant(conn: Connection, collection_id: int) -> int:
    return await _number(conn, SQL.largest_tenant, {"collection": collection_id})


async def _number(conn: Connection, query: Any, parameters: dict[str, Any]) -> int:
    row = await (await conn.execute(query, parameters)).fetchone()
    assert row is not None
    return int(row[0])
