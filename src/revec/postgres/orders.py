"""Cutovers that were ordered and wait: for their hour, for a second person, or for both."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from revec.model.migration import Migration
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)
LASTS = 86_400.0  # seconds after its hour: the proofs that the orderer saw are worth no more


@dataclass(frozen=True, slots=True)
class Order:
    due_at: datetime
    ordered_by: str
    ordered_at: datetime
    why: str
    approved_by: str | None
    seconds: float  # until it is due; below 0: since then
    late: float  # seconds since it could have been done

    @property
    def has_lapsed(self) -> bool:
        return -self.seconds > LASTS

    def is_whole(self, approvals: int) -> bool:
        """As many people want it as it takes, and no person twice."""
        if approvals == 1:
            return True
        return self.approved_by is not None and person(self.approved_by) != person(self.ordered_by)


def person(who: str) -> str:
    """`ada@host` is ada on every host; a key's prefix and a token's subject are whole."""
    return who.partition("@")[0]


async def put(conn: Connection, migration: Migration, *, at: datetime | None, who: str, why: str) -> None:
    await conn.execute(SQL.put, {"id": migration.id, "at": at, "who": who, "why": why})


async def of(conn: Connection, migration: Migration) -> Order | None:
    row = await (await conn.execute(SQL.of_migration, {"id": migration.id})).fetchone()
    return None if row is None else Order(*row)


async def approve(conn: Connection, migration: Migration, seen: Order, who: str) -> bool:
    """Whether the order is still the one that was seen."""
    asked = {"id": migration.id, "seen": seen.ordered_at, "who": who}
    return await (await conn.execute(SQL.approve, asked)).fetchone() is not None


async def forget(conn: Connection, migration: Migration) -> bool:
    return (await conn.execute(SQL.forget, {"id": migration.id})).rowcount > 0
