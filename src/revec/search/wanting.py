"""Documents that somebody found and that an index being filled lacks are made first there.

Behind the answer, never on a search's way: what is shown is noted, and one task at a time asks the database
which of it is lacking and enqueues that (lane `jit`), as far as the tenant's allowance goes. Nothing depends
on it, since the backfill comes to every document, so whatever goes wrong is forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress

from psycopg import sql

from revec.model.reading import Hit
from revec.postgres.database import Connection, Database
from revec.postgres.queries import beside
from revec.work import allowance, queue

SQL = beside(__file__)
MOST_WAITING = 1_000  # hits that nobody has looked at; further ones are forgotten
PAUSE = 0.2  # seconds between two looks: equal searches are looked at once
PATIENCE = 2.0  # seconds for a look, and for what is left at the end

Name = tuple[str, str]  # a document's source and key


class Wanting:
    def __init__(self, database: Database, per_minute: int) -> None:
        self._database = database
        self._per_minute = per_minute  # documents of a tenant; 0: none is made first
        self._waiting: dict[int, dict[Name, None]] = {}  # by index, in the order of the hits
        self._looking: asyncio.Task[None] | None = None

    def note(self, index_id: int, hits: Sequence[Hit]) -> None:
        """These were shown while this index is being filled; costs microseconds, raises nothing."""
        room = MOST_WAITING - sum(map(len, self._waiting.values()))
        if not hits or room <= 0 or not self._per_minute:
            return
        names = [(hit.source, hit.id) for hit in hits[:room]]
        self._waiting.setdefault(index_id, {}).update(dict.fromkeys(names))
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
        whose = {row.doc_id: row.tenant for row in await (await conn.execute(query, asked)).fetchall()}
        wanted = await allowance.first(conn, index_id, whose, self._per_minute)
        if wanted:
            await queue.enqueue(conn, index_id, wanted)
            await allowance.take(conn, index_id, [whose[doc_id] for doc_id in wanted])
