"""Answer a query from the index that serves, read once per request: never mixed, in no window."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from revec.model.errors import NotFound, Refused
from revec.model.index import Index, Route
from revec.model.reading import Hit, Reading
from revec.postgres import documents, indexes
from revec.postgres.database import Database, Role
from revec.providers.base import Provider, TextInput
from revec.stores.base import Store, Vector

ProviderFor = Callable[[str, int], Awaitable[Provider]]  # address and dims → the model
Note = Callable[[str, float], None]  # a search of this collection took so many seconds of the database

SPARE_HITS = 10  # fetched beyond k, for documents deleted since their vectors were written


class Retriever:
    def __init__(
        self, database: Database, store: Store, provider_for: ProviderFor, note: Note = lambda *_: None
    ) -> None:
        self._database = database
        self._store = store
        self._provider_for = provider_for
        self._note = note

    async def search(self, collection: str, query: str, *, k: int = 10, tenant: str | None) -> Reading:
        """The k nearest documents of one tenant (None: of all, for operators).

        Raises:
            NotFound: no such collection.
            Refused: nothing serves yet.
            ProviderError: the query could not be embedded.
        """
        route, index = await self.route(collection)
        try:
            reading = await self.read(collection, route, index, query, k=k, tenant=tenant)
        except NotFound:  # the index was dropped in mid-request: the route knows the next one
            route, index = await self.route(collection)
            reading = await self.read(collection, route, index, query, k=k, tenant=tenant)
        self._note(collection, reading.search_seconds)  # not the provider's: no backfill slows it down
        return reading

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
        self, collection: str, route: Route, index: Index, query: str, *, k: int, tenant: str | None
    ) -> Reading:
        """One reading of one index, by that index's own query model."""
        began = time.perf_counter()
        vector = await self.embedded(index, query)
        embedded = time.perf_counter()
        hits = await self._hits(index, vector, k, tenant)
        return Reading(
            collection=collection,
            index=index.name,
            index_id=index.id,
            epoch=route.epoch,
            hits=hits,
            embed_seconds=embedded - began,
            search_seconds=time.perf_counter() - embedded,
        )

    async def embedded(self, index: Index, query: str) -> Vector:
        """The query's vector in the index's space, shape (dims,)."""
        provider = await self._provider_for(index.query.address, index.space.dims)
        answer = await provider.embed([TextInput(index.query.prefix + query)], kind="query")
        vector: Vector = answer.matrix[0]
        return vector

    async def _hits(self, index: Index, vector: Vector, k: int, tenant: str | None) -> list[Hit]:
        fetched = k + SPARE_HITS
        while True:
            role: Role = "worker" if tenant is None else "reader"
            async with self._database.transaction(role, tenant=tenant) as conn:
                scored = await self._store.nearest(conn, index, vector, limit=fetched, tenant=tenant)
                live = await documents.hydrate(conn, [doc_id for doc_id, _ in scored], tenant)
            hits = [
                Hit(row.key, round(score, 6), row.title, row.tenant, row.source)
                for doc_id, score in scored
                if (row := live.get(doc_id))
            ]
            if len(hits) >= k or len(scored) < fetched:
                return hits[:k]
            fetched *= 4
