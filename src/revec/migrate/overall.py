"""Every collection in a row: what serves it and until when, how far it is, and whether anything is wrong.

Nothing is counted here: a worker's census has the figures, a minute old at most.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from revec.model.migration import State
from revec.postgres.database import Connection, Database
from revec.postgres.queries import beside
from revec.work import queue

SQL = beside(__file__)
MOST = 200  # collections
MOST_TABLES = 5
SOON = 60  # days until a model is shut down, from when on that is a trouble
LATE = 300.0  # seconds that an edit may wait: ten times the freshness goal

ShutdownOf = Callable[[str], date | None]  # a model's address → its last day


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    model: str | None  # that serves; None: nothing does
    dims: str | None
    kind: str | None
    shutdown: date | None  # of that model, where it is announced
    epoch: int
    state: str | None  # of the migration under way; None: there is none
    target: str | None
    paused: str | None
    documents: int | None  # None: nobody has counted yet
    approximate: bool
    coverage: float | None  # of the newest index that is written
    backlog: int | None
    lag: float | None  # seconds that an edit has waited longest
    counted: datetime | None
    curve: list[float]  # the lag of a day, a point for a quarter of an hour
    troubles: list[str]  # nothing: it is well


@dataclass(frozen=True, slots=True)
class Overall:
    rows: list[Row]
    workers: int
    tables: list[str] = field(default_factory=list)  # of the user's; where there is no collection yet


async def overall(database: Database, shutdown_of: ShutdownOf) -> Overall:
    async with database.transaction() as conn:
        found = await (await conn.execute(SQL.collections, {"limit": MOST})).fetchall()
        asked = {"collections": [row.id for row in found]}
        curves: defaultdict[int, list[float]] = defaultdict(list)
        for point in await (await conn.execute(SQL.curves, asked)).fetchall():
            curves[point.collection_id].append(point.lag)
        workers = len(await queue.workers(conn))
        tables = [] if found else await _tables(conn)
    return Overall([_row(row, curves[row.id], workers, shutdown_of) for row in found], workers, tables)


async def _tables(conn: Connection) -> list[str]:
    rows = await (await conn.execute(SQL.tables, {"limit": MOST_TABLES})).fetchall()
    return [row.name if row.schema == "public" else f"{row.schema}.{row.name}" for row in rows]


def _row(row: Any, curve: list[float], workers: int, shutdown_of: ShutdownOf) -> Row:
    shutdown = shutdown_of(row.model) if row.model else None
    open_one = row.state is not None and not State(row.state).is_final
    return Row(
        name=row.name,
        model=row.model,
        dims=row.dims,
        kind=row.kind,
        shutdown=shutdown,
        epoch=row.epoch or 0,
        state=row.state if open_one else None,
        target=row.target if open_one else None,
        paused=(row.paused_why or row.hold) if open_one else None,
        documents=row.documents,
        approximate=bool(row.approximate),
        coverage=row.coverage,
        backlog=row.backlog,
        lag=row.lag,
        counted=row.minute,
        curve=curve,
        troubles=_troubles(row, workers, shutdown),
    )


def _troubles(row: Any, workers: int, shutdown: date | None) -> list[str]:
    days = None if shutdown is None else (shutdown - datetime.now(UTC).date()).days
    said = [
        ("no worker runs: `revec worker`", not workers),
        (f"an index is not written: {row.fault}", bool(row.fault)),
        (f"its model is shut down in {days} days", days is not None and days < SOON),
        (f"{row.dead:,} dead letters" if row.dead else "", bool(row.dead)),
        (f"an edit waits for {row.lag:.0f} s" if row.lag else "", bool(row.lag and row.lag > LATE)),
        ("nobody has counted for minutes", bool(workers and row.is_old)),
    ]
    return [why for why, is_so in said if is_so]
