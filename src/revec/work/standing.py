"""How every collection and every index stands, counted for all of them at once.

A few passes over what is open, none over texts or vectors. Documents are counted as long as there are not
too many; beyond that the planner's estimate stands for them, and is called approximate. So it is with each
part that takes too long to count: it takes no other figure with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from revec.model.census import OfIndex, Open, Standing
from revec.model.index import Collection, Index
from revec.model.migration import FINAL
from revec.postgres import collections, indexes
from revec.postgres.database import Connection
from revec.postgres.estimates import estimated
from revec.postgres.queries import beside

SQL = beside(__file__)
PATIENCE = "10s"  # for one statement
COUNTED = 5_000_000  # documents of all collections: more are estimated
AT_HAND = 100_000  # rows of a kind that are looked at where not all could be counted
LANES = ("live", "jit", "backfill")
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
    row: Any  # to_come, is_serving
    dead: int
    excluded: int

    def of(self, standing: Standing) -> OfIndex:
        missing = self.to_embed + self.row.to_come + self.dead
        wanted = max(0, standing.documents - self.excluded)
        done = max(0, wanted - missing)
        return OfIndex(
            collection=standing.name,
            name=self.index.name,
            open=self.open,
            to_come=self.row.to_come,
            done=done,
            coverage=done / wanted if wanted else 1.0,
            dead=self.dead,
            excluded=self.excluded,
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
        psycopg.errors.QueryCanceled: a statement that reads little took longer than its patience.
    """
    await conn.execute(SQL.briefly, {"patience": PATIENCE})
    listed = await collections.listed(conn)
    known, is_estimate = await _documents(conn, listed)
    pace = {row.collection_id: row.per_second for row in await _all(conn, SQL.pace)}
    changes = {row.collection_id: row for row in await _all(conn, SQL.changes)}
    seen, is_rough = await _indexes(conn)
    stands: dict[int, Standing] = {}
    found: list[OfIndex] = []
    for collection in listed:
        waiting = changes.get(collection.id)
        alone = Standing(
            name=collection.name,
            index_id=None,
            documents=known.get(collection.id, 0),
            approximate=is_estimate or is_rough,
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


async def _indexes(conn: Connection) -> tuple[defaultdict[int, list[Seen]], bool]:
    """Collection → its indexes that are written, and whether anything of them is an estimate."""
    left_out, some_left_out = await _left_out(conn)
    work, some_work = await _work(conn)
    found: defaultdict[int, list[Seen]] = defaultdict(list)
    for index in await indexes.writing(conn):
        row, dead, excluded = left_out[index.id]
        lanes, to_embed = work[index.id]
        found[index.collection_id].append(Seen(index, lanes, to_embed, row, dead, excluded))
    return found, some_left_out or some_work


async def _work(conn: Connection) -> tuple[defaultdict[int, tuple[list[Open], int]], bool]:
    """Index → its open work and how much of it is to be embedded; and whether that is an estimate."""
    rows = await _in_time(conn, SQL.open.format(work=SQL.all_work))
    is_rough = rows is None
    if rows is None:
        rows = await _all(conn, SQL.open.format(work=SQL.first_work), most=AT_HAND)
    found: defaultdict[int, tuple[list[Open], int]] = defaultdict(lambda: ([], 0))
    for row in rows:
        lanes, to_embed = found[row.index_id]
        more = await _more(conn, row, rows) if is_rough else 1.0
        lanes.append(Open(LANES[row.lane], row.state, int(row.documents * more), row.oldest))
        found[row.index_id] = lanes, to_embed + int(row.to_embed * more)
    return found, is_rough


async def _more(conn: Connection, row: Any, rows: Sequence[Any]) -> float:
    """How many times as much there is of its lane as was at hand; what is in hand was all of it there."""
    lane = [each for each in rows if (each.index_id, each.lane) == (row.index_id, row.lane)]
    at_hand = sum(each.documents for each in lane)
    if at_hand < AT_HAND or row.state == "in hand":
        return 1.0
    taken = sum(each.documents for each in lane if each.state == "in hand")
    whole = await estimated(conn, SQL.of_lane, {"index": row.index_id, "lane": row.lane})
    return float((max(at_hand, whole) - taken) / (at_hand - taken))


async def _left_out(conn: Connection) -> tuple[dict[int, tuple[Any, int, int]], bool]:
    """Index → its row, dead letters, and excluded documents; and whether that is an estimate."""
    final = [*map(str, FINAL)]
    rows = await _in_time(conn, SQL.left_out, final=final, most=None)
    if rows is not None:
        return {row.index_id: (row, row.dead, row.excluded) for row in rows}, False
    rough = {}
    for row in await _all(conn, SQL.left_out, final=final, most=AT_HAND):
        asked = {"index": row.index_id}
        dead = row.dead if row.dead < AT_HAND else max(AT_HAND, await estimated(conn, SQL.dead, asked))
        excluded = (
            row.excluded
            if row.excluded < AT_HAND
            else max(AT_HAND, await estimated(conn, SQL.excluded, asked))
        )
        rough[row.index_id] = row, dead, excluded
    return rough, True


async def _documents(conn: Connection, listed: Sequence[Collection]) -> tuple[dict[int, int], bool]:
    """Collection → its documents, and whether that is an estimate; a restore leaves the table uncounted."""
    (many,) = await _all(conn, SQL.many)
    rows = await _in_time(conn, SQL.documents) if many.documents <= COUNTED else None
    if rows is not None:
        return {row.collection_id: row.documents for row in rows}, False
    return {
        each.id: await estimated(conn, SQL.of_collection, {"collection": each.id}) for each in listed
    }, True


async def _in_time(conn: Connection, query: Any, **asked: Any) -> list[Any] | None:
    """None: it took too long. The transaction goes on without it."""
    try:
        async with conn.transaction():
            return await _all(conn, query, **asked)
    except psycopg.errors.QueryCanceled:
        return None


async def _all(conn: Connection, query: Any, **asked: Any) -> list[Any]:
    return await (await conn.execute(query, asked)).fetchall()
