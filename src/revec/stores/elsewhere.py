"""Vectors in a store elsewhere: points there, and in this database the table that says which and of what.

No transaction is open while the network is waited for. What is put has a tombstone first, an id is used for
one write alone, and a hit counts only as far as the table knows it: docs/stores.md has the protocol and why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import psycopg
from psycopg import sql

from revec.model.errors import NotFound, StoreLost, StoreUnavailable
from revec.model.filter import Filter, Operator
from revec.model.index import Index
from revec.model.place import Place
from revec.model.space import Space
from revec.observe.failpoints import failpoint
from revec.postgres import indexes
from revec.postgres.arrays import BigInts
from revec.postgres.database import Connection, Database, role_of
from revec.postgres.queries import beside
from revec.stores.base import Build, ChunkSet, Located, Lost, Sample, Vector, half
from revec.stores.near import Answered, Asking
from revec.stores.patient import Patient
from revec.stores.placed import Placed
from revec.stores.points import Point

SQL = beside(__file__)
GRACE = 300.0  # seconds that a write may take from its first tombstone to its commit
PAGE = 1_000  # ids


class Elsewhere:
    """Every index that is not in this database. `store_at`: the store behind an address, one per process."""

    filters = frozenset(Operator)

    def __init__(self, database: Database, store_at: Callable[[str], Patient]) -> None:
        self._database = database
        self._store_at = store_at

    async def prepare(self, place: Place, dims: int) -> None:
        await self._store_at(place.store).create(place.name, dims)

    async def create(self, conn: Connection, index: Index) -> None:
        await conn.execute(SQL.create.format(vectors=_table(index)))
        for query, name in ((SQL.by_text, "by_text"), (SQL.by_tenant, "by_tenant")):
            label = sql.Identifier(f"vectors_{index.id}_{name}")
            await conn.execute(query.format(vectors=_table(index), name=label))
        await conn.execute(SQL.protect, {"vectors": _name(index)})

    async def clear(self, index: Index) -> None:
        await self._at(index).store.drop(index.place.name)

    async def drop(self, conn: Connection, index: Index) -> None:
        await conn.execute(SQL.drop.format(vectors=_table(index)))

    async def stage(self, index: Index, sets: Sequence[ChunkSet]) -> Sequence[ChunkSet]:
        staged = [replace(each, points=[uuid4() for _ in each.vectors]) for each in sets]
        points = [
            Point(point_id, each.tenant, vector)
            for each in staged
            for point_id, vector in zip(each.points, each.vectors, strict=True)
        ]
        if not points:
            return staged
        async with self._database.transaction("worker") as conn:
            asked = {"index": index.id, "points": _points(staged), "grace": GRACE}
            if not (await conn.execute(SQL.intend, asked)).rowcount:
                raise self._at(index).dropped()
        failpoint("points_intended")
        try:
            await self._at(index).put(points)
        except StoreUnavailable:
            await self.abandon(index, staged)
            raise
        failpoint("points_put")
        return staged

    async def abandon(self, index: Index, sets: Sequence[ChunkSet]) -> None:
        if points := _points(sets):
            async with self._database.transaction("worker") as conn:
                await bury_points(conn, index, points)

    async def replace(self, conn: Connection, index: Index, sets: Sequence[ChunkSet]) -> set[int]:
        ids = [each.doc_id for each in sets]
        await self.remove(conn, index, ids)
        points = _points(sets)
        if not points:
            return set(ids)
        kept = await conn.execute(SQL.keep, {"index": index.id, "points": points})
        if len(await kept.fetchall()) < len(points):
            raise StoreUnavailable(f"points of {index.name} were put too long ago, and may be deleted by now")
        rows = [
            (each, number, text_hash) for each in sets for number, text_hash in enumerate(each.text_hashes)
        ]
        await conn.execute(
            SQL.insert.format(vectors=_table(index)),
            {
                "doc_ids": BigInts([each.doc_id for each, *_ in rows]),
                "chunk_nos": BigInts([number for _, number, _ in rows]),
                "tenants": [each.tenant for each, *_ in rows],
                "input_hashes": [each.input_hash for each, *_ in rows],
                "text_hashes": [text_hash for *_, text_hash in rows],
                "chunk_counts": BigInts([len(each.points) for each, *_ in rows]),
                "points": points,
            },
        )
        return set(ids)

    async def remove(self, conn: Connection, index: Index, doc_ids: Sequence[int]) -> None:
        asked = {"index": index.id, "ids": BigInts(doc_ids)}
        await conn.execute(SQL.leave.format(vectors=_table(index)), asked)

    async def known(self, *_: object) -> dict[bytes, Vector]:
        return {}

    async def located(self, conn: Connection, space: Space, text_hashes: Sequence[bytes]) -> Located:
        found: dict[bytes, tuple[Index, UUID]] = {}
        for index in await indexes.elsewhere(conn, space):
            missing = [text_hash for text_hash in text_hashes if text_hash not in found]
            try:
                async with conn.transaction():
                    rows = await conn.execute(
                        SQL.located.format(vectors=_table(index)), {"hashes": missing}, binary=True
                    )
            except psycopg.errors.UndefinedTable:
                continue  # dropped since we looked
            found.update({row.text_hash: (index, row.point_id) for row in await rows.fetchall()})
        return found

    async def fetched(self, located: Located) -> dict[bytes, Vector]:
        of: dict[int, tuple[Index, list[UUID]]] = {}
        for index, point_id in located.values():
            of.setdefault(index.id, (index, []))[1].append(point_id)
        vectors: dict[UUID, Vector] = {}
        for index, points in of.values():
            try:
                vectors |= await self._at(index).fetched(points)
            except (NotFound, StoreLost):
                continue  # dropped since, or gone for good: whoever moves away from there pays for the texts
        return {
            text_hash: half(vectors[point_id])
            for text_hash, (_, point_id) in located.items()
            if point_id in vectors
        }

    async def ahead(
        self,
        index: Index,
        queries: Sequence[Vector],
        *,
        limit: int,
        tenant: str | None,
        where: Filter | None = None,
        exactly: bool = False,
    ) -> Answered:
        asking = Asking(self._at(index), limit, tenant, where)
        return await (asking.ranked(queries) if exactly else asking.near(queries))

    async def vectors(
        self, database: Database, index: Index, doc_ids: Sequence[int], *, tenant: str | None
    ) -> dict[int, list[Vector]]:
        placed = self._at(index)
        async with database.transaction(role_of(tenant), tenant=tenant) as conn:
            rows = await placed.rows(conn, SQL.of_documents, {"ids": BigInts(doc_ids), "tenant": tenant})
        vectors = await placed.fetched([row.point_id for row in rows])
        found: dict[int, list[Vector]] = {}
        for row in rows:
            if row.point_id in vectors:
                found.setdefault(row.doc_id, []).append(half(vectors[row.point_id]))
        return found

    async def sample(self, database: Database, index: Index, size: int) -> Sample:
        placed = self._at(index)
        async with database.transaction("worker") as conn:
            rows = await placed.rows(conn, SQL.sample, {"size": size})
        vectors = await placed.fetched([row.point_id for row in rows])
        there = [
            (row.doc_id, row.text_hash, half(vectors[row.point_id]))
            for row in rows
            if row.point_id in vectors
        ]
        missing = [row.point_id for row in rows if row.point_id not in vectors]
        return Sample(there, len(rows), len(await self._lost(placed, missing)))

    async def lost(self, index: Index, after: UUID | None = None) -> Lost:
        placed = self._at(index)
        async with self._database.transaction("worker") as conn:
            rows = await placed.rows(conn, SQL.points, {"after": after, "limit": PAGE})
        points = [row.point_id for row in rows]
        there = await placed.fetched(points)
        missing = [point_id for point_id in points if point_id not in there]
        doc_ids = sorted(set(await self._lost(placed, missing)))
        return Lost(doc_ids, points[-1] if len(points) == PAGE else None)

    async def _lost(self, placed: Placed, missing: Sequence[UUID]) -> list[int]:
        """Of each point that the store has not its document, unless it was replaced since it was named."""
        if not missing:
            return []
        async with self._database.transaction("worker") as conn:
            rows = await placed.rows(conn, SQL.of_points, {"points": list(missing)})
        return [row.doc_id for row in rows]

    async def strays(self, index: Index, *, bury: bool) -> int:
        found = 0
        after: str | None = ""
        while after is not None:
            placed = self._at(index)
            points, after = await placed.there(placed.store.page(index.place.name, after, PAGE))
            async with self._database.transaction("worker") as conn:
                nobodys = await strays(conn, index, points)
                if bury:
                    await bury_points(conn, index, nobodys)
            found += len(nobodys)
        return found

    def rests(self, index: Index) -> bool:
        try:
            return self._at(index).store.rests
        except StoreUnavailable:  # for want of a package or a key: another worker may have them
            return True

    async def build(self, *_: object) -> None:
        """The store has its own."""

    async def built(self, *_: object) -> Build:
        return Build(valid=True, running=False)

    async def bytes_stored(self, conn: Connection, index: Index) -> int:
        row = await (await conn.execute(SQL.bytes, {"vectors": _name(index)})).fetchone()
        assert row is not None
        return int(row.bytes)

    def _at(self, index: Index) -> Placed:
        return Placed(self._database, self._store_at(index.place.store), index)


async def strays(conn: Connection, index: Index, points: Sequence[UUID]) -> list[UUID]:
    """Those of the store's points that are nobody's."""
    asked = {"index": index.id, "points": list(points)}
    rows = await conn.execute(SQL.strays.format(vectors=_table(index)), asked)
    return [row.id for row in await rows.fetchall()]


async def bury_points(conn: Connection, index: Index, points: Sequence[UUID]) -> None:
    """They are to be deleted from the store."""
    await conn.execute(SQL.bury, {"index": index.id, "points": list(points)})


def _points(sets: Sequence[ChunkSet]) -> list[UUID]:
    return [point_id for each in sets for point_id in each.points]


def _name(index: Index) -> str:
    return f"revec.vectors_{index.id}"


def _table(index: Index) -> sql.Identifier:
    return sql.Identifier("revec", f"vectors_{index.id}")
