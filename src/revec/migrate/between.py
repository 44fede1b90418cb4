"""Two indexes of a collection side by side: what either lacks, and whether equal texts have equal vectors.

Both are compared with the documents, in chunks of keys up to a horizon; those elsewhere also with what their
store really has. What is on its way, left out, or a dead letter is no difference.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from revec.model.errors import BadInput, NotFound
from revec.model.index import Collection, Index
from revec.postgres import documents, indexes
from revec.postgres.database import Database
from revec.postgres.queries import beside
from revec.stores.base import Store, Vector, all_lost
from revec.work import queue

SQL = beside(__file__)
CHUNK = 10_000  # documents a transaction: no long snapshot
LAST_ID = 2**63 - 1
SAMPLE = 300  # vectors of each index
SAME = 0.999  # cosine similarity of one text's two vectors
ACCOUNTED = ("pending", "excluded", "dead")


@dataclass(slots=True)
class Side:
    """One index: documents that it does not have as it should, by cause."""

    index: Index
    causes: dict[int, str] = field(
        default_factory=dict
    )  # of documents: missing, stale, foreign, lost, pending …
    orphans: dict[int, str] = field(
        default_factory=dict
    )  # vectors of documents that are gone → whose they were
    strays: int = 0  # points that are nobody's

    @property
    def wrong(self) -> dict[int, str]:
        return {doc_id: cause for doc_id, cause in self.causes.items() if cause not in ACCOUNTED}

    @property
    def counts(self) -> dict[str, int]:
        names = ("missing", "stale", "foreign", "lost", *ACCOUNTED)
        counted = Counter(self.causes.values())
        return {name: counted[name] for name in names} | {"orphan": len(self.orphans), "stray": self.strays}

    @property
    def is_well(self) -> bool:
        return not (self.wrong or self.orphans or self.strays)


@dataclass(slots=True)
class Between:
    sides: tuple[Side, Side]
    documents: int = 0
    sampled: int = 0  # texts whose two vectors were compared; 0 where the spaces differ
    different: int = 0

    @property
    def differ(self) -> bool:
        return self.different > 0 or not all(side.is_well for side in self.sides)

    @property
    def facts(self) -> dict[str, Any]:
        """For programs. `only`: documents that this index has and the other one lacks."""
        one, other = self.sides
        return {
            "differ": self.differ,
            "documents": self.documents,
            "indexes": [
                {
                    "index": mine.index.name,
                    **mine.counts,
                    "only": len(theirs.wrong.keys() - mine.wrong.keys()),
                }
                for mine, theirs in ((one, other), (other, one))
            ],
            "sampled": self.sampled,
            "different_vectors": self.different,
        }


async def named(database: Database, collection: Collection, names: Sequence[str]) -> list[Index]:
    """Indexes of the collection by what a person calls them: a name, or its number.

    Raises:
        NotFound: there is none; which there are.
    """
    async with database.transaction() as conn:
        written = await indexes.writing(conn, collection.id)
    known = {str(index.id): index for index in written} | {index.name: index for index in written}
    there_is = ", ".join(index.name for index in written) or "none"
    if unknown := [name for name in names if name not in known]:
        raise NotFound(f"{collection.name} has no index {unknown[0]!r} (there is {there_is})")
    return [known[name] for name in names]


async def compare(database: Database, store: Store, one: Index, other: Index) -> Between:
    """
    Raises:
        BadInput: it is one and the same.
        StoreUnavailable: one of them cannot be asked.
    """
    if one.id == other.id:
        raise BadInput(f"{one.name} is one index: name another one to compare it with")
    found = Between((Side(one), Side(other)))
    await _walk(database, found)
    for side in found.sides:
        for doc_id in await all_lost(store, side.index):
            side.causes.setdefault(doc_id, "lost")
        side.strays = await store.strays(side.index, bury=False)
    if one.space.id == other.space.id:
        await _sample(database, store, found)
    return found


async def heal(database: Database, store: Store, found: Between) -> dict[str, int]:
    """Make work of all that is wrong; how much, by index. A wrong vector is a person's to judge."""
    made: dict[str, int] = {}
    for side in found.sides:
        async with database.transaction("worker") as conn:
            await queue.enqueue(conn, side.index.id, sorted(side.wrong))
            await conn.execute(
                SQL.remove,
                {
                    "index": side.index.id,
                    "ids": list(side.orphans),
                    "tenants": list(side.orphans.values()),
                },
            )
        buried = await store.strays(side.index, bury=True) if side.strays else 0
        made[side.index.name] = len(side.wrong) + len(side.orphans) + buried
    return made


async def _walk(database: Database, found: Between) -> None:
    async with database.transaction("worker") as conn:
        horizon = await documents.last_rev(conn)
    after = 0
    while after < LAST_ID:
        async with database.transaction("worker") as conn:
            asked: dict[str, Any] = {"after": after, "size": CHUNK, "horizon": horizon}
            row = await (await conn.execute(SQL.chunk, asked)).fetchone()
            assert row is not None
            upto = row.upto if row.documents == CHUNK else LAST_ID
            found.documents += row.documents
            for side in found.sides:
                index = side.index
                asked |= {"index": index.id, "collection": index.collection_id, "upto": upto}
                vectors = sql.Identifier("revec", f"vectors_{index.id}")
                rows = await (await conn.execute(SQL.not_whole.format(vectors=vectors), asked)).fetchall()
                side.causes |= {each.doc_id: each.cause for each in rows}
                rows = await (await conn.execute(SQL.orphans.format(vectors=vectors), asked)).fetchall()
                side.orphans |= {each.doc_id: each.tenant for each in rows}
        after = upto


async def _sample(database: Database, store: Store, found: Between) -> None:
    """From either side, of documents that both have; what differs is looked at twice: it may be edited."""
    one, other = (side.index for side in found.sides)
    wrong = {doc_id for side in found.sides for doc_id in side.causes}
    for mine, theirs in ((one, other), (other, one)):
        rows = [row for row in (await store.sample(database, mine, SAMPLE)).rows if row[0] not in wrong]
        ids = sorted({doc_id for doc_id, *_ in rows})
        there = await store.vectors(database, theirs, ids, tenant=None)
        compared = {
            (doc_id, text): _is_among(vector, there[doc_id])
            for doc_id, text, vector in rows
            if doc_id in there
        }
        doubtful = sorted({doc_id for (doc_id, _), same in compared.items() if not same})
        before = await store.vectors(database, mine, doubtful, tenant=None)
        after = await store.vectors(database, theirs, doubtful, tenant=None)
        found.sampled += len(compared)
        found.different += sum(
            not all(_is_among(vector, after.get(doc_id, [])) for vector in before.get(doc_id, []))
            for doc_id in doubtful
        )


def _is_among(vector: Vector, others: Sequence[Vector]) -> bool:
    return any(_cosine(vector, other) >= SAME for other in others)


def _cosine(one: Vector, other: Vector) -> float:
    a, b = one.astype("float64"), other.astype("float64")
    norms = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norms if norms else 0.0
