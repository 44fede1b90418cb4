"""Answer a query from the index that serves, read once per request: never mixed, in no window."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from revec.model.errors import AnswerInvalid, BadInput, NotFound, ProviderUnavailable, Refused, Trouble
from revec.model.filter import Filter, both, require
from revec.model.index import Index, Route
from revec.model.reading import Hit, Mode, Reading
from revec.postgres import documents, indexes
from revec.postgres.database import Connection, Database, Role
from revec.search import fusion, lexical, similar
from revec.search.queries import Queries
from revec.search.similar import ByKey, ByText, Like, Start
from revec.stores.base import Store, Vector

Note = Callable[[str, float], None]  # a search of this collection took so many seconds of the database
Scored = list[tuple[int, float]]  # (doc_id, score), best first, each document once
Leg = Callable[[Connection, int], Awaitable[Scored]]  # in a transaction, the best so many

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
class Served:
    """What answers this request, as it was when the request came."""

    collection: str
    route: Route
    index: Index

    def reading(self, hits: list[Hit], began: float, embedded: float, **more: Any) -> Reading:
        """`began`, `embedded`: moments of `perf_counter`."""
        return Reading(
            collection=self.collection,
            index=self.index.name,
            index_id=self.index.id,
            epoch=self.route.epoch,
            hits=hits,
            embed_seconds=embedded - began,
            search_seconds=time.perf_counter() - embedded,
            **more,
        )


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
        return "worker" if self.tenant is None else "reader"

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


class Retriever:
    def __init__(
        self,
        database: Database,
        store: Store,
        queries: Queries,
        note: Note = lambda *_: None,
        *,
        words: Lexical | None = None,
        deadline: float = 5.0,
    ) -> None:
        self._database = database
        self._store = store
        self._queries = queries
        self._note = note
        self._lexical = words
        self._deadline = deadline

    async def search(
        self,
        collection: str,
        query: str,
        *,
        k: int = 10,
        tenant: str | None,
        mode: Mode = Mode.VECTOR,
        where: Filter | None = None,
        visible: Filter | None = None,
        deadline: float | None = None,
        contents: bool = False,
    ) -> Reading:
        """The k best documents of one tenant (None: of all, for operators); for an empty query the latest.

        `where` is what the caller asks for, `visible` what he may see whatever he asks for. A model that
        does not answer within the deadline (seconds; None: as it is set), or is down, leaves the answer
        to the words, where there is such a leg; without one it is waited for, unless a deadline was given.
        With `contents` each hit has its text and metadata, read by the same statement.

        Raises:
            NotFound: no such collection.
            Refused: nothing serves yet.
            BadInput: the store cannot filter like that, or the contents are more than MOST_CONTENTS.
            ProviderError: the query could not be embedded, and no other leg answers.
        """
        wanted = Wanted(k, tenant, self._narrowed(where, visible), contents=contents)
        leg_left = mode is Mode.HYBRID and self._lexical is not None
        patience = self._deadline if deadline is None and leg_left else deadline

        async def answered(served: Served) -> Reading:
            if not query.strip():
                return await self._latest(served, wanted)
            if mode is Mode.LEXICAL:
                return await self._by_words(served, query, wanted)
            try:
                if leg_left:
                    self._require_awake(served)
                return await self._by_query(served, query, wanted, mode=mode, patience=patience)
            except (ProviderUnavailable, AnswerInvalid) as error:
                if not leg_left:
                    raise
                why = f"only the words were searched: {error}"
                return await self._by_words(served, query, wanted, degraded=True, why=why)

        return await self._routed(collection, answered)

    async def similar(
        self,
        collection: str,
        like: Like,
        *,
        k: int = 10,
        tenant: str | None,
        threshold: float | None = None,
        where: Filter | None = None,
        visible: Filter | None = None,
    ) -> Reading:
        """The k documents most similar to a document, a text or a vector, of its several chunks the best.

        Hits below the threshold (a cosine similarity in the space that serves; None: what the collection
        keeps for it, or none) are left out.

        Raises:
            NotFound: no such collection, or no such document of this tenant.
            Refused: nothing serves yet, the document has no vectors yet, or the collection's threshold is
                of another space.
            BadInput: the vector cannot be of the space that serves, or the store cannot filter like that.
            ProviderError: the text could not be embedded.
        """
        narrowed = self._narrowed(where, visible)

        async def answered(served: Served) -> Reading:
            index = served.index
            began = time.perf_counter()
            least = threshold
            if least is None:
                async with self._database.transaction("worker") as conn:
                    least = await similar.threshold_of(conn, collection, index)
            start = await self._start(index, like, tenant, visible)
            embedded = time.perf_counter()
            wanted = Wanted(k, tenant, narrowed, least)
            hits = await self._hits(self._by_vectors(index, start, wanted), wanted)
            return served.reading(hits, began, embedded, threshold=least)

        return await self._routed(collection, answered)

    async def route(self, collection: str) -> tuple[Route, Index]:
        """What serves, from the database: nothing cached, nothing stale."""
        async with self._database.transaction("worker") as conn:
            route, index = await indexes.serving(conn, collection)
        if index is None:
            raise Refused(
                f"nothing serves {collection} yet: `revec status {collection}` shows its first fill, "
                "`revec worker` does it"
            )
        return route, index

    async def read(
        self,
        collection: str,
        route: Route,
        index: Index,
        query: str,
        *,
        k: int,
        tenant: str | None,
        mode: Mode = Mode.VECTOR,
        where: Filter | None = None,
        fresh: bool = False,
        contents: bool = False,
    ) -> Reading:
        """One reading of one index, by that index's own query model.

        `fresh`: the model itself is asked, whatever is remembered of the query.
        """
        wanted = Wanted(k, tenant, self._narrowed(where), contents=contents)
        served = Served(collection, route, index)
        if mode is Mode.LEXICAL:
            return await self._by_words(served, query, wanted)
        return await self._by_query(served, query, wanted, mode=mode, fresh=fresh)

    async def embedded(
        self, index: Index, query: str, *, tenant: str | None = None, fresh: bool = False
    ) -> Vector:
        """The query's vector in the index's space, shape (dims,)."""
        return await self._queries.of_query(index, query, tenant=tenant, fresh=fresh)

    async def _by_query(
        self,
        served: Served,
        query: str,
        wanted: Wanted,
        *,
        mode: Mode = Mode.VECTOR,
        patience: float | None = None,
        fresh: bool = False,
    ) -> Reading:
        index = served.index
        began = time.perf_counter()
        try:
            async with asyncio.timeout(patience):
                vector = await self.embedded(index, query, tenant=wanted.tenant, fresh=fresh)
        except TimeoutError as error:
            late = f"{index.query.address} did not answer within {patience:g} s"
            raise ProviderUnavailable(late, trouble=Trouble.TIMEOUT) from error
        embedded = time.perf_counter()
        if mode is Mode.HYBRID:
            hits = await self._fused(index, query, vector, wanted)
        else:
            hits = await self._hits(self._by_vectors(index, Start([vector]), wanted), wanted)
        return served.reading(hits, began, embedded)

    async def _fused(self, index: Index, query: str, vector: Vector, wanted: Wanted) -> list[Hit]:
        """Both legs in one statement where the store can; deeper where too many documents are gone."""
        depth, before = max(fusion.DEPTH, wanted.k + SPARE_HITS), -1
        tenant, where = wanted.tenant, wanted.where
        while True:
            async with self._database.transaction(wanted.role, tenant=tenant) as conn:
                vectors = self._store.statement(index, vector, limit=depth, tenant=tenant, where=where)
                if vectors is None:
                    nearest = await self._store.nearest(
                        conn, index, vector, limit=depth, tenant=tenant, where=where
                    )
                    vectors = fusion.given("vectors", nearest)
                words = lexical.statement(index.collection_id, query, k=depth, tenant=tenant, where=where)
                rows = await fusion.hits(
                    conn, vectors, words, tenant=tenant, limit=wanted.k, room=wanted.room
                )
            if len(rows) >= wanted.k or len(rows) == before:
                return [
                    wanted.hit(row, row.score, vector_rank=row.vector_rank, lexical_rank=row.lexical_rank)
                    for row in rows
                ]
            depth, before = depth * 4, len(rows)

    async def _latest(self, served: Served, wanted: Wanted) -> Reading:
        """What an empty query is answered with: no order of likeness, so no scores."""
        began = time.perf_counter()
        async with self._database.transaction(wanted.role, tenant=wanted.tenant) as conn:
            rows = await fusion.recent(
                *(conn, served.index.collection_id),
                tenant=wanted.tenant,
                where=wanted.where,
                limit=wanted.k,
                room=wanted.room,
            )
        return served.reading([wanted.hit(row, 0.0) for row in rows], began, began)

    def _narrowed(self, *filters: Filter | None) -> Filter | None:
        """All have to hold, so nothing that is asked for widens what may be seen."""
        narrowed = both(*filters)
        if narrowed is not None:
            require(narrowed, self._store.filters, "this store")
        return narrowed

    async def _routed(self, collection: str, answered: Callable[[Served], Awaitable[Reading]]) -> Reading:
        try:
            reading = await answered(Served(collection, *await self.route(collection)))
        except NotFound:  # the index was dropped in mid-request: the route knows the next one
            reading = await answered(Served(collection, *await self.route(collection)))
        self._note(collection, reading.search_seconds)  # not the provider's: no backfill slows it down
        return reading

    def _require_awake(self, served: Served) -> None:
        """A model that rests after a failure is not waited for where another leg answers.

        Raises:
            ProviderUnavailable: it rests.
        """
        if served.route.resting:
            raise ProviderUnavailable(f"{served.index.query.address} rests: {served.route.resting}")

    async def _by_words(self, served: Served, query: str, wanted: Wanted, **more: Any) -> Reading:
        """By the words alone; also what is left of a search when its query has no vector."""
        words, collection_id = self._lexical or lexical.ranked, served.index.collection_id

        async def leg(conn: Connection, limit: int) -> Scored:
            return await words(conn, collection_id, query, k=limit, tenant=wanted.tenant, where=wanted.where)

        began = time.perf_counter()
        hits = await self._hits(leg, wanted)
        return served.reading(hits, began, began, **more)

    async def _start(self, index: Index, like: Like, tenant: str | None, visible: Filter | None) -> Start:
        if isinstance(like, ByKey):
            role = Wanted(1, tenant).role
            async with self._database.transaction(role, tenant=tenant) as conn:
                return await similar.of_document(
                    conn, self._store, index, like, tenant=tenant, visible=visible
                )
        if isinstance(like, ByText):
            return await similar.of_text(self._queries, index, like, tenant)
        return similar.of_vector(index, like)

    def _by_vectors(self, index: Index, start: Start, wanted: Wanted) -> Leg:
        """Documents by their nearest pair of chunks: the best of all pairs is among the best of each."""

        async def leg(conn: Connection, limit: int) -> Scored:
            best: dict[int, float] = {}
            for vector in start.vectors:
                for doc_id, score in await self._store.nearest(
                    conn, index, vector, limit=limit + 1, tenant=wanted.tenant, where=wanted.where
                ):
                    best[doc_id] = max(score, best.get(doc_id, score))
            if start.itself is not None:
                best.pop(start.itself, None)
            return sorted(best.items(), key=lambda found: (-found[1], found[0]))[:limit]

        return leg

    async def _hits(self, leg: Leg, wanted: Wanted) -> list[Hit]:
        """The best k that are there now; the leg is asked for more where it found deleted ones."""
        fetched = wanted.k + SPARE_HITS
        while True:
            async with self._database.transaction(wanted.role, tenant=wanted.tenant) as conn:
                scored = await leg(conn, fetched)
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
