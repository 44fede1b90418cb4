"""What goes from stores elsewhere: points that were replaced, given up, or that nobody knows.

Only here is anything deleted from a store, and only what was condemned and committed before.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import psycopg

from revec.model.errors import NotFound, StoreUnavailable
from revec.model.index import Index
from revec.observe import events
from revec.observe.failpoints import failpoint
from revec.postgres import indexes
from revec.postgres.database import Database, first_line
from revec.postgres.queries import beside
from revec.stores.elsewhere import bury_points, strays
from revec.stores.patient import Patient

SQL = beside(__file__)
AT_ONCE = 500  # points
LEASE = 30.0  # seconds until a deletion that was not confirmed is tried again
SWEEP_EVERY = 24 * 3600.0  # seconds
PAGE, PAGE_PAUSE = 1_000, 1.0  # points, and seconds between pages: nobody waits for it


class Upkeep:
    """One for a worker. `store_at`: the store behind an address."""

    def __init__(self, database: Database, store_at: Callable[[str], Patient]) -> None:
        self._database = database
        self._store_at = store_at
        self._told: set[str] = set()

    async def tick(self) -> bool:
        """One step for every index elsewhere; whether anything moved."""
        async with self._database.transaction("worker") as conn:
            found = [index for index in await indexes.elsewhere(conn) if index.writing]
        moved = [await self._step(index) for index in found]
        return any(moved)

    async def _step(self, index: Index) -> bool:
        """One store's trouble is its own: the others go on."""
        try:
            store = self._store_at(index.place.store)
        except StoreUnavailable as error:  # for want of a package or a key: another worker may have them
            self._tell_once(index.place.store, str(error))
            return False
        if store.rests:
            return False
        try:
            return bool(await self._delete(index, store)) | await self._sweep(index, store)
        except (StoreUnavailable, NotFound, psycopg.errors.UndefinedTable) as error:
            events.emit(events.StoreFailed(index.place.store, first_line(error)))
            return False

    def _tell_once(self, store: str, why: str) -> None:
        if store not in self._told:
            self._told.add(store)
            events.emit(events.StoreFailed(store, why))

    async def _delete(self, index: Index, store: Patient) -> int:
        async with self._database.transaction("worker") as conn:
            asked = {"index": index.id, "limit": AT_ONCE, "lease": LEASE}
            rows = await (await conn.execute(SQL.condemn, asked)).fetchall()
        if not rows:
            return 0
        failpoint("points_condemned")
        points = [row.point_id for row in rows]
        await store.delete(index.place.name, points)
        failpoint("points_deleted")
        await self._require_gone(index, store, points)
        async with self._database.transaction("worker") as conn:
            await conn.execute(SQL.forget, {"index": index.id, "points": points, "due": rows[0].due})
        return len(points)

    async def _require_gone(self, index: Index, store: Patient, points: list[UUID]) -> None:
        if left := await store.fetch(index.place.name, points):
            raise StoreUnavailable(f"{store.name} still has {len(left):,} points that it said it deleted")

    async def _sweep(self, index: Index, store: Patient) -> bool:
        """The next page of the walk, where it is time for one."""
        async with self._database.transaction("worker") as conn:
            asked = {"index": index.id, "every": SWEEP_EVERY, "lease": LEASE}
            row = await (await conn.execute(SQL.due_sweep, asked)).fetchone()
        if row is None or row.first:
            return False
        points, next_page = await store.page(index.place.name, row.after, PAGE)
        async with self._database.transaction("worker") as conn:
            found = await strays(conn, index, points)
            await bury_points(conn, index, found)
            await conn.execute(
                SQL.swept,
                {
                    "index": index.id,
                    "after": next_page or "",
                    "wait": PAGE_PAUSE if next_page else SWEEP_EVERY,
                    "found": len(found),
                    "first": not row.after,
                },
            )
        return True
