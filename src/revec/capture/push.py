"""Single documents, handed in and taken away; and when a search finds them as they are now."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from revec.model.document import Draft
from revec.model.errors import NotAllowed, NotFound
from revec.model.index import Collection
from revec.postgres import collections, documents
from revec.postgres.collections import PUSH
from revec.postgres.database import Connection, Database
from revec.postgres.queries import beside

SQL = beside(__file__)
LOOK_EVERY = (0.02, 0.2)  # seconds: at first, and at most


class Standing(StrEnum):
    """Of one document, in the index that serves."""

    PENDING = "pending"  # a worker will do it
    SEARCHABLE = "searchable"
    EXCLUDED = "excluded"  # left out, for a reason
    DEAD = "dead"  # the model refused it
    GONE = "gone"  # deleted: shown to nobody


@dataclass(frozen=True, slots=True)
class Stand:
    key: str
    standing: Standing
    why: str | None
    open: bool  # work is left, in the index that serves


async def push(
    database: Database,
    collection: Collection,
    drafts: Sequence[Draft],
    gone: Sequence[str] = (),
    *,
    tenant: str | None = None,
) -> dict[str, int]:
    """Put and delete in one transaction: all of it or nothing. The documents' ids by their keys.

    A key that is put and deleted is deleted; one that was not there is not among the ids. With a tenant no
    other one's document is touched.

    Raises:
        NotAllowed: a draft is another tenant's, or would take the place of another tenant's document.
    """
    dropped = set(gone)
    kept = [draft for draft in drafts if draft.key not in dropped]
    async with database.transaction() as conn:
        source_id = await _source(conn, collection)
        await documents.lock_source(conn, source_id)
        if tenant is not None:
            await _require_own(conn, source_id, kept, tenant)
        ids = await documents.delete(conn, source_id, sorted(dropped), tenant=tenant)
        await documents.put(conn, source_id, kept)
        return ids | await documents.ids_of(conn, source_id, [draft.key for draft in kept])


async def stands(database: Database, collection: Collection, ids: Mapping[str, int]) -> list[Stand]:
    """Where the documents stand now, in the order of `ids`."""
    async with database.transaction("worker") as conn:
        asked = {"collection": collection.id, "ids": list(ids.values())}
        rows = {row.doc_id: row for row in await (await conn.execute(SQL.standing, asked)).fetchall()}
    return [_stand(key, rows[doc_id]) for key, doc_id in ids.items()]


async def settled(
    database: Database, collection: Collection, ids: Mapping[str, int], seconds: float
) -> list[Stand]:
    """Where they stand when no work is left, or when so many seconds have passed."""
    pause, most = LOOK_EVERY
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while True:
        found = await stands(database, collection, ids)
        left = until - loop.time()
        if left <= 0 or not any(stand.open for stand in found):
            return found
        await asyncio.sleep(min(pause, left))
        pause = min(2 * pause, most)


async def _source(conn: Connection, collection: Collection) -> int:
    """Looked up before it is made: making it again would write its row."""
    try:
        return (await collections.source(conn, collection, PUSH)).id
    except NotFound:
        return await collections.add_source(conn, collection, PUSH)


async def _require_own(conn: Connection, source_id: int, drafts: Sequence[Draft], tenant: str) -> None:
    if other := next((draft for draft in drafts if draft.tenant != tenant), None):
        raise NotAllowed(f"document {other.key!r} is not of tenant {tenant!r}: nothing was written")
    if taken := await documents.taken(conn, source_id, [draft.key for draft in drafts], tenant):
        raise NotAllowed(
            f"the id {taken!r} is another tenant's, and ids are shared by all: nothing was written, "
            "take another id"
        )


def _stand(key: str, row: Any) -> Stand:
    if row.gone:
        return Stand(key, Standing.GONE, None, row.open)
    if row.open or row.serving is None:
        why = None if row.serving else "nothing serves yet"
        return Stand(key, Standing.PENDING, why, open=True)
    if row.dead:
        return Stand(key, Standing.DEAD, row.dead, open=False)
    if row.excluded:
        return Stand(key, Standing.EXCLUDED, row.excluded, open=False)
    return Stand(key, Standing.SEARCHABLE, None, open=False)
