"""The coalescing queue: one row per (index, document). Claim by lease and token, settle by revision."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID, uuid4

from pgvector import HalfVector

from revec.postgres.arrays import BigInts
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)

LIVE, JIT, BACKFILL = 0, 1, 2  # the lanes, most urgent first


@dataclass(frozen=True, slots=True)
class Job:
    doc_id: int
    rev: int
    action: str  # embed or delete
    tenant: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Jobs of one index that are ours until the lease runs out."""

    index_id: int
    lane: int
    token: UUID
    jobs: tuple[Job, ...]

    def only(self, doc_ids: Container[int]) -> Claim:
        jobs = tuple(job for job in self.jobs if job.doc_id in doc_ids)
        return Claim(self.index_id, self.lane, self.token, jobs)

    @property
    def to_embed(self) -> list[int]:
        return [job.doc_id for job in self.jobs if job.action == "embed"]

    @property
    def last_tenant(self) -> str:
        return max((job.tenant for job in self.jobs), default="")


def token_of(worker: UUID | None = None) -> UUID:
    """A new token. Its first half is that of its worker's id, or of another token of the same worker: so it
    can be told whose a lease is.
    """
    made = uuid4()
    return made if worker is None else UUID(bytes=worker.bytes[:8] + made.bytes[8:])


async def ready(conn: Connection) -> list[tuple[int, int]]:
    """(index, lane) pairs with claimable work, the most urgent lane first."""
    rows = await conn.execute(SQL.ready)
    return [(row.index_id, row.lane) for row in await rows.fetchall()]


async def claim(
    conn: Connection,
    index_id: int,
    lane: int,
    *,
    size: int,
    lease: float,
    after_tenant: str = "",
    worker: UUID | None = None,
) -> Claim:
    """Up to about `size` jobs, shared by weight among the tenants behind `after_tenant`."""
    token = token_of(worker)
    parameters = {"index": index_id, "lane": lane, "size": size, "lease": lease, "token": token}
    jobs: list[Any] = []
    for after in dict.fromkeys((after_tenant, "")):
        rows = await conn.execute(SQL.claim, {**parameters, "after": after})
        jobs = await rows.fetchall()
        if jobs:
            break
    return Claim(index_id, lane, token, tuple(Job(*row) for row in jobs))


async def claim_these(
    conn: Connection, index_id: int, doc_ids: Sequence[int], *, lease: float, lane: int = JIT
) -> Claim:
    """The work of these documents, as far as nobody has it and nothing holds it back."""
    token = uuid4()
    asked = {"index": index_id, "ids": BigInts(doc_ids), "lease": lease, "token": token}
    jobs = await (await conn.execute(SQL.claim_these, asked)).fetchall()
    return Claim(index_id, lane, token, tuple(Job(*row) for row in jobs))


async def waited_for(conn: Connection, index_id: int, doc_ids: Sequence[int]) -> tuple[int, int]:
    """How many of these documents are still to be embedded, and how many of those somebody has in hand."""
    row = await (await conn.execute(SQL.waited_for, {"index": index_id, "ids": BigInts(doc_ids)})).fetchone()
    assert row is not None
    return row.open, row.in_hand


async def enqueue(conn: Connection, index_id: int, doc_ids: Sequence[int], lane: int = JIT) -> None:
    """See to it that these documents are embedded as urgently as that; again and again is no harm.

    Nothing where the index is not written; more urgent work, and work in somebody's hands, stays as it is.
    """
    await conn.execute(SQL.enqueue, {"index": index_id, "ids": list(doc_ids), "lane": lane})


async def settle(conn: Connection, claim: Claim) -> int:
    """Acknowledge; how many of the jobs were still ours at their revision."""
    return (await conn.execute(SQL.settle, _named(claim), binary=True)).rowcount


async def release(conn: Connection, claim: Claim, *, delay: float = 0.0, blameless: bool) -> None:
    """Give the jobs back, to be claimed again after `delay` seconds."""
    if claim.jobs:
        await conn.execute(SQL.release, {**_named(claim), "delay": delay, "blameless": blameless})


async def extend(conn: Connection, claim: Claim, lease: float) -> None:
    ids = [job.doc_id for job in claim.jobs]
    await conn.execute(
        SQL.extend, {"index": claim.index_id, "token": claim.token, "ids": ids, "lease": lease}
    )


async def bury(conn: Connection, claim: Claim, job: Job, input_hash: bytes, cause: str) -> bool:
    """To the dead letters with its cause; False where the claim no longer holds."""
    buried = await conn.execute(
        SQL.bury,
        {
            "index": claim.index_id,
            "doc": job.doc_id,
            "rev": job.rev,
            "token": claim.token,
            "input_hash": input_hash,
            "cause": cause,
        },
    )
    return buried.rowcount > 0


