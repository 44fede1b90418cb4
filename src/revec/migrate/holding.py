"""The indexes of a collection: how large, how far, how good each is; who still holds it; when it goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from revec.migrate.gates.base import RECALL
from revec.model.index import Collection, Index, Route
from revec.model.migration import FINAL
from revec.postgres import callers, indexes, thresholds
from revec.postgres.database import Connection
from revec.postgres.queries import beside
from revec.stores.base import Store
from revec.work.overview import Stats, overview

SQL = beside(__file__)


@dataclass(frozen=True, slots=True)
class Build:
    """Of its graph, by the server's own progress report."""

    phase: str
    done: int  # of what the phase counts: rows, else blocks
    of: int  # 0: it does not say


@dataclass(frozen=True, slots=True)
class Recall:
    outcome: str
    why: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Held:
    """One index that is kept current."""

    id: int
    name: str
    role: str  # serving, previous, next
    kind: str
    store: str
    dims: int
    writer: str
    bytes: int  # in this database: of a store elsewhere, what is noted of its points
    held: bool  # its work is not claimed: it is being built
    build: Build | None
    recall: Recall | None  # None: exact, or not judged yet
    work: Stats
    fault: str | None
    holders: list[str]  # who would miss it, in words
    drop_at: datetime | None


async def listed(conn: Connection, store: Store, collection: Collection) -> list[Held]:
    written = await indexes.writing(conn, collection.id)
    work = {each.index: each for each in (await overview(conn, collection)).indexes}
    asked: dict[str, Any] = {
        "collection": collection.id,
        "ids": [index.id for index in written],
        "tables": [f"revec.vectors_{index.id}" for index in written],
        "recall": RECALL,
        "final": [*map(str, FINAL)],
    }
    rows = {row.id: row for row in await (await conn.execute(SQL.facts, asked)).fetchall()}
    route = await indexes.route_of(conn, collection.id)
    others = await _others(conn, collection, written)
    return [
        Held(
            id=index.id,
            name=index.name,
            role=route.role_of(index.id),
            kind=index.kind,
            store=index.place.store,
            dims=index.space.dims,
            writer=index.writer,
            bytes=await store.bytes_stored(conn, index),
            held=index.held,
            build=_build(rows[index.id]),
            recall=_recall(rows[index.id]),
            work=work[index.name],
            fault=index.fault,
            holders=[*_routes(index, route, rows[index.id]), *others[index.id]],
            drop_at=rows[index.id].drop_at,
        )
        for index in written
    ]


def _build(row: Any) -> Build | None:
    if row.phase is None:
        return None
    done, of = (
        (row.tuples_done, row.tuples_total) if row.tuples_total else (row.blocks_done, row.blocks_total)
    )
    return Build(row.phase, done or 0, of or 0)


def _recall(row: Any) -> Recall | None:
    return None if row.outcome is None else Recall(row.outcome, row.why, row.at)


def _routes(index: Index, route: Route, row: Any) -> list[str]:
    """Searches that it answers or may answer, and migrations."""
    told = []
    if index.id == route.serving:
        told.append("the route: it answers searches")
    if index.id == route.previous:
        told.append("the way back: a rollback would let it answer again")
    if index.id == route.canary and route.share > 0:
        told.append(f"the canary: it answers {route.share:.0%} of the searches")
    if row.tenants:
        told.append(f"{row.tenants:,} tenants that are shown it, or held on it")
    if row.shadow:
        told.append(f"the shadow: {row.shadow:.0%} of the queries are asked of it as well")
    if row.target:
        told.append(f"the migration to {row.target}, which is {row.state}")
    return told


async def _others(conn: Connection, collection: Collection, written: Sequence[Index]) -> dict[int, list[str]]:
    """What else was made for an index, by its id: functions, thresholds, a column."""
    asking = await callers.kept(conn, collection.id)
    said = await thresholds.kept(conn, collection.id)
    told: dict[int, list[str]] = {index.id: [] for index in written}
    for index in written:
        told[index.id] += [
            f"the scale of {each.function}: its scores are this space's"
            for each in asking
            if each.home == index.space.id
        ]
        if (threshold := said.get(index.space.id)) is not None:
            told[index.id].append(f"a threshold: similar from {threshold.value:g} on")
        if index.column is not None:
            told[index.id].append(
                f"column {index.column.table}.{index.column.vector}, written by {index.writer}"
            )
    for to in await callers.destinations(conn, collection.id) if asking else []:
        if to.waits is None and to.index_id in told:
            told[to.index_id].append(f"SQL functions ask it: {', '.join(each.function for each in asking)}")
    return told
