"""`check`: the invariants as SQL. A person may run it at any moment; every test that writes ends with it.

The numbers are those of the fault model: I1 whole sets, I2 nothing of the deleted, I3 right vectors,
I4 the index sees its heap, I10 one route and one migration, I12 the standby is current, I15 the
words are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from revec.model.index import Index, Writer
from revec.postgres import graphs, indexes, migrations
from revec.postgres.database import Connection, Database
from revec.postgres.queries import beside

SQL = beside(__file__)


@dataclass(frozen=True, slots=True)
class Breach:
    invariant: str
    index: str | None
    subject: int  # a document's, migration's or collection's id
    what: str

    def __str__(self) -> str:
        where = f" in {self.index}" if self.index else ""
        return f"{self.invariant}{where}: {self.what} ({self.subject})"


async def check(database: Database, *, freshness: float) -> list[Breach]:
    """Everything that is not as promised, up to 20 of a kind; empty is good."""
    async with database.transaction("worker") as conn:
        written = await indexes.writing(conn)
        filling = {m.new_index: m for m in await migrations.active(conn)}
    breaches = await _shared(database, freshness)
    for index in written:
        parameters: dict[str, Any] = {
            "index": index.id,
            "collection": index.collection_id,
            "unit": index.space.normalise,
            "migration": None,
            "enumerated": True,
        }
        if migration := filling.get(index.id):
            parameters |= {"migration": migration.id, "enumerated": migration.enumerated}
        breaches += await _of_index(database, index, parameters)
    return await _of_what_is_still_written(database, breaches)


async def _shared(database: Database, freshness: float) -> list[Breach]:
    breaches: list[Breach] = []
    async with database.transaction("worker") as conn:
        shared = {"I2": SQL.strays, "I10": SQL.one_route, "I12": SQL.standby, "I15": SQL.lexicon}
        for invariant, query in shared.items():
            rows = await (await conn.execute(query, {"freshness": freshness})).fetchall()
            breaches += [Breach(invariant, None, row.doc_id, row.what) for row in rows]
    return breaches


async def _of_index(database: Database, index: Index, parameters: dict[str, Any]) -> list[Breach]:
    breaches: list[Breach] = []
    for invariant, query in _asked_of(index):
        try:
            async with database.transaction("worker") as conn:
                if invariant == "I4":
                    await conn.execute(SQL.by_index)
                rows = await _rows(conn, query, index, parameters)
        except psycopg.errors.UndefinedTable:
            return breaches  # dropped since we looked
        breaches += [Breach(invariant, index.name, row.doc_id, row.what) for row in rows]
    return breaches


def _asked_of(index: Index) -> list[tuple[str, sql.SQL]]:
    """What has to hold of it. A user's column may hold what was there before us, and have a graph of his own;
    that it is complete is promised where we write it.
    """
    queries = [("I2", SQL.orphans), ("I2", SQL.tenants)]
    if index.writer is Writer.REVEC:
        queries.append(("I1", SQL.whole_sets))
    if index.column is not None:
        return queries
    queries.append(("I3", SQL.vectors_right if index.place.is_here else SQL.doomed))
    if index.kind.is_approximate and index.place.is_here:
        queries.append(("I4", SQL.index_sees))
    return queries


async def _of_what_is_still_written(database: Database, breaches: list[Breach]) -> list[Breach]:
    """An index that was given up while we looked owes nothing any more."""
    async with database.transaction("worker") as conn:
        written = {index.name for index in await indexes.writing(conn)}
    return [breach for breach in breaches if breach.index is None or breach.index in written]


async def _rows(conn: Connection, query: sql.SQL, index: Index, parameters: dict[str, Any]) -> list[Any]:
    vectors = sql.Identifier("revec", f"vectors_{index.id}")
    to_itself = graphs.distance(index, sql.SQL("s.embedding"))
    asked = query.format(vectors=vectors, to_itself=to_itself)
    return await (await conn.execute(asked, parameters)).fetchall()
