"""Drift between a user's table and its documents: what was written while no trigger looked.

A page of either side, compared in the database; only keys and causes come back. Nothing is mended here: a key
goes where a trigger would have put it, and the projector reads its row as it does every other one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from revec.capture import projector
from revec.capture.mapping import Mapping
from revec.postgres import documents
from revec.postgres.database import Connection, is_gone
from revec.postgres.queries import beside

SQL = beside(__file__)
PAGE = 1_000  # rows or documents
MOST_OPEN = 10_000  # changes of a source: more of them are a load under way, and what differs is not drift
UNSEEN, MOVED, CHANGED, GONE, UNSTAMPED, SOURCELESS = CAUSES = (
    "unseen",  # a row without its document
    "moved",  # a row of another tenant than its document
    "changed",  # a row that says something else than its document
    "gone",  # a document whose row is not there, or is filtered out
    "unstamped",  # a document that was written past its own triggers
    "sourceless",  # a document of a source that there is not
)

METADATA = "metadata"  # perhaps: a number of many digits is another one once it went through the projector


@dataclass(frozen=True, slots=True)
class Found:
    cause: str
    where: str  # a source or an index
    key: str  # of the document; its id where it has no key any more


@dataclass(slots=True)
class Page:
    """What a look at one page came to."""

    looked: int = 0
    after: str | None = None  # what was looked at last; None: that was the end
    found: list[Found] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what a person has to see to
    wait: str | None = None  # why this page has to be looked at again


async def of_rows(conn: Connection, source_id: int, after: str | None, *, heal: bool) -> Page:
    """The source's next rows: those without their documents, and those that differ from them."""
    return await _looked(conn, source_id, after, _rows, heal=heal)


async def of_documents(
    conn: Connection, source_id: int, after: str | None, *, heal: bool, careful: bool = False
) -> Page:
    """The source's next documents: those whose rows are gone.

    careful: where a whole page is gone it is left to a person. A table that is being put back, or that
    another one has taken the name of, is as empty as one whose rows were deleted.
    """
    page = await _looked(conn, source_id, after, _documents, heal=False)
    if heal and page.found:
        why = await _of_another_table(conn, source_id, page, careful=careful)
        if why is not None:
            return Page(page.looked, page.after, notes=[why])
        await _heal(conn, source_id, page)
    return page


async def _of_another_table(conn: Connection, source_id: int, page: Page, *, careful: bool) -> str | None:
    """Why it may not be the users who deleted these rows."""
    name = page.found[0].where
    state = await (await conn.execute(SQL.state, {"source": source_id, "most": 0})).fetchone()
    table = Mapping.load(state.mapping).table if state and state.mapping else None
    row = await (await conn.execute(SQL.is_ours, {"source": source_id, "table": table})).fetchone()
    if row is None or not row.ours:
        return (
            f"documents of {name} have no rows, and its triggers are gone: is it being restored, or another "
            "table? `revec init` reads it once it is whole"
        )
    if careful and len(page.found) == page.looked >= PAGE:
        return (
            f"{PAGE:,} documents of {name} in a row have no rows: if that is meant, "
            f"`revec reconcile NAME --source {name}` removes them"
        )
    return None


async def of_contents(conn: Connection, collection_id: int, after: int, upto: int, *, heal: bool) -> Page:
    """Documents with these ids: those that were written past their own triggers."""
    asked = {"collection": collection_id, "after": after, "upto": upto}
    rows = await (await conn.execute(SQL.contents, asked)).fetchall()
    page = Page(found=[Found(row.cause, "documents", row.key) for row in rows])
    unstamped = [row for row in rows if row.cause == UNSTAMPED]
    if heal and unstamped:
        for source_id in sorted({row.source_id for row in unstamped}):
            await documents.lock_source(conn, source_id)
        await conn.execute(SQL.stamp_again, {"ids": [row.doc_id for row in unstamped]})
    if lost := len(rows) - len(unstamped):
        page.notes.append(
            f"{lost:,} documents are of no source that there is: delete them, or restore their source"
        )
    return page


