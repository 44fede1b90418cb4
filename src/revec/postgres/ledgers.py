"""Indexes whose vectors are a column of a user's table: what their ledgers know of it.

A ledger says of which text each vector of the column is. Where the application writes the column nobody
tells us, so it is told by the vector itself: one that changed is of the text that stands beside it now, one
that did not is still of the text before. A view of the index's name shows ledger and column as one table of
vectors, so that gates, searches and checks read it like any other index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import psycopg
from psycopg import sql

from revec.model.errors import BadInput, Unavailable
from revec.model.index import Column, Index, Writer
from revec.postgres import indexes, rowkeys
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)


@dataclass(frozen=True, slots=True)
class Noted:
    """What was read of a row: the hash of the text that the space makes of it (empty: too long), and of the
    vector beside it.
    """

    text_hash: bytes
    vector_hash: bytes


async def adopt(conn: Connection, index: Index, column: Column, *, sampled: int, alike: int) -> None:
    """Remember whose column it is, and what was found of it. The projector reads every row once more."""
    await conn.execute(
        SQL.adopt,
        {
            "index": index.id,
            "source": column.source_id,
            "path": list(column.path),
            "key": list(column.key),
            "key_types": list(column.key_types),
            "vector": column.vector,
            "type": column.type,
            "operator": column.operator,
            "writer": column.writer,
            "sampled": sampled,
            "alike": alike,
            "unverifiable": column.unverifiable,
        },
    )
    await conn.execute(SQL.read_again, {"source": column.source_id})


async def create(conn: Connection, index: Index) -> None:
    """The ledger, empty, and the view."""
    column = _column(index)
    keys = [
        sql.SQL("{} {} NOT NULL").format(name, rowkeys.type_of(kind))
        for name, kind in zip(_ours(column), column.key_types, strict=True)
    ]
    await conn.execute(SQL.ledger.format(ledger=table(index), keys=sql.SQL(", ").join(keys)))
    for query, name in ((SQL.by_row, "by_row"), (SQL.by_text, "by_text"), (SQL.by_tenant, "by_tenant")):
        label = sql.Identifier(f"ledger_{index.id}_{name}")
        await conn.execute(query.format(ledger=table(index), name=label, keys=ours(column)))
    await conn.execute(SQL.protect, {"ledger": f"revec.ledger_{index.id}"})
    await show(conn, index)


async def show(conn: Connection, index: Index) -> None:
    """The view, as the source's filter is now; one that is so already is not touched.

    Raises:
        Unavailable: others read it for longer than searches may be kept waiting behind us.
    """
    column = _column(index)
    asked = {"table": path(column).as_string(conn), "vector": column.vector}
    found: Any = await (await conn.execute(SQL.column, asked)).fetchone()
    named: Any = await (await conn.execute(SQL.filter, {"source": column.source_id})).fetchone()
    vector, dims = sql.Identifier(column.vector), sql.Literal(index.space.dims)
    extension = found.extension
    fits: sql.Composable = sql.SQL("true")
    if not found.is_typed:
        fits = SQL.fits.format(dims_of=sql.Identifier(extension, "vector_dims"), vector=vector, dims=dims)
    wanted = SQL.view.format(
        vectors=view(index),
        ledger=table(index),
        table=path(column),
        keys=sql.SQL(", ").join(map(sql.Identifier, column.key)),
        vector=vector,
        halfvec=sql.Identifier(extension, "halfvec"),
        dims=dims,
        send=sender(extension, column),
        filter=sql.SQL(named.filter),
        fits=fits,
        ours=qualified("l", _ours(column)),
        theirs=theirs(column),
    )
    made_of = sha256(wanted.as_string(conn).encode()).hexdigest()
    before: Any = await (await conn.execute(SQL.made_of, {"vectors": f"revec.vectors_{index.id}"})).fetchone()
    if before.made_of == made_of:
        return
    await conn.execute(SQL.lock_timeout)
    try:
        await conn.execute(wanted)
    except psycopg.errors.LockNotAvailable as error:
        raise Unavailable(
            f"the column of {column.table} is being searched for more than 2 s, and its view cannot change "
            "meanwhile: wait for the long query to end, then run `revec init` again"
        ) from error
    await conn.execute(SQL.note_made_of.format(vectors=view(index), made_of=sql.Literal(made_of)))
    layers: Any = await (await conn.execute(SQL.two_layers)).fetchone()
    if layers.two_layers:
        for role in ("revec_worker", "revec_reader"):
            await conn.execute(SQL.grant.format(vectors=view(index), role=sql.Identifier(role)))


async def current(conn: Connection, column: Column) -> sql.Composed:
    """The table's rows by the ledger's names of their keys, with the `input_hash` of their texts now."""
    texts: Any = await (await conn.execute(SQL.texts, {"source": column.source_id})).fetchone()
    keys = [
        sql.SQL("{} AS {}").format(sql.Identifier(*column.path, name), our)
        for name, our in zip(column.key, _ours(column), strict=True)
    ]
    return SQL.current.format(
        keys=sql.SQL(", ").join(keys),
        title=sql.SQL(texts.title),
        body=sql.SQL(texts.body),
        table=path(column),
    )


async def drop(conn: Connection, index: Index) -> None:
    """Forget the column. It stays, as its table does; nobody looks at it any more, so it may be dropped."""
    await conn.execute(SQL.forget, {"source": _column(index).source_id})
    await conn.execute(SQL.drop_view.format(vectors=view(index)))
    await conn.execute(SQL.drop_ledger.format(ledger=table(index)))


async def of_source(conn: Connection, source_id: int) -> list[int]:
    """The indexes whose column others write, beside this source's documents."""
    rows = await conn.execute(SQL.of_source, {"source": source_id})
    return [row.id for row in await rows.fetchall()]


