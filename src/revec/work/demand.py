"""Documents that a search waits for, embedded at once: the searching process is a worker for these few.

They are claimed by their ids and go the way of every claim: limits, budgets, ledger, single flight, fence.
Whoever waits does so for a while; what is begun goes on behind it, and what is not is the workers', in the
lane of documents that somebody waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import psycopg

from revec.model.errors import RevecError
from revec.model.index import Index
from revec.observe import events
from revec.observe.failpoints import failpoint
from revec.postgres.arrays import BigInts
from revec.postgres.database import DATABASE_TROUBLE, Connection, Database, first_line
from revec.postgres.queries import beside
from revec.providers.base import Provider
from revec.stores.base import Store
from revec.work import allowance, queue
from revec.work.calls import Caller
from revec.work.claimed import work_off
from revec.work.memory import Memory
from revec.work.pack import Worksite
from revec.work.queue import Claim
from revec.work.worker import ProviderFor

SQL = beside(__file__)
AT_ONCE = 8  # claims in hand: a model that answers nobody does not fill the memory
PAUSES = (0.02, 0.2)  # seconds between looks at what others have in hand: the first, the longest
LOOKS_IN_VAIN = 2
FAREWELL = 2.0  # seconds that are left to what is in hand when the process leaves


class Unmet(Exception):
    """The documents are not there in time, or will not be for now; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Due:
    whose: dict[int, str]  # documents that belong into the index, in the order asked for, and their tenants
    obstacle: str | None  # what keeps others of them out until a person has looked


