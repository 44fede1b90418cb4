"""Answers by the model that a collection is being moved to, before its vectors are all there.

Candidates are what either index has near the query: the new one's nearest, the old one's by the old model's
query, and by the new model's, mapped into the old space by the bridge; in a hybrid search also the words'.
Those without a vector in the new index are embedded on demand, then all are ranked in the new space alone.
While an approximate index is not built, a large tenant's vectors in it are ranked but not searched.
Where that cannot be done in time the old index answers, wholly: never a mixture, never fewer hits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from revec.model import bridging
from revec.model.errors import RevecError
from revec.model.index import Index, Route
from revec.model.reading import Hit, Mode
from revec.postgres import documents
from revec.postgres.database import DATABASE_TROUBLE, Connection, Database, first_line
from revec.search import fusion, lexical
from revec.search.legs import SPARE_HITS, Wanted
from revec.search.queries import Queries
from revec.search.ways import Way, Ways
from revec.stores.base import Here, Vector
from revec.work.demand import Demand, Unmet

# Candidates of each kind, at least. On the old index as many as the bridge was measured by.
NEW, OLD, WORDS = fusion.DEPTH, bridging.DEPTH, 20


class NotEarly(Exception):
    """The index that serves has to answer; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Wholly of the index that is being filled."""

    index: Index
    hits: list[Hit]
    demanded: int  # documents that were embedded for it
    embed_seconds: float  # of the query, and of these
    search_seconds: float


@dataclass(frozen=True, slots=True)
class Asked:
    """One query on both sides; `old` is None where the old model did not say in time."""

    way: Way
    words: str | None  # None: no words are searched
    new: Vector
    old: Vector | None
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Found:
    """The candidates that are there still, those that the new index ranks, and whether there may be more."""

    live: Sequence[int]
    ranked: list[tuple[int, float]]
    is_all: bool

    @property
    def lacking(self) -> list[int]:
        ranked = {doc_id for doc_id, _ in self.ranked}
        return [doc_id for doc_id in self.live if doc_id not in ranked]


class Early:
    """One for a process. `patience`: seconds that a search may take longer for it."""

    def __init__(
        self, database: Database, store: Here, queries: Queries, demand: Demand, *, patience: float
    ) -> None:
        self._database = database
        self._store = store
        self._queries = queries
        self._demand = demand
        self._patience = patience
        self._ways = Ways(database)

    async def answer(
        self, route: Route, query: str, wanted: Wanted, mode: Mode, deadline: float | None
    ) -> Answer:
        """
        Args:
            deadline: seconds that the caller gives to all of it, what may follow included; None: enough.

        Raises:
            NotEarly: the index that serves has to answer.
        """
        seconds = self._patience if deadline is None else min(self._patience, deadline / 2)
        until = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(until):
                return await self._answered(route, query, wanted, mode, until)
        except TimeoutError as error:
            raise NotEarly("there was not enough time for it") from error
        except (Unmet, RevecError, MemoryError, psycopg.Error, *DATABASE_TROUBLE) as error:
            raise NotEarly(first_line(error)) from error

    async def close(self) -> None:
        await self._ways.close()

    async def _answered(self, route: Route, query: str, wanted: Wanted, mode: Mode, until: float) -> Answer:
        assert route.early is not None
        began = time.perf_counter()
        way = await self._ways.of(route.early)
        asked = await self._asked(way, query, wanted, mode, resting=bool(route.resting), until=until)
        embedded = time.perf_counter()
        found = await self._found(asked)
        waited = time.perf_counter()
        due: list[int] = []
        if found.lacking:
            due = await self._demand.meet(way.new, found.lacking, wanted.tenant, until)
        met = time.perf_counter()
        hits = await self._hits(asked, found, due)
        embed = (embedded - began) + (met - waited)
        return Answer(way.new, hits, len(due), embed, time.perf_counter() - began - embed)

    async def _asked(
        self, way: Way, query: str, wanted: Wanted, mode: Mode, *, resting: bool, until: float
    ) -> Asked:
        """By both models at once; the old one is not waited for long, its query is worth the least. One that
        rests is not asked at all.
        """
        now = asyncio.get_running_loop().time()
        asking = [self._vector(way.new, query, wanted.tenant, until)]
        if not resting:
            asking.append(self._vector(way.old, query, wanted.tenant, now + (until - now) / 2))
        new, *olds = await asyncio.gather(*asking, return_exceptions=True)
        if isinstance(new, BaseException):
            raise new
        old = next((each for each in olds if not isinstance(each, BaseException)), None)
        return Asked(way, query if mode is Mode.HYBRID else None, new, old, wanted)

    async def _vector(self, index: Index, query: str, tenant: str | None, until: float) -> Vector:
        try:
            async with asyncio.timeout_at(until):
                return await self._queries.of_query(index, query, tenant=tenant)
        except TimeoutError as error:
            raise Unmet(f"{index.query.address} did not answer in time") from error

    async def _found(self, asked: Asked) -> Found:
        """The candidates of one tenant, as it sees them, best first of each kind."""
        way, wanted = asked.way, asked.wanted
        more = wanted.k + SPARE_HITS
        mapped = way.bridge.to_old(asked.new)
        kinds = [(way.old, mapped, OLD)]
        kinds += [(way.old, asked.old, OLD)] if asked.old is not None else []
        async with self._database.transaction(wanted.role, tenant=wanted.tenant) as conn:
            if await self._store.is_ready(conn, way.new, tenant=wanted.tenant):
                kinds.append((way.new, asked.new, NEW))
            near = [
                await self._store.nearest(
                    conn, index, vector, limit=max(most, more), tenant=wanted.tenant, where=wanted.where
                )
                for index, vector, most in kinds
            ]
            is_all = len(near[0]) < max(OLD, more)
            if asked.words is not None:
                near.append(await self._by_words(conn, asked))
            ids = list(dict.fromkeys(doc_id for scored in near for doc_id, _ in scored))
            live = await documents.hydrate(conn, ids, wanted.tenant, wanted.where)
            ranked = await self._store.scored(conn, way.new, asked.new, live, tenant=wanted.tenant)
        return Found([doc_id for doc_id in ids if doc_id in live], ranked, is_all)

    async def _by_words(self, conn: Connection, asked: Asked) -> list[tuple[int, float]]:
        wanted = asked.wanted
        return await lexical.ranked(
            conn,
            asked.way.old.collection_id,
            asked.words or "",
            k=max(WORDS, wanted.k + SPARE_HITS),
            tenant=wanted.tenant,
            where=wanted.where,
        )

    async def _hits(self, asked: Asked, found: Found, due: Sequence[int]) -> list[Hit]:
        """The best candidates, by the new index's vectors alone, which all of them have.

        Raises:
            Unmet: one of them still lacks its vectors, or too few are left.
        """
        wanted, index = asked.wanted, asked.way.new
        async with self._database.transaction(wanted.role, tenant=wanted.tenant) as conn:
            new = await self._store.scored(conn, index, asked.new, due, tenant=wanted.tenant) if due else []
            ranked = sorted([*found.ranked, *new], key=lambda scored: (-scored[1], scored[0]))
            hits = await self._best(conn, asked, ranked)
        there = {doc_id for doc_id, _ in new}
        await self._demand.require_none(index, [d for d in due if d not in there], wanted.tenant)
        if not (found.is_all and len(ranked) == len(found.live)):
            _require_enough(hits, wanted)
        return hits

    async def _best(self, conn: Connection, asked: Asked, ranked: list[tuple[int, float]]) -> list[Hit]:
        wanted = asked.wanted
        if asked.words is None:
            best = ranked[: wanted.k + SPARE_HITS]
            ids = [doc_id for doc_id, _ in best]
            live = await documents.hydrate(conn, ids, wanted.tenant, wanted.where, room=wanted.room)
            there = [(live[doc_id], score) for doc_id, score in best if doc_id in live]
            return [wanted.hit(row, score) for row, score in there[: wanted.k]]
        depth = max(fusion.DEPTH, wanted.k + SPARE_HITS)
        words = lexical.statement(
            asked.way.old.collection_id, asked.words, k=depth, tenant=wanted.tenant, where=wanted.where
        )
        vectors = fusion.given("vectors", ranked[:depth])
        rows = await fusion.hits(
            *(conn, asked.way.new, vectors, words),
            tenant=wanted.tenant,
            limit=wanted.k,
            where=wanted.where,
            room=wanted.room,
        )
        return [wanted.fused_hit(row) for row in rows]


def _require_enough(hits: list[Hit], wanted: Wanted) -> None:
    """Where there may be more than the candidates that are left."""
    if len(hits) < wanted.k:
        raise Unmet(f"there are only {len(hits)} hits among its candidates")