async def note(conn: Connection, index: Index, rows: Mapping[str, Noted | None]) -> None:
    """What was read with these rows, by key; None: their column is empty. After their documents were put."""
    column = _column(index)
    if empty := [key for key, noted in rows.items() if noted is None]:
        asked: dict[str, Any] = {"source": column.source_id, "keys": empty}
        await conn.execute(SQL.unnote.format(ledger=table(index)), asked)
    if full := {key: noted for key, noted in rows.items() if noted is not None}:
        parsed = rowkeys.parsed(sql.SQL("n.key"), column.key_types)
        asked = {
            "source": column.source_id,
            "keys": list(full),
            "text_hashes": [noted.text_hash for noted in full.values()],
            "vector_hashes": [noted.vector_hash for noted in full.values()],
        }
        await conn.execute(SQL.note.format(ledger=table(index), ours=ours(column), parsed=parsed), asked)


async def behind(conn: Connection, index: Index) -> int:
    """Documents without a vector of their present text; 0 of an index that is not a column."""
    if index.column is None:
        return 0
    asked = {"index": index.id, "source": index.column.source_id}
    row: Any = await (await conn.execute(SQL.behind.format(ledger=table(index)), asked)).fetchone()
    return int(row.documents)


async def take_over(conn: Connection, index_id: int) -> None:
    """Write the column from here on, where a person chose that. Behind the barrier: call after `register`."""
    index = await indexes.by_id(conn, index_id)
    if index.column is None or index.column.writer is not Writer.REVEC:
        return
    asked = {"index": index.id, "source": index.column.source_id}
    await conn.execute(SQL.take_over.format(ledger=table(index)), asked)


async def choose(conn: Connection, index: Index, writer: Writer, *, migrating: bool) -> None:
    """Another one keeps the column from here on; `migrating`: a migration away from it writes already.

    Raises:
        BadInput: nobody can make its vectors any more, or this login may not write them.
    """
    if writer is Writer.REVEC and index.column is not None and index.column.unverifiable:
        raise BadInput(
            f"{index.space.address} is gone, so Revec cannot keep {index.column.table} current with it: "
            "leave its writer app or nobody"
        )
    if writer is Writer.REVEC:
        await _require_writable(conn, _column(index))
    if writer is not Writer.REVEC:
        await _let_go(conn, index, writer)
    else:
        await conn.execute(indexes.SQL.barrier)
    await conn.execute(SQL.choose, {"index": index.id, "writer": writer})
    if writer is Writer.REVEC and migrating:
        await take_over(conn, index.id)


async def give_back(conn: Connection, index_id: int) -> None:
    """No migration is left that Revec would write the column for: its application does, as before."""
    index = await indexes.by_id(conn, index_id)
    if index.column is not None and index.column.writer is Writer.REVEC and index.writer is Writer.REVEC:
        await _let_go(conn, index, Writer.APP)


async def _let_go(conn: Connection, index: Index, writer: Writer) -> None:
    """The table is read again: nothing was noted of what others wrote meanwhile. Its source is locked before
    the barrier, as the projector does.
    """
    await conn.execute(SQL.read_again, {"source": _column(index).source_id})
    await conn.execute(indexes.SQL.barrier)
    await conn.execute(SQL.let_go, {"index": index.id, "writer": writer})


async def _require_writable(conn: Connection, column: Column) -> None:
    asked = {"table": path(column).as_string(conn), "vector": column.vector}
    found: Any = await (await conn.execute(SQL.writable, asked)).fetchone()
    if not found.may:
        vector = sql.Identifier(column.vector).as_string(conn)
        raise BadInput(
            f"this login may not write {column.table}; let its owner run: "
            f"GRANT UPDATE ({vector}) ON {asked['table']} TO {found.login};"
        )


async def goodbye(conn: Connection, index_id: int | None) -> str | None:
    """What the owner of an adopted column may run when it is needed no more; None of other indexes."""
    index = None if index_id is None else await indexes.by_id(conn, index_id)
    if index is None or index.column is None:
        return None
    vector = sql.Identifier(index.column.vector)
    return SQL.goodbye.format(table=path(index.column), vector=vector).as_string(conn) + ";"


def table(index: Index) -> sql.Identifier:
    """The ledger."""
    return sql.Identifier("revec", f"ledger_{index.id}")


def view(index: Index) -> sql.Identifier:
    """Ledger and column, as a table of vectors."""
    return sql.Identifier("revec", f"vectors_{index.id}")


def path(column: Column) -> sql.Identifier:
    """The user's table."""
    return sql.Identifier(*column.path)


def ours(column: Column) -> sql.Composed:
    """The ledger's columns that are the row's key: the user's names could be those of others of ours."""
    return sql.SQL(", ").join(_ours(column))


def theirs(column: Column) -> sql.Composed:
    """The same in the user's table `u`."""
    return qualified("u", [sql.Identifier(name) for name in column.key])


def qualified(alias: str, names: list[sql.Identifier]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL("{}.{}").format(sql.Identifier(alias), name) for name in names)


def sender(extension: str, column: Column) -> sql.Identifier:
    """What makes bytes of a vector, to be hashed."""
    return sql.Identifier(extension, f"{column.type}_send")


def _ours(column: Column) -> list[sql.Identifier]:
    return [sql.Identifier(f"key_{number}") for number, _ in enumerate(column.key, 1)]


def _column(index: Index) -> Column:
    assert index.column is not None
    return index.column
