"""The ways to hits of one index: by vectors, by words, by both; and what was written last."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from revec.model.filter import Filter
from revec.model.index import Index
from revec.model.reading import Hit
from revec.postgres import documents
from revec.postgres.database import Connection, Database, Role
from revec.search import fusion, lexical
from revec.search.similar import Start
from revec.stores.base import Store, Vector

Scored = list[tuple[int, float]]  # (doc_id, score), best first, each document once
Leg = Callable[[Connection, int], Awaitable[Scored]]  # in a transaction, the best so many

SPARE_HITS = 10  # fetched beyond k, for documents deleted since their vectors were written


class Lexical(Protocol):
    """Documents by their words: (doc_id, score), best first; fewer than k only where there are no more."""

    async def __call__(
        self,
        conn: Connection,
        collection_id: int,
        query: str,
        *,
        k: int,
        tenant: str | None,
        where: Filter | None,
    ) -> Scored: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many documents, whose (None: everybody's), and which of them."""

    k: int
    tenant: str | None
    where: Filter | None = None
    least: float | None = None  # the lowest score

    @property
    def role(self) -> Role:
        return "worker" if self.tenant is None else "reader"


@dataclass(frozen=True, slots=True)
class Legs:
    database: Database
    store: Store
    lexical: Lexical | None = None  # None: no such leg is wanted

    async def nearest(self, index: Index, start: Start, wanted: Wanted) -> list[Hit]:
        """Documents by their nearest pair of chunks: the best of all pairs is among the best of each."""

        async def leg(conn: Connection, limit: int) -> Scored:
            best: dict[int, float] = {}
            for vector in start.vectors:
                for doc_id, score in await self.store.nearest(
                    conn, index, vector, limit=limit + 1, tenant=wanted.tenant, where=wanted.where
                ):
                    best[doc_id] = max(score, best.get(doc_id, score))
            if start.itself is not None:
                best.pop(start.itself, None)
            return sorted(best.items(), key=lambda found: (-found[1], found[0]))[:limit]

        return await self._hits(leg, wanted)

    async def by_words(self, index: Index, query: str, wanted: Wanted) -> list[Hit]:
        ranked = self.lexical or lexical.ranked

        async def leg(conn: Connection, limit: int) -> Scored:
            return await ranked(
                conn, index.collection_id, query, k=limit, tenant=wanted.tenant, where=wanted.where
            )

        return await self._hits(leg, wanted)

    async def fused(self, index: Index, query: str, vector: Vector, wanted: Wanted) -> list[Hit]:
        """Both legs in one statement where the store can; deeper where too many documents are gone."""
        depth, before = max(fusion.DEPTH, wanted.k + SPARE_HITS), -1
        tenant, where = wanted.tenant, wanted.where
        while True:
            async with self.database.transaction(wanted.role, tenant=tenant) as conn:
                vectors = self.store.statement(index, vector, limit=depth, tenant=tenant, where=where)
                if vectors is None:
                    nearest = await self.store.nearest(
                        conn, index, vector, limit=depth, tenant=tenant, where=where
                    )
                    vectors = fusion.given("vectors", nearest)
                words = lexical.statement(index.collection_id, query, k=depth, tenant=tenant, where=where)
                rows = await fusion.hits(conn, vectors, words, tenant=tenant, limit=wanted.k)
            if len(rows) >= wanted.k or len(rows) == before:
                return [fused_hit_of(row) for row in rows]
            depth, before = depth * 4, len(rows)

    async def latest(self, index: Index, wanted: Wanted) -> list[Hit]:
        """No order of likeness, so no scores."""
        async with self.database.transaction(wanted.role, tenant=wanted.tenant) as conn:
            rows = await fusion.recent(
                conn, index.collection_id, tenant=wanted.tenant, where=wanted.where, limit=wanted.k
            )
        return [hit_of(row, 0.0) for row in rows]

    async def _hits(self, leg: Leg, wanted: Wanted) -> list[Hit]:
        """The best k that are there now; the leg is asked for more where it found deleted ones."""
        fetched = wanted.k + SPARE_HITS
        while True:
            async with self.database.transaction(wanted.role, tenant=wanted.tenant) as conn:
                scored = await leg(conn, fetched)
                ids = [doc_id for doc_id, _ in scored]
                live = await documents.hydrate(conn, ids, wanted.tenant, wanted.where)
            hits = [
                hit_of(row, score)
                for doc_id, score in scored
                if (row := live.get(doc_id)) and (wanted.least is None or round(score, 6) >= wanted.least)
            ]
            is_all = len(scored) < fetched or (wanted.least is not None and scored[-1][1] < wanted.least)
            if len(hits) >= wanted.k or is_all:
                return hits[: wanted.k]
            fetched *= 4


def hit_of(row: Any, score: float) -> Hit:
    return Hit(row.key, round(score, 6), row.title, row.tenant, row.source)


def fused_hit_of(row: Any) -> Hit:
    return Hit(
        row.key, round(row.score, 6), row.title, row.tenant, row.source, row.vector_rank, row.lexical_rank
    )