class Demand:
    """One for a process. `per_minute`: documents that a tenant's searches may have embedded."""

    def __init__(
        self,
        database: Database,
        store: Store,
        provider_for: ProviderFor,
        memory: Memory,
        *,
        lease: float,
        per_minute: int,
    ) -> None:
        self._database = database
        self._store = store
        self._provider_for = provider_for
        self._memory = memory
        self._lease = lease
        self._per_minute = per_minute
        self._leaving = asyncio.Event()
        self._caller = Caller(database, self._leaving)
        self._in_hand: set[asyncio.Task[None]] = set()
        self._next_write = asyncio.Lock()

    async def meet(
        self,
        index: Index,
        doc_ids: Sequence[int],
        tenant: str | None,
        until: float,
        *,
        lane: int = queue.JIT,
    ) -> list[int]:
        """Have the tenant's documents (None: anybody's) embedded, the most wanted first.

        Those of them that belong into the index: each is settled when this returns, written or left out.
        `until`: a moment of the loop's clock. `lane`: JIT of a search, within its tenant's allowance; LIVE of
        whoever has just written them: their work is there, it waits for room, and no document keeps
        another one of its batch out.

        Raises:
            Unmet: not by then; or a person, a limit or an allowance stands before it.
        """
        try:
            provider = await self._provider_for(index.space.address, index.space.dims)
        except RevecError as error:  # a key or a package is missing here; a worker has it
            raise Unmet(str(error)) from error
        task = None
        async with self._room(lane, until):
            due, claim, spared = await self._claimed(index, doc_ids, tenant, lane)
            if claim is not None and claim.jobs:
                failpoint("claim_committed")
                task = self._begun(index, provider, claim)
        if task is not None:
            await _wait(task, until)
        if spared:
            raise Unmet(f"{spared:,} documents are more than its tenant may have embedded in this minute")
        await self._until_settled(index, [*due.whose], until)
        _require_clear(due)
        return [*due.whose]

    @asynccontextmanager
    async def _room(self, lane: int, until: float) -> AsyncIterator[None]:
        """A write waits for it, one after the other; a search does not, it has the old index.

        Raises:
            Unmet: there was none by then.
        """
        if lane != queue.LIVE:
            yield
            return
        async with AsyncExitStack() as turn:
            try:
                async with asyncio.timeout_at(until):
                    await turn.enter_async_context(self._next_write)
                    while self._in_hand and not self._has_room():
                        await asyncio.wait(self._in_hand, return_when=asyncio.FIRST_COMPLETED)
            except TimeoutError as error:
                raise Unmet("so many others are being embedded that there was no room in time") from error
            yield

    async def _until_settled(self, index: Index, due: Sequence[int], until: float) -> None:
        """What was not ours to embed is in somebody's hands, or nobody will embed it now."""
        looks_in_vain = 0
        for pause in _pauses(until):
            async with self._database.transaction("worker") as conn:
                left, in_hand = await queue.waited_for(conn, index.id, due)
            if not left:
                return
            looks_in_vain += not in_hand  # a claim that is being made is not seen at once
            if looks_in_vain == LOOKS_IN_VAIN:
                raise Unmet(f"{left:,} documents that it needs cannot be embedded now")
            await asyncio.sleep(pause)
        raise Unmet("others embed the documents that it needs, and are not done")

    async def require_none(self, index: Index, doc_ids: Sequence[int], tenant: str | None) -> None:
        """
        Raises:
            Unmet: one of these documents belongs into the index.
        """
        if doc_ids:
            async with self._database.transaction("worker") as conn:
                due = await _due(conn, index, doc_ids, tenant)
                _require_clear(due)
                if due.whose:
                    raise Unmet("a document that it needs was changed meanwhile")

    async def close(self) -> None:
        """What has left is awaited for a moment; the rest is the workers'."""
        self._leaving.set()
        if self._in_hand:
            await asyncio.wait(self._in_hand, timeout=FAREWELL)
        for task in self._in_hand:
            task.cancel()
        await asyncio.gather(*self._in_hand, return_exceptions=True)

    async def _claimed(
        self, index: Index, doc_ids: Sequence[int], tenant: str | None, lane: int
    ) -> tuple[Due, Claim | None, int]:
        """The documents that belong into the index, the work that is ours now, how many had to be spared.

        Raises:
            Unmet: also where another search has the tenant's allowance, and does not let go of it.
        """
        try:
            async with self._database.transaction("worker") as conn:
                due = await _due(conn, index, doc_ids, tenant)
                if lane == queue.LIVE:
                    if self._leaving.is_set():
                        return due, None, 0
                    claim = await queue.claim_these(
                        conn, index.id, [*due.whose], lease=self._lease, lane=lane
                    )
                    return due, claim, 0
                _require_clear(due)
                if not self._has_room():
                    return due, None, 0  # nor is anything made urgent, which nobody would pay for
                allowed = await allowance.first(conn, index.id, due.whose, self._per_minute)
                await queue.enqueue(conn, index.id, allowed)
                claim = await queue.claim_these(conn, index.id, allowed, lease=self._lease)
                await allowance.take(conn, index.id, [job.tenant for job in claim.jobs])
        except psycopg.errors.LockNotAvailable as error:
            raise Unmet("others are about to have documents of its tenant embedded") from error
        return due, claim, len(due.whose) - len(allowed)

    def _has_room(self) -> bool:
        return len(self._in_hand) < AT_ONCE and not self._leaving.is_set()

    def _begun(self, index: Index, provider: Provider, claim: Claim) -> asyncio.Task[None]:
        task = asyncio.create_task(self._work_off(index, provider, claim))
        self._in_hand.add(task)
        task.add_done_callback(self._in_hand.discard)
        return task

    async def _work_off(self, index: Index, provider: Provider, claim: Claim) -> None:
        site = Worksite(self._database, self._store, provider, self._caller, index, self._lease, self._memory)
        try:
            await work_off(site, claim)
        except DATABASE_TROUBLE as error:  # the leases run out
            events.emit(events.TryAgain(first_line(error)))
        except asyncio.CancelledError:
            async with self._database.transaction("worker") as conn:
                await queue.release(conn, claim, blameless=True)
            raise


async def _due(conn: Connection, index: Index, doc_ids: Sequence[int], tenant: str | None) -> Due:
    asked = {"index": index.id, "ids": BigInts(doc_ids), "tenant": tenant}
    rows = {row.doc_id: row for row in await (await conn.execute(SQL.due, asked)).fetchall()}
    clear = [doc_id for doc_id in doc_ids if doc_id in rows and not rows[doc_id].obstacle]
    obstacle = next((row.obstacle for row in rows.values() if row.obstacle), None)
    return Due({doc_id: rows[doc_id].tenant for doc_id in clear}, obstacle)


def _require_clear(due: Due) -> None:
    """
    Raises:
        Unmet: one of them will not be there before a person has looked.
    """
    if due.obstacle:
        raise Unmet(f"a document that it needs is {due.obstacle}")


async def _wait(task: asyncio.Task[None], until: float) -> None:
    """Whoever waits leaves in time; the task goes on, because it is paid for."""
    done, _ = await asyncio.wait({task}, timeout=until - asyncio.get_running_loop().time())
    if not done:
        raise Unmet("the documents that it needs were not embedded in time")


def _pauses(until: float) -> Iterator[float]:
    """Longer and longer ones, until then."""
    pause, longest = PAUSES
    while asyncio.get_running_loop().time() + pause < until:
        yield pause
        pause = min(pause * 1.5, longest)
