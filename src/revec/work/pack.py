"""One claim, from texts to settled vectors: embed outside any transaction, write behind the fence.

The order of locks is document → vectors → work, in the order of ids. A vector is written only while
its document still has the content that was embedded; work is acknowledged only at the revision and
token that were claimed. Everything here may be killed anywhere and run again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

import psycopg

from revec.model.errors import InputRefused, ProviderError, StoreUnavailable
from revec.model.index import Index
from revec.observe import events
from revec.observe.failpoints import failpoint
from revec.postgres import documents
from revec.postgres.database import Connection, Database, first_line
from revec.postgres.documents import Measure
from revec.providers.base import Provider
from revec.stores.base import ChunkSet, Located, Store, Vector, half
from revec.work import calls, queue
from revec.work.calls import Caller
from revec.work.culprit import send_all
from revec.work.memory import Memory, MoreThanThereIs
from revec.work.packing import limits
from revec.work.queue import Claim
from revec.work.reading import Piece, Reader, costs_of, packs_of, too_long
from revec.work.tally import Done

BUSY_TRIES, BUSY_PAUSE = 3, 0.010  # a document locked by its writer: that is over in no time
ELSEWHERE_PAUSE = 0.5  # somebody else pays for the text: look again then
WRITE_LOCK_TIMEOUT = "2s"  # never wait longer for the table while documents are held
OUTAGE_PAUSE = 1.0  # the provider failed, or a store: another worker need not find out at once
ALONE_TRIES = 5  # with smaller packs each time
LOCKED_PAUSE = 1.0  # whoever locks the whole table is at it for longer
ROWS_OF_USERS = 16  # held at once: over a graph of 5,000 x 768 some 100 ms, on two busy cores
EMPTY = "empty text"
OUTAGE = (ProviderError, StoreUnavailable, MemoryError)
TOGETHER = psycopg.errors.UniqueViolation  # with another worker: our lease had run out, or its
LOCKED = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)


@dataclass(frozen=True, slots=True)
class Order:
    """What a batch of a claim still has to pay for."""

    claim: Claim
    payment: queue.Payment
    vectors: dict[bytes, Vector]  # of text hashes, as far as we have them
    unfinished: dict[int, Piece]  # by document


@dataclass(slots=True)
class Worksite:
    """Everything that working off one index's claims needs."""

    database: Database
    store: Store
    provider: Provider
    caller: Caller
    index: Index
    lease: float  # seconds
    memory: Memory = field(default_factory=Memory)
    done: Done = field(default_factory=Done)
    payment: queue.Payment | None = None  # what this claim may pay for
    mean_tokens: float = 0.0  # of a document

    async def work_off(self, claim: Claim) -> Done:
        """Bring the claimed documents' vectors up to date, as many at a time as memory allows.

        Raises:
            ProviderError, StoreUnavailable, MemoryError: the unfinished rest was given back; no document is
                to blame.
        """
        self.done = Done()
        async with self._kept(claim):
            left = {job.doc_id for job in claim.jobs}
            async with self.database.transaction("worker") as conn:
                sized = await documents.measured(conn, claim.to_embed)
            await self._remove(claim, left - sized.keys())
            costs, longest = costs_of(sized, self.index.space, self.memory)
            await self._bury(claim, longest)
            try:
                for ids in self.memory.batches(costs):
                    await self._work_off_some(claim, {doc_id: sized[doc_id] for doc_id in ids}, costs)
                    left -= ids
            except OUTAGE:
                await self._give_back(claim.only(left), OUTAGE_PAUSE)
                raise
        return self.done

    async def _work_off_some(self, claim: Claim, sized: dict[int, Measure], costs: dict[int, int]) -> None:
        """A document that alone takes more than the system gives has its tries, and no more."""
        try:
            async with self.memory.admitted(sum(costs[doc_id] for doc_id in sized)):
                pieces = await self._read(claim, sized)
                await self._embed_and_write(claim, pieces)
        except MoreThanThereIs:
            job, *more = claim.only(sized).jobs
            if not more and job.attempts >= ALONE_TRIES:
                await self._bury(claim, sized)
                return
            await self._give_back(claim.only(sized), OUTAGE_PAUSE, blameless=bool(more))
            raise

    async def _bury(self, claim: Claim, longest: dict[int, Measure]) -> None:
        """A text that would take the worker's memory is a dead letter without being read."""
        for job in claim.jobs:
            if measure := longest.get(job.doc_id):
                async with self.database.transaction("worker") as conn:
                    why = too_long(measure, self.memory)
                    self.done.buried += await queue.bury(conn, claim, job, measure.input_hash, why)

    async def _remove(self, claim: Claim, gone: set[int]) -> None:
        """Vectors of documents that are gone. Ids are never used twice, so gone is gone.

        Usually their work says so; a backfill that looked before the delete may have asked to embed.
        """
        if not gone:
            return
        async with self.database.transaction("worker") as conn:
            await self.store.remove(conn, self.index, sorted(gone))
            await queue.absolve(conn, claim.index_id, sorted(gone), gone=True)
            self.done.removed = await queue.settle(conn, claim.only(gone))

    async def _read(self, claim: Claim, sized: dict[int, Measure]) -> list[Piece]:
        """The measured documents' texts; one that changed since has other work by now."""
        most = (await self.provider.traits()).max_tokens
        async with self.database.transaction("worker") as conn:
            contents = await documents.contents(conn, sized)
        self.done.superseded += len(sized) - len(contents)
        reader = Reader(self.index.space, self.provider.count, most)
        pieces = await asyncio.to_thread(reader.pieces, claim, contents)  # meanwhile leases are renewed
        self.mean_tokens = sum(piece.tokens for piece in pieces) / max(1, len(pieces))
        return pieces

    async def _embed_and_write(self, claim: Claim, pieces: list[Piece]) -> None:
        vectors, payment = await self._known(claim, pieces)
        self.payment = payment
        failpoint("paid_leased")

        ours = payment.mine | vectors.keys()
        elsewhere = [piece for piece in pieces if piece.lacks(ours)]
        if elsewhere:
            pieces = [piece for piece in pieces if not piece.lacks(ours)]
            await self._let_go(elsewhere, pieces, vectors, payment)
            await self._give_back(claim.only({piece.job.doc_id for piece in elsewhere}), ELSEWHERE_PAUSE)
        ready = [piece for piece in pieces if not piece.lacks(vectors)]
        await self._write(claim, ready, vectors, payment.token)
        self.done.copied += len([piece for piece in ready if piece.texts])

        unfinished = {piece.job.doc_id: piece for piece in pieces if piece.lacks(vectors)}
        order = Order(claim, payment, vectors, unfinished)
        async with self.database.transaction("worker") as conn:
            largest = await calls.largest_pack(conn, self.provider.name)
        most = self.memory.bounded(limits(await self.provider.traits(), largest), self.index.space.dims)
        try:
            for pack in packs_of(list(unfinished.values()), vectors, most):
                wanted = [part for part in pack if part.job.doc_id in unfinished]
                await send_all(wanted, partial(self._embed, order), partial(self._refused, order))
        except OUTAGE:
            await self._let_go([*unfinished.values()], (), vectors, payment)
            await self._stop_paying(vectors, payment)
            raise

    async def _let_go(
        self,
        gone: Sequence[Piece],
        still: Iterable[Piece],
        vectors: dict[bytes, Vector],
        payment: queue.Payment,
    ) -> None:
        """Of documents in several chunks that end unfinished: what is paid for is kept, and nobody waits
        for the rest, unless the others here need it.
        """
        needed = {text_hash for piece in still for text_hash in piece.hashes}
        hashes = {text_hash for piece in gone if len(piece.texts) > 1 for text_hash in piece.hashes} - needed
        if not hashes:
            return
        kept = {text_hash: vectors[text_hash] for text_hash in hashes & vectors.keys()}
        async with self.database.transaction("worker") as conn:
            space = self.index.space.id
            await queue.close_payment(conn, space, payment.token, sorted(hashes - kept.keys()), kept)
        payment.mine.difference_update(hashes)

    async def _known(self, claim: Claim, pieces: list[Piece]) -> tuple[dict[bytes, Vector], queue.Payment]:
        """The vectors that somebody paid for already, and the right to pay for the others.

        Looked for once more when the right is ours: who had it before may have written in between.
        """
        space = self.index.space
        wanted = sorted({text_hash for piece in pieces for text_hash in piece.hashes})
        vectors = await self._copied(claim, wanted)
        async with self.database.transaction("worker") as conn:
            vectors |= await self.store.known(conn, space, [each for each in wanted if each not in vectors])
            missing = [text_hash for text_hash in wanted if text_hash not in vectors]
            payment = await queue.lease_payment(conn, space.id, missing, self.lease, worker=claim.token)
            written = await self.store.known(conn, space, sorted(payment.mine))
            await queue.close_payment(conn, space.id, payment.token, sorted(written), {})
            late = await self.store.located(conn, space, sorted(payment.mine - written.keys()))
        if late:
            written |= await self._late(late, payment)
        payment.mine.difference_update(written)
        vectors.update(payment.vectors | written)
        return vectors, payment

    async def _copied(self, claim: Claim, wanted: list[bytes]) -> dict[bytes, Vector]:
        """What other stores hold of these texts, as far as this database does not.

        Raises:
            StoreUnavailable: one of them is away, and nobody waits for these documents: better late than
                paid for again.
        """
        async with self.database.transaction("worker") as conn:
            located = await self.store.located(conn, self.index.space, wanted)
            if not located:
                return {}
            here = await self.store.known(conn, self.index.space, sorted(located))
        try:
            return here | await self.store.fetched(
                {text_hash: at for text_hash, at in located.items() if text_hash not in here}
            )
        except StoreUnavailable:
            if claim.lane == queue.BACKFILL:
                raise
            return here

    async def _late(self, located: Located, payment: queue.Payment) -> dict[bytes, Vector]:
        """What was written elsewhere before the right to pay was ours, if it can be had."""
        try:
            written = await self.store.fetched(located)
        except StoreUnavailable:
            return {}
        async with self.database.transaction("worker") as conn:
            await queue.close_payment(conn, self.index.space.id, payment.token, sorted(written), {})
        return written

    async def _embed(self, order: Order, parts: list[Piece]) -> None:
        """Pay for the missing texts of these parts, and write the documents that are whole then.

        Raises:
            InputRefused: one of the texts is to blame.
        """
        texts: dict[bytes, str] = {}
        tenants: Counter[str] = Counter()
        for part in parts:
            for hashed, text, load in zip(part.hashes, part.texts, part.loads, strict=True):
                if hashed in order.payment.mine and hashed not in order.vectors and hashed not in texts:
                    texts[hashed] = text
                    tenants[part.content.tenant] += load.tokens
        if texts:
            answer = await self.caller.embed(
                self.provider,
                list(texts.values()),
                index_id=self.index.id,
                lane=order.claim.lane,
                tenants=tenants,
            )
            # Half the memory, and what the store will keep of them.
            order.vectors.update(zip(texts, half(answer.matrix), strict=True))
            self.done.embedded += len(texts)
            self.done.tokens += answer.tokens or 0
        asked = {part.job.doc_id for part in parts} & order.unfinished.keys()
        paid = [piece for doc_id in asked if not (piece := order.unfinished[doc_id]).lacks(order.vectors)]
        await self._write(order.claim, paid, order.vectors, order.payment.token)
        for piece in paid:
            del order.unfinished[piece.job.doc_id]

    async def _refused(self, order: Order, part: Piece, error: InputRefused) -> None:
        """Its document becomes a dead letter; what was paid for of it is kept."""
        if not part.lacks(order.vectors):
            return  # what it shares with another document was answered there
        piece = order.unfinished.pop(part.job.doc_id)
        async with self.database.transaction("worker") as conn:
            if await queue.bury(conn, order.claim, piece.job, piece.content.input_hash, str(error)):
                self.done.buried += 1
            space, token = self.index.space.id, order.payment.token
            await queue.close_payment(conn, space, token, part.hashes, {})
        await self._let_go([piece], order.unfinished.values(), order.vectors, order.payment)

    async def _write(
        self, claim: Claim, pieces: list[Piece], vectors: dict[bytes, Vector], payment: UUID
    ) -> None:
        """As many as one transaction may hold: where the rows are a user's, his own writes wait for them."""
        most = len(pieces) if self.index.column is None else ROWS_OF_USERS
        for start in range(0, len(pieces), max(1, most)):
            await self._write_some(claim, pieces[start : start + most], vectors, payment)

    async def _write_some(
        self, claim: Claim, pieces: list[Piece], vectors: dict[bytes, Vector], payment: UUID
    ) -> None:
        """Behind the fence: only documents that still have this content, only work still ours."""
        left = sorted(pieces, key=lambda piece: piece.job.doc_id)
        sets = await self._staged(left, vectors, payment)
        delay = 0.0
        for attempt in range(BUSY_TRIES + 1):
            if not left:
                return
            if attempt:
                await asyncio.sleep(BUSY_PAUSE)
            try:
                left = await self._write_once(claim, left, sets, vectors, payment)
            except TOGETHER:
                continue
            except StoreUnavailable:
                await self._drop(left, sets, vectors, payment)
                raise
            except LOCKED as error:
                events.emit(events.TryAgain(first_line(error)))
                delay = LOCKED_PAUSE
                break
        if not left:
            return
        await self._drop(left, sets, vectors, payment)
        await self._give_back(claim.only({piece.job.doc_id for piece in left}), delay)

    async def _staged(
        self, pieces: list[Piece], vectors: dict[bytes, Vector], payment: UUID
    ) -> dict[int, ChunkSet]:
        """What the store wants to have before the transaction, by document.

        Raises:
            StoreUnavailable: it cannot have it now; what was paid for is kept.
        """
        try:
            staged = await self.store.stage(self.index, [piece.chunk_set(vectors) for piece in pieces])
        except StoreUnavailable:
            await self._keep(pieces, vectors, payment)
            raise
        return {each.doc_id: each for each in staged}

    async def _drop(
        self, pieces: list[Piece], sets: dict[int, ChunkSet], vectors: dict[bytes, Vector], payment: UUID
    ) -> None:
        """Staged, paid for, and not written by us."""
        if pieces:
            await self.store.abandon(self.index, [sets[piece.job.doc_id] for piece in pieces])
            await self._keep(pieces, vectors, payment)

    async def _write_once(
        self,
        claim: Claim,
        pieces: list[Piece],
        sets: dict[int, ChunkSet],
        vectors: dict[bytes, Vector],
        payment: UUID,
    ) -> list[Piece]:
        """Write what can be written; the pieces whose documents were busy come back."""
        ids = [piece.job.doc_id for piece in pieces]
        async with self.database.transaction("worker") as conn:
            async with conn.pipeline():  # two round trips: the fence, and all that it lets through
                await conn.execute("SELECT set_config('lock_timeout', %s, true)", (WRITE_LOCK_TIMEOUT,))
                live = await documents.lock_current(conn, ids, [piece.content.input_hash for piece in pieces])
                fitting = [piece for piece in pieces if piece.job.doc_id in live]
                stored = await self._store(conn, fitting, sets)
                held = [piece for piece in fitting if piece.job.doc_id in stored]
                failpoint("vectors_written")
                await queue.settle(conn, claim.only(stored))
                hashes = [text_hash for piece in held for text_hash in piece.hashes]
                await queue.close_payment(conn, self.index.space.id, payment, hashes, {})
            failpoint("before_commit")
            missed = [piece for piece in pieces if piece.job.doc_id not in live]
            busy = await self._still_current(conn, missed)
        failpoint("after_commit")
        behind = live - stored  # the user's row: the projector brings it
        if behind:
            await self._give_back(claim.only(behind), LOCKED_PAUSE)
        superseded = [piece for piece in pieces if piece.job.doc_id not in stored and piece not in busy]
        await self._drop(superseded, sets, vectors, payment)
        self.done.superseded += len(superseded)
        self.done.excluded += sum(not piece.texts for piece in held)
        self.done.written += sum(bool(piece.texts) for piece in held)
        self.done.chunked += sum(len(piece.texts) > 1 for piece in held)
        self.done.truncated += sum(piece.truncated for piece in held)
        return busy

    async def _store(self, conn: Connection, pieces: list[Piece], sets: dict[int, ChunkSet]) -> set[int]:
        """The documents that are done with."""
        if not pieces:
            return set()
        stored = await self.store.replace(conn, self.index, [sets[piece.job.doc_id] for piece in pieces])
        await queue.absolve(conn, self.index.id, sorted(stored))
        empty = {p.job.doc_id: (p.content.input_hash, EMPTY) for p in pieces if not p.texts}
        await queue.exclude(conn, self.index.id, empty)
        return stored

    async def _still_current(self, conn: Connection, pieces: list[Piece]) -> list[Piece]:
        if not pieces:
            return []
        now = await documents.measured(conn, [piece.job.doc_id for piece in pieces])
        return [
            piece
            for piece in pieces
            if (current := now.get(piece.job.doc_id)) and current.input_hash == piece.content.input_hash
        ]

    async def _keep(self, pieces: list[Piece], vectors: dict[bytes, Vector], payment: UUID) -> None:
        """Paid for but not written: whoever needs the text next finds its vector."""
        if pieces:
            kept = {text_hash: vectors[text_hash] for p in pieces for text_hash in p.hashes}
            async with self.database.transaction("worker") as conn:
                await queue.close_payment(conn, self.index.space.id, payment, [], kept)

    async def _give_back(self, claim: Claim, delay: float, *, blameless: bool = True) -> None:
        async with self.database.transaction("worker") as conn:
            await queue.release(conn, claim, delay=delay, blameless=blameless)

    async def _stop_paying(self, vectors: dict[bytes, Vector], payment: queue.Payment) -> None:
        """The provider failed, or there is no room: nobody waits for our payment. What it answered before
        is written by now, and the chunks of what is not whole are kept.
        """
        unpaid = sorted(payment.mine - vectors.keys())
        async with self.database.transaction("worker") as conn:
            await queue.close_payment(conn, self.index.space.id, payment.token, unpaid, {})

    @asynccontextmanager
    async def _kept(self, claim: Claim) -> AsyncIterator[None]:
        """Renew the leases for as long as we are at it."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(self.lease / 3)
                try:
                    async with self.database.transaction("worker") as conn:
                        await queue.extend(conn, claim, self.lease)
                        if self.payment:
                            space = self.index.space.id
                            await queue.extend_payment(conn, space, self.payment, self.lease)
                except psycopg.OperationalError:
                    continue  # the write will meet the same database, and say so

        renewal = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewal.cancel()
