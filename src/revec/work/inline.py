"""Writes that are answered when a search finds them: the process that takes them in embeds them at once.

There is one way to write. A document is kept, and its work is in the queue, before anything else happens;
then its writer claims that work, as a worker would, and goes the way of every claim. What cannot be done in
time, or not now, is the workers' as ever: the answer says so, and nothing is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from revec.capture.push import Stand, Standing, settled
from revec.model.index import Collection
from revec.postgres import collections, indexes
from revec.postgres.database import Database
from revec.work import queue
from revec.work.demand import Demand, Unmet

NOTHING_SERVES = "nothing serves yet"


@dataclass(frozen=True, slots=True)
class Answer:
    """Where written documents stand, and why not all are searchable though their collection writes inline."""

    stands: list[Stand]
    queued: str | None = None


class Inline:
    """One for a process. `patience`: seconds that a write inline takes at most, unless its writer says."""

    def __init__(self, database: Database, demand: Demand, *, patience: float) -> None:
        self._database, self._demand, self._patience = database, demand, patience

    async def patience(self, collection: Collection, wait: float | None) -> float:
        """Seconds until the writer is answered: what it said, else what its collection's mode means."""
        if wait is not None:
            return wait
        async with self._database.transaction("worker") as conn:
            mode = await collections.write_mode(conn, collection.id)
        return self._patience if mode == collections.INLINE else 0.0

    async def answer(self, collection: Collection, ids: Mapping[str, int], wait: float | None) -> Answer:
        """After the commit of documents by their keys: embedded here where the collection writes inline."""
        async with self._database.transaction("worker") as conn:
            mode = await collections.write_mode(conn, collection.id)
        seconds = await self.patience(collection, wait)
        if mode != collections.INLINE or not seconds:
            return Answer(await settled(self._database, collection, ids, seconds))
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        why = await self._embedded(collection, list(ids.values()), until)
        left = until - loop.time() if wait else 0.0  # who said so waits for the workers, too
        stands = await settled(self._database, collection, ids, max(0.0, left))
        queued = sum(stand.open and stand.standing is not Standing.GONE for stand in stands)
        if not queued:
            return Answer(stands)
        left_over = f"{queued:,} of {len(ids):,} documents are queued, and a worker embeds them"
        return Answer(stands, f"{left_over}: {why or 'others have them in hand'}")

    async def _embedded(self, collection: Collection, doc_ids: list[int], until: float) -> str | None:
        """Why not all of them are in the index that serves, or None."""
        async with self._database.transaction("worker") as conn:
            route = await indexes.route_of(conn, collection.id)
            index = None if route.serving is None else await indexes.by_id(conn, route.serving)
        if index is None:
            return NOTHING_SERVES
        try:
            await self._demand.meet(index, doc_ids, None, until, lane=queue.LIVE)
        except Unmet as error:
            return str(error)
        return None
