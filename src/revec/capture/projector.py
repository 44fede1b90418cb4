"""The projector: changed keys → current rows → documents.

It never trusts a change's content, only its key: rows are read again, with row security off, in the
transaction that writes the documents and takes the changes. A full pass (after attaching, a new
mapping, a TRUNCATE) goes over the table's rows, then over the source's documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from revec.capture.mapping import Mapping
from revec.model.document import Draft, rendered, text_hash
from revec.model.space import Space
from revec.observe.failpoints import failpoint
from revec.postgres import documents, indexes, ledgers
from revec.postgres.collections import Source
from revec.postgres.database import Connection, Database, first_line, is_gone
from revec.postgres.ledgers import Noted
from revec.postgres.queries import beside

SQL = beside(__file__)
PAGE = 1_000  # rows or changes a transaction
FETCH, BATCH_SIZE = 20, 4 << 20  # rows, characters: a page of long texts is more than memory or a message
LONG = 256 << 10  # bytes: a longer row is moved inside the server
ROWS, DOCUMENTS = "rows", "documents"  # the two halves of a full pass


async def project(database: Database) -> bool:
    """One page for every source that has something to do; whether anything was done."""
    async with database.transaction() as conn:
        pending = [Source(*row) for row in await (await conn.execute(SQL.pending)).fetchall()]
    done = [await _project_source(database, source) for source in pending]
    return any(done)


async def _project_source(database: Database, source: Source) -> bool:
    assert source.mapping is not None
    mapping = Mapping.load(source.mapping)
    try:
        async with database.transaction() as conn:
            state = await (await conn.execute(SQL.lock, {"source": source.id})).fetchone()
            if state is None:
                return False  # another projector is at it
            changes = await _take_changes(conn, source, mapping, idle=state.scan is None)
            if any(change.old_key is None and change.new_key is None for change in changes):
                await _scan(conn, source, ROWS, None)  # truncated, or unknown: look at everything
            elif state.scan == ROWS:
                await _scan_rows(conn, source, mapping, state.scan_after)
            elif state.scan == DOCUMENTS:
                await _scan_documents(conn, source, mapping, state.scan_after)
            failpoint("changes_projected")
            return bool(changes or state.scan)
    except psycopg.errors.ProgramLimitExceeded as error:  # a key too long for our index, say
        await _fault(database, source, error)
        return False
    except psycopg.OperationalError as error:
        if is_gone(error):
            raise
        return False  # a lock, a deadlock, a full disk: the database's trouble, not the table's
    except (psycopg.Error, ValueError) as error:  # ValueError: a number in JSON beyond Python's
        await _fault(database, source, error)
        return False


async def _take_changes(conn: Connection, source: Source, mapping: Mapping, *, idle: bool) -> list[Any]:
    taken = await conn.execute(SQL.claim, {"source": source.id, "limit": PAGE, "idle": idle})
    changes = await taken.fetchall()
    if changes:
        failpoint("change_claimed")
    keys = {key for change in changes for key in (change.old_key, change.new_key) if key is not None}
    await _refresh(conn, source, mapping, sorted(keys))
    return changes


async def _scan_rows(conn: Connection, source: Source, mapping: Mapping, after: str | None) -> None:
    keys = await _read(conn, source, mapping, mapping.page(), {"after": after, "limit": PAGE})
    if len(keys) < PAGE:
        await _scan(conn, source, DOCUMENTS, None)
    else:
        await _scan(conn, source, ROWS, keys[-1])


async def _scan_documents(conn: Connection, source: Source, mapping: Mapping, after: str | None) -> None:
    """Documents whose rows are gone: nothing told us of them."""
    keys = await documents.keys_after(conn, source.id, after, PAGE)
    await _refresh(conn, source, mapping, keys)
    if len(keys) < PAGE:
        await _scan(conn, source, None, None)
    else:
        await _scan(conn, source, DOCUMENTS, keys[-1])


async def _refresh(conn: Connection, source: Source, mapping: Mapping, keys: list[str]) -> None:
    """Make the documents of these keys what their rows are now."""
    if keys:
        fitting = [key for key in keys if mapping.fits(key)]
        found = await _read(conn, source, mapping, mapping.by_keys(), {"keys": fitting})
        await documents.delete(conn, source.id, sorted(set(keys) - set(found)))


async def _read(
    conn: Connection, source: Source, mapping: Mapping, query: sql.Composed, parameters: dict[str, Any]
) -> list[str]:
    """Put the query's rows among the documents (or out, where filtered); their keys, in order."""
    keys: list[str] = []
    async with conn.cursor("source_rows") as rows:
        await conn.execute(SQL.see_all_rows)
        # From here on it sees what it sees.
        await rows.execute(mapping.without_long(query), parameters | {"most": LONG})
        await conn.execute(SQL.see_by_policy)
        batch: list[Any] = []
        size = 0
        while some := await rows.fetchmany(FETCH):
            keys += [row.key for row in some]
            batch += some
            size += sum(len(row.body) for row in some if not row.long)
            if size > BATCH_SIZE:
                await _keep(conn, source, mapping, batch)
                batch, size = [], 0
        await _keep(conn, source, mapping, batch)
    return keys


