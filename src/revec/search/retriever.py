"""Answer a query from the index that serves, read once per request: never mixed, in no window."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from revec.model.errors import (
    AnswerInvalid,
    NotFound,
    ProviderUnavailable,
    Refused,
    StoreUnavailable,
    Trouble,
)
from revec.model.filter import Filter, both, require
from revec.model.index import Index, Route
from revec.model.reading import Hit, How, Mode, Reading
from revec.observe import events, traces
from revec.postgres import indexes
from revec.postgres.database import Database
from revec.search import similar
from revec.search.early import Answer, Early, NotEarly
from revec.search.legs import Legs, Lexical, Wanted
from revec.search.precedence import Precedence
from revec.search.queries import Queries
from revec.search.similar import ByKey, ByText, Like, Start
from revec.search.traffic import of_error, of_reading
from revec.stores.base import Store, Vector

Note = Callable[[str, float], None]  # a search of this collection took so many seconds of the database
Tell = Callable[[Index, int, How, float], None]  # the index, at this epoch, did so, after so many seconds
Want = Callable[[int, Sequence[Hit]], None]  # these were shown, and this index is being filled
First = Callable[[Reading], Awaitable[None]]  # is told what the words found
Offer = Callable[
    ["Served", Reading, str, Wanted, Mode], None
]  # this was answered, so another index may be asked


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

    @property
    def about(self) -> dict[str, str | int]:
        return {"collection": self.collection, "index": self.index.name, "epoch": self.route.epoch}

    def searched(self, how: How, seconds: float, reading: Reading | None) -> events.Searched:
        """What came of it, for the metrics; an early answer is of the index that was to answer too."""
        took = (reading.embed_seconds, reading.search_seconds) if reading else (None, None)
        return events.Searched(self.collection, self.index.name, self.route.epoch, str(how), seconds, *took)

    def early_reading(self, answer: Answer) -> Reading:
        """Of the index that is being filled, at the epoch at which the other one serves."""
        return Reading(
            collection=self.collection,
            index=answer.index.name,
            index_id=answer.index.id,
            epoch=self.route.epoch,
            hits=answer.hits,
            embed_seconds=answer.embed_seconds,
            search_seconds=answer.search_seconds,
            early=True,
            demanded=answer.demanded,
        )


class Retriever:
    def __init__(
        self,
        database: Database,
        store: Store,
        queries: Queries,
        note: Note = lambda *_: None,
        *,
        tell: Tell = lambda *_: None,
        want: Want = lambda *_: None,
        offer: Offer = lambda *_: None,
        early: Early | None = None,
        lexical: Lexical | None = None,
        precedence: Precedence | None = None,
        deadline: float = 5.0,
    ) -> None:
        self._database = database
        self._store = store
        self._queries = queries
        self._note = note
        self._tell = tell
        self._want = want
        self._offer = offer
        self._early = early
        self._legs = Legs(database, store, lexical)
        self._precedence = precedence or Precedence()
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
        first: First | None = None,
        contents: bool = False,
        sticky: str | None = None,
    ) -> Reading:
        """The k best documents of one tenant (None: of all, for operators); for an empty query the latest.

        `where` is what the caller asks for, `visible` what he may see whatever he asks for. A model that
        does not answer within the deadline (seconds; None: as it is set), or is down, leaves the answer
        to the words, where there is such a leg; without one it is waited for, unless a deadline was given.
        With `contents` each hit has its text and metadata, read by the same statement.

        `sticky`: who has to be answered by the same index each time, while a canary has a share of the users;
        unless said, one tenant's same question is.

        `first` is told what the words found while the query is embedded, before a hybrid answer of the same
        index and epoch; once more where that index was dropped in between.

        Raises:
            NotFound: no such collection.
            Refused: nothing serves yet.
            BadInput: the store cannot filter like that, or the contents are too much for one answer.
            ProviderError: the query could not be embedded, and no other leg answers.
            StoreUnavailable: the vectors lie elsewhere, where nobody answers; likewise.
        """
        wanted = Wanted(k, tenant, self._narrowed(where, visible), contents=contents)
        leg_left = mode is Mode.HYBRID and self._legs.lexical is not None
        patience = self._deadline if deadline is None and leg_left else deadline

        async def answered(served: Served) -> Reading:
            if not query.strip():
                began = time.perf_counter()
                return served.reading(await self._legs.latest(served.index, wanted), began, began)
            if mode is Mode.LEXICAL:
                return await self._by_words(served, query, wanted)
            if early := await self._answered_early(served, query, wanted, mode, deadline):
                return early
            if first is not None and leg_left:
                return await _after(told(served, first), by_query(served))
            return await by_query(served)

        async def told(served: Served, first: First) -> None:
            await first(await self._by_words(served, query, wanted))

        async def by_query(served: Served) -> Reading:
            if not leg_left:
                return await self._by_query(served, query, wanted, mode=mode, patience=patience)
            return await self._by_query_or_words(served, query, wanted, patience)

        with self._precedence.live():
            sticky = sticky or _question(tenant, query)
            served, reading = await self._routed(collection, tenant, sticky, answered)
        self._offer(served, reading, query, wanted, mode)
        return reading

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
        sticky: str | None = None,
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
            hits = await self._legs.nearest(index, start, wanted)
            return served.reading(hits, began, embedded, threshold=least)

        with self._precedence.live():
            sticky = sticky or _question(tenant, like.said)
            _, reading = await self._routed(collection, tenant, sticky, answered)
        return reading

    async def route(
        self, collection: str, *, tenant: str | None = None, sticky: str = ""
    ) -> tuple[Route, Index]:
        """What serves this tenant and sticky key, from the database: nothing cached, nothing stale."""
        async with self._database.transaction("worker") as conn:
            route, index = await indexes.serving(conn, collection, tenant=tenant, sticky=sticky)
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
        visible: Filter | None = None,
        fresh: bool = False,
        contents: bool = False,
    ) -> Reading:
        """One reading of one index, by that index's own query model.

        `fresh`: the model itself is asked, whatever is remembered of the query.
        """
        wanted = Wanted(k, tenant, self._narrowed(where, visible), contents=contents)
        served = Served(collection, route, index)
        if mode is Mode.LEXICAL:
            return await self._by_words(served, query, wanted)
        return await self._by_query(served, query, wanted, mode=mode, fresh=fresh)

    async def embedded(
        self, index: Index, query: str, *, tenant: str | None = None, fresh: bool = False
    ) -> Vector:
        """The query's vector in the index's space, shape (dims,)."""
        return await self._queries.of_query(index, query, tenant=tenant, fresh=fresh)

    async def _answered_early(
        self, served: Served, query: str, wanted: Wanted, mode: Mode, deadline: float | None
    ) -> Reading | None:
        """By the index that is being filled; None where the one that serves has to answer."""
        if self._early is None or served.route.early is None:
            return None
        try:
            answer = await self._early.answer(served.route, query, wanted, mode, deadline)
        except NotEarly as error:
            events.emit(events.NotServedEarly(served.collection, str(error)))
            return None
        return served.early_reading(answer)

    async def _by_query_or_words(
        self, served: Served, query: str, wanted: Wanted, patience: float | None
    ) -> Reading:
        """By both legs; by the words alone where the model is late, down, or not to be trusted, or the store
        is away.
        """
        try:
            self._require_awake(served)
            return await self._by_query(served, query, wanted, mode=Mode.HYBRID, patience=patience)
        except StoreUnavailable as error:  # who searches need not learn where it is
            events.emit(events.StoreFailed(served.index.place.store, str(error)))
            why = "only the words were searched: the store of the vectors is away"
            return await self._by_words(served, query, wanted, degraded=True, why=why)
        except (ProviderUnavailable, AnswerInvalid) as error:
            why = f"only the words were searched: {error}"
            return await self._by_words(served, query, wanted, degraded=True, why=why)

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
            with traces.span("revec search embed", index=index.name):
                async with asyncio.timeout(patience):
                    vector = await self.embedded(index, query, tenant=wanted.tenant, fresh=fresh)
        except TimeoutError as error:
            late = f"{index.query.address} did not answer within {patience:g} s"
            raise ProviderUnavailable(late, trouble=Trouble.TIMEOUT) from error
        embedded = time.perf_counter()
        with traces.find(index.id, index.name, wanted.k) as span:
            if mode is Mode.HYBRID:
                hits = await self._legs.fused(index, query, vector, wanted)
            else:
                hits = await self._legs.nearest(index, Start([vector]), wanted)
            traces.found(span, len(hits))
        return served.reading(hits, began, embedded)

    def _narrowed(self, *filters: Filter | None) -> Filter | None:
        """All have to hold, so nothing that is asked for widens what may be seen."""
        narrowed = both(*filters)
        if narrowed is not None:
            require(narrowed, self._store.filters, "this store")
        return narrowed

    async def _routed(
        self,
        collection: str,
        tenant: str | None,
        sticky: str,
        answered: Callable[[Served], Awaitable[Reading]],
    ) -> tuple[Served, Reading]:
        served = Served(collection, *await self.route(collection, tenant=tenant, sticky=sticky))
        try:
            reading = await self._watched(served, answered)
        except NotFound:  # the index was dropped in mid-request: the route knows the next one
            served = Served(collection, *await self.route(collection, tenant=tenant, sticky=sticky))
            reading = await self._watched(served, answered)
        if reading.early:  # it takes longer by itself, and lacks nothing
            return served, reading
        self._note(collection, reading.search_seconds)  # not the provider's: no backfill slows it down
        if served.route.filling is not None:
            self._want(served.route.filling, reading.hits)
        return served, reading

    async def _watched(self, served: Served, answered: Callable[[Served], Awaitable[Reading]]) -> Reading:
        """Whatever comes of it, the index that was to answer is judged by it."""
        began = time.perf_counter()
        how: How | None = None
        reading: Reading | None = None
        try:
            with traces.span("revec search", **served.about) as span:
                reading = await answered(served)
                how = of_reading(reading)
                span.set_attributes({"revec.how": str(how), "revec.hits": len(reading.hits)})
        except BaseException as error:
            how = of_error(error, late=time.perf_counter() - began >= self._deadline)
            raise
        finally:
            if how is not None:
                seconds = time.perf_counter() - began
                self._tell(served.index, served.route.epoch, how, seconds)
                events.emit(served.searched(how, seconds, reading))
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
        began = time.perf_counter()
        hits = await self._legs.by_words(served.index, query, wanted)
        return served.reading(hits, began, began, **more)

    async def _start(self, index: Index, like: Like, tenant: str | None, visible: Filter | None) -> Start:
        if isinstance(like, ByKey):
            return await similar.of_document(
                self._database, self._store, index, like, tenant=tenant, visible=visible
            )
        if isinstance(like, ByText):
            return await similar.of_text(self._queries, index, like, tenant)
        return similar.of_vector(index, like)


def _question(tenant: str | None, said: str) -> str:
    """A sticky key for whoever asks the same: not the words themselves, which no route has to know."""
    return blake2b(f"{tenant} {said}".encode(errors="surrogatepass"), digest_size=16).hexdigest()


async def _after(first: Coroutine[Any, Any, None], then: Coroutine[Any, Any, Reading]) -> Reading:
    """Both begin at once; the second's reading is given when the first has ended, and neither outlives it."""
    earlier = asyncio.create_task(first)
    try:
        return await then
    except asyncio.CancelledError:
        earlier.cancel()
        raise
    finally:
        await earlier
