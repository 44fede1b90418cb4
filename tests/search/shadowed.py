"""A shadow that is on, and what it has seen: for tests of the dual read and of its gates."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from revec.app import App
from revec.model.index import Collection
from revec.model.reading import Reading
from revec.postgres import shadows
from tests import steps

PATIENCE = 60.0  # seconds


async def on(app: App, made: Collection, rate: float = 1.0, to: int = 2) -> None:
    app.dual_reader._deadline = PATIENCE / 2  # a busy machine is not what these tests are about
    async with app.database.transaction() as conn:
        await shadows.point(conn, made.id, to, rate, "test")


async def ask(app: App, *queries: str, **how: Any) -> list[Reading]:
    """Answers, in their order; the shadow has read behind each."""
    readings = [
        await app.retriever.search("c", query, **{"k": 10, "tenant": "default", **how}) for query in queries
    ]
    await settled(app)
    return readings


async def settled(app: App) -> None:
    """Nothing waits, nothing is read, and what was counted is written down."""
    async with asyncio.timeout(PATIENCE):
        await app.dual_reader.settled()


async def observed(app: App) -> list[Any]:
    return await steps.rows(app, "SELECT * FROM revec.observation ORDER BY id")


async def one(app: App) -> Any:
    (row,) = await observed(app)
    return row


async def shed(app: App) -> tuple[int, int]:
    """Taken and dropped."""
    query = (
        "SELECT coalesce(sum(taken), 0)::int AS taken, coalesce(sum(dropped), 0)::int AS gone FROM revec.shed"
    )
    (row,) = await steps.rows(app, query)
    return tuple(row)


def shown(reading: Reading) -> list[tuple[str, float]]:
    """What a user sees of an answer."""
    return [(hit.id, hit.score) for hit in reading.hits]


def questions(count: int, *, start: int = 0) -> Sequence[str]:
    return [f"what is document {n}" for n in range(start, start + count)]
