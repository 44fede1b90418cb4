"""How many documents a tenant's searches may have embedded in a minute, of whichever process they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)


async def first(conn: Connection, index_id: int, whose: Mapping[int, str], per_minute: int) -> list[int]:
    """The first documents of each tenant, as many as its allowance holds; nobody else takes from it before
    the commit. From here to there no lock is waited for longer than a moment.

    Args:
        whose: the most wanted document first, doc_id → tenant.

    Raises:
        psycopg.errors.LockNotAvailable: another search has the allowance in hand.
    """
    await conn.execute(SQL.briefly)
    asked = {"index": index_id, "tenants": sorted({*whose.values()}), "minute": per_minute}
    rows = await (await conn.execute(SQL.allow, asked)).fetchall()
    left = Counter({row.tenant: row.documents for row in rows})
    allowed = []
    for doc_id, tenant in whose.items():
        if left[tenant] > 0:
            left[tenant] -= 1
            allowed.append(doc_id)
    return allowed


async def take(conn: Connection, index_id: int, tenants: Iterable[str]) -> None:
    """For each document its tenant."""
    taken = Counter(tenants)
    asked = {"index": index_id, "tenants": list(taken), "counts": list(taken.values())}
    await conn.execute(SQL.take, asked)


async def total(conn: Connection, index_id: int) -> int:
    """Documents that searches had embedded for an index."""
    row = await (await conn.execute(SQL.total, {"index": index_id})).fetchone()
    assert row is not None
    return int(row.documents)
