"""What each index answered in the last minutes, told by the serving processes: what a guard looks at."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from revec.model.reading import How
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)
KEPT = 600.0  # seconds
SAMPLE = 100  # times of an index in a second


@dataclass(slots=True)
class Second:
    """One index at one epoch, for about a second; each time is equally likely to be in the sample (Vitter's
    algorithm R).
    """

    index_id: int
    epoch: int
    requests: int = 0
    errors: int = 0
    timeouts: int = 0
    empties: int = 0
    ms: list[float] = field(default_factory=list)

    def add(self, how: How, ms: float) -> None:
        self.requests += 1
        self.errors += how is How.FAILED
        self.timeouts += how is How.LATE
        self.empties += how is How.EMPTY
        if len(self.ms) < SAMPLE:
            self.ms.append(ms)
        elif (place := random.randrange(self.requests)) < SAMPLE:  # noqa: S311 - chance, no secret
            self.ms[place] = ms

    def join(self, other: Second) -> None:
        self.requests += other.requests
        self.errors += other.errors
        self.timeouts += other.timeouts
        self.empties += other.empties
        self.ms = [*self.ms, *other.ms][:SAMPLE]


async def put(conn: Connection, seconds: Sequence[Second]) -> None:
    for each in seconds:
        row = {
            "index": each.index_id,
            "epoch": each.epoch,
            "requests": each.requests,
            "errors": each.errors,
            "timeouts": each.timeouts,
            "empties": each.empties,
            "ms": each.ms,
        }
        await conn.execute(SQL.put, {**row, "kept": KEPT})


async def take(conn: Connection, index_id: int) -> list[Second]:
    """What was not taken yet; once, if the transaction commits."""
    rows = await (await conn.execute(SQL.take, {"index": index_id})).fetchall()
    return [Second(*row) for row in rows]


async def lately(conn: Connection, index_id: int, seconds: float) -> Any:
    """requests, errors, timeouts, empties, and the seconds that lie between the first row and the last."""
    return await (await conn.execute(SQL.lately, {"index": index_id, "seconds": seconds})).fetchone()


async def slow(conn: Connection, index_id: int) -> tuple[float | None, int]:
    """The 95th percentile in milliseconds, and of how many times."""
    row = await (await conn.execute(SQL.slow, {"index": index_id})).fetchone()
    assert row is not None
    return row.ms, int(row.n)
