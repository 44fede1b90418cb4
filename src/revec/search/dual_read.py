"""Dual read: some queries are asked of a second index as well, behind their answers, and compared.

Nothing of it is on a search's way: an answer that is complete is offered to a bounded queue, which takes it
or counts it as dropped. Two tasks read, in steps between live searches, through a small pool of their own,
with vectors of their own, and every arm has a deadline. A candidate that hangs, fails or answers rubbish is
data. Where a query is observed already, by whichever server, it only weighs more.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from uuid import uuid4

from revec.model.index import Route, Shadow
from revec.model.reading import Mode, Reading
from revec.observe import context, events
from revec.postgres import pulses, shadows
from revec.postgres.database import Database
from revec.postgres.shadows import Claim, Pair
from revec.providers.base import Provider
from revec.search import arms
from revec.search.arms import AT
from revec.search.legs import Lexical, Wanted
from revec.search.observing import Answered, Observing
from revec.search.precedence import Precedence
from revec.search.queries import ProviderFor, Queries
from revec.search.retriever import Retriever, Served, Tell
from revec.search.sampling import Chosen, Firsts, Question, chosen, place
from revec.search.sparing import Sparing
from revec.stores.base import Store
from revec.work.brake import STEP, TOO_SLOW, WINDOW, Seen

AT_ONCE = 2  # observations of a process, and connections: live searches keep the rest
MOST_WAITING = 100
KNOWN = 50_000  # questions that this process need not offer again
FLUSH_EVERY = 2.0  # seconds between two writes of what was counted
PATIENCE = 2.0  # seconds for such a write, and for what is left at the end
PRUNE_EVERY = 60.0  # seconds
DEADLINE = 5.0  # seconds of one arm

Key = tuple[Pair, bytes]


@dataclass(frozen=True, slots=True)
class Offer:
    """A question that was answered, to be asked again."""

    pair: Pair
    answered: Answered
    hashed: bytes
    chosen: Chosen
    weight: int = 1

    @property
    def collection(self) -> str:
        return self.answered.served.collection


@dataclass(slots=True)
class Counted:
    """Of one pair, since the last flush."""

    taken: int = 0
    dropped: int = 0
    again: Counter[bytes] = field(default_factory=Counter)


class DualReader:
    def __init__(
        self,
        database: Database,
        store: Store,
        provider_for: ProviderFor,
        *,
        lexical: Lexical | None = None,
        precedence: Precedence | None = None,
        deadline: float = DEADLINE,
        tell: Tell = lambda *_: None,
    ) -> None:
        self._main = database
        self._store = store
        self._provider_for = provider_for
        self._lexical = lexical
        self._precedence = precedence or Precedence()
        self._deadline = deadline
        self._tell = tell
        self._observing: Observing | None = None  # made with the first offer: no shadow, no connection
        self._opening = asyncio.Lock()
        self._own: Database | None = None
        self._queries: Queries | None = None
        self._waiting: deque[Offer] = deque()
        self._known: OrderedDict[Key, None] = OrderedDict()
        self._firsts = Firsts()
        self._counted: dict[Pair, Counted] = {}
        self._readers: set[asyncio.Task[None]] = set()
        self._flushing: asyncio.Task[None] | None = None
        self._pruned = 0.0
        self._looked = 0.0
        self._slow: set[str] = set()  # collections whose searches are slow at the moment
        self._closed = False

    def offer(self, served: Served, reading: Reading, query: str, wanted: Wanted, mode: Mode) -> None:
        """This was answered; costs microseconds, raises nothing."""
        if (shadow := served.route.shadow) is None or self._closed:
            return
        with suppress(Exception):  # a search is never worse off for it
            if reading.early or reading.degraded or mode is Mode.LEXICAL or not query.strip():
                return
            if served.index.id != served.route.serving:  # a canary's: what is compared is what serves
                return
            asked = Question(query, wanted.tenant, mode, wanted.where)
            hashed = asked.hashed(shadow.salt)
            first = self._firsts.takes(served.route.collection_id, wanted.tenant, hashed)
            if (why := chosen(shadow.rate, hashed, first=first)) is not None:
                pair = _pair(served.route, shadow)
                self._take(
                    Offer(pair, Answered(served, asked, arms.answered(reading), wanted.k), hashed, why)
                )

    async def replay(
        self, served: Served, query: str, *, tenant: str | None, mode: Mode, weight: int
    ) -> bool:
        """Observe a query of a log as if it came now, once searches are not slow; whether it was new.

        Raises:
            NotObserved: a model has no room for it.
        """
        shadow = served.route.shadow
        assert shadow is not None
        while await self._is_slow(served.collection):  # noqa: ASYNC110 - other processes say when it is not
            await asyncio.sleep(STEP)
        asked = Question(query, tenant, mode, None)
        arm = await (await self._opened()).read(served, asked)
        pair, hashed = _pair(served.route, shadow), asked.hashed(shadow.salt)
        answered = Answered(served, asked, replace(arm, hits=arm.hits[:AT]), AT)
        return await self._observe(Offer(pair, answered, hashed, Chosen.REPLAY, weight))

    async def settled(self) -> None:
        """What waits has been read, and what was counted is written down."""
        while self._readers:
            await asyncio.wait(self._readers)
        await self._write_counts()

    async def close(self) -> None:
        """What waits is forgotten, what is being read is given back, what was counted is written down."""
        self._closed = True
        self._waiting.clear()
        for task in (*self._readers, *([self._flushing] if self._flushing else [])):
            task.cancel()
        await asyncio.gather(
            *self._readers, *([self._flushing] if self._flushing else []), return_exceptions=True
        )
        with suppress(Exception):
            async with asyncio.timeout(PATIENCE):
                await self._write_counts()
        if self._queries is not None:
            await self._queries.close()
        if self._own is not None:
            await self._own.__aexit__(None, None, None)
            self._own = self._observing = None

    def _take(self, offer: Offer) -> None:
        key = (offer.pair, offer.hashed)
        if key in self._known:
            self._known.move_to_end(key)
            self._counted.setdefault(offer.pair, Counted()).again[offer.hashed] += 1
            self._flush_soon()
        elif not self._has_room(offer) or self._rests(offer.collection):
            self._count(offer, observed=False)
        else:
            self._remember(key)
            self._waiting.append(offer)
        if self._waiting and len(self._readers) < AT_ONCE:
            reader = asyncio.create_task(self._read_on(), context=context.nobodys())
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)

    async def _read_on(self) -> None:
        while self._waiting:
            offer = self._waiting.popleft()
            await self._precedence.given()
            try:
                observed = not await self._is_slow(offer.collection) and await self._observed_or_known(offer)
            except Exception:  # noqa: BLE001 - whatever it is, it is one observation less
                observed = False
            self._count(offer, observed=observed)
            if not observed:
                self._known.pop((offer.pair, offer.hashed), None)

    def _has_room(self, offer: Offer) -> bool:
        """The first questions of thousands of tenants do not keep out what the rate chose."""
        room = MOST_WAITING if offer.chosen is Chosen.RATE else MOST_WAITING // 4
        return len(self._waiting) < room

    def _count(self, offer: Offer, *, observed: bool) -> None:
        """What the rate chose; nobody misses what was offered for its tenant's sake."""
        if offer.chosen is not Chosen.TENANT:
            counted = self._counted.setdefault(offer.pair, Counted())
            counted.taken += observed
            counted.dropped += not observed
            events.emit(events.Observed(offer.collection, "observed" if observed else "dropped"))
            self._flush_soon()

    async def _observed_or_known(self, offer: Offer) -> bool:
        await self._observe(offer)
        return True

    async def _observe(self, offer: Offer) -> bool:
        """Whether nobody had observed it.

        Raises:
            NotObserved: a model has no room for it, and the claim is given back.
        """
        observing, main = await self._opened(), self._own
        assert main is not None
        question = {
            "query": offer.hashed,
            "tenant": offer.answered.asked.tenant,
            "mode": offer.answered.asked.mode,
            "place": place(offer.hashed),
            "chosen": offer.chosen,
            "weight": offer.weight,
        }
        await self._precedence.given()
        async with main.transaction("worker") as conn:
            claim = await shadows.claim(conn, offer.pair, uuid4(), question)
        if claim is None:
            return False
        async with self._given_back(claim):
            seen = await observing.observed(offer.pair, offer.answered)
            if seen is None:
                raise NotObserved
            await self._precedence.given()
            async with main.transaction("worker") as conn:
                await shadows.put(conn, claim, seen)
        await self._prune(offer.pair.collection_id)
        return True

    @asynccontextmanager
    async def _given_back(self, claim: Claim) -> AsyncIterator[None]:
        """An observation that came to nothing is nobody's; killed in between, it is taken over later."""
        try:
            yield
        except BaseException:
            assert self._own is not None
            with suppress(Exception):
                async with asyncio.timeout(PATIENCE), self._own.transaction("worker") as conn:
                    await shadows.release(conn, claim)
            raise

    async def _opened(self) -> Observing:
        async with self._opening:
            if self._observing is None:
                own = Database(self._main.dsn, connections=AT_ONCE, patience=self._deadline)
                await own.__aenter__()
                own.two_layers = self._main.two_layers
                self._own = own

                async def sparing(address: str, dims: int) -> Provider:
                    return Sparing(await self._provider_for(address, dims), own)

                self._queries = Queries(sparing)
                retriever = Retriever(own, self._store, self._queries, lexical=self._lexical)
                how = (self._deadline, self._precedence, self._tell)
                self._observing = Observing(own, self._store, retriever, *how)
            return self._observing

    async def _is_slow(self, collection: str) -> bool:
        """Whether searches take longer than in quiet times: the brake's own measure, looked at as often."""
        if time.monotonic() - self._looked > STEP:
            self._looked = time.monotonic()
            await self._opened()
            assert self._own is not None
            async with self._own.transaction("worker") as conn:
                rows = await pulses.lately(conn, "", seconds=WINDOW)
            seen = [Seen(**row._asdict()) for row in rows]
            self._slow = {
                each.name for each in seen if each.kind == pulses.SEARCH and each.is_above(TOO_SLOW)
            }
        return collection in self._slow

    def _rests(self, collection: str) -> bool:
        """Its searches were slow at the last look, and it is not time for another one."""
        return collection in self._slow and time.monotonic() - self._looked < STEP

    def _remember(self, key: Key) -> None:
        self._known[key] = None
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)

    def _flush_soon(self) -> None:
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        await asyncio.sleep(FLUSH_EVERY)
        with suppress(Exception):  # what could not be counted is lost with the sample
            async with asyncio.timeout(PATIENCE):
                await self._write_counts()

    async def _write_counts(self) -> None:
        counted, self._counted = self._counted, {}
        if not counted:
            return
        await self._opened()
        assert self._own is not None
        async with self._own.transaction("worker") as conn:
            for pair, of in counted.items():
                if of.taken or of.dropped:
                    await shadows.count(conn, pair, taken=of.taken, dropped=of.dropped)
                if of.again:
                    await shadows.asked_again(conn, pair, of.again)

    async def _prune(self, collection_id: int) -> None:
        if time.monotonic() - self._pruned > PRUNE_EVERY:
            self._pruned = time.monotonic()
            assert self._own is not None
            async with self._own.transaction("worker") as conn:
                await shadows.prune(conn, collection_id)


class NotObserved(Exception):
    """A model rests, or has no room for what nobody waits for."""


def _pair(route: Route, shadow: Shadow) -> Pair:
    assert route.serving is not None
    return Pair(route.collection_id, route.serving, shadow.candidate)
