"""Reconcile: one walk through a collection's tables, documents and indexes, for what no trigger told of.

A walk goes on in pages. Each is a transaction of its own that looks, enqueues what is to be mended, and
moves the cursor: killed anywhere, the next worker goes on there; no snapshot is older than a page. Whoever
writes documents and vectors writes them still: a walk only says which keys to look at.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from revec.capture import attach
from revec.capture import drift as sources
from revec.capture.drift import Page
from revec.model.errors import NotFound, StoreUnavailable
from revec.model.index import Collection
from revec.model.migration import FINAL
from revec.observe import events
from revec.observe.failpoints import failpoint
from revec.postgres import collections, indexes
from revec.postgres.database import Connection, Database, first_line
from revec.postgres.queries import beside
from revec.stores.base import Store
from revec.work import drift

SQL = beside(__file__)
LOOK_EVERY = 5.0  # seconds between looks for a walk that is due
LONGEST_REST = 1.0  # seconds between pages: a walk takes half of one connection's time
EXAMPLES = 20  # of what was found, kept for a person
TABLES, CONTENTS, VECTORS, POINTS = range(4)  # kinds of parts
WORKERS, PERSON = "workers", "person"

Part = tuple[int, ...]  # kind, the source's or index's id, its half


@dataclass(slots=True)
class Walk:
    """How far it is, and what it has found."""

    collection_id: int
    source: str | None = None  # this one and nothing else
    part: Part | None = None
    after: str | None = None  # the last key or id of the part that was looked at
    looked: int = 0
    found: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    began_at: datetime | None = None
    is_over: bool = False

    def take(self, page: Page) -> None:
        self.looked += page.looked
        self.found.update(each.cause for each in page.found)
        self.examples += [asdict(each) for each in page.found[: EXAMPLES - len(self.examples)]]
        self.notes += [note for note in page.notes if note not in self.notes]

    def report(self, by: str) -> Report:
        ended, began = datetime.now(UTC), self.began_at or datetime.now(UTC)
        return Report(
            by=by,
            began=began.isoformat(timespec="seconds"),
            ended=ended.isoformat(timespec="seconds"),
            seconds=round((ended - began).total_seconds(), 3),
            looked=self.looked,
            found=dict(self.found),
            examples=self.examples,
            notes=self.notes,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """What a walk came to."""

    by: str
    began: str
    ended: str
    seconds: float
    looked: int  # rows, and documents once a part
    found: dict[str, int]  # by cause
    examples: list[dict[str, str]]  # cause, where, key
    notes: list[str]  # what could not be looked at, or be mended without a person

    @property
    def drifted(self) -> int:
        return sum(self.found.values())


class Reconciler:
    """A duty of every worker. `every`: seconds within which drift is found; 0: never by itself."""

    def __init__(self, database: Database, store: Store, *, every: float) -> None:
        self._database, self._store, self._every = database, store, every
        self._look_at = 0.0

    async def tick(self) -> bool:
        """The next page of a walk that is under way or due; whether there was one."""
        began = time.monotonic()
        if not self._every or began < self._look_at:
            return False
        try:
            moved = await self._page()
        except (psycopg.errors.UndefinedTable, psycopg.errors.LockNotAvailable) as error:
            events.emit(events.TryAgain(first_line(error)))
            moved = False
        if not moved:
            self._look_at = time.monotonic() + LOOK_EVERY
            return False
        await asyncio.sleep(min(LONGEST_REST, time.monotonic() - began))
        return True

    async def _page(self) -> bool:
        async with self._database.transaction() as conn:
            await conn.execute(SQL.known)
            row = await (await conn.execute(SQL.next, {"every": self._every})).fetchone()
            if row is None:
                return False
            walk = _walk(row)
            if not _is_over_a_network(walk):
                await _look(conn, self._store, walk, heal=True)
                failpoint("walk_page")
                await _keep(conn, walk, WORKERS)
                return True
        await _ask_store(self._database, self._store, walk, WORKERS)
        return True


async def reconcile(
    database: Database,
    store: Store,
    collection: Collection,
    *,
    source: str | None = None,
    heal: bool = True,
    tell: Callable[[Walk], None] = lambda _: None,
) -> Report:
    """One whole walk now. One that a person began and that was cut off is gone on with.

    Without `heal` nothing is written, no cursor either.

    Raises:
        NotFound: the collection has no such source.
    """
    if source is not None:
        async with database.transaction() as conn:
            await collections.source(conn, collection, source)
    if not heal:
        return await _look_only(database, store, collection, source, tell)
    async with database.transaction() as conn:
        await conn.execute(SQL.begin, {"collection": collection.id, "source": source})
    report = None
    while report is None:
        async with database.transaction() as conn:
            row = await (await conn.execute(SQL.own, {"collection": collection.id})).fetchone()
            if row is None:  # somebody else asked for it too, and has just come to its end
                return await _last(conn, collection)
            walk = _walk(row)
            if not _is_over_a_network(walk):
                await _look(conn, store, walk, heal=True)
                failpoint("walk_page")
                report = await _keep(conn, walk, PERSON)
        if _is_over_a_network(walk):
            report = await _ask_store(database, store, walk, PERSON)
        tell(walk)
    return report


async def _look_only(
    database: Database,
    store: Store,
    collection: Collection,
    source: str | None,
    tell: Callable[[Walk], None],
) -> Report:
    walk = Walk(collection.id, source, part=())
    while not walk.is_over:
        if _is_over_a_network(walk):
            lost = await _lost(database, store, walk)
            async with database.transaction() as conn:
                await _note_lost(conn, store, walk, lost, heal=False)
        else:
            async with database.transaction() as conn:
                await _look(conn, store, walk, heal=False)
        tell(walk)
    return walk.report(PERSON)


async def walks(conn: Connection, collection_id: int) -> list[Any]:
    """begun_by, last, under_way, looked, age and took (seconds) of the workers' walk and of a person's."""
    return await (await conn.execute(SQL.walks, {"collection": collection_id})).fetchall()


def _walk(row: Any) -> Walk:
    part = None if row.part is None else tuple(row.part)
    found = Counter(row.found)
    return Walk(
        row.collection_id,
        row.source,
        part,
        row.after,
        row.looked,
        found,
        row.examples,
        row.notes,
        row.began_at,
    )


def _is_over_a_network(walk: Walk) -> bool:
    return walk.part is not None and walk.part[:1] == (POINTS,)


async def _look(conn: Connection, store: Store, walk: Walk, *, heal: bool) -> None:
    """The next page, into the walk; behind the last part it is over."""
    await conn.execute(SQL.lock_timeout)
    if not walk.part:
        await _set_out(conn, walk)
    parts = await _parts(conn, walk)
    if walk.part not in parts:  # not begun; or dropped, or being built, since the last page
        _go_on(walk, parts)
        return
    assert walk.part is not None
    page = await _page(conn, store, walk.part, walk, heal=heal)
    walk.take(page)
    if page.after is None:
        _go_on(walk, parts)
    else:
        walk.after = page.after


async def _set_out(conn: Connection, walk: Walk) -> None:
    walk.part, walk.after, walk.began_at = (), None, datetime.now(UTC)
    off = await attach.missing(conn, walk.collection_id)
    walk.notes = [
        f"triggers of {name} are gone or switched off: `revec init` makes them again"
        for name in off
        if walk.source in (None, name)
    ]


def _go_on(walk: Walk, parts: list[Part]) -> None:
    here = walk.part or ()
    walk.after = None
    walk.part = next((part for part in parts if part > here), None)
    walk.is_over = walk.part is None


async def _parts(conn: Connection, walk: Walk) -> list[Part]:
    asked = {"collection": walk.collection_id, "source": walk.source, "final": [*map(str, FINAL)]}
    rows = await (await conn.execute(SQL.parts, asked)).fetchall()
    return sorted(tuple(row.part) for row in rows)


async def _page(conn: Connection, store: Store, part: Part, walk: Walk, *, heal: bool) -> Page:
    kind, whose, half = part
    if kind == TABLES:
        look = sources.of_documents if half else sources.of_rows
        return await look(conn, whose, walk.after, heal=heal)
    after = int(walk.after or 0)
    upto, more = await drift.bounds(conn, after)
    if kind == CONTENTS:
        page = await sources.of_contents(conn, walk.collection_id, after, upto, heal=heal)
    else:
        index = await indexes.by_id(conn, whose)
        page = await drift.of_index(conn, store, index, after, upto, heal=heal)
    page.after = str(upto) if more else None
    return page


async def _ask_store(database: Database, store: Store, walk: Walk, by: str) -> Report | None:
    """What a store elsewhere has lost; asked while no transaction is open: the cursor is looked at twice."""
    lost = await _lost(database, store, walk)
    async with database.transaction() as conn:
        asked = {"collection": walk.collection_id, "by": by}
        row = await (await conn.execute(SQL.still, asked)).fetchone()
        if row is None or tuple(row.part or ()) != walk.part:
            return None  # another worker was faster
        await _note_lost(conn, store, walk, lost, heal=True)
        return await _keep(conn, walk, by)


async def _lost(database: Database, store: Store, walk: Walk) -> list[int]:
    assert walk.part is not None
    async with database.transaction("worker") as conn:
        index = await indexes.by_id(conn, walk.part[1])
    try:
        return await store.lost(index)
    except StoreUnavailable as error:
        walk.notes.append(f"{index.name} was not looked at in its store: {first_line(error)}")
        return []


async def _note_lost(conn: Connection, store: Store, walk: Walk, lost: list[int], *, heal: bool) -> None:
    assert walk.part is not None
    index = await indexes.by_id(conn, walk.part[1])
    if lost:
        walk.take(await drift.lost(conn, store, index, lost, heal=heal))
    _go_on(walk, await _parts(conn, walk))


async def _keep(conn: Connection, walk: Walk, by: str) -> Report | None:
    """The cursor, with what the page enqueued; the report where it is over."""
    whose = {"collection": walk.collection_id, "by": by, "began_at": walk.began_at}
    if walk.is_over:
        report = walk.report(by)
        await conn.execute(SQL.end, whose | {"seconds": report.seconds, "report": Jsonb(asdict(report))})
        return report
    await conn.execute(
        SQL.keep,
        whose
        | {
            "part": list(walk.part or ()),
            "after": walk.after,
            "looked": walk.looked,
            "found": Jsonb(walk.found),
            "examples": Jsonb(walk.examples),
            "notes": Jsonb(walk.notes),
        },
    )
    return None


async def _last(conn: Connection, collection: Collection) -> Report:
    for row in await walks(conn, collection.id):
        if row.begun_by == PERSON and row.last:
            return Report(**row.last)
    raise NotFound(f"{collection.name} was not walked through yet: run `revec reconcile {collection.name}`")
