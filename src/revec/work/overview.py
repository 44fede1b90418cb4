"""What is to be seen of the work: figures, single documents, and everything as lines for a program."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from psycopg import sql

from revec.capture import projector
from revec.model.errors import BadInput, NotFound
from revec.model.index import Collection, Index
from revec.model.migration import FINAL
from revec.postgres import indexes
from revec.postgres.database import Connection, Database
from revec.postgres.estimates import estimated
from revec.postgres.queries import beside
from revec.work import calls, queue

SQL = beside(__file__)
COUNTED = 100_000  # rows of a kind; where there are more, how many is the planner's estimate
PATIENCE = 5.0  # seconds that a look may take
SILENCE = 30.0  # seconds without a heartbeat: six of them
PAGE = 1_000  # documents

State = Literal["waiting", "working", "stuck"]
STATES: dict[State, list[str]] = {  # as a person asks for them
    "waiting": ["waiting", "later", "expired"],
    "working": ["in hand"],
    "stuck": ["silent", "expired"],
}


@dataclass(frozen=True, slots=True)
class Stats:
    """Of one index: each document once, and what is wrong with the work on them."""

    index: str
    documents: int
    done: int
    waiting: int
    in_hand: int
    later: int  # given back for a while
    to_come: int  # not enqueued yet, by a backfill
    failed: int  # dead letters
    excluded: int
    deletions: int
    silent: int  # in the hands of a worker whose heart has stopped
    expired: int  # a lease that nobody has taken up again
    live: int  # of what is open, by lane
    jit: int
    backfill: int
    oldest_seconds: float  # of the live lane
    rough: tuple[str, ...] = ()  # which figures are estimates, for there are so many, or (LEAST) lower bounds

    @property
    def open(self) -> int:
        return self.waiting + self.in_hand + self.later + self.to_come + self.deletions


@dataclass(frozen=True, slots=True)
class Overview:
    collection: str
    indexes: list[Stats]
    unprojected: int  # changes of tables that are not documents yet
    workers: int
    per_second: float  # documents, over the last minute, of all workers
    troubles: list[str]  # models that rest, indexes that are not written

    @property
    def is_idle(self) -> bool:
        return not self.unprojected and not any(each.open for each in self.indexes)


async def overview(conn: Connection, collection: Collection) -> Overview:
    written = {index.id: index for index in await indexes.writing(conn, collection.id)}
    asked = {
        "collection": collection.id,
        "silence": SILENCE,
        "final": [*map(str, FINAL)],
        "most": COUNTED + 1,
    }
    await bound(conn)
    rows = await (await conn.execute(SQL.stats.format(work=SQL.work), asked)).fetchall()
    lanes = await (await conn.execute(SQL.lanes.format(work=SQL.work), asked)).fetchall()
    stats = [
        _stats(
            written[row.index_id].name,
            row,
            await _estimates(conn, row, collection.id),
            [await _lane(conn, lane) for lane in lanes if lane.index_id == row.index_id],
        )
        for row in rows
        if row.index_id in written
    ]
    workers = await queue.workers(conn)
    rests = [f"{row.model} rests: {row.why}" for row in await calls.resting(conn, collection.id)]
    faults = [f"{index.name} is not written: {index.fault}" for index in written.values() if index.fault]
    return Overview(
        collection=collection.name,
        indexes=stats,
        unprojected=await projector.backlog(conn, collection.id),
        workers=len(workers),
        per_second=round(sum(worker.per_second for worker in workers), 1),
        troubles=rests + faults,
    )


async def bound(conn: Connection) -> None:
    """What is asked from here on in this transaction takes PATIENCE at most, or is not answered."""
    await conn.execute(SQL.patience, {"milliseconds": f"{PATIENCE * 1000:.0f}"})


LANES = ("live", "jit", "backfill")
SHARES = ("waiting", "later", "deletions")  # of a long lane: as many of all as of those that were looked at
LEAST = ("in_hand", "silent", "expired")  # and these are as many as were seen: no shares, for they come first


async def _estimates(conn: Connection, row: Any, collection_id: int) -> dict[str, int]:
    """Of the kinds of rows that were not counted to the end, how many there are."""
    kinds = {
        "documents": (SQL.documents, row.documents),
        "failed": (SQL.failed, row.failed),
        "excluded": (SQL.left_out, row.excluded),
    }
    asked = {"collection": collection_id, "index": row.index_id}
    return {
        kind: max(counted, await estimated(conn, query, asked))
        for kind, (query, counted) in kinds.items()
        if counted > COUNTED
    }


@dataclass(frozen=True, slots=True)
class Lane:
    """Open work of one lane."""

    name: str
    work: int
    states: Mapping[str, int]  # SHARES and LEAST
    oldest: float  # seconds, of what was looked at
    rough: bool  # there is more than was looked at


async def _lane(conn: Connection, row: Any) -> Lane:
    states: dict[str, int] = {state: getattr(row, state) for state in (*SHARES, *LEAST)}
    work, rough = row.work, row.work > COUNTED
    if rough:
        work = max(work, await estimated(conn, SQL.of_lane, {"index": row.index_id, "lane": row.lane}))
        nobodys = max(1, row.work - row.in_hand)
        states |= {state: states[state] * (work - row.in_hand) // nobodys for state in SHARES}
    return Lane(LANES[row.lane], work, states, row.oldest, rough)


def _stats(name: str, row: Any, more: Mapping[str, int], lanes: Sequence[Lane]) -> Stats:
    """`lanes`: all of them. `more`: how many there are of what was not counted to the end."""
    states = (*SHARES, *LEAST)
    work = {state: sum(lane.states[state] for lane in lanes) for state in states}
    figures: dict[str, int] = {**row._asdict(), **more, **work}
    del figures["index_id"]
    accounted = ("waiting", "in_hand", "later", "to_come", "failed", "excluded")
    live, *_ = lanes
    long = [lane.name for lane in lanes if lane.rough]
    rough = [*more, *long, *(("oldest_seconds",) if live.rough else ()), *(states if long else ())]
    return Stats(
        index=name,
        done=max(0, figures["documents"] - sum(figures[state] for state in accounted)),
        oldest_seconds=round(live.oldest, 1),
        rough=(*rough, "done") if rough else (),
        **figures,
        **{lane.name: lane.work for lane in lanes},
    )


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From when on the queue is not well."""

    oldest: float = 300.0  # seconds that an edit may wait: ten times the freshness goal
    failed: int = 0  # dead letters that nobody has settled
    stuck: int = 0  # leases of silent workers, and leases that nobody has taken up again
    unprojected: int = 10_000  # changes
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    value: float
    limit: float
    passed: bool
    why: str  # and the way out, where it did not


