"""Run-time control: a person's throttle and the brake, obeyed by a running worker between its claims.

Both are in the database and looked up once a second. Documents a second are for the backfill alone:
edits are never throttled. `concurrency` and `claim` only ever lower what a worker was started with.
"""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass
from typing import Any

from revec.model.errors import BadInput
from revec.model.index import Collection, Index
from revec.observe import events
from revec.postgres import pulses
from revec.postgres.database import Connection, Database
from revec.postgres.queries import beside
from revec.work import brake, queue
from revec.work.brake import Brake, Seen
from revec.work.queue import BACKFILL, Claim

SQL = beside(__file__)

LOOK_EVERY = 1.0  # seconds
LEARN_EVERY = 30.0  # seconds between two looks at quiet times
PINGS = 3  # the quickest counts: what kept this process busy must not look like the database's doing
LATELY = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Throttle:
    """What a person allows the work of one collection's index; None: as much as the worker does."""

    concurrency: int | None = None
    claim: int | None = None
    rate: float | None = None  # documents of the backfill a second


FREE = Throttle()


class Control:
    """One worker's: `place` is the number of one of its claims at once."""

    def __init__(self, database: Database, *, braking: bool = True) -> None:
        self.brake = Brake()
        self._database = database
        self._braking = braking
        self._throttles: dict[int, Throttle] = {}  # by collection
        self._worked: dict[int, tuple[float, float]] = {}  # place → its last backfill claim: end, seconds
        self._held_back_at = -LATELY
        self._looking = asyncio.Lock()
        self._look_at = self._learn_at = self._step_at = 0.0

    async def look(self) -> bool:
        """See what was asked for and what others feel, if the last look is a second old. A duty."""
        async with self._looking:
            if time.monotonic() >= self._look_at:
                async with self._database.transaction("worker") as conn:
                    rows = await (await conn.execute(SQL.throttles)).fetchall()
                    self._throttles = {collection_id: Throttle(*limits) for collection_id, *limits in rows}
                    if self._braking:
                        await self._feel(conn)
                self._look_at = time.monotonic() + LOOK_EVERY
        return False

    @property
    def holds_back(self) -> bool:
        """Work waits for the throttle or the brake, and for nothing else: that is not being stuck."""
        return time.monotonic() - self._held_back_at < LATELY

    def alone(self, places: int) -> bool:
        """Whether some index is worked on at one place only."""
        return min([places, *(each.concurrency or places for each in self._throttles.values())]) == 1

    def lets(self, index: Index, lane: int, place: int) -> bool:
        """Whether this place may look for work in this lane now."""
        most = self._throttles.get(index.collection_id, FREE).concurrency
        if most is not None and place >= most:
            return False
        if lane != BACKFILL or not self._rests(place):
            return True
        self._held_back_at = time.monotonic()
        return False

    async def claim(
        self, conn: Connection, index: Index, lane: int, *, size: int, **how: Any
    ) -> Claim | None:
        """A claim as large as it may be; None where it is not the time yet."""
        throttle = self._throttles.get(index.collection_id, FREE)
        size = min(size, throttle.claim or size)
        if lane != BACKFILL or throttle.rate is None:
            return await queue.claim(conn, index.id, lane, size=size, **how)
        size = await self._allowed(conn, index.id, size)
        if not size:
            self._held_back_at = time.monotonic()
            return None
        claim = await queue.claim(conn, index.id, lane, size=size, **how)
        await conn.execute(SQL.spend, {"index": index.id, "documents": len(claim.jobs)})
        return claim

    def worked(self, place: int, lane: int, seconds: float) -> None:
        """A claim is over; what a braked backfill did not rest before, it rests now."""
        if lane == BACKFILL:
            self._worked[place] = (time.monotonic(), seconds)

    def _rests(self, place: int) -> bool:
        ended, seconds = self._worked.get(place, (0.0, 0.0))
        return time.monotonic() < ended + seconds * (1 / self.brake.speed - 1)

    async def _allowed(self, conn: Connection, index_id: int, size: int) -> int:
        """A second's worth of documents, or a claim's, or more where nobody came for a while; or none."""
        bucket: Any = await (await conn.execute(SQL.fill, {"index": index_id})).fetchone()
        if bucket is None:
            return size  # lifted since the last look
        return int(min(size, bucket.level)) if bucket.level >= min(size, max(1.0, bucket.rate)) else 0

    async def _feel(self, conn: Connection) -> None:
        now, host = time.monotonic(), socket.gethostname()
        await pulses.put(conn, pulses.DATABASE, host, [await _ping(conn)])
        if now >= self._learn_at:
            self._learn_at = now + LEARN_EVERY
            await pulses.learn(conn)
        await pulses.put_backfill(conn)
        if now >= self._step_at:
            self._step_at = now + brake.STEP
            rows = await pulses.lately(conn, host, seconds=brake.WINDOW)
            self._step([Seen(row.kind, row.name, row.n, row.calm, row.ms) for row in rows])

    def _step(self, seen: list[Seen]) -> None:
        before, self.brake = self.brake, brake.brake(seen, self.brake)
        if (before.why is None) != (self.brake.why is None):
            events.emit(events.Braked(self.brake.speed, self.brake.why))


async def _ping(conn: Connection) -> float:
    """Milliseconds of a round trip."""
    took = []
    for _ in range(PINGS):
        began = time.perf_counter()
        await conn.execute(SQL.ping)
        took.append(time.perf_counter() - began)
    return 1000 * min(took)


async def throttle(
    conn: Connection,
    collection: Collection,
    *,
    docs_per_second: float | None = None,
    concurrency: int | None = None,
    claim: int | None = None,
    who: str,
) -> None:
    """Slow a collection's work down from the next second on; what is None stays as it was.

    Raises:
        BadInput: less than something: to stop it is another verb.
    """
    for number in (docs_per_second, concurrency, claim):
        if number is not None and not number > 0:
            raise BadInput(f"{number:g} would stop it: `revec pause {collection.name}` does that")
    asked = {"collection": collection.id, "concurrency": concurrency, "claim": claim, "who": who}
    await conn.execute(SQL.set, asked)
    if docs_per_second is not None:
        await conn.execute(SQL.set_rate, {"collection": collection.id, "rate": docs_per_second})


async def lift_throttle(conn: Connection, collection: Collection) -> None:
    await conn.execute(SQL.lift, {"collection": collection.id})


async def throttle_of(conn: Connection, collection_id: int) -> Any:
    """docs_per_second, concurrency, claim, set_by, set_at; None where nothing is throttled."""
    return await (await conn.execute(SQL.throttle, {"collection": collection_id})).fetchone()
