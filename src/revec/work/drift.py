"""Drift between documents and an index: what is there, is not, or is not what was written.

A page of documents at a time. What is found becomes work like any other, behind the same fence, in the
lane of the backfill: it yields to edits and to searches. A vector under another tenant goes at once; one that
cannot be right answers until its place is taken, and nobody copies it meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import sql

from revec.capture import drift
from revec.capture.drift import Found, Page
from revec.model.index import Index
from revec.postgres.database import Connection
from revec.postgres.queries import beside
from revec.stores.base import Store
from revec.work import queue

SQL = beside(__file__)
PAGE = 1_000  # documents
LAST_ID = 2**63 - 1
MISSING, STALE, ABROAD, MALFORMED, EDITED, ORPHAN, LOST = CAUSES = (
    "missing",  # a document without vectors, and nothing that says why
    "stale",  # vectors of another content, or not all of them
    "abroad",  # vectors under another tenant
    "malformed",  # zero, or not of unit length where that is promised
    "edited",  # not what the last walk saw, at the same rev
    "orphan",  # vectors of a document that is gone
    "lost",  # known here, and not in the store elsewhere
)
WRONG = (MALFORMED, EDITED)  # not to be copied


async def bounds(conn: Connection, after: int) -> tuple[int, bool]:
    """The last id of the next page, and whether another one follows."""
    row = await (await conn.execute(SQL.end_of_page, {"after": after, "size": PAGE})).fetchone()
    assert row is not None
    more = row.documents == PAGE
    return (row.upto if more else LAST_ID), more


async def of_index(
    conn: Connection, store: Store, index: Index, after: int, upto: int, *, heal: bool
) -> Page:
    """The index's side of the documents with these ids, both ways."""
    vectors = sql.Identifier("revec", f"vectors_{index.id}")
    asked = {
        "index": index.id,
        "collection": index.collection_id,
        "after": after,
        "upto": upto,
        "unit": index.space.normalise,
    }
    looks = SQL.looks_here if index.place.is_here else SQL.looks_elsewhere
    rows = await (await conn.execute(SQL.page.format(vectors=vectors, looks=looks), asked)).fetchall()
    gone = await (await conn.execute(SQL.orphans.format(vectors=vectors), asked)).fetchall()
    drifted = [row for row in rows if row.cause not in (None, "excused")]
    page = Page(looked=len(rows) + len(gone))
    page.found = [Found(row.cause, index.name, row.key) for row in drifted]
    page.found += [Found(ORPHAN, index.name, str(row.doc_id)) for row in gone]
    if heal:
        await store.remove(conn, index, [row.doc_id for row in drifted if row.cause == ABROAD])
        alike = await _disown(conn, index, [row.doc_id for row in drifted if row.cause in WRONG])
        again = {*alike, *(row.doc_id for row in drifted)}
        await queue.enqueue(conn, index.id, sorted(again), lane=queue.BACKFILL)
        await _remove(conn, index, gone)
        await conn.execute(SQL.unseal, asked)
        await _seal(conn, index, [row for row in rows if row.cause is None and row.doc_id not in again])
    return page


async def lost(conn: Connection, store: Store, index: Index, doc_ids: Sequence[int], *, heal: bool) -> Page:
    """What a store elsewhere was found to have lost."""
    if heal:
        await store.remove(conn, index, list(doc_ids))
        await queue.enqueue(conn, index.id, doc_ids, lane=queue.BACKFILL)
    return Page(looked=len(doc_ids), found=[Found(LOST, index.name, str(doc_id)) for doc_id in doc_ids])


async def _disown(conn: Connection, index: Index, doc_ids: Sequence[int]) -> list[int]:
    """The vectors of these documents are of no text any more; the documents that have one of them."""
    if not doc_ids:
        return []
    vectors = sql.Identifier("revec", f"vectors_{index.id}")
    asked = {"ids": list(doc_ids), "space": index.space.id}
    rows = await conn.execute(SQL.disown.format(vectors=vectors), asked)
    return [row.doc_id for row in await rows.fetchall()]


async def _remove(conn: Connection, index: Index, gone: Sequence[Any]) -> None:
    if gone:
        ids, tenants = [row.doc_id for row in gone], [row.tenant for row in gone]
        await conn.execute(SQL.remove, {"index": index.id, "ids": ids, "tenants": tenants})


async def _seal(conn: Connection, index: Index, rows: Sequence[Any]) -> None:
    """What was found well is what the next walk compares with."""
    sealed = [row for row in rows if row.digest is not None]
    if sealed:
        await conn.execute(
            SQL.seal,
            {
                "index": index.id,
                "ids": [row.doc_id for row in sealed],
                "revs": [row.rev for row in sealed],
                "digests": [row.digest for row in sealed],
            },
        )


ALL_CAUSES = (*drift.CAUSES, *CAUSES)
