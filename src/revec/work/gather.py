"""What goes into a batch: texts that nobody paid for yet, gathered in a file and written down."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import IO, Any
from uuid import UUID, uuid4

from revec.model.errors import BadInput, ProviderError
from revec.model.index import Index
from revec.observe import events
from revec.postgres import documents
from revec.postgres.database import Connection, Database
from revec.postgres.documents import Measure
from revec.postgres.queries import beside
from revec.providers.base import Batches, Provider, TakesBatches
from revec.stores.base import Store
from revec.work.calls import Ask
from revec.work.memory import Memory
from revec.work.prices import price
from revec.work.queue import BACKFILL, Claim, Job
from revec.work.reading import Piece, Reader, costs_of

SQL = beside(__file__)
FULL = 50_000  # documents, and texts, of a batch
LANE = "+batch"  # a model's batches have limits, rests and a line in the ledger of their own
DISCOUNT = Decimal("0.5")


@dataclass(frozen=True, slots=True)
class Member:
    """A document in a batch, without its text: that is in the file by now."""

    job: Job
    input_hash: bytes
    lacking: list[bytes]  # hashes of the texts that it waits for


@dataclass(slots=True)
class Load:
    """A batch that is being gathered."""

    lines: IO[bytes]
    there: Batches
    mark: UUID = field(default_factory=uuid4)
    texts: set[bytes] = field(default_factory=set)
    tokens: Counter[str] = field(default_factory=Counter)  # by tenant
    members: list[Member] = field(default_factory=list)
    full: bool = False

    def add(self, piece: Piece, lacking: set[bytes]) -> bool:
        """Whether the document's texts went in; a full batch takes no more."""
        wanted = {
            text_hash: (self.there.line(text_hash.hex(), text), load.tokens)
            for text_hash, text, load in zip(piece.hashes, piece.texts, piece.loads, strict=True)
            if text_hash in lacking - self.texts
        }
        if not self._has_room(list(wanted.values())):
            self.full = True
            return False
        for line, tokens in wanted.values():
            self.lines.write(line)
            self.tokens[piece.content.tenant] += tokens
        self.texts |= wanted.keys()
        self.members.append(Member(piece.job, piece.content.input_hash, sorted(lacking)))
        return True

    def _has_room(self, wanted: list[tuple[bytes, int]]) -> bool:
        """For these lines and tokens."""
        return (
            len(self.texts) + len(wanted) <= min(FULL, self.there.max_inputs)
            and self.lines.tell() + sum(len(line) for line, _ in wanted) <= self.there.max_bytes
            and self.tokens.total() + sum(tokens for _, tokens in wanted) <= self.there.max_tokens
        )


