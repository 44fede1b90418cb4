"""Vectors of what is asked: paid for once while they are remembered, by whoever asks first.

A query is known by the space and the recipe that make its vector, and by its normalised text. Equal ones at
the same time share one call (single-flight); a call that failed is not remembered, and one that nobody waits
for any more goes on, because it is paid for. What is remembered is bounded by its bytes, the longest unused
forgotten first.
"""

from __future__ import annotations

import asyncio
import re
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from revec.model.document import rendered
from revec.model.errors import BadInput, ProviderError, ProviderUnavailable
from revec.model.index import Index
from revec.model.space import QueryRecipe, Space
from revec.observe import events, traces
from revec.providers.base import Kind, Matrix, Provider, TextInput, Vectors
from revec.search.ledger import Ledger, Line
from revec.stores.base import Vector
from revec.work.calls import NOBODY, Report, came_of

ProviderFor = Callable[[str, int], Awaitable[Provider]]  # address and dims → the model

MOST_BYTES = 64 << 20
MOST_FLIGHTS = 1_000  # calls at once: a model that answers nobody does not fill the memory
MOST_CHUNKS = 64  # of a text that is asked for: what one call of any provider takes
OVERHEAD = 500  # bytes of an entry beside its text and its vector, about

_WHITESPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Key:
    """What a vector depends on."""

    space: str
    recipe: QueryRecipe | None  # None: asked as a document
    text: str


def normalised(query: str) -> str:
    """NFC, whitespace collapsed (to a newline where there is one), case kept: equal here, equal vector."""
    text = unicodedata.normalize("NFC", query).strip()
    return _WHITESPACE.sub(lambda run: "\n" if "\n" in run[0] else " ", text)


class Queries:
    def __init__(
        self, provider_for: ProviderFor, ledger: Ledger | None = None, *, most_bytes: int = MOST_BYTES
    ) -> None:
        self._provider_for = provider_for
        self._ledger = ledger
        self._most_bytes = most_bytes
        self._known: OrderedDict[Key, Matrix] = OrderedDict()  # the longest unused first
        self._bytes = 0
        self._flights: dict[Key, asyncio.Task[Matrix]] = {}

    async def of_query(
        self, index: Index, query: str, *, tenant: str | None = None, fresh: bool = False
    ) -> Vector:
        """The query's vector in the index's space, shape (dims,).

        `fresh`: from the model itself, to see whether it answers.

        Raises:
            ProviderError: as the provider raised it, to everybody who waited for this call.
        """
        text = normalised(query)
        key = Key(index.space.id, index.query, text)
        if fresh:
            self._forget(key)
        provider = await self._provider_for(index.query.address, index.space.dims)
        matrix = await self._shared(key, provider, [index.query.prefix + text], "query", tenant)
        vector: Vector = matrix[0]
        return vector

    async def of_document(self, space: Space, text: str, *, tenant: str | None = None) -> Sequence[Vector]:
        """The vectors of a text's chunks, as if it were a document of the space: shape (chunks, dims).

        Raises:
            BadInput: it makes too many of them.
            ProviderError: as the provider raised it.
        """
        provider = await self._provider_for(space.address, space.dims)
        chunks = await asyncio.to_thread(rendered, space, "", text, provider.count)
        if not chunks:
            return []
        if len(chunks) > MOST_CHUNKS:
            raise BadInput(f"the text makes {len(chunks)} chunks, {MOST_CHUNKS} are allowed: ask with a part")
        return list(await self._shared(Key(space.id, None, text), provider, chunks, "document", tenant))

    async def close(self) -> None:
        """Nobody waits any more."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _shared(
        self, key: Key, provider: Provider, texts: Sequence[str], kind: Kind, tenant: str | None
    ) -> Matrix:
        if (known := self._known.get(key)) is not None:
            self._known.move_to_end(key)
            events.emit(events.QueryMet("known"))
            return known
        flight = self._flights.get(key)
        events.emit(events.QueryMet("asked" if flight is None else "shared"))
        if flight is None:
            if len(self._flights) >= MOST_FLIGHTS:
                raise ProviderUnavailable(
                    f"{provider.name} has {MOST_FLIGHTS:,} queries before it: ask again in a moment"
                )
            flight = asyncio.create_task(self._flown(key, provider, texts, kind, tenant))
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(flight)  # a waiter that leaves takes nobody with it

    async def _flown(
        self, key: Key, provider: Provider, texts: Sequence[str], kind: Kind, tenant: str | None
    ) -> Matrix:
        began = time.perf_counter()
        try:
            with traces.embedding(provider.name, len(texts)) as span:
                answer = await provider.embed([TextInput(text) for text in texts], kind=kind)
                traces.embedded(span, answer.tokens, answer.matrix.shape[-1])
        except ProviderError as error:
            self._note(provider, texts, tenant, came_of(error), began=began)
            raise
        # What its headers say is of a moment between calls that nobody can name now: it teaches nothing.
        self._note(provider, texts, tenant, Report("ok", answer.tokens), began=began, answer=answer)
        self._remember(key, answer.matrix)
        return answer.matrix

    def _landed(self, key: Key, flight: asyncio.Task[Matrix]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # is looked at, also where nobody waited to the end

    def _remember(self, key: Key, matrix: Matrix) -> None:
        self._forget(key)
        self._known[key] = matrix
        self._bytes += _weight(key, matrix)
        while self._bytes > self._most_bytes:
            self._forget(next(iter(self._known)))

    def _forget(self, key: Key) -> None:
        if (matrix := self._known.pop(key, None)) is not None:
            self._bytes -= _weight(key, matrix)

    def _note(
        self,
        provider: Provider,
        texts: Sequence[str],
        tenant: str | None,
        report: Report,
        *,
        began: float,
        answer: Vectors | None = None,
    ) -> None:
        if self._ledger is not None:
            counted = answer.tokens if answer else None
            tokens = sum(provider.count(texts)) if counted is None else counted
            seconds = time.perf_counter() - began
            self._ledger.note(Line(provider.name, tenant or NOBODY, len(texts), tokens, report, seconds))


def _weight(key: Key, matrix: Matrix) -> int:
    return int(matrix.nbytes) + 4 * len(key.text) + OVERHEAD
