"""What somebody said of a collection's tenants: tier, priority, weight, budget, a pause.

A tenant without a row has the defaults, so new ones need no introduction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from revec.model.index import Collection
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)
LOOKED = 5_000  # tenants, to find those with a word in their names
COUNTED = 10_000  # documents of a tenant; beyond that a count would take too long to look at


@dataclass(frozen=True, slots=True)
class Said:
    """Of one tenant; None leaves what was said before."""

    tenant: str
    tier: str | None = None
    priority: int | None = None  # the higher is backfilled first
    weight: int | None = None  # 1 or more: its share among equals


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which tenants a list is of."""

    word: str = ""  # that stands somewhere in their names
    tier: str | None = None
    paused: bool = False  # those alone

    @property
    def said(self) -> bool:
        """They have rows of their own, so nobody has to look for more."""
        return self.paused or self.tier is not None


@dataclass(frozen=True, slots=True)
class Page:
    tenants: list[dict[str, Any]]
    after: str | None  # where to go on; None: these are the last


async def listed(
    conn: Connection,
    collection: Collection,
    indexes: Sequence[int],
    *,
    after: str = "",
    limit: int = 100,
    wanted: Wanted = Wanted(),
    counted: int = COUNTED,
) -> Page:
    """Tenants behind `after`; `documents` is `counted` + 1 where there are more. A page may have fewer than
    `limit`, or none, and still not be the last: it looks at LOOKED of them.
    """
    most = LOOKED if wanted.word else limit
    rows = await conn.execute(
        SQL.listed,
        {
            "collection": collection.id,
            "indexes": list(indexes),
            "after": after,
            "limit": limit,
            "bound": counted + 1,
            "word": wanted.word,
            "tier": wanted.tier,
            "paused": wanted.paused,
            "most": most,
            "steps": 0 if wanted.said else most,
        },
    )
    found = await rows.fetchall()
    horizon = found[0].horizon
    tenants = [row._asdict() for row in found if row.tenant is not None]
    for each in tenants:
        del each["horizon"]
    return Page(tenants, tenants[-1]["tenant"] if len(tenants) == limit else horizon)


async def say(conn: Connection, collection_id: int, said: Sequence[Said]) -> None:
    """Remember it, in the order of the tenants: two who speak at once do not deadlock."""
    columns = {
        "collection": collection_id,
        "tenants": [each.tenant for each in said],
        "tiers": [each.tier for each in said],
        "priorities": [each.priority for each in said],
        "weights": [each.weight for each in said],
    }
    await conn.execute(SQL.say, columns)
    await conn.execute(SQL.say_again, columns)


async def set_budget(
    conn: Connection, collection: Collection, tenants: Sequence[str], budget: Decimal | None
) -> None:
    """US dollars; None: no limit. The tenants have their rows (`say`)."""
    await conn.execute(SQL.budget, {"collection": collection.id, "tenants": list(tenants), "budget": budget})


async def pause(conn: Connection, collection_id: int, tenants: Sequence[str], why: str) -> None:
    """Nothing of theirs is embedded from the next claim on; their deletions are done."""
    await conn.execute(SQL.pause, {"collection": collection_id, "tenants": list(tenants), "why": why})


async def resume(conn: Connection, collection_id: int, tenants: Sequence[str]) -> list[str]:
    """Those that were paused."""
    rows = await conn.execute(SQL.resume, {"collection": collection_id, "tenants": list(tenants)})
    return sorted(row.tenant for row in await rows.fetchall())


async def paused(conn: Connection, collection_id: int, limit: int = 20) -> dict[str, str]:
    """Tenant → why, of the first so many."""
    rows = await conn.execute(SQL.paused, {"collection": collection_id, "limit": limit})
    return {row.tenant: row.why for row in await rows.fetchall()}


async def unknown(conn: Connection, collection: Collection, tenants: Sequence[str]) -> list[str]:
    """Of these tenants, those without a document: a slip of the pen, or not there yet."""
    rows = await conn.execute(SQL.unknown, {"collection": collection.id, "tenants": list(tenants)})
    return [row.tenant for row in await rows.fetchall()]


async def keep_query(conn: Connection, collection: Collection, query: str | None) -> None:
    await conn.execute(SQL.keep_query, {"collection": collection.id, "query": query})


async def due(conn: Connection, every: float) -> list[Any]:
    """(id, name, query) of collections whose tenants were not read for `every` seconds; now they are ours."""
    return await (await conn.execute(SQL.due, {"every": every})).fetchall()


async def set_fault(conn: Connection, collection_id: int, why: str | None) -> None:
    await conn.execute(SQL.fault, {"collection": collection_id, "why": why})


async def fault(conn: Connection, collection_id: int) -> str | None:
    row = await (await conn.execute(SQL.faulted, {"collection": collection_id})).fetchone()
    return None if row is None else row.why


async def budgets(conn: Connection, *, limit: int) -> list[Any]:
    """collection, tenant, budget, spent (US dollars): of tenants that have one, the least left first."""
    return await (await conn.execute(SQL.budgets, {"limit": limit})).fetchall()
