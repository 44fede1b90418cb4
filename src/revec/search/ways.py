"""From a query to candidates on both sides: the bridges that this process goes over, and their indexes.

Read from the database by whoever comes first, for all who wait. A migration has one at a time: the newest.
What is kept is bounded by its bytes, the longest unused forgotten first.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from revec.model.index import Early, Index
from revec.postgres import bridges, indexes
from revec.postgres.database import Database

if TYPE_CHECKING:
    from revec.search.bridge import Bridge

MOST_BYTES = 128 << 20  # of bridges: megabytes each at thousands of dims


@dataclass(frozen=True, slots=True)
class Way:
    old: Index
    new: Index
    bridge: Bridge


class Ways:
    def __init__(self, database: Database, *, most_bytes: int = MOST_BYTES) -> None:
        self._database = database
        self._most_bytes = most_bytes
        self._kept: OrderedDict[int, tuple[int, Way]] = OrderedDict()  # by migration, with its version
        self._loading: dict[Early, asyncio.Task[Way]] = {}

    async def of(self, early: Early) -> Way:
        """
        Raises:
            NotFound: it does not hold any more, or a newer one does.
            BadInput: this version of Revec does not read it.
        """
        version, way = self._kept.get(early.migration_id, (0, None))
        if way is not None and version == early.version:
            self._kept.move_to_end(early.migration_id)
            return way
        loading = self._loading.get(early)
        if loading is None:
            loading = self._loading[early] = asyncio.create_task(self._loaded(early))
            loading.add_done_callback(lambda done: self._landed(early, done))
        return await asyncio.shield(loading)  # a waiter that leaves takes nobody with it

    async def close(self) -> None:
        loading = list(self._loading.values())
        for each in loading:
            each.cancel()
        await asyncio.gather(*loading, return_exceptions=True)

    async def _loaded(self, early: Early) -> Way:
        from revec.search.bridge import Bridge

        async with self._database.transaction("worker") as conn:
            old, new, kept = await bridges.way(conn, early)
            sides = await indexes.by_id(conn, old), await indexes.by_id(conn, new)
        way = Way(*sides, await asyncio.to_thread(Bridge.loads, kept))
        self._keep(early, way)
        return way

    def _keep(self, early: Early, way: Way) -> None:
        """In place of an older one."""
        if self._kept.get(early.migration_id, (0, way))[0] > early.version:
            return
        self._kept[early.migration_id] = (early.version, way)
        self._kept.move_to_end(early.migration_id)
        while sum(each.bridge.nbytes for _, each in self._kept.values()) > self._most_bytes:
            self._kept.popitem(last=False)

    def _landed(self, early: Early, loading: asyncio.Task[Way]) -> None:
        del self._loading[early]
        if not loading.cancelled():
            loading.exception()  # is looked at, also where nobody waited to the end
