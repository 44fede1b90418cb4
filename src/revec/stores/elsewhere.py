"""Vectors in a store elsewhere: points there, and in this database the table that says which and of what.

No transaction is open while the network is waited for. What is put has a tombstone first, an id is used for
one write alone, and a hit counts only as far as the table knows it: docs/stores.md has the protocol and why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from uuid import UUID, uuid4

import psycopg
from psycopg import sql

from revec.model.errors import NotFound, StoreUnavailable
from revec.model.filter import Filter, Operator
from revec.model.index import Index
from revec.model.place import Place
from revec.model.space import Space
from revec.observe.failpoints import failpoint
from revec.postgres import filters, indexes
from revec.postgres.arrays import BigInts
from revec.postgres.database import Connection, Database, role_of
from revec.postgres.queries import Statement, beside
from revec.stores.base import Build, ChunkSet, Located, Scored, Vector, half
from revec.stores.patient import Patient
from revec.stores.points import Near, Point
from revec.stores.ranking import Ranking

SQL = beside(__file__)
Item = TypeVar("Item")
GRACE = 300.0  # seconds that a write may take from its first tombstone to its commit
SPARE = 10  # points beyond those wanted: some are of one document, or on their way out
DEEPER = 4  # times, where too few were left
MOST_NEAR = 8_192  # points; where these hold too few that count, those that count are ranked here
FEW = 500  # chunks that pass a filter: they are ranked here at once
PAGE = 1_000  # ids
BLOCK = 500  # vectors that travel together


@dataclass(frozen=True, slots=True)
class Answered:
    """Searches that were answered before the transaction began."""

    found: dict[bytes, Scored]

    async def nearest(
        self,
        conn: Connection,  # noqa: ARG002 - the port's, as is the next one
        index: Index,  # noqa: ARG002
        query: Vector,
        *,
        limit: int,
        **_: Any,
    ) -> Scored:
        return self.found[query.tobytes()][:limit]

    exact = nearest

    def statement(
        self,
        index: Index,  # noqa: ARG002
        query: Vector,
        *,
        limit: int,
        **_: Any,
    ) -> Statement:
        found = self.found[query.tobytes()][:limit]
        asked = {"near_ids": [doc_id for doc_id, _ in found], "near_scores": [score for _, score in found]}
        ids, scores = (sql.Placeholder(name) for name in asked)
        return Statement(SQL.given.format(ids=ids, scores=scores), asked)


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
        await self._store(index).drop(index.place.name)

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
                raise _dropped(index)
        failpoint("points_intended")
        try:
            for some in _slices(points, self._store(index).most):
                await self._there(index, self._store(index).put(index.place.name, some))
        except StoreUnavailable:
            await self.abandon(index, staged)
            raise
        failpoint("points_put")
        return staged

    async def abandon(self, index: Index, sets: Sequence[ChunkSet]) -> None:
        if points := _points(sets):
            async with self._database.transaction("worker") as conn:
                await bury_points(conn, index, points)

    async def replace(self, conn: Connection, index: Index, sets: Sequence[ChunkSet]) -> None:
        await self.remove(conn, index, [each.doc_id for each in sets])
        points = _points(sets)
        if not points:
            return
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
                vectors |= await self._fetched(index, points)
            except NotFound:
                continue  # dropped since
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
        asking = _Asking(index, limit, tenant, where)
        if exactly:
            return Answered(await self._ranked_here(asking, queries))
        seconds = self._store(index).reading
        try:
            async with asyncio.timeout(len(queries) * seconds):
                return Answered({query.tobytes(): await self._near(asking, query) for query in queries})
        except TimeoutError as error:
            raise StoreUnavailable(f"{index.place.store} did not answer within {seconds:g} s") from error

    async def vectors(
        self, database: Database, index: Index, doc_ids: Sequence[int], *, tenant: str | None
    ) -> dict[int, list[Vector]]:
        asked = {"ids": BigInts(doc_ids), "tenant": tenant}
        async with database.transaction(role_of(tenant), tenant=tenant) as conn:
            rows = await _asked(conn, index, SQL.of_documents.format(vectors=_table(index)), asked)
        vectors = await self._fetched(index, [row.point_id for row in rows])
        found: dict[int, list[Vector]] = {}
        for row in rows:
            if row.point_id in vectors:
                found.setdefault(row.doc_id, []).append(half(vectors[row.point_id]))
        return found

    async def sample(self, database: Database, index: Index, size: int) -> list[tuple[int, bytes, Vector]]:
        async with database.transaction("worker") as conn:
            rows = await _asked(conn, index, SQL.sample.format(vectors=_table(index)), {"size": size})
        vectors = await self._fetched(index, [row.point_id for row in rows])
        return [
            (row.doc_id, row.text_hash, half(vectors[row.point_id]))
            for row in rows
            if row.point_id in vectors
        ]

    async def lost(self, index: Index) -> list[int]:
        asking, after = _Asking(index, 0, None, None), None
        documents: set[int] = set()
        while rows := await self._passing(asking, after, BLOCK):
            there = await self._fetched(index, [row.point_id for row in rows])
            if missing := [row.point_id for row in rows if row.point_id not in there]:
                query = SQL.of_points.format(
                    vectors=_table(index)
                )  # as far as nobody has replaced them since
                async with self._database.transaction("worker") as conn:
                    documents |= {row.doc_id for row in await _asked(conn, index, query, {"points": missing})}
            after = rows[-1].point_id
        return sorted(documents)

    async def strays(self, index: Index, *, bury: bool) -> int:
        found = 0
        after: str | None = ""
        while after is not None:
            points, after = await self._there(index, self._store(index).page(index.place.name, after, PAGE))
            async with self._database.transaction("worker") as conn:
                nobodys = await strays(conn, index, points)
                if bury:
                    await bury_points(conn, index, nobodys)
            found += len(nobodys)
        return found

    def rests(self, index: Index) -> bool:
        try:
            return self._store(index).rests
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

    def _store(self, index: Index) -> Patient:
        return self._store_at(index.place.store)

    async def _near(self, asking: _Asking, query: Vector) -> Scored:
        """By the store; here, where that is less work or the only way to enough."""
        index, tenant = asking.index, asking.tenant
        if asking.where is not None and len(await self._passing(asking, None, FEW + 1)) <= FEW:
            return (await self._ranked_here(asking, [query]))[query.tobytes()]
        wanted = asking.limit + SPARE
        found: Scored = []
        while wanted <= MOST_NEAR:
            asked = self._store(index).nearest(index.place.name, query, limit=wanted, tenant=tenant)
            near = await self._there(index, asked)
            found = await self._joined(asking, near)
            if len(found) >= asking.limit:
                return found[: asking.limit]
            if len(near) < wanted:
                break  # there are no more; but an approximate index may say so and be wrong
            wanted *= DEEPER
        if not await self._are_more(asking, found):
            return found
        return (await self._ranked_here(asking, [query]))[query.tobytes()]

    async def _are_more(self, asking: _Asking, found: Scored) -> bool:
        """Whether a document counts that is not among those found."""
        index, tenant = asking.index, asking.tenant
        matching, parameters = filters.among(asking.where)
        query = SQL.more.format(vectors=_table(index), matching=matching)
        asked = {"tenant": tenant, "ids": BigInts([doc_id for doc_id, _ in found])}
        async with self._database.transaction(role_of(tenant), tenant=tenant) as conn:
            (row,) = await _asked(conn, index, query, asked | parameters)
        return bool(row.more)

    async def _joined(self, asking: _Asking, near: Near) -> Scored:
        index, tenant = asking.index, asking.tenant
        matching, parameters = filters.among(asking.where)
        asked = {
            "points": [point_id for point_id, _ in near],
            "scores": [score for _, score in near],
            "tenant": tenant,
        }
        query = SQL.joined.format(vectors=_table(index), matching=matching)
        async with self._database.transaction(role_of(tenant), tenant=tenant) as conn:
            rows = await _asked(conn, index, query, asked | parameters)
        return [(row.doc_id, float(row.score)) for row in rows]

    async def _passing(self, asking: _Asking, after: UUID | None, limit: int) -> list[Any]:
        """The next chunks that count: (point_id, doc_id)."""
        index, tenant = asking.index, asking.tenant
        matching, parameters = filters.among(asking.where)
        query = SQL.passing.format(vectors=_table(index), matching=matching)
        asked = {"tenant": tenant, "after": after, "limit": limit}
        async with self._database.transaction(role_of(tenant), tenant=tenant) as conn:
            return await _asked(conn, index, query, asked | parameters)

    async def _ranked_here(self, asking: _Asking, queries: Sequence[Vector]) -> dict[bytes, Scored]:
        """Every chunk that counts is fetched, once for all queries: exact, and as long as there are many."""
        ranking = Ranking(queries, asking.limit)
        after: UUID | None = None
        while rows := await self._passing(asking, after, BLOCK):
            vectors = await self._fetched(asking.index, [row.point_id for row in rows])
            there = [row for row in rows if row.point_id in vectors]
            ranking.add([row.doc_id for row in there], [vectors[row.point_id] for row in there])
            after = rows[-1].point_id
        return {query.tobytes(): found for query, found in zip(queries, ranking.best(), strict=True)}

    async def _fetched(self, index: Index, points: Sequence[UUID]) -> dict[UUID, Vector]:
        found: dict[UUID, Vector] = {}
        for some in _slices(points, BLOCK):
            found |= await self._there(index, self._store(index).fetch(index.place.name, some))
        return found

    async def _there(self, index: Index, asking: Any) -> Any:
        """
        Raises:
            NotFound: the index was dropped, here too.
            StoreUnavailable: only the store has lost it.
        """
        try:
            return await asking
        except NotFound as error:
            async with self._database.transaction() as conn:
                row = await (await conn.execute(SQL.there_is, {"vectors": _name(index)})).fetchone()
            assert row is not None
            if not row.there_is:
                raise _dropped(index) from error
            raise StoreUnavailable(
                f"{index.place.store} has lost {index.place.name}, which {index.name} lives in: "
                "restore it there, or start a migration to another store"
            ) from error


@dataclass(frozen=True, slots=True)
class _Asking:
    """How many documents of an index, whose (None: everybody's), and which."""

    index: Index
    limit: int
    tenant: str | None
    where: Filter | None


async def strays(conn: Connection, index: Index, points: Sequence[UUID]) -> list[UUID]:
    """Those of the store's points that are nobody's."""
    asked = {"index": index.id, "points": list(points)}
    rows = await conn.execute(SQL.strays.format(vectors=_table(index)), asked)
    return [row.id for row in await rows.fetchall()]


async def bury_points(conn: Connection, index: Index, points: Sequence[UUID]) -> None:
    """They are to be deleted from the store."""
    await conn.execute(SQL.bury, {"index": index.id, "points": list(points)})


async def _asked(conn: Connection, index: Index, query: Any, parameters: dict[str, Any]) -> list[Any]:
    try:
        rows = await conn.execute(query, parameters)
    except psycopg.errors.UndefinedTable as error:
        raise _dropped(index) from error
    return await rows.fetchall()


def _dropped(index: Index) -> NotFound:
    return NotFound(f"index {index.name} was dropped meanwhile")


def _slices(items: Sequence[Item], most: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), most):
        yield items[start : start + most]


def _points(sets: Sequence[ChunkSet]) -> list[UUID]:
    return [point_id for each in sets for point_id in each.points]


def _name(index: Index) -> str:
    return f"revec.vectors_{index.id}"


def _table(index: Index) -> sql.Identifier:
    return sql.Identifier("revec", f"vectors_{index.id}")
