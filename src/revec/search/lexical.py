"""The lexical leg: BM25 in plain SQL over postings that are exact at every moment.

A document's words are appended in its own transaction (`revec.unfolded`); a worker folds them into the
postings, a tenant at a time. A search reads both in one snapshot, so a fold changes no answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from revec.model.errors import BadInput
from revec.model.filter import Filter
from revec.model.index import Collection
from revec.observe.failpoints import failpoint
from revec.postgres import filters, indexes
from revec.postgres.database import Connection, Database
from revec.postgres.queries import Statement, beside

SQL = beside(__file__)
K1, B = 1.5, 0.75  # how soon a word's repetition, and how much a document's length, stop to count
BLOCK = 4_000  # documents
FOLD = {"documents": 2_500, "lexemes": 300_000, "block": BLOCK}  # at once: some seconds of one tenant
SETTLED = 5.0  # seconds that words wait: what comes together is folded together
TENANTS = 20  # that one look finds


@dataclass(frozen=True, slots=True)
class Folder:
    """A worker's duty: fold what has waited."""

    database: Database
    settled: float = SETTLED

    async def tick(self) -> bool:
        """Fold the oldest words of one tenant; whether there were any."""
        async with self.database.transaction() as conn:
            asked = {"age": self.settled, "limit": TENANTS}
            waiting = await (await conn.execute(SQL.waiting, asked)).fetchall()
        for row in waiting:
            if await self._fold(row.collection_id, row.tenant):
                return True
        return False

    async def _fold(self, collection_id: int, tenant: str) -> int:
        """How many changes of documents; 0 where another worker is at this tenant."""
        asked = {"collection": collection_id, "tenant": tenant}
        async with self.database.transaction() as conn:
            await conn.execute(SQL.share)
            claim = await (await conn.execute(SQL.claim, asked)).fetchone()
            if claim is None or not claim.ours:
                return 0
            await conn.execute(SQL.begin, asked)
            row = await (await conn.execute(SQL.fold, asked | FOLD)).fetchone()
            failpoint("folded")
        return int(row.folded) if row else 0


def statement(
    collection_id: int, query: str, *, k: int, tenant: str | None, where: Filter | None = None
) -> Statement:
    """(doc_id, score), best first: documents that have a word of the query; none without a lexical leg."""
    matching, parameters = filters.among(where)
    asked = {"collection": collection_id, "tenant": tenant, "words": query, "limit": k, "k1": K1, "b": B}
    return Statement(SQL.search.format(matching=matching), asked | parameters)


async def ranked(
    conn: Connection,
    collection_id: int,
    query: str,
    *,
    k: int,
    tenant: str | None,
    where: Filter | None = None,
) -> list[tuple[int, float]]:
    """(doc_id, BM25), best first."""
    asked = statement(collection_id, query, k=k, tenant=tenant, where=where)
    rows = await (await conn.execute(asked.query, asked.parameters)).fetchall()
    return [(row.doc_id, row.score) for row in rows]


async def speak(conn: Connection, collection: Collection, language: str | None) -> None:
    """Read a collection's documents by another text configuration; None: no lexical leg.

    Writers of documents wait for as long as it takes to read every text once.

    Raises:
        BadInput: the server has no such configuration.
    """
    if language is not None:
        await _require(conn, language)
    asked = {"collection": collection.id, "language": language}
    await conn.execute(indexes.SQL.barrier)
    if await (await conn.execute(SQL.set_language, asked)).fetchone():
        await build(conn, collection)


async def build(conn: Connection, collection: Collection) -> None:
    """Forget all of the collection's words and read its documents anew, behind the barrier."""
    await conn.execute(indexes.SQL.barrier)
    await conn.execute(SQL.forget, {"collection": collection.id})
    await conn.execute(SQL.read_anew, {"collection": collection.id})


async def _require(conn: Connection, language: str) -> None:
    try:
        async with conn.transaction():
            await conn.execute(SQL.known, {"language": language})
    except (psycopg.errors.UndefinedObject, psycopg.errors.SyntaxError, psycopg.errors.InvalidName) as error:
        known = [row.language for row in await (await conn.execute(SQL.languages)).fetchall()]
        raise BadInput(
            f"{language!r} is no text search configuration of this server: it has {', '.join(known)}; "
            "'simple' splits words and takes them as they are"
        ) from error
