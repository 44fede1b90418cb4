"""Vectors in a column of a user's own table: read through a view, written only where a person chose that.

It is read as PgVector reads a table of ours: the view has its columns, and `own` beside them, which the
user's graph is of. What is different is here: there is nothing to build, nothing of the user's is dropped,
and a write is an UPDATE of the user's row.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import sql

from revec.model.errors import ColumnRefused
from revec.model.index import Column, Index
from revec.postgres import ledgers, rowkeys
from revec.postgres.arrays import BigInts
from revec.postgres.database import Connection, first_line
from revec.postgres.queries import beside
from revec.stores.base import Build, ChunkSet
from revec.stores.pgvector import HalfVectors, PgVector

SQL = beside(__file__)


class InColumn(PgVector):
    """An adopted index, one vector a document."""

    draws = SQL

    async def create(self, conn: Connection, index: Index) -> None:
        await ledgers.create(conn, index)

    async def drop(self, conn: Connection, index: Index) -> None:
        await ledgers.drop(conn, index)

    async def replace(self, conn: Connection, index: Index, sets: Sequence[ChunkSet]) -> set[int]:
        """In the users' rows, but for those that have another text by now or are being changed by their user.

        Raises:
            ColumnRefused: the table does not take it.
        """
        empty = [each.doc_id for each in sets if not each.vectors]
        if empty:
            await self.remove(conn, index, empty)
        full = [each for each in sets if each.vectors]
        kept = set(empty)
        if full:
            column = _column(index)
            try:
                async with _by_owner(conn, column):
                    kept |= await self._write(conn, index, full)
            except (psycopg.ProgrammingError, psycopg.IntegrityError) as error:
                raise ColumnRefused(f"{column.table} cannot be written: {first_line(error)}") from error
        return kept

    async def _write(self, conn: Connection, index: Index, sets: Sequence[ChunkSet]) -> set[int]:
        """The documents whose vectors are written."""
        column = _column(index)
        parts = {
            "table": rowkeys.escaped(ledgers.path(column)),
            "theirs": rowkeys.escaped(ledgers.theirs(column)),
            "parsed": rowkeys.parsed(sql.SQL("d.key"), column.key_types),
        }
        asked = {"source": column.source_id, "ids": BigInts([each.doc_id for each in sets])}
        locked = {row.id for row in await (await conn.execute(SQL.lock.format(**parts), asked)).fetchall()}
        sets = [each for each in sets if each.doc_id in locked]
        if not sets:
            return set()
        query = SQL.write.format(
            **parts,
            ledger=ledgers.table(index),
            ours=ledgers.ours(column),
            current=rowkeys.escaped(await ledgers.current(conn, column)),
            vector=rowkeys.escaped(sql.Identifier(column.vector)),
            type=sql.SQL(column.type),
            send=sql.Identifier(f"{column.type}_send"),
        )
        written = await conn.execute(
            query,
            {
                "source": column.source_id,
                "doc_ids": BigInts([each.doc_id for each in sets]),
                "tenants": [each.tenant for each in sets],
                "input_hashes": [each.input_hash for each in sets],
                "text_hashes": [each.text_hashes[0] for each in sets],
                "embeddings": HalfVectors([each.vectors[0] for each in sets]),
            },
        )
        return {row.doc_id for row in await written.fetchall()}

    async def remove(self, conn: Connection, index: Index, doc_ids: Sequence[int]) -> None:
        """From the ledger: a user's row is the user's."""
        await conn.execute(SQL.remove.format(ledger=ledgers.table(index)), {"ids": BigInts(doc_ids)})

    async def build(self, *_: object) -> None:
        """A graph over the column is its user's."""

    async def built(self, *_: object) -> Build:
        return Build(valid=True, running=False)


@asynccontextmanager
async def _by_owner(conn: Connection, column: Column) -> AsyncIterator[None]:
    """As the login itself, whoever's role the transaction has taken; without a trigger where it may."""
    await conn.execute(SQL.as_owner, {"column": column.vector})
    may: Any = await (await conn.execute(SQL.may_be_silent)).fetchone()
    if may.may:
        await conn.execute(SQL.silent)
    yield
    if may.may:
        await conn.execute(SQL.loud)
    await conn.execute(SQL.as_before)


def _column(index: Index) -> Column:
    assert index.column is not None
    return index.column