async def _looked(conn: Connection, source_id: int, after: str | None, look: Any, *, heal: bool) -> Page:
    """A source that cannot be looked at now is a note and no drift: nothing goes by a failed reading."""
    state = await (await conn.execute(SQL.state, {"source": source_id, "most": MOST_OPEN})).fetchone()
    if state is None or state.mapping is None:
        return Page()  # it has no rows
    if why := _stands_before(state):
        return Page(notes=[why])
    if state.open > MOST_OPEN:
        return Page(
            after=after, wait=f"more than {MOST_OPEN:,} changes of {state.name} are open: run `revec worker`"
        )
    mapping = Mapping.load(state.mapping)
    try:
        async with conn.transaction():
            await _require_all_rows(conn, mapping)
            page: Page = await look(conn, source_id, mapping, after)
    except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled) as error:
        return Page(after=after, wait=f"{state.name} was not looked at: {projector.cause_of(error)}")
    except (psycopg.Error, ValueError) as error:  # ValueError: a number in JSON beyond Python's
        if isinstance(error, psycopg.OperationalError) and is_gone(error):
            raise
        return Page(notes=[f"{state.name} was not looked at: {projector.cause_of(error)}"])
    page.found = [Found(each.cause, state.name, each.key) for each in page.found]
    if heal and page.found:
        await _heal(conn, source_id, page)
    return page


async def _heal(conn: Connection, source_id: int, page: Page) -> None:
    await conn.execute(SQL.heal, {"source": source_id, "keys": [each.key for each in page.found]})


def _stands_before(state: Any) -> str | None:
    if state.fault:
        return str(state.fault)
    if state.being_read or state.to_be_read:
        return f"{state.name} was not looked at: it is being read as a whole anyway"
    if state.open > MOST_OPEN and state.paused_why:
        held = f"paused: {state.paused_why}"
        return f"{state.name} was not looked at: more than {MOST_OPEN:,} of its changes are open ({held})"
    return None


async def _require_all_rows(conn: Connection, mapping: Mapping) -> None:
    """
    Raises:
        psycopg.Error: row security would hide rows from us, which we would take for deleted.
    """
    await conn.execute(projector.SQL.see_all_rows)
    await conn.execute(mapping.page(), {"after": None, "limit": 0})
    await conn.execute(projector.SQL.see_by_policy)


async def _rows(conn: Connection, source_id: int, mapping: Mapping, after: str | None) -> Page:
    query = SQL.rows.format(rows=mapping.page(), open=SQL.open)
    asked = {"source": source_id, "after": after, "limit": PAGE}
    rows = await (await conn.execute(query, asked)).fetchall()
    return _page(rows, [Found(cause, "", row.key) for row in rows if (cause := _cause(row))])


def _cause(row: Any) -> str | None:
    """Numbers were read from JSON on both sides, as the projector reads them."""
    if row.cause == METADATA:
        return CHANGED if row.was != row.becomes else None
    return row.cause  # type: ignore[no-any-return]


async def _documents(conn: Connection, source_id: int, mapping: Mapping, after: str | None) -> Page:
    keys = await documents.keys_after(conn, source_id, after, PAGE)
    query = SQL.gone.format(rows=mapping.by_keys(), open=SQL.open)
    fitting = [key for key in keys if mapping.fits(key)]
    asked: dict[str, Any] = {"source": source_id, "all": keys, "keys": fitting}
    rows = await (await conn.execute(query, asked)).fetchall()
    page = _page([], [Found(GONE, "", row.key) for row in rows])
    page.looked, page.after = len(keys), keys[-1] if len(keys) == PAGE else None
    return page


def _page(rows: Sequence[Any], found: list[Found]) -> Page:
    return Page(len(rows), rows[-1].key if len(rows) == PAGE else None, found)