def judged(seen: Overview, limits: Thresholds, *, name: str) -> list[Finding]:
    """Each threshold, and what there is; a worker is missed only where there is something to do."""
    oldest = max((each.oldest_seconds for each in seen.indexes), default=0.0)
    failed = sum(each.failed for each in seen.indexes)
    stuck = sum(each.silent + each.expired for each in seen.indexes)
    wanted = 0 if seen.is_idle else limits.workers
    findings = [
        _most("oldest edit", oldest, limits.oldest, "s", "run more workers, or `revec throttle NAME --off`"),
        _most("failed", failed, limits.failed, "", f"`revec queue list {name}` shows why"),
        _most("stuck", stuck, limits.stuck, "", f"`revec queue rescue {name}` frees what dead workers hold"),
        _most("unprojected", seen.unprojected, limits.unprojected, "", "run `revec worker`"),
        Finding(
            "workers",
            seen.workers,
            wanted,
            seen.workers >= wanted,
            f"{seen.workers} of {wanted}" + ("" if seen.workers >= wanted else ": run `revec worker`"),
        ),
    ]
    findings += [Finding("trouble", 1, 0, passed=False, why=why) for why in seen.troubles]
    return findings


def _most(check: str, value: float, limit: float, unit: str, way_out: str) -> Finding:
    passed = value <= limit
    return Finding(check, value, limit, passed, f"{value:g}{unit}" + ("" if passed else f": {way_out}"))


