"""The batch lane: the backfill of a patient migration, for half the price, within a day.

A batch is written down before anything is sent and carries our mark, so whoever finds it after a crash
goes on where it was. It pays for texts and writes no vectors: what it brings is kept as paid for, its
documents become due, and whoever claims them writes behind the same fence as ever.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from operator import attrgetter
from tempfile import TemporaryFile
from typing import Any
from uuid import UUID

import psycopg
from pgvector import HalfVector

from revec.model.errors import (
    AnswerInvalid,
    InputRefused,
    ProviderError,
    ProviderUnavailable,
    RevecError,
    Trouble,
)
from revec.model.index import Index
from revec.observe import events
from revec.observe.failpoints import failpoint
from revec.postgres import indexes, leases
from revec.postgres.database import Connection, Database, first_line
from revec.postgres.queries import beside
from revec.providers.base import Batches, Fate, Item, Progress, Provider
from revec.stores.base import Store, half
from revec.work import calls, gather, queue
from revec.work.calls import Report, came_of
from revec.work.gather import Gatherer, batches_of
from revec.work.memory import ANSWERED, Memory
from revec.work.queue import BACKFILL, Claim, Job

SQL = beside(__file__)
LEASE = "batches"
PAUSES = (5.0, 60.0)  # seconds between two looks at a batch: first, longest
LOOK_EVERY = 1.0  # seconds between two looks at what waits
WAIT = 60.0  # seconds after which a batch that is not full leaves
SURE = 120.0  # seconds after which what was submitted is in the provider's list
LOST = 48 * 3600.0  # seconds after which a batch that cannot be looked at is one no more
TRIES = 3  # batches that did not answer a text; then it is embedded as others are
PAGE = 256  # texts that are kept at once
SENT = frozenset({Trouble.SERVER, Trouble.TIMEOUT})  # it may have arrived all the same
ProviderFor = Callable[[str, int], Awaitable[Provider]]


class Batcher:
    """Submits and collects; of all processes one at a time, by a lease."""

    def __init__(
        self,
        *,
        database: Database,
        store: Store,
        provider_for: ProviderFor,
        memory: Memory,
        holder: UUID,
        lease: float,
    ) -> None:
        self._database = database
        self._provider_for = provider_for
        self._memory = memory
        self._holder = holder
        self._lease = lease
        self._gatherer = Gatherer(database, store, memory)
        self._quiet_until = 0.0
        self._not_before: dict[int, float] = {}  # index → when trying makes sense again

    async def tick(self) -> bool:
        """One look at every batch, and at what waits for one; whether anything moved."""
        if time.monotonic() < self._quiet_until:
            return False
        async with leases.held(self._database, LEASE, self._holder, self._lease) as mine:
            moved = mine and await self._step()
        self._quiet_until = 0.0 if moved else time.monotonic() + LOOK_EVERY
        return moved

    async def leave(self) -> None:
        async with self._database.transaction() as conn:
            await leases.give_back(conn, LEASE, self._holder)

    async def _step(self) -> bool:
        async with self._database.transaction("worker") as conn:
            due = await (await conn.execute(SQL.due)).fetchall()
            ripe = await (
                await conn.execute(SQL.ripe, {"full": gather.FULL, "wait": WAIT, "lane": gather.LANE})
            ).fetchall()
        moved = [await self._tried(batch.index_id, self._attend, batch) for batch in due]
        moved += [await self._tried(row.index_id, self._begin, row.migration_id) for row in ripe]
        return any(moved)

    async def _tried(self, index_id: int, step: Callable[..., Awaitable[bool]], what: Any) -> bool:
        """One index's trouble is its own, and makes it rest here for a moment."""
        if time.monotonic() < self._not_before.get(index_id, 0.0):
            return False
        async with self._database.transaction("worker") as conn:
            index = await indexes.by_id(conn, index_id)
        try:
            provider = await self._provider_for(index.space.address, index.space.dims)
            return await step(index, provider, batches_of(provider), what)
        except psycopg.errors.UniqueViolation as error:  # somebody else has the same documents in a batch
            events.emit(events.TryAgain(first_line(error)))
        except RevecError as error:  # also where this worker lacks a package or a key
            events.emit(events.ProviderFailed(index.space.address, str(error)))
        self._not_before[index_id] = time.monotonic() + PAUSES[0]
        return False

    # --- begin --------------------------------------------------------------------

    async def _begin(self, index: Index, provider: Provider, there: Batches, migration_id: int) -> bool:
        """Gather, write down, submit: in this order, so that nothing is sent of which nobody knows."""
        with TemporaryFile() as lines:
            batch, moved = await self._gatherer.gather(lines, index, provider, there, migration_id)
            if batch is None:
                if not moved:
                    self._not_before[index.id] = time.monotonic() + PAUSES[0]
                return moved
            failpoint("batch_intended")
            mark = str(batch.mark)
            try:
                file = await there.upload(mark, lines)
            except ProviderError as error:
                await self._drop(batch, error)
                raise
        failpoint("batch_uploaded")
        async with self._database.transaction("worker") as conn:
            row = await conn.execute(SQL.submitting, {"batch": batch.id, "file": file})
            batch = await row.fetchone()
        if batch is None:  # somebody thought that we were dead
            await there.discard([file])
            return False
        try:
            provider_id = await there.submit(mark, file)
        except ProviderError as error:
            if not (isinstance(error, ProviderUnavailable) and error.trouble in SENT):
                await self._drop(batch, error)
                await there.discard([file])
            raise  # else it may be there: it will be looked for
        failpoint("batch_submitted")
        await self._record(batch, provider_id)
        return True

    async def _record(self, batch: Any, provider_id: str) -> None:
        async with self._database.transaction("worker") as conn:
            await conn.execute(
                SQL.submitted, {"batch": batch.id, "provider_id": provider_id, "first": PAUSES[0]}
            )
            await Report("ok").write(conn, batch.call)  # the rest of the bill comes with the answers

    # --- look ---------------------------------------------------------------------

    async def _attend(self, index: Index, _: Provider, there: Batches, batch: Any) -> bool:
        if not batch.writing:
            return await self._give_up(there, batch)
        match batch.state:
            case "intended":  # whoever wrote it down sent nothing
                await self._drop(batch, None)
            case "submitting":
                return await self._look_for(there, batch)
            case "submitted":
                return await self._look_at(index, there, batch)
            case _:
                return await self._finish(index, batch)
        return True

    async def _look_for(self, there: Batches, batch: Any) -> bool:
        """Whoever submitted it could not write down its id."""
        found = await there.find(str(batch.mark), batch.intended_at)
        if found is not None:
            await self._record(batch, found)
        elif batch.age > SURE:
            await self._drop(batch, None)
            await there.discard([batch.file])
        else:
            await self._looked(batch)
            return False
        return True

    async def _look_at(self, index: Index, there: Batches, batch: Any) -> bool:
        """It stays due until all that it brings is kept: a drain leaves no batch half collected."""
        try:
            progress = await there.look(batch.provider_id)
            if progress.fate is Fate.RUNNING:
                await self._looked(batch, progress.answered)
                return False
            if progress.fate is Fate.FAILED:
                await self._drop(batch, progress.why)
            else:
                await self._collect(index, there, batch, progress)
        except ProviderError as error:
            await self._looked(batch)
            if batch.age > LOST:
                await self._drop(batch, error)
            raise
        await there.discard([batch.file, *progress.outputs])
        return True

    async def _give_up(self, there: Batches, batch: Any) -> bool:
        """Its index is gone. What was worked on is billed, so the ledger stays as it is."""
        if batch.state == "submitted":
            with suppress(ProviderError):  # perhaps it is over: whatever it says, nobody waits for it
                await there.cancel(batch.provider_id)
        if batch.file:
            await there.discard([batch.file])
        async with self._database.transaction("worker") as conn:
            await conn.execute(SQL.dropped, _dropped(batch, "its index was given up", blamed=False))
        return True

    async def _drop(self, batch: Any, error: ProviderError | None) -> None:
        """It never began: nothing is billed, and its documents wait for another one."""
        report = came_of(error) if error else Report("refused")
        report = Report(report.outcome, 0, retry_after=report.retry_after, why=report.why)
        blamed = isinstance(error, InputRefused)
        async with self._database.transaction("worker") as conn:
            why = str(error) if error else "nobody submitted it"
            dropped = await conn.execute(SQL.dropped, _dropped(batch, why, blamed=blamed))
            if await dropped.fetchone():
                await report.write(conn, batch.call)
        if error:
            events.emit(events.ProviderFailed(batch.model, str(error)))

    # --- collect ------------------------------------------------------------------

    async def _collect(self, index: Index, there: Batches, batch: Any, progress: Progress) -> None:
        """Keep every answer, a page at a time, then let the documents go. Done again, it is the same."""
        failpoint("batch_answered")
        page: dict[bytes, Item] = {}
        tokens: int | None = 0
        async with self._memory.admitted(PAGE * index.space.dims * ANSWERED):
            try:
                async for item in there.collect(progress):
                    if (text_hash := _hash(item.name)) is None:
                        continue
                    page[text_hash] = item
                    tokens = _sum(tokens, item)
                    if len(page) == PAGE:
                        await self._keep(index, batch, page)
                        page = {}
            except AnswerInvalid as error:
                await self._end(index, batch, str(error), None)
                async with self._database.transaction("worker") as conn:
                    await indexes.fault(conn, index.space, str(error))
                events.emit(events.IndexFaulted(index.name, str(error)))
                return
            await self._keep(index, batch, page)
        failpoint("batch_kept")
        why = None if progress.fate is Fate.DONE else f"it {progress.fate} at the provider"
        await self._end(index, batch, why, tokens)

    async def _keep(self, index: Index, batch: Any, page: Mapping[bytes, Item]) -> None:
        vectors = {text: each.vector for text, each in page.items() if each.vector is not None}
        refused = {text: str(each.refused) for text, each in page.items() if each.refused}
        asked = {"batch": batch.id, "space": index.space.id, "mark": batch.mark}
        async with self._database.transaction("worker") as conn:
            if vectors:
                rows = [HalfVector(half(vector)) for vector in vectors.values()]
                await conn.execute(SQL.keep, asked | {"hashes": list(vectors), "vectors": rows})
            if refused:
                causes = {"hashes": list(refused), "reasons": list(refused.values())}
                await conn.execute(SQL.refuse, asked | causes)

    async def _end(self, index: Index, batch: Any, why: str | None, tokens: int | None) -> None:
        """In one transaction: what came of every document, and of the money."""
        async with self._database.transaction("worker") as conn:
            ended = await conn.execute(SQL.collected, {"batch": batch.id, "why": why})
            if not await ended.fetchone():
                return
            await self._let_go(conn, index, batch)
            await Report("ok", tokens).write(conn, batch.call)
            failpoint("batch_collected")
            bill = await calls.bill(conn, batch.call)
        calls.told(
            *(bill.model, BACKFILL, Report("ok", bill.tokens)),
            inputs=bill.inputs,
            tokens=bill.tokens,
            price=bill.price,
            seconds=None,
        )

    async def _let_go(self, conn: Connection, index: Index, batch: Any) -> None:
        asked = {"batch": batch.id, "index": index.id}
        rows = await conn.execute(SQL.claim_refused, asked | {"mark": batch.mark}, binary=True)
        for row in sorted(await rows.fetchall(), key=attrgetter("doc_id")):  # who retries locks in this order
            job = Job(row.doc_id, row.rev, row.action, row.tenant, row.attempts)
            claim = Claim(index.id, BACKFILL, batch.mark, (job,))
            await queue.bury(conn, claim, job, row.input_hash, row.cause)
        await conn.execute(SQL.release, asked | {"tries": TRIES})

    async def _finish(self, index: Index, batch: Any) -> bool:
        """What a writer held when the batch ended is let go of now; in the end the notes go."""
        async with self._database.transaction("worker") as conn:
            await self._let_go(conn, index, batch)
            asked = {"batch": batch.id, "space": index.space.id, "mark": batch.mark}
            done = await (await conn.execute(SQL.finish, asked)).fetchone()
            if done is None:
                await _looked(conn, batch)
        return done is not None

    async def _looked(self, batch: Any, answered: int = 0) -> None:
        async with self._database.transaction("worker") as conn:
            await _looked(conn, batch, answered)


