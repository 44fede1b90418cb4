"""Documents that somebody found and that an index being filled lacks are made first there.

Behind the answer, never on a search's way: what is shown is noted, and one task at a time asks the database
which of it is lacking and enqueues that (lane `jit`). A tenant may have so many documents a minute made by
this process; several servers let through so many times as much. Nothing depends on it, since the backfill
comes to every document, so whatever goes wrong is forgotten.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from psycopg import sql

from revec.model.reading import Hit
from revec.postgres.database import Connection, Database
from revec.postgres.queries import beside
from revec.work import queue

SQL = beside(__file__)
MOST_WAITING = 1_000  # hits that nobody has looked at; further ones are forgotten
PAUSE = 0.2  # seconds between two looks: equal searches are looked at once
PATIENCE = 2.0  # seconds for a look, and for what is left at the end
MINUTE = 60.0

Name = tuple[str, str]  # a document's source and key


class Wanting:
    def __init__(
        self, database: Database, per_minute: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._allowance = Allowance(per_minute, clock)
        self._waiting: dict[int, dict[Name, None]] = {}  # by index, in the order of the hits
        self._looking: asyncio.Task[None] | None = None

    def note(self, index_id: int, hits: Sequence[Hit]) -> None:
        """These were shown while this index is being filled; costs microseconds, raises nothing."""
        allowed = [(hit.source, hit.id) for hit in hits if self._allowance.has(hit.tenant)]
        room = MOST_WAITING - sum(map(len, self._waiting.values()))
        if not allowed or room <= 0:
            return
        self._waiting.setdefault(index_id, {}).update(dict.fromkeys(allowed[:room]))
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())

    async def close(self) -> None:
        """A command that searches once has its look as well, if the database is quick."""
        if self._looking is not None:
            await asyncio.wait([self._looking], timeout=PATIENCE)
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        while self._waiting:
            index_id, names = self._waiting.popitem()
            with suppress(Exception):  # a search is never worse off for it
                async with asyncio.timeout(PATIENCE), self._database.transaction("worker") as conn:
                    await self._enqueue(conn, index_id, names)
            await asyncio.sleep(PAUSE)

    async def _enqueue(self, conn: Connection, index_id: int, names: Iterable[Name]) -> None:
        sources, keys = zip(*names, strict=True)
        query = SQL.lacking.format(vectors=sql.Identifier("revec", f"vectors_{index_id}"))
        asked = {"index": index_id, "sources": list(sources), "keys": list(keys), "lane": queue.JIT}
        rows = await (await conn.execute(query, asked)).fetchall()
        wanted = [row.doc_id for row in rows if self._allowance.take(row.tenant)]
        if wanted:
            await queue.enqueue(conn, index_id, wanted)


class Allowance:
    """Documents that each tenant may have made in a minute."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._taken: Counter[str] = Counter()  # in this minute
        self._since = clock()

    def has(self, tenant: str) -> bool:
        now = self._clock()
        if now - self._since >= MINUTE:
            self._taken.clear()
            self._since = now
        return self._taken[tenant] < self._per_minute

    def take(self, tenant: str) -> bool:
        has = self.has(tenant)
        if has:
            self._taken[tenant] += 1
        return has