async def absolve(conn: Connection, index_id: int, doc_ids: Sequence[int], *, gone: bool = False) -> None:
    """Their letters are settled: written after all, or `gone` for good."""
    await conn.execute(SQL.absolve, {"index": index_id, "ids": BigInts(doc_ids), "gone": gone})


async def exclude(conn: Connection, index_id: int, reasons: dict[int, tuple[bytes, str]]) -> None:
    """Leave documents out: doc_id → (input_hash, reason)."""
    if reasons:
        await conn.execute(
            SQL.exclude,
            {
                "index": index_id,
                "ids": list(reasons),
                "hashes": [input_hash for input_hash, _ in reasons.values()],
                "reasons": [reason for _, reason in reasons.values()],
            },
        )


@dataclass(frozen=True, slots=True)
class Open:
    """What is not done for an index."""

    open: int = 0
    backfill: int = 0
    leased: int = 0
    oldest_seconds: float = 0.0
    paused: int = 0  # of all, documents to embed of paused tenants: a person lets them go on
    paused_backfill: int = 0
    pausable: int = 0  # of the others, what waits when the migration is paused

    @property
    def moving(self) -> int:
        """What is done without a person."""
        return self.open - self.paused


async def open_work(conn: Connection, index_ids: Sequence[int]) -> dict[int, Open]:
    rows = await conn.execute(SQL.open, {"indexes": list(index_ids)})
    found = {row.index_id: Open(*row[1:]) for row in await rows.fetchall()}
    return {index_id: found.get(index_id, Open()) for index_id in index_ids}


async def counts(conn: Connection, index_id: int) -> tuple[int, int]:
    """(dead letters, excluded documents)."""
    row = await (await conn.execute(SQL.counts, {"index": index_id})).fetchone()
    assert row is not None
    return row.dead, row.excluded


@dataclass(frozen=True, slots=True)
class Payment:
    """What may be paid for (`mine`), and what somebody paid for already (`vectors`)."""

    token: UUID
    mine: set[bytes]
    vectors: dict[bytes, Any]


async def lease_payment(
    conn: Connection, space_id: str, text_hashes: Sequence[bytes], lease: float, *, worker: UUID | None = None
) -> Payment:
    """Single-flight: of several workers with one text, one pays; the others come back later."""
    token = token_of(worker)
    rows = await conn.execute(
        SQL.pay_lease,
        {"space": space_id, "hashes": list(text_hashes), "lease": lease, "token": token},
        binary=True,
    )
    answers = await rows.fetchall()
    return Payment(
        token=token,
        mine={row.text_hash for row in answers if row.mine and row.vector is None},
        vectors={row.text_hash: row.vector.to_numpy() for row in answers if row.vector is not None},
    )


async def extend_payment(conn: Connection, space_id: str, payment: Payment, lease: float) -> None:
    await conn.execute(
        SQL.pay_extend,
        {"space": space_id, "hashes": list(payment.mine), "lease": lease, "token": payment.token},
    )


async def close_payment(
    conn: Connection, space_id: str, token: UUID, written: Sequence[bytes], kept: dict[bytes, Any]
) -> None:
    """Forget what was written; keep what was paid for and could not be."""
    if kept:
        await conn.execute(
            SQL.pay_keep,
            {
                "space": space_id,
                "token": token,
                "hashes": list(kept),
                "vectors": [HalfVector(vector.astype("float16")) for vector in kept.values()],
            },
        )
    if written:
        await conn.execute(SQL.pay_done, {"space": space_id, "token": token, "hashes": list(written)})


async def expire_payments(conn: Connection) -> None:
    await conn.execute(SQL.pay_expire)


@dataclass(frozen=True, slots=True)
class Beat:
    """What a worker says of itself every few seconds."""

    id: UUID
    host: str
    pid: int
    claims: int  # in hand
    per_second: float  # documents, over the last minute
    rss_mb: float
    speed: float  # of its backfill: what the brake leaves of it
    braked_by: str | None


async def beat(conn: Connection, beat: Beat) -> None:
    await conn.execute(SQL.beat, asdict(beat))


async def bye(conn: Connection, worker: UUID) -> None:
    await conn.execute(SQL.bye, {"id": worker})


async def workers(conn: Connection) -> list[Any]:
    return await (await conn.execute(SQL.workers)).fetchall()


def _named(claim: Claim) -> dict[str, Any]:
    return {
        "index": claim.index_id,
        "token": claim.token,
        "ids": BigInts([job.doc_id for job in claim.jobs]),
        "revs": BigInts([job.rev for job in claim.jobs]),
    }
