"""The shares that a canary has still to go through, and what was answered at the present one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from revec.model.migration import Migration
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)


@dataclass(frozen=True, slots=True)
class Steps:
    steps: list[float]  # shares, 0 to 1, that are still to come
    quiet: int  # answers of the new index that each share takes
    answered: int  # at the present share
    epoch: int  # of the route, since that share

    @property
    def is_quiet(self) -> bool:
        return self.answered >= self.quiet


async def put(
    conn: Connection, migration: Migration, *, steps: Sequence[float], quiet: int, epoch: int
) -> None:
    asked = {"id": migration.id, "steps": list(steps), "quiet": quiet, "epoch": epoch}
    await conn.execute(SQL.put, asked)


async def of(conn: Connection, migration: Migration) -> Steps | None:
    """None where the route was moved since."""
    row = await (await conn.execute(SQL.of_migration, {"id": migration.id})).fetchone()
    return None if row is None else Steps(*row)


async def answered(conn: Connection, migration: Migration, *, epoch: int, requests: int) -> None:
    await conn.execute(SQL.answered, {"id": migration.id, "epoch": epoch, "requests": requests})
