"""One claim, from texts to settled vectors: embed outside any transaction, write behind the fence.

The order of locks is document → vectors → work, in the order of ids. A vector is written only while
its document still has the content that was embedded; work is acknowledged only at the revision and
token that were claimed. Everything here may be killed anywhere and run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg

from revec.model.document import Content, rendered, text_hash
from revec.model.errors import InputRefused, ProviderError
from revec.model.index import Index
from revec.observe import events
from revec.observe.failpoints import failpoint
from revec.postgres import documents
from revec.postgres.database import Connection, Database, first_line
from revec.providers.base import Provider, TextInput
from revec.stores.base import ChunkSet, Store, Vector
from revec.work import queue
from revec.work.queue import Claim, Job

PACK_INPUTS = 256
PACK_TOKENS = 16_000  # a slow local model still reports back every few seconds
BUSY_TRIES, BUSY_PAUSE = 3, 0.010  # a document locked by its writer: that is over in no time
ELSEWHERE_PAUSE = 0.5  # somebody else pays for the text: look again then
WRITE_LOCK_TIMEOUT = "2s"  # never wait longer for the table while documents are held
OUTAGE_PAUSE = 1.0  # the provider failed: another worker need not find out at once
LOCKED_PAUSE = 1.0  # whoever locks the whole table is at it for longer
EMPTY = "empty text"
TOGETHER = psycopg.errors.UniqueViolation  # with another worker: our lease had run out, or its
LOCKED = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)


@dataclass(frozen=True, slots=True)
class Piece:
    """A claimed document and the texts that the space makes of it."""

    job: Job
    content: Content
    texts: list[str]
    hashes: list[bytes]


@dataclass(slots=True)
class Done:
    """What became of a claim."""

    written: int = 0
    copied: int = 0  # of those, without paying
    removed: int = 0
    excluded: int = 0
    buried: int = 0
    superseded: int = 0
    embedded: int = 0  # texts sent to the model
    tokens: int = 0


@dataclass(slots=True)
class Worksite:
    """Everything that working off one index's claims needs."""

    database: Database
    store: Store
    provider: Provider
    index: Index
    lease: float  # seconds
    done: Done = field(default_factory=Done)
    payment: queue.Payment | None = None  # what this claim may pay for

    async def work_off(self, claim: Claim) -> Done:
        """Bring the claimed documents' vectors up to date.

        Raises:
            ProviderError: the unfinished rest was given back; no document is to blame.
        """
        self.done = Done()
        async with self._kept(claim):
            pieces = await self._read(claim)
            await self._remove(claim, pieces)
            await self._embed_and_write(claim, pieces)
        return self.done

    async def _remove(self, claim: Claim, pieces: list[Piece]) -> None:
        """Vectors of documents that are gone. Ids are never used twice, so gone is gone.

        Usually their work says so; a backfill that looked before the delete may have asked to embed.
        """
        gone = sorted({job.doc_id for job in claim.jobs} - {piece.job.doc_id for piece in pieces})
        if not gone:
            return
        async with self.database.transaction("worker") as conn:
            await self.store.remove(conn, self.index, gone)
            await queue.absolve(conn, claim.index_id, gone)
            self.done.removed = await queue.settle(conn, claim.only(set(gone)))

    async def _read(self, claim: Claim) -> list[Piece]:
        jobs = {job.doc_id: job for job in claim.jobs if job.action == "embed"}
        if not jobs:
            return []
        async with self.database.transaction("worker") as conn:
            contents = await documents.contents(conn, list(jobs))
        pieces = []
        for doc_id, content in sorted(contents.items()):
            texts = rendered(self.index.space, content.title, content.body)
            pieces.append(Piece(jobs[doc_id], content, texts, [text_hash(text) for text in texts]))
        return pieces

    async def _embed_and_write(self, claim: Claim, pieces: list[Piece]) -> None:
        vectors, payment = await self._known(pieces)
        self.payment = payment
        failpoint("paid_leased")

        ours = payment.mine | vectors.keys()
        elsewhere = {p.job.doc_id for p in pieces if not ours.issuperset(p.hashes)}
        if elsewhere:
            await self._give_back(claim.only(elsewhere), ELSEWHERE_PAUSE)
        pieces = [piece for piece in pieces if piece.job.doc_id not in elsewhere]
        ready = [piece for piece in pieces if vectors.keys() >= set(piece.hashes)]
        await self._write(claim, ready, vectors, payment.token)
        self.done.copied = len([piece for piece in ready if piece.texts])

        unfinished = [piece for piece in pieces if not vectors.keys() >= set(piece.hashes)]
        for pack in packed(unfinished, self.provider):
            try:
                await self._embed(claim, pack, payment, vectors)
            except ProviderError:
                await self._give_up(claim, unfinished, vectors, payment)
                raise
            paid = [piece for piece in pack if vectors.keys() >= set(piece.hashes)]
            await self._write(claim, paid, vectors, payment.token)
            unfinished = [piece for piece in unfinished if piece not in pack]

    async def _known(self, pieces: list[Piece]) -> tuple[dict[bytes, Vector], queue.Payment]:
        """The vectors that somebody paid for already, and the right to pay for the others.

        Looked for once more when the right is ours: who had it before may have written in between.
        """
        space = self.index.space
        wanted = sorted({text_hash for piece in pieces for text_hash in piece.hashes})
        async with self.database.transaction("worker") as conn:
            vectors = await self.store.known(conn, space, wanted)
            missing = [text_hash for text_hash in wanted if text_hash not in vectors]
            payment = await queue.lease_payment(conn, space.id, missing, self.lease)
            written = await self.store.known(conn, space, sorted(payment.mine))
            await queue.close_payment(conn, space.id, payment.token, sorted(written), {})
        payment.mine.difference_update(written)
        vectors.update(payment.vectors | written)
        return vectors, payment

    async def _embed(
        self, claim: Claim, pack: list[Piece], payment: queue.Payment, vectors: dict[bytes, Vector]
    ) -> None:
        """Pay for the pack's missing texts; what the provider refuses is bisected to the document."""
        texts = {
            text_hash: text
            for piece in pack
            for text_hash, text in zip(piece.hashes, piece.texts, strict=True)
            if text_hash not in vectors and text_hash in payment.mine
        }
        if not texts:
            return
        try:
            failpoint("before_send")
            answer = await self.provider.embed([TextInput(text) for text in texts.values()])
            failpoint("after_response")
        except InputRefused as error:
            await self._bisect(claim, pack, payment, vectors, error)
            return
        vectors.update(zip(texts, answer.matrix, strict=True))
        self.done.embedded += len(texts)
        self.done.tokens += answer.tokens or 0

    async def _bisect(
        self,
        claim: Claim,
        pack: list[Piece],
        payment: queue.Payment,
        vectors: dict[bytes, Vector],
        error: InputRefused,
    ) -> None:
        if len(pack) > 1:
            half = len(pack) // 2
            await self._embed(claim, pack[:half], payment, vectors)
            await self._embed(claim, pack[half:], payment, vectors)
            return
        (piece,) = pack
        async with self.database.transaction("worker") as conn:
            if await queue.bury(conn, claim, piece.job, piece.content.input_hash, str(error)):
                self.done.buried += 1
            await queue.close_payment(conn, self.index.space.id, payment.token, piece.hashes, {})

    async def _write(
        self, claim: Claim, pieces: list[Piece], vectors: dict[bytes, Vector], payment: UUID
    ) -> None:
        """Behind the fence: only documents that still have this content, only work still ours."""
        left = sorted(pieces, key=lambda piece: piece.job.doc_id)
        delay = 0.0
        for attempt in range(BUSY_TRIES + 1):
            if not left:
                return
            if attempt:
                await asyncio.sleep(BUSY_PAUSE)
            try:
                left = await self._write_once(claim, left, vectors, payment)
            except TOGETHER:
                continue
            except LOCKED as error:
                events.emit(events.TryAgain(first_line(error)))
                delay = LOCKED_PAUSE
                break
        if not left:
            return
        await self._keep(left, vectors, payment)
        await self._give_back(claim.only({piece.job.doc_id for piece in left}), delay)

    async def _write_once(
        self, claim: Claim, pieces: list[Piece], vectors: dict[bytes, Vector], payment: UUID
    ) -> list[Piece]:
        """Write what can be written; the pieces whose documents were busy come back."""
        ids = [piece.job.doc_id for piece in pieces]
        async with self.database.transaction("worker") as conn:
            async with conn.pipeline():  # two round trips: the fence, and all that it lets through
                await conn.execute("SELECT set_config('lock_timeout', %s, true)", (WRITE_LOCK_TIMEOUT,))
                live = await documents.lock_current(conn, ids, [piece.content.input_hash for piece in pieces])
                held = [piece for piece in pieces if piece.job.doc_id in live]
                await self._store(conn, held, vectors)
                failpoint("vectors_written")
                await queue.settle(conn, claim.only(live))
                hashes = [text_hash for piece in held for text_hash in piece.hashes]
                await queue.close_payment(conn, self.index.space.id, payment, hashes, {})
            failpoint("before_commit")
            missed = [piece for piece in pieces if piece.job.doc_id not in live]
            busy = await self._still_current(conn, missed)
        failpoint("after_commit")
        superseded = [piece for piece in missed if piece not in busy]
        await self._keep(superseded, vectors, payment)
        self.done.superseded += len(superseded)
        self.done.excluded += sum(not piece.texts for piece in held)
        self.done.written += sum(bool(piece.texts) for piece in held)
        return busy

    async def _store(self, conn: Connection, pieces: list[Piece], vectors: dict[bytes, Vector]) -> None:
        if not pieces:
            return
        sets = [chunk_set(piece, vectors) for piece in pieces]
        await self.store.replace(conn, self.index, sets)
        await queue.absolve(conn, self.index.id, [piece.job.doc_id for piece in pieces])
        empty = {p.job.doc_id: (p.content.input_hash, EMPTY) for p in pieces if not p.texts}
        await queue.exclude(conn, self.index.id, empty)

    async def _still_current(self, conn: Connection, pieces: list[Piece]) -> list[Piece]:
        if not pieces:
            return []
        now = await documents.contents(conn, [piece.job.doc_id for piece in pieces])
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

    async def _give_back(self, claim: Claim, delay: float) -> None:
        async with self.database.transaction("worker") as conn:
            await queue.release(conn, claim, delay=delay, blameless=True)

    async def _give_up(
        self,
        claim: Claim,
        left: list[Piece],
        vectors: dict[bytes, Vector],
        payment: queue.Payment,
    ) -> None:
        """The provider failed: nobody's attempt is burnt, nobody waits for our payment.

        What was paid for before it failed is kept.
        """
        await self._keep(
            [piece for piece in left if vectors.keys() >= set(piece.hashes)], vectors, payment.token
        )
        unpaid = sorted(payment.mine - vectors.keys())
        async with self.database.transaction("worker") as conn:
            await queue.close_payment(conn, self.index.space.id, payment.token, unpaid, {})
            left_ids = {piece.job.doc_id for piece in left}
            await queue.release(conn, claim.only(left_ids), delay=OUTAGE_PAUSE, blameless=True)

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


def chunk_set(piece: Piece, vectors: dict[bytes, Vector]) -> ChunkSet:
    return ChunkSet(
        doc_id=piece.job.doc_id,
        tenant=piece.content.tenant,
        input_hash=piece.content.input_hash,
        text_hashes=piece.hashes,
        vectors=[vectors[text_hash] for text_hash in piece.hashes],
    )


def packed(pieces: Sequence[Piece], provider: Provider) -> Iterator[list[Piece]]:
    """Whole documents of like length together, to the pack's limits in inputs and tokens."""
    sized: list[tuple[int, Any]] = sorted(
        ((sum(provider.count(piece.texts)), piece) for piece in pieces),
        key=lambda pair: pair[0],
    )
    pack: list[Piece] = []
    inputs = tokens = 0
    for size, piece in sized:
        full = inputs + len(piece.texts) > PACK_INPUTS or tokens + size > PACK_TOKENS
        if pack and full:
            yield pack
            pack, inputs, tokens = [], 0, 0
        pack.append(piece)
        inputs += len(piece.texts)
        tokens += size
    if pack:
        yield pack
