"""A walk through a collection's tables, documents and indexes: its parts, its next page, what it found."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from revec.capture import attach
from revec.capture import drift as sources
from revec.capture.drift import Page
from revec.model.errors import StoreUnavailable
from revec.model.migration import FINAL
from revec.postgres import indexes
from revec.postgres.database import Connection, Database, first_line
from revec.postgres.queries import beside
from revec.stores.base import Lost, Store
from revec.work import drift

SQL = beside(__file__)
EXAMPLES = 20  # of what was found, kept for a person
TABLES, CONTENTS, VECTORS, POINTS = range(4)  # kinds of parts
NOTHING_LOST = Lost([], None)

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
    is_careful: bool = False  # nobody watches: what looks like a disaster is left to a person
    waits: str | None = None  # why the page has to be looked at again

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


def is_over_a_network(walk: Walk) -> bool:
    return walk.part is not None and walk.part[:1] == (POINTS,)


async def look(conn: Connection, store: Store, walk: Walk, *, heal: bool) -> None:
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
    walk.waits = page.wait
    if page.wait is not None:
        return
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


async def give_up_part(conn: Connection, walk: Walk) -> None:
    """What it waits for does not come: said, and the next part is begun."""
    assert walk.waits is not None
    walk.notes.append(walk.waits)
    walk.waits = None
    _go_on(walk, await _parts(conn, walk))


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
        if half:
            return await sources.of_documents(conn, whose, walk.after, heal=heal, careful=walk.is_careful)
        return await sources.of_rows(conn, whose, walk.after, heal=heal)
    after = int(walk.after or 0)
    upto, more = await drift.bounds(conn, after)
    if kind == CONTENTS:
        page = await sources.of_contents(conn, walk.collection_id, after, upto, heal=heal)
    else:
        index = await indexes.by_id(conn, whose)
        page = await drift.of_index(conn, store, index, after, upto, heal=heal)
    page.after = str(upto) if more else None
    return page


async def lost(database: Database, store: Store, walk: Walk) -> Lost:
    """The next page of what the part's store has not; asked while no transaction is open."""
    assert walk.part is not None
    async with database.transaction("worker") as conn:
        if walk.part not in await _parts(conn, walk):  # dropped since the last page
            return NOTHING_LOST
        index = await indexes.by_id(conn, walk.part[1])
    try:
        return await store.lost(index, UUID(walk.after) if walk.after else None)
    except StoreUnavailable as error:
        walk.notes.append(f"{index.name} was not looked at in its store: {first_line(error)}")
        return NOTHING_LOST


async def note_lost(conn: Connection, store: Store, walk: Walk, page: Lost, *, heal: bool) -> None:
    parts = await _parts(conn, walk)
    if page.doc_ids and walk.part in parts:
        index = await indexes.by_id(conn, walk.part[1])
        walk.take(await drift.lost(conn, store, index, page.doc_ids, heal=heal))
    if page.after is None:
        _go_on(walk, parts)
    else:
        walk.after = str(page.after)
