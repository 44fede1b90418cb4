"""Tenants that are answered by an index of their own: as of one epoch, so that one flip voids them all."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)


async def in_force(conn: Connection, collection_id: int) -> dict[str, int]:
    """Tenant → index, at the present epoch."""
    rows = await conn.execute(SQL.in_force, {"collection": collection_id})
    return {row.tenant: row.index_id for row in await rows.fetchall()}


async def put(conn: Connection, collection_id: int, epoch: int, index_of: Mapping[str, int]) -> None:
    """Written anew for the epoch of the flip just made, in its transaction: the earlier ones are void."""
    if not index_of:
        return
    for index in sorted(set(index_of.values())):
        tenants = sorted(tenant for tenant, own in index_of.items() if own == index)
        asked = {"collection": collection_id, "epoch": epoch, "index": index, "tenants": tenants}
        await conn.execute(SQL.put, asked)
    await conn.execute(SQL.void, {"collection": collection_id})


async def unknown(conn: Connection, collection_id: int, tenants: Collection[str]) -> list[str]:
    """Those that have no document: probably a slip of the pen."""
    rows = await conn.execute(SQL.known, {"collection": collection_id, "tenants": list(tenants)})
    known = {row.tenant for row in await rows.fetchall()}
    return sorted(set(tenants) - known)
