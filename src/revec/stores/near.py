"""What is near a query in a store elsewhere, as far as the table here knows it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import sql

from revec.model.errors import StoreUnavailable
from revec.model.filter import Filter
from revec.model.index import Index
from revec.postgres import filters
from revec.postgres.arrays import BigInts
from revec.postgres.database import Connection, role_of
from revec.postgres.queries import Statement, beside
from revec.stores.base import Scored, Vector
from revec.stores.placed import BLOCK, Placed
from revec.stores.points import Near
from revec.stores.ranking import Ranking

SQL = beside(__file__)
SPARE = 10  # points beyond those wanted: some are of one document, or on their way out
DEEPER = 4  # times, where too few were left
MOST_NEAR = 8_192  # points; where these hold too few that count, those that count are ranked here
FEW = 500  # chunks that pass a filter: they are ranked here at once


@dataclass(frozen=True, slots=True)
class Answered:
    """Searches that were answered before the transaction began."""

    found: dict[bytes, Scored]

    async def nearest(
        self,
        conn: Connection,  # noqa: ARG002 - the port's, as is the next one
        index: Index,  # noqa: ARG002
        query: Vector,
        *,
        limit: int,
        **_: Any,
    ) -> Scored:
        return self.found[query.tobytes()][:limit]

    exact = nearest

    def statement(
        self,
        index: Index,  # noqa: ARG002
        query: Vector,
        *,
        limit: int,
        **_: Any,
    ) -> Statement:
        found = self.found[query.tobytes()][:limit]
        asked = {"near_ids": [doc_id for doc_id, _ in found], "near_scores": [score for _, score in found]}
        ids, scores = (sql.Placeholder(name) for name in asked)
        return Statement(SQL.given.format(ids=ids, scores=scores), asked)


@dataclass(frozen=True, slots=True)
class Asking:
    """How many documents of an index, whose (None: everybody's), and which."""

    placed: Placed
    limit: int
    tenant: str | None
    where: Filter | None

    async def near(self, queries: Sequence[Vector]) -> Answered:
        """By the store; here, where that is less work or the only way to enough."""
        seconds = self.placed.store.reading
        try:
            async with asyncio.timeout(len(queries) * seconds) as until:
                return Answered({query.tobytes(): await self._near(query, until) for query in queries})
        except TimeoutError as error:
            raise StoreUnavailable(f"{self.placed.store.name} did not answer within {seconds:g} s") from error

    async def ranked(self, queries: Sequence[Vector], until: asyncio.Timeout | None = None) -> Answered:
        """Every chunk that counts is fetched, once for all queries: exact, and as long as there are many."""
        if not queries:
            return Answered({})
        ranking = Ranking(queries, self.limit)
        after: UUID | None = None
        while rows := await self._passing(after, BLOCK):
            with self._blamed(until):
                vectors = await self.placed.fetched([row.point_id for row in rows])
            there = [row for row in rows if row.point_id in vectors]
            ranking.add([row.doc_id for row in there], [vectors[row.point_id] for row in there])
            after = rows[-1].point_id
        return Answered({query.tobytes(): best for query, best in zip(queries, ranking.best(), strict=True)})

    @contextmanager
    def _blamed(self, until: asyncio.Timeout | None) -> Iterator[None]:
        """A store that is being asked when the time is up rests: nobody else is to wait as long."""
        try:
            yield
        except asyncio.CancelledError:
            if until is not None and until.expired():
                self.placed.store.rest()
            raise

    async def _near(self, query: Vector, until: asyncio.Timeout) -> Scored:
        if self.where is not None and len(await self._passing(None, FEW + 1)) <= FEW:
            return await self._ranked_here(query, until)
        wanted, found = self.limit + SPARE, list[tuple[int, float]]()
        store, place = self.placed.store, self.placed.index.place.name
        while wanted <= MOST_NEAR:
            with self._blamed(until):
                near = await self.placed.there(store.nearest(place, query, limit=wanted, tenant=self.tenant))
            found = await self._joined(near)
            if len(found) >= self.limit:
                return found[: self.limit]
            if len(near) < wanted:
                break  # there are no more; but an approximate index may say so and be wrong
            wanted *= DEEPER
        return await self._ranked_here(query, until) if await self._are_more(found) else found

    async def _ranked_here(self, query: Vector, until: asyncio.Timeout) -> Scored:
        return (await self.ranked([query], until)).found[query.tobytes()]

    async def _are_more(self, found: Scored) -> bool:
        """Whether a document counts that is not among those found."""
        (row,) = await self._rows(SQL.more, ids=BigInts([doc_id for doc_id, _ in found]))
        return bool(row.more)

    async def _joined(self, near: Near) -> Scored:
        points, scores = [point_id for point_id, _ in near], [score for _, score in near]
        rows = await self._rows(SQL.joined, points=points, scores=scores)
        return [(row.doc_id, float(row.score)) for row in rows]

    async def _passing(self, after: UUID | None, limit: int) -> list[Any]:
        """The next chunks that count: (point_id, doc_id)."""
        return await self._rows(SQL.passing, after=after, limit=limit)

    async def _rows(self, query: sql.SQL, **asked: Any) -> list[Any]:
        """In a transaction of its own: as the tenant's reader, who sees no other rows."""
        matching, parameters = filters.among(self.where)
        asked |= {"tenant": self.tenant} | parameters
        async with self.placed.database.transaction(role_of(self.tenant), tenant=self.tenant) as conn:
            return await self.placed.rows(conn, query, asked, matching=matching)