async def listed(conn: Connection, index_ids: Sequence[int], state: State, limit: int = 100) -> list[Any]:
    """Open work, the longest wait first."""
    asked = {"indexes": list(index_ids), "states": STATES[state], "silence": SILENCE, "limit": limit}
    return await (await conn.execute(SQL.open.format(work=SQL.work), asked)).fetchall()


async def left_out(conn: Connection, index_ids: Sequence[int], limit: int = 100) -> list[Any]:
    """Excluded documents with their reasons, the last ones first."""
    rows = await conn.execute(SQL.excluded, {"indexes": list(index_ids), "limit": limit})
    return await rows.fetchall()


async def shown(conn: Connection, collection: Collection, key: str, source: str | None) -> dict[str, Any]:
    """One document: how it stands in each index, and its timeline. No text, no key of a provider's.

    Raises:
        NotFound: there is none; BadInput: several sources have one.
    """
    asked = {"collection": collection.id, "key": key, "source": source}
    found = await (await conn.execute(SQL.of_key, asked)).fetchall()
    if not found:
        raise NotFound(f"{collection.name} has no document {key!r}")
    if len(found) > 1:
        several = " or ".join(row.source for row in found)
        raise BadInput(f"several sources have a document {key!r}: say --source {several}")
    (document,) = found
    asked = {"doc": document.doc_id, "silence": SILENCE, "final": [*map(str, FINAL)]}
    rows = await (await conn.execute(SQL.standing.format(work=SQL.work), asked)).fetchall()
    names = {index.id: index.name for index in await indexes.writing(conn, collection.id)}
    endings = await (await conn.execute(SQL.endings, {"doc": document.doc_id})).fetchall()
    facts: dict[str, Any] = document._asdict()
    return facts | {
        "indexes": [_standing(row, names.get(row.index_id, "")) for row in rows],
        "timeline": sorted(_timeline(document, rows, endings), key=lambda event: event["at"]),
    }


def _standing(row: Any, name: str) -> dict[str, Any]:
    state = row.state
    if state is None:
        state = "excluded" if row.reason else "failed" if row.cause else "done"
    return {
        "index": name,
        "state": state,
        "cause": row.cause or row.reason,
        "attempts": row.attempts,
        "lane": row.lane,
        "worker": row.worker,
        "lease_until": row.lease_until,
        "not_before": row.not_before,
        "waits_for": row.waits_for,
    }


def _timeline(document: Any, rows: Sequence[Any], endings: Sequence[Any]) -> list[dict[str, Any]]:
    told = [(document.changed_at, "its content was written")]
    for row in rows:
        told += [
            (row.since, "work was enqueued"),
            (row.first_at, f"it failed: {row.cause}"),
            (row.last_at if row.last_at != row.first_at else None, f"it failed again: {row.cause}"),
            (row.retried_at, "another try was asked for"),
            (row.excluded_at, f"it was left out: {row.reason}"),
        ]
    for row in endings:
        why = f" ({row.reason})" if row.reason else ""
        told += [(row.first_at, f"it failed: {row.cause}"), (row.at, f"that ended: {row.resolution}{why}")]
    return [{"at": at, "what": what} for at, what in told if at is not None]


async def exported(database: Database, index: Index) -> AsyncIterator[dict[str, Any]]:
    """What became of each document in the index, page by page: no long snapshot."""
    vectors = sql.Identifier("revec", f"vectors_{index.id}")
    asked: dict[str, Any] = {"index": index.id, "collection": index.collection_id, "limit": PAGE, "after": 0}
    while True:
        async with database.transaction("worker") as conn:
            rows = await (await conn.execute(SQL.ledger.format(vectors=vectors), asked)).fetchall()
        for row in rows:
            line = row._asdict()
            del line["doc_id"]
            yield line | {"index": index.name}
        if len(rows) < PAGE:
            return
        asked["after"] = rows[-1].doc_id
