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
    rough: tuple[str, ...] = ()  # which of these figures are estimates, for there are so many

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
    seen = [(row, await _estimates(conn, row, collection.id)) for row in rows if row.index_id in written]
    workers = await queue.workers(conn)
    rests = [f"{row.model} rests: {row.why}" for row in await calls.resting(conn, collection.id)]
    faults = [f"{index.name} is not written: {index.fault}" for index in written.values() if index.fault]
    return Overview(
        collection=collection.name,
        indexes=[_stats(written[row.index_id].name, row, more) for row, more in seen],
        unprojected=await projector.backlog(conn, collection.id),
        workers=len(workers),
        per_second=round(sum(worker.per_second for worker in workers), 1),
        troubles=rests + faults,
    )


async def bound(conn: Connection) -> None:
    """What is asked from here on in this transaction takes PATIENCE at most, or is not answered."""
    await conn.execute(SQL.patience, {"milliseconds": f"{PATIENCE * 1000:.0f}"})


WORK = ("waiting", "in_hand", "later", "silent", "expired", "deletions", "live", "jit", "backfill")


async def _estimates(conn: Connection, row: Any, collection_id: int) -> dict[str, int]:
    """Of the kinds of rows that were not counted to the end, how many there are."""
    kinds = {
        "documents": (SQL.documents, row.documents),
        "failed": (SQL.failed, row.failed),
        "excluded": (SQL.left_out, row.excluded),
        "work": (SQL.all_work, row.work),
    }
    asked = {"collection": collection_id, "index": row.index_id}
    return {
        kind: max(counted, await estimated(conn, query, asked))
        for kind, (query, counted) in kinds.items()
        if counted > COUNTED
    }


def _stats(name: str, row: Any, more: Mapping[str, int]) -> Stats:
    """`more`: how many there are of what was not counted to the end; the states of work share its own out."""
    figures = {**row._asdict(), **more}
    if "work" in more:
        figures |= {state: figures[state] * more["work"] // row.work for state in WORK}
    states = ("waiting", "in_hand", "later", "to_come", "failed", "excluded")
    rough = [*(WORK if "work" in more else ()), *(kind for kind in more if kind != "work")]
    return Stats(
        index=name,
        done=max(0, figures["documents"] - sum(figures[state] for state in states)),
        oldest_seconds=round(row.live_oldest, 1),
        rough=(*rough, "done") if rough else (),
        **{state: figures[state] for state in ("documents", *dict.fromkeys((*states, *WORK)))},
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
