"""Duties that one process at a time does, wherever it runs: it holds a lease and says so again and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import psycopg

from revec.postgres.database import Connection, Database
from revec.postgres.queries import beside

SQL = beside(__file__)


@asynccontextmanager
async def held(database: Database, name: str, holder: UUID, seconds: float) -> AsyncIterator[bool]:
    """Whether `holder` has the lease, for as long as the body runs, hours included."""

    async def take() -> bool:
        async with database.transaction() as conn:
            asked = {"name": name, "holder": holder, "seconds": seconds}
            return await (await conn.execute(SQL.take, asked)).fetchone() is not None

    async def renew() -> None:
        while True:
            await asyncio.sleep(seconds / 3)
            try:
                await take()
            except psycopg.OperationalError:
                continue

    if not await take():
        yield False
        return
    renewal = asyncio.create_task(renew())
    try:
        yield True
    finally:
        renewal.cancel()


async def give_back(conn: Connection, name: str, holder: UUID) -> None:
    """Another process need not wait until it runs out."""
    await conn.execute(SQL.give_back, {"name": name, "holder": holder})
