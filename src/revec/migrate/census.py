"""The census: once a minute one worker counts how everything stands, keeps it, and tells it as an event; and
within seconds where a collection is new, so that nobody looks at a page without figures.

The others tell nothing of it, so that no figure of the database is in two processes' metrics; whoever had it
before and lost it says that too.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import psycopg

from revec.migrate.guard import SEEN_BY_USERS
from revec.migrate.outlook import SQL as LOOK
from revec.model.census import Census, OfMigration, OfModel, OfShadow
from revec.model.migration import FINAL
from revec.observe import events
from revec.postgres import leases, samples
from revec.postgres.database import Connection, Database, first_line, is_gone
from revec.postgres.queries import beside
from revec.work import queue
from revec.work.standing import standing

SQL = beside(__file__)
LEASE = "census"
EVERY = 60.0  # seconds
FIRST = 3.0  # seconds of a worker until its first look: one that is over by then had nothing to tell
LOOK_EVERY = 2.0  # seconds between two looks for a collection that has no figures yet
KEPT = 2.5 * EVERY  # seconds that a worker keeps it without a word

ShutdownOf = Callable[[str], date | None]  # a model's address → its last day


class CensusTaker:
    """One for a worker. `shutdown_of`: when a provider switches a model off."""

    def __init__(self, database: Database, shutdown_of: ShutdownOf, holder: UUID) -> None:
        self._database = database
        self._shutdown_of = shutdown_of
        self._holder = holder
        self._due = time.monotonic() + FIRST
        self._look_at = self._due
        self._is_mine = False

    async def tick(self) -> bool:
        """Nothing before the minute is over or where another one counts; it never says that it moved."""
        if time.monotonic() < self._due and not await self._is_lacking():
            return False
        self._due = time.monotonic() + EVERY - time.time() % EVERY  # with the minute: none is left out
        async with leases.held(self._database, LEASE, self._holder, KEPT) as mine:
            if mine:
                await self._count()
            elif self._is_mine:
                events.emit(events.CensusTaken(None))
            self._is_mine = mine
        return False

    async def _is_lacking(self) -> bool:
        """Whether a collection has no figures yet; only who counts asks, and once where it could not."""
        if not self._is_mine or time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + LOOK_EVERY
        async with self._database.transaction() as conn:
            (row,) = await _all(conn, SQL.lacking)
        return bool(row.is_lacking)

    async def leave(self) -> None:
        """Let another worker count at once."""
        async with self._database.transaction() as conn:
            await leases.give_back(conn, LEASE, self._holder)

    async def _count(self) -> None:
        try:
            taken = await census(self._database, self._shutdown_of)
            async with self._database.transaction() as conn:
                await samples.put(conn, taken.collections)
        except psycopg.Error as error:
            if is_gone(error):
                raise
            events.emit(events.TryAgain(f"the census: {first_line(error)}"))
            self._look_at = self._due
            return
        events.emit(events.CensusTaken(taken))


async def census(database: Database, shutdown_of: ShutdownOf) -> Census:
    """How everything stands, as one moment saw it.

    Raises:
        psycopg.errors.QueryCanceled: a statement took longer than its patience.
    """
    async with database.transaction() as conn:
        await conn.execute(LOOK.one_moment)
        counted = await standing(conn)
        return Census(
            at=datetime.now(UTC),
            collections=counted.collections,
            unprojected_seconds=counted.unprojected_seconds,
            indexes=counted.indexes,
            migrations=await _migrations(conn),
            shadows=[OfShadow(**row._asdict()) for row in await _all(conn, SQL.shadows)],
            models=[
                OfModel(row.address, row.is_resting, shutdown_of(row.address))
                for row in await _all(conn, SQL.models)
            ],
            workers=len(await queue.workers(conn)),
        )


async def _migrations(conn: Connection) -> list[OfMigration]:
    asked = {"final": [*map(str, FINAL)], "seen": [*map(str, SEEN_BY_USERS)]}
    rows = await _all(conn, SQL.migrations, **asked)
    verdicts: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for row in await _all(conn, SQL.verdicts, ids=[row.id for row in rows]):
        verdicts[row.migration_id][row.gate] = row.outcome
    return [OfMigration(**row._asdict(), verdicts=verdicts[row.id]) for row in rows]


async def _all(conn: Connection, query: Any, **asked: Any) -> list[Any]:
    return await (await conn.execute(query, asked)).fetchall()