async def _looked(conn: Connection, batch: Any, answered: int = 0) -> None:
    first, longest = PAUSES
    asked = {"batch": batch.id, "answered": answered, "first": first, "longest": longest}
    await conn.execute(SQL.looked, asked)


async def look_now(conn: Connection) -> None:
    """Whoever begins a drain does not want to hear what was so a minute ago."""
    await conn.execute(SQL.look_now)


async def under_way(conn: Connection, index_ids: list[int]) -> list[Any]:
    """Batches that their provider has: index_id, model, documents, submitted_at, age (seconds), due."""
    return await (await conn.execute(SQL.under_way, {"indexes": index_ids})).fetchall()


async def unfinished(conn: Connection) -> list[str]:
    """Models of batches of which all is written, and that nobody has closed yet."""
    return [row.model for row in await (await conn.execute(SQL.unfinished)).fetchall()]


def told(batch: Any) -> str:
    """Of one that is under way."""
    since = batch.submitted_at.astimezone()
    return f"a batch of {batch.documents:,} documents is with {batch.model} since {since:%Y-%m-%d %H:%M}"


def _dropped(batch: Any, why: str, *, blamed: bool) -> dict[str, Any]:
    return {"batch": batch.id, "index": batch.index_id, "why": why, "blamed": blamed, "tries": TRIES}


def _sum(tokens: int | None, item: Item) -> int | None:
    """What is billed; None where the provider does not say it of a text that it answered."""
    if item.vector is not None and not item.tokens:
        return None
    return None if tokens is None else tokens + item.tokens


def _hash(name: str) -> bytes | None:
    try:
        return bytes.fromhex(name)
    except ValueError:
        return None
