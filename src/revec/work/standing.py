"""How every collection and every index stands, counted for all of them at once.

A few passes over what is open, none over texts or vectors. Documents are counted as long as there are not
too many; beyond that the planner's estimate stands for them, and is called approximate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from revec.model.census import OfIndex, Open, Standing
from revec.model.index import Collection, Index
from revec.model.migration import FINAL
from revec.postgres import collections, indexes
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)
PATIENCE = "10s"  # for one statement
COUNTED = 5_000_000  # documents of all collections: more are estimated
LIVE = "live"


@dataclass(frozen=True, slots=True)
class Counted:
    """What `standing` found."""

    collections: dict[int, Standing]
    indexes: list[OfIndex]
    unprojected_seconds: dict[int, float]  # of collection: how long the oldest change has waited


@dataclass(frozen=True, slots=True)
class Seen:
    """One index, and the rows that are about it."""

    index: Index
    open: Sequence[Open]
    to_embed: int
    row: Any  # dead, excluded, to_come, is_serving

    def of(self, standing: Standing) -> OfIndex:
        missing = self.to_embed + self.row.to_come + self.row.dead
        wanted = max(0, standing.documents - self.row.excluded)
        done = max(0, wanted - missing)
        return OfIndex(
            collection=standing.name,
            name=self.index.name,
            open=self.open,
            to_come=self.row.to_come,
            done=done,
            coverage=done / wanted if wanted else 1.0,
            dead=self.row.dead,
            excluded=self.row.excluded,
            is_serving=bool(self.row.is_serving),
            fault=self.index.fault is not None,
        )

    @property
    def lag(self) -> float:
        """Seconds that an edit has waited for it; while it is built, nothing that serves waits for it."""
        return 0.0 if self.index.held else max((o.oldest for o in self.open if o.lane == LIVE), default=0.0)


async def standing(conn: Connection) -> Counted:
    """Within one transaction, which should see one moment.

    Raises:
        psycopg.errors.QueryCanceled: a statement took longer than its patience.
    """
    await conn.execute(SQL.briefly, {"patience": PATIENCE})
    listed = await collections.listed(conn)
    known, approximate = await _documents(conn, listed)
    pace = {row.collection_id: row.per_second for row in await _all(conn, SQL.pace)}
    changes = {row.collection_id: row for row in await _all(conn, SQL.changes)}
    seen = await _indexes(conn)
    stands: dict[int, Standing] = {}
    found: list[OfIndex] = []
    for collection in listed:
        waiting = changes.get(collection.id)
        alone = Standing(
            name=collection.name,
            index_id=None,
            documents=known.get(collection.id, 0),
            approximate=approximate,
            done=0,
            coverage=None,
            backlog=0,
            oldest=0.0,
            unprojected=waiting.changes if waiting else 0,
            dead=0,
            lag=waiting.seconds if waiting else 0.0,
            per_second=round(pace.get(collection.id, 0.0), 3),
        )
        own = seen[collection.id]
        counted = [each.of(alone) for each in own]
        found += counted
        stands[collection.id] = _together(alone, own, counted)
    lags = {id_: row.seconds for id_, row in changes.items()}
    return Counted(stands, found, lags)


def _together(alone: Standing, seen: Sequence[Seen], counted: Sequence[OfIndex]) -> Standing:
    """A collection with its indexes; the newest one is the one that is filled, or the one that serves."""
    if not seen:
        return alone
    newest = max(range(len(seen)), key=lambda place: seen[place].index.id)
    return replace(
        alone,
        index_id=seen[newest].index.id,
        done=counted[newest].done,
        coverage=counted[newest].coverage,
        backlog=sum(o.documents for each in seen for o in each.open) + sum(each.to_come for each in counted),
        oldest=max((o.oldest for each in seen for o in each.open), default=0.0),
        dead=sum(each.dead for each in counted),
        lag=max(alone.lag, *(each.lag for each in seen)),
    )


async def _indexes(conn: Connection) -> defaultdict[int, list[Seen]]:
    """Collection → its indexes that are written."""
    left_out = await _all(conn, SQL.left_out, final=[*map(str, FINAL)])
    rows = {row.index_id: row for row in left_out}
    work: defaultdict[int, list[Any]] = defaultdict(list)
    for row in await _all(conn, SQL.open):
        work[row.index_id].append(row)
    found: defaultdict[int, list[Seen]] = defaultdict(list)
    for index in await indexes.writing(conn):
        here = work[index.id]
        found[index.collection_id].append(
            Seen(
                index=index,
                open=[Open(row.lane, row.state, row.documents, row.oldest) for row in here],
                to_embed=sum(row.to_embed for row in here),
                row=rows[index.id],
            )
        )
    return found


async def _documents(conn: Connection, listed: Sequence[Collection]) -> tuple[dict[int, int], bool]:
    """Collection → its documents, and whether that is an estimate."""
    (many,) = await _all(conn, SQL.many)
    if many.documents <= COUNTED:
        return {row.collection_id: row.documents for row in await _all(conn, SQL.documents)}, False
    found = {}
    for each in listed:
        ((plan,),) = await _all(conn, SQL.about, collection=each.id)
        found[each.id] = int(plan[0]["Plan"]["Plan Rows"])
    return found, True


async def _all(conn: Connection, query: Any, **asked: Any) -> list[Any]:
    return await (await conn.execute(query, asked)).fetchall()
