"""What queries cost, written into the ledger behind them, never on a request's way.

A query does not wait for a turn: what it takes is drawn from the model's buckets afterwards, so that packs
wait instead. One task writes for all; what it cannot keep up with is dropped and counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

import psycopg

from revec.observe import context, events
from revec.postgres.database import DATABASE_TROUBLE, Database, first_line
from revec.work import calls
from revec.work.calls import Report
from revec.work.prices import price

MOST_WAITING = 1_000
PATIENCE = 2.0  # seconds for one line of the ledger, and for all of them at the end


@dataclass(frozen=True, slots=True)
class Line:
    """One call that has left and come back."""

    model: str
    tenant: str
    inputs: int
    tokens: int
    report: Report
    seconds: float


class Ledger:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._lines: deque[Line] = deque()
        self._writing: asyncio.Task[None] | None = None
        self.dropped = 0

    def note(self, line: Line) -> None:
        """Costs microseconds, raises nothing."""
        if len(self._lines) >= MOST_WAITING:
            self.dropped += 1
            return
        self._lines.append(line)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(), context=context.nobodys())

    async def close(self) -> None:
        """What was paid for is written down, if the database takes it."""
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=PATIENCE)
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

    async def _write(self) -> None:
        while self._lines:
            line = self._lines.popleft()
            try:
                await self._put(line)
            except (psycopg.Error, *DATABASE_TROUBLE, TimeoutError) as error:
                self.dropped += 1
                events.emit(events.TryAgain(f"a query's call stays unreported: {first_line(error)}"))

    async def _put(self, line: Line) -> None:
        cost = await asyncio.to_thread(price, line.model)  # the first time it reads a large table
        calls.told(
            *(line.model, calls.QUERY, line.report),
            inputs=line.inputs,
            tokens=line.tokens,
            price=cost,
            seconds=line.seconds,
        )
        async with asyncio.timeout(PATIENCE), self._database.transaction("worker") as conn:
            call = await calls.note(
                conn,
                model=line.model,
                tenant=line.tenant,
                inputs=line.inputs,
                tokens=line.tokens,
                price=cost,
            )
            await line.report.write(conn, call)
