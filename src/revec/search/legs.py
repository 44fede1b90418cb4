"""The ways to hits of one index: by vectors, by words, by both; and what was written last."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg

from revec.model.errors import BadInput, NotFound
from revec.model.filter import Filter
from revec.model.index import Index
from revec.model.reading import Hit
from revec.postgres import documents
from revec.postgres.database import Connection, Database, Role, role_of
from revec.search import fusion, lexical
from revec.search.similar import Start
from revec.stores.base import Store, Vector

Scored = list[tuple[int, float]]  # (doc_id, score), best first, each document once
Leg = Callable[[Connection], Awaitable[Scored]]  # in a transaction
Ahead = Callable[[int], Awaitable[Leg]]  # before it, for the best so many

MOST_CONTENTS = 16 << 20  # bytes of texts and metadata in one answer
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
    contents: bool = False  # each hit with its text and metadata

    @property
    def role(self) -> Role:
        return role_of(self.tenant)

    @property
    def room(self) -> int:
        """Bytes, for contents."""
        return MOST_CONTENTS if self.contents else 0

    def hit(self, row: Any, score: float, **ranks: Any) -> Hit:
        """
        Raises:
            BadInput: there was no room for its contents.
        """
        if self.contents and row.contents is None:
            raise BadInput(
                f"the contents of these hits are more than {MOST_CONTENTS >> 20} MB together: "
                "ask for fewer hits, or for hits without contents"
            )
        more = row.contents if self.contents else {}
        return Hit(row.key, round(score, 6), row.title, row.tenant, row.source, **ranks, **more)

    def fused_hit(self, row: Any) -> Hit:
        """As `hit`, with where each leg had it."""
        return self.hit(row, row.score, vector_rank=row.vector_rank, lexical_rank=row.lexical_rank)


@dataclass(frozen=True, slots=True)
class Legs:
    database: Database
    store: Store
    lexical: Lexical | None = None  # None: no such leg is wanted

    async def nearest(self, index: Index, start: Start, wanted: Wanted) -> list[Hit]:
        """Documents by their nearest pair of chunks: the best of all pairs is among the best of each."""

        async def ahead(limit: int) -> Leg:
            asked: dict[str, Any] = {"limit": limit + 1, "tenant": wanted.tenant, "where": wanted.where}
            searching = await self.store.ahead(index, start.vectors, **asked)

            async def leg(conn: Connection) -> Scored:
                best: dict[int, float] = {}
                for vector in start.vectors:
                    for doc_id, score in await searching.nearest(conn, index, vector, **asked):
                        best[doc_id] = max(score, best.get(doc_id, score))
                if start.itself is not None:
                    best.pop(start.itself, None)
                return sorted(best.items(), key=lambda found: (-found[1], found[0]))[:limit]

            return leg

        return await self._hits(ahead, wanted)

    async def by_words(self, index: Index, query: str, wanted: Wanted) -> list[Hit]:
        ranked = self.lexical or lexical.ranked

        async def ahead(limit: int) -> Leg:
            async def leg(conn: Connection) -> Scored:
                return await ranked(
                    conn, index.collection_id, query, k=limit, tenant=wanted.tenant, where=wanted.where
                )

            return leg

        return await self._hits(ahead, wanted)

    async def fused(self, index: Index, query: str, vector: Vector, wanted: Wanted) -> list[Hit]:
        """Both legs in one statement where the store can; deeper where too many documents are gone.

        Raises:
            NotFound: the index was dropped meanwhile.
        """
        depth, before = max(fusion.DEPTH, wanted.k + SPARE_HITS), -1
        tenant, where = wanted.tenant, wanted.where
        while True:
            searching = await self.store.ahead(index, [vector], limit=depth, tenant=tenant, where=where)
            async with self.database.transaction(wanted.role, tenant=tenant) as conn:
                vectors, words = await fusion.legs(
                    conn, searching, index, query, vector, depth=depth, tenant=tenant, where=where
                )
                try:
                    rows = await fusion.hits(
                        *(conn, index, vectors, words),
                        tenant=tenant,
                        limit=wanted.k,
                        where=where,
                        room=wanted.room,
                    )
                except psycopg.errors.UndefinedTable as error:
                    raise NotFound(f"index {index.name} was dropped meanwhile") from error
            if len(rows) >= wanted.k or len(rows) == before:
                return [wanted.fused_hit(row) for row in rows]
            depth, before = depth * 4, len(rows)

    async def latest(self, index: Index, wanted: Wanted) -> list[Hit]:
        """No order of likeness, so no scores."""
        async with self.database.transaction(wanted.role, tenant=wanted.tenant) as conn:
            rows = await fusion.recent(
                *(conn, index.collection_id),
                tenant=wanted.tenant,
                where=wanted.where,
                limit=wanted.k,
                room=wanted.room,
            )
        return [wanted.hit(row, 0.0) for row in rows]

    async def _hits(self, ahead: Ahead, wanted: Wanted) -> list[Hit]:
        """The best k that are there now; the leg is asked for more where it found deleted ones."""
        fetched = wanted.k + SPARE_HITS
        while True:
            leg = await ahead(fetched)
            async with self.database.transaction(wanted.role, tenant=wanted.tenant) as conn:
                scored = await leg(conn)
                ids = [doc_id for doc_id, _ in scored]
                live = await documents.hydrate(conn, ids, wanted.tenant, wanted.where, room=wanted.room)
            found = [
                (row, score)
                for doc_id, score in scored
                if (row := live.get(doc_id)) and (wanted.least is None or round(score, 6) >= wanted.least)
            ]
            is_all = len(scored) < fetched or (wanted.least is not None and scored[-1][1] < wanted.least)
            if len(found) >= wanted.k or is_all:
                return [wanted.hit(row, score) for row, score in found[: wanted.k]]
            fetched *= 4