@dataclass(frozen=True, slots=True)
class Gatherer:
    database: Database
    store: Store
    memory: Memory

    async def gather(
        self, lines: IO[bytes], index: Index, provider: Provider, there: Batches, migration_id: int
    ) -> tuple[Any, bool]:
        """A batch that is written down, its texts in `lines`; and whether anything moved.

        None where nothing is to be sent, or a budget does not pay for it.
        """
        load = Load(lines, there)
        async with self.database.transaction("worker") as conn:
            rows = await conn.execute(SQL.waiting, {"index": index.id, "full": FULL})
            claim = Claim(index.id, BACKFILL, load.mark, tuple(Job(*row) for row in await rows.fetchall()))
            sized = await documents.measured(conn, claim.to_embed)
        costs, _ = costs_of(sized, index.space, self.memory)
        spare = {job.doc_id for job in claim.jobs} - costs.keys()  # gone, or too long to be read
        for ids in self.memory.batches(costs):
            if load.full:
                break
            async with self.memory.admitted(sum(costs[doc_id] for doc_id in ids)):
                pieces = await self._read(index, provider, claim, {each: sized[each] for each in ids})
                spare |= await self._add(index, load, pieces)
        async with self.database.transaction("worker") as conn:
            await conn.execute(SQL.spare, _named(claim.only(spare)))
        if not load.members:
            return None, bool(spare)
        return await self._intend(index, provider, load, migration_id), bool(spare)

    async def _read(
        self, index: Index, provider: Provider, claim: Claim, sized: dict[int, Measure]
    ) -> list[Piece]:
        reader = Reader(index.space, provider.count, (await provider.traits()).max_tokens)
        async with self.database.transaction("worker") as conn:
            contents = await documents.contents(conn, sized)
        return await asyncio.to_thread(reader.pieces, claim, contents)

    async def _add(self, index: Index, load: Load, pieces: list[Piece]) -> set[int]:
        """The documents that need no batch: all that they lack is paid for, or there is nothing to embed.

        A text that another batch is about to answer is waited for.
        """
        wanted = sorted({text_hash for piece in pieces for text_hash in piece.hashes})
        asked = {"space": index.space.id, "hashes": wanted}
        async with self.database.transaction("worker") as conn:
            paid = {*await self.store.known(conn, index.space, wanted)}
            paid |= (await self.store.located(conn, index.space, wanted)).keys()
            paid |= {
                row.text_hash for row in await (await conn.execute(SQL.kept, asked, binary=True)).fetchall()
            }
            rows = await conn.execute(SQL.in_flight, asked, binary=True)
            in_flight = {row.text_hash for row in await rows.fetchall()}
        spare = set()
        for piece in pieces:
            lacking = set(piece.hashes) - paid
            if not lacking:
                spare.add(piece.job.doc_id)
            elif not lacking & in_flight and not load.add(piece, lacking):
                if not load.members:
                    spare.add(piece.job.doc_id)  # more than any batch holds
                break
        return spare

    async def _intend(self, index: Index, provider: Provider, load: Load, migration_id: int) -> Any:
        """Admitted, and written down with all its documents that are still as they were read."""
        cost = price(provider.name)
        ask = Ask(
            model=provider.name + LANE,
            index_id=index.id,
            lane=BACKFILL,
            inputs=len(load.texts),
            tokens=sum(load.tokens.values()),
            tenants=load.tokens,
            price=None if cost is None else cost * DISCOUNT,
        )
        jobs = tuple(member.job for member in load.members)
        async with self.database.transaction("worker") as conn:
            claim = Claim(index.id, BACKFILL, load.mark, jobs)
            held = await (await conn.execute(SQL.hold, _named(claim))).fetchall()
            left = {row.doc_id for row in held}
            members = [member for member in load.members if member.job.doc_id in left]
            if not members:
                return None
            turn = await ask.admit(conn)
            if turn.call is None:
                events.emit(events.TryAgain(f"{ask.model}: {turn.why}"))
                return None
            row = await conn.execute(
                SQL.intend,
                {
                    "mark": load.mark,
                    "index": index.id,
                    "migration": migration_id,
                    "call": turn.call,
                    "model": provider.name,
                    "documents": len(members),
                    "inputs": ask.inputs,
                    "tokens": ask.tokens,
                    "price": ask.price,
                },
            )
            batch: Any = await row.fetchone()
            await _enlist(conn, index, batch.id, members)
        return batch


async def _enlist(conn: Connection, index: Index, batch_id: int, members: list[Member]) -> None:
    rows = [
        (member.job.doc_id, member.job.rev, member.input_hash, text_hash)
        for member in members
        for text_hash in member.lacking
    ]
    ids, revs, inputs, hashes = (list(column) for column in zip(*rows, strict=True))
    asked = {"index": index.id, "batch": batch_id, "ids": ids, "revs": revs}
    await conn.execute(SQL.enlist, asked | {"inputs": inputs, "hashes": hashes})


def batches_of(provider: Provider) -> Batches:
    """
    Raises:
        BadInput: the provider has no batch API.
    """
    if isinstance(provider, TakesBatches):
        return provider.batches()
    raise BadInput(
        f"{provider.name} has no batch API that Revec speaks: leave --patient out "
        "(gemini: and openai: have one, also at servers that speak all of OpenAI's wire)"
    )


async def require_batches(provider: Provider) -> None:
    """
    Raises:
        BadInput: nobody takes batches where the provider is.
    """
    try:
        await batches_of(provider).ready()
    except ProviderError as error:
        raise BadInput(f"{provider.name} takes no batches: leave --patient out ({error})") from error


def _named(claim: Claim) -> dict[str, Any]:
    return {
        "index": claim.index_id,
        "ids": [job.doc_id for job in claim.jobs],
        "revs": [job.rev for job in claim.jobs],
    }
