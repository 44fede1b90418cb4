"""Moves that a webhook is still to hear of: written with the move, by a trigger; sent behind it."""

from __future__ import annotations

from typing import Any

from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)


async def due(conn: Connection, limit: int) -> list[Any]:
    return await (await conn.execute(SQL.due, {"limit": limit})).fetchall()


async def heard(conn: Connection, event_id: int) -> None:
    await conn.execute(SQL.heard, {"event": event_id})


async def again(conn: Connection, event_id: int, trouble: str) -> None:
    await conn.execute(SQL.again, {"event": event_id, "trouble": trouble})


async def forget(conn: Connection, *, older: float) -> None:
    """`older`: seconds."""
    await conn.execute(SQL.forget, {"seconds": older})