async def _keep(conn: Connection, source: Source, mapping: Mapping, rows: list[Any]) -> None:
    """A long row is read once more, by the server alone. It sees no fewer rows by policy: had any been
    hidden from us, the reading before would have been refused.
    """
    kept = [
        Draft(row.key, row.title, row.body, row.tenant, row.metadata)
        for row in rows
        if row.kept and not row.long
    ]
    await documents.put(conn, source.id, kept)
    long = {row.key: row.tenant for row in rows if row.kept and row.long}
    await documents.move(conn, source.id, long, mapping.by_keys())
    await documents.delete(conn, source.id, [row.key for row in rows if not row.kept])
    if mapping.vector is not None:
        await _note(conn, source, [row for row in rows if row.kept])


async def _note(conn: Connection, source: Source, rows: list[Any]) -> None:
    """Of which text the vectors are that the application keeps beside it."""
    for index_id in await ledgers.of_source(conn, source.id):
        index = await indexes.by_id(conn, index_id)
        await ledgers.note(conn, index, {row.key: _noted(index.space, row) for row in rows})


def _uncounted(texts: Sequence[str]) -> list[int]:
    """An adopted column has one vector a row: nothing is cut, so no tokens are counted."""
    return [0] * len(texts)


def _noted(space: Space, row: Any) -> Noted | None:
    if row.vector_hash is None:
        return None
    texts = [] if row.long else rendered(space, row.title, row.body, _uncounted)
    return Noted(text_hash(texts[0]) if texts else b"", row.vector_hash)


async def _scan(conn: Connection, source: Source, half: str | None, after: str | None) -> None:
    await conn.execute(SQL.scan, {"source": source.id, "half": half, "after": after})


async def _fault(database: Database, source: Source, error: Exception) -> None:
    """Nothing is deleted on a reading that failed; the changes stay for the next one."""
    why = f"{source.name} cannot be read: {cause_of(error)}; mend that, then run `revec init`"
    async with database.transaction() as conn:
        await conn.execute(SQL.fault, {"source": source.id, "why": why})


def cause_of(error: Exception) -> str:
    """The server's sentence where it is about names; where it may quote a row, only its kind."""
    state = getattr(error, "sqlstate", None)
    if (state or "").startswith("42"):
        return first_line(error)
    return f"{type(error).__name__} in one of its rows" + (f" ({state})" if state else "")


async def backlog(conn: Connection, collection_id: int) -> int:
    """Changes not yet projected, up to 100,000."""
    row = await (await conn.execute(SQL.backlog, {"collection": collection_id})).fetchone()
    assert row is not None
    return int(row.changes)


async def outstanding(database: Database) -> list[str]:
    """Sources with changes or a pass that the projector will still deal with."""
    async with database.transaction() as conn:
        rows = await (await conn.execute(SQL.pending)).fetchall()
    return [f"{row.name}: {'being read' if row.scan else 'changes to project'}" for row in rows]
