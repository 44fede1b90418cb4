"""The worker: claims, works off, settles, until told to stop; other duties run beside it.

A duty is an async function that does one step and says whether anything moved: the projector and the
conductor are handed in, so that a long build never keeps an edit waiting.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from uuid import UUID, uuid4

from revec.model.errors import RevecError, Trouble, Unavailable
from revec.model.index import Index
from revec.observe import context, events, traces
from revec.observe.failpoints import failpoint
from revec.postgres import indexes
from revec.postgres.database import DATABASE_TROUBLE, Database, first_line, is_gone
from revec.providers.base import Provider, Traits
from revec.stores.base import Store
from revec.work import batches, calls, queue
from revec.work.calls import Caller
from revec.work.claimed import work_off
from revec.work.control import Control
from revec.work.memory import Memory, resident
from revec.work.pack import Worksite
from revec.work.packing import claim_size, limits
from revec.work.tally import Summary
from revec.work.vitals import Tempo

Duty = Callable[[], Awaitable[bool]]
Outstanding = Callable[[], Awaitable[list[str]]]
ProviderFor = Callable[[str, int], Awaitable[Provider]]

LONGEST_IDLE = 10.0  # times the first pause
LACK_PAUSE = 60.0  # seconds until this process asks again whether it has a model's package or key
BEAT_EVERY = 5.0
STUCK_AFTER = 120.0  # seconds without any change that end a drain
PERSONS = (Trouble.AUTH, Trouble.QUOTA)  # time does not mend them
DATABASE_PATIENCE = 60.0  # seconds without a database that end a drain
EXPRESS = -1  # a place beside the others, for what somebody waits for


@dataclass(frozen=True, slots=True)
class Pace:
    """How a worker goes about it."""

    claim: int | None = None  # documents; None: as many as fill a pack
    lease: float = 60.0  # seconds
    concurrency: int = 2  # claims at once
    idle: float = 0.1  # seconds to the next look when there was nothing to do
    spare: int = 0  # threads, for whoever else lives in this process


class Worker:
    def __init__(
        self,
        *,
        database: Database,
        store: Store,
        provider_for: ProviderFor,
        duties: Sequence[Duty],
        outstanding: Outstanding,
        pace: Pace,
        memory: Memory | None = None,
        control: Control | None = None,
        id: UUID | None = None,  # noqa: A002 - the column's name
    ) -> None:
        self.id = id or uuid4()
        self.summary = Summary()
        self._database = database
        self._store = store
        self._provider_for = provider_for
        self._duties = duties
        self._outstanding = outstanding
        self._pace = pace
        self.memory = memory or Memory(slots=pace.concurrency)
        self._mean_tokens: dict[int, float] = {}  # index → of a document in its last claim
        self._control = control or Control(database)
        self._tempo = Tempo()
        self._stopping = asyncio.Event()
        self._caller = Caller(database, self._stopping)
        self._lacking: dict[str, tuple[float, str]] = {}  # model → until when, and why it is not here
        self._last_tenant: dict[tuple[int, int], str] = {}
        self._lost_since: float | None = None
        self._looks = 0
        self._at_work = 0  # claims in hand
        self._farewells: list[Callable[[], Awaitable[None]]] = []

    def on_leave(self, farewell: Callable[[], Awaitable[None]]) -> None:
        """Something to be done once, when the work is over."""
        self._farewells.append(farewell)

    def stop(self) -> None:
        """Finish what is in hand, then leave."""
        self._stopping.set()

    async def run(self, *, drain: bool) -> Summary:
        """Work until stopped; with `drain`, until nothing can move without a person."""
        steps: list[Duty] = [*self._duties, self._control.look]
        steps += [partial(self._embed_step, place) for place in (EXPRESS, *range(self._pace.concurrency))]
        if drain:  # a person has just begun it, and may have mended what was broken
            async with self._database.transaction("worker") as conn:
                await calls.reset(conn, None)
                await batches.look_now(conn)
        # A thread's share of the address space is never given back: no more of them than are of use.
        threads = ThreadPoolExecutor(self._pace.concurrency + self._pace.spare, thread_name_prefix="revec")
        asyncio.get_running_loop().set_default_executor(threads)
        with context.of(worker=str(self.id)):
            async with asyncio.TaskGroup() as tasks:
                for step in steps:
                    tasks.create_task(self._repeat(step))
                tasks.create_task(self._heartbeat())
                if drain:
                    tasks.create_task(self._stop_when_drained())
        await self.leave()
        return self.summary

    async def _repeat(self, step: Duty) -> None:
        """Again and again; the longer nothing moves, the longer the pause."""
        pause = self._pace.idle
        while not self._stopping.is_set():
            try:
                moved = await step()
                self._lost_since = None
            except (*DATABASE_TROUBLE, MemoryError) as error:
                self._note(error)
                moved = False
            pause = self._pace.idle if moved else min(pause * 1.5, self._pace.idle * LONGEST_IDLE)
            if not moved:
                await self._pause(pause)

    async def _embed_step(self, place: int = 0) -> bool:
        """Claim from the most urgent lane that has anything for a model that is awake."""
        await self._control.look()
        async with self._database.transaction("worker") as conn:
            pairs = await queue.ready(conn)
            found = {index.id: index for index in await indexes.writing(conn)} if pairs else {}
        if place == EXPRESS:
            pairs = [(index_id, lane) for index_id, lane in pairs if lane != queue.BACKFILL]
        elif self._backfill_first(place):
            pairs.reverse()
        for index_id, lane in pairs:
            index = found.get(index_id)
            if not index or self._lacks(index) or not self._control.lets(index, lane, place):
                continue
            if lane == queue.BACKFILL and self._caller.is_early(index.space.address):
                continue
            began = time.monotonic()
            if await self._work_off(index, lane):
                self._control.worked(place, lane, time.monotonic() - began)
                return True
        return False

    def _backfill_first(self, place: int) -> bool:
        """Every second of us, and every second time where there is one: a trickle of edits, each as
        slow as a provider's answer, is never over, and a backfill behind it would never begin. And the
        other way round: the express place takes no backfill, so an edit waits for no pack of one.
        """
        self._looks += 1
        return place % 2 == 1 or (self._control.alone(self._pace.concurrency) and self._looks % 2 == 0)

    async def _work_off(self, index: Index, lane: int) -> bool:
        try:
            provider = await self._provider_for(index.space.address, index.space.dims)
            size = self._pace.claim or self._claim_size(index, await provider.traits())
        except RevecError as error:  # this worker lacks a package or a key; another may have them
            self._lacking[index.space.address] = (time.monotonic() + LACK_PAUSE, str(error))
            events.emit(events.ProviderFailed(index.space.address, str(error)))
            return False
        claim = await self._claim(index, lane, size)
        if not claim or not claim.jobs:
            return False
        failpoint("claim_committed")
        self._last_tenant[index.id, lane] = claim.last_tenant
        site = Worksite(
            self._database,
            self._store,
            provider,
            self._caller,
            index,
            self._pace.lease,
            self.memory,
        )
        self._at_work += 1
        try:
            await work_off(site, claim)
            self._mean_tokens[index.id] = site.mean_tokens or self._mean_tokens.get(index.id, 0)
        finally:
            self._at_work -= 1
            self.summary.add(site.done)
        return True

    async def _claim(self, index: Index, lane: int, size: int) -> queue.Claim | None:
        with traces.span("revec claim", index=index.name, lane=calls.LANES[lane]) as span:
            async with self._database.transaction("worker") as conn:
                claim = await self._control.claim(
                    conn,
                    index,
                    lane,
                    size=size,
                    lease=self._pace.lease,
                    after_tenant=self._last_tenant.get((index.id, lane), ""),
                    worker=self.id,
                )
            span.set_attribute("revec.documents", len(claim.jobs) if claim else 0)
        return claim

    def _claim_size(self, index: Index, traits: Traits) -> int:
        most = self.memory.bounded(limits(traits), index.space.dims)
        return claim_size(most, self._mean_tokens.get(index.id, 0))

    def _lacks(self, index: Index) -> bool:
        """Its model, for want of a package or a key; or its store, which failed a moment ago."""
        until, _ = self._lacking.get(index.space.address, (0.0, ""))
        return time.monotonic() < until or self._store.rests(index)

    async def _stop_when_drained(self) -> None:
        before: list[str] = []
        since = time.monotonic()
        while not self._stopping.is_set():
            try:
                left = await self._outstanding()
            except DATABASE_TROUBLE as error:
                self._note(error)
                left = [f"the database is gone: {first_line(error)}"]
                if time.monotonic() - (self._lost_since or since) > DATABASE_PATIENCE:
                    self.stop()
                    raise Unavailable(
                        f"the database is gone: {first_line(error)}. Nothing is lost: "
                        "run the same command again when it is back"
                    ) from error
            if not left:
                self.stop()
                return
            if left != before or self._control.holds_back:
                before, since = left, time.monotonic()
            quiet = time.monotonic() - since
            hopeless = await self._hopeless(quiet)
            if quiet > max(STUCK_AFTER, 2 * self._pace.lease) or hopeless:
                self.summary.stuck = [*hopeless, *left]
                self.stop()
            await self._pause(self._pace.idle)

    async def _hopeless(self, quiet: float) -> list[str]:
        """What every model that is waited for said last, where none of them will answer soon.

        Each had several chances, or named a long rest, or needs a person; the others have nothing to do.
        """
        first, longest = calls.REST
        if self._at_work or quiet < first * 8:
            return []
        async with self._database.transaction("worker") as conn:
            resting = await calls.resting(conn)
        hopeless = all(
            row.rest >= first * 8 or row.seconds > longest or row.trouble in PERSONS for row in resting
        )
        return [row.why for row in resting] + [why for _, why in self._lacking.values()] if hopeless else []

    async def _heartbeat(self) -> None:
        while not self._stopping.is_set():
            try:
                vitals = self._vitals()
                events.emit(self._beaten(vitals))
                async with self._database.transaction("worker") as conn:
                    await queue.beat(conn, vitals)
                    await queue.expire_payments(conn)
                    await calls.expire(conn)
            except (*DATABASE_TROUBLE, MemoryError) as error:
                self._note(error)
            await self._pause(BEAT_EVERY)

    def _vitals(self) -> queue.Beat:
        return queue.Beat(
            id=self.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            claims=self._at_work,
            per_second=self._tempo.per_second(self.summary.documents),
            rss_mb=resident() / 2**20,
            speed=self._control.brake.speed,
            braked_by=self._control.brake.why,
        )

    def _beaten(self, vitals: queue.Beat) -> events.Beaten:
        return events.Beaten(
            rss=round(vitals.rss_mb * 2**20),
            ceiling=self.memory.ceiling,
            claims=vitals.claims,
            per_second=vitals.per_second,
            speed=vitals.speed,
        )

    async def leave(self) -> None:
        """When every step is over: a conductor still at work would take its lease again."""
        try:
            async with self._database.transaction("worker") as conn:
                await queue.bye(conn, self.id)
            for farewell in self._farewells:
                await farewell()
        except DATABASE_TROUBLE:
            return  # the beat runs out by itself

    def _note(self, error: BaseException) -> None:
        if isinstance(error, MemoryError):
            events.emit(events.TryAgain("out of memory"))
        elif not is_gone(error):
            events.emit(events.TryAgain(first_line(error)))
        elif self._lost_since is None:
            self._lost_since = time.monotonic()
            events.emit(events.DatabaseLost(first_line(error)))

    async def _pause(self, seconds: float) -> None:
        """Sleep, unless told to stop meanwhile."""
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return
