"""Vectors in the same database: one typed halfvec table per index, written in the caller's transaction."""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from pgvector import HalfVector
from psycopg import sql
from psycopg.adapt import Dumper
from psycopg.pq import Format

from revec.model.errors import NotFound
from revec.model.filter import Filter, Operator
from revec.model.index import Index, Kind
from revec.model.space import BYTES_PER_DIM, Space
from revec.postgres import filters, graphs, indexes, ledgers
from revec.postgres.arrays import BigInts
from revec.postgres.database import Connection, Database, role_of
from revec.postgres.queries import Statement, beside
from revec.stores.base import Build, ChunkSet, InThisDatabase, Sample, Scored, Vector, half

SQL = beside(__file__)
PLAIN_DIMS = 4_000  # a longer halfvec does not fit a page beside its row
SMALL_TABLE = 200_000  # rows that may be sorted to draw a sample
SMALL_TENANT = 5_000  # rows that are scanned though there is a graph: by it, a search of few would miss some
MORE_CHUNKS = 4  # times, when the nearest chunks were those of too few documents, or are to be filtered
MOST_CHUNKS = 20_000  # `hnsw.max_scan_tuples`: a walk does not go further
# Signs tell roughly how near a vector is, the more roughly the fewer there are: SIGNS_ENOUGH / dims times as
# many chunks are looked at as are wanted. Of 100,000 real texts and 256 dims the nearest ten by vectors are
# among the nearest 400 by signs in 0.993 of all cases, of 4,096 dims among the nearest 100 in all.
SIGNS_ENOUGH = 16_384
LEAST_BY_SIGNS = 200  # chunks, however few are wanted


class PgVector(InThisDatabase):
    """The default store."""

    filters = frozenset(Operator)
    draws = SQL  # where `sample` and `some` are, and `…_blocks` of large tables

    async def create(self, conn: Connection, index: Index) -> None:
        dims = sql.Literal(index.space.dims)
        await conn.execute(SQL.create.format(vectors=_table(index), dims=dims))
        if index.space.dims <= PLAIN_DIMS:
            await conn.execute(SQL.inline.format(vectors=_table(index)))
        for query, name in ((SQL.by_text, "by_text"), (SQL.by_tenant, "by_tenant")):
            label = sql.Identifier(f"vectors_{index.id}_{name}")
            await conn.execute(query.format(vectors=_table(index), name=label))
        await conn.execute(SQL.protect, {"vectors": _name(index)})

    async def drop(self, conn: Connection, index: Index) -> None:
        await conn.execute(SQL.drop.format(vectors=_table(index)))

    async def replace(self, conn: Connection, index: Index, sets: Sequence[ChunkSet]) -> set[int]:
        ids = [each.doc_id for each in sets]
        await self.remove(conn, index, ids)
        rows = [
            (each, number, text_hash, vector)
            for each in sets
            for number, (text_hash, vector) in enumerate(zip(each.text_hashes, each.vectors, strict=True))
        ]
        if not rows:
            return set(ids)
        await conn.execute(
            SQL.insert.format(vectors=_table(index)),
            {
                "doc_ids": BigInts([each.doc_id for each, *_ in rows]),
                "chunk_nos": BigInts([number for _, number, *_ in rows]),
                "tenants": [each.tenant for each, *_ in rows],
                "input_hashes": [each.input_hash for each, *_ in rows],
                "text_hashes": [text_hash for *_, text_hash, _ in rows],
                "chunk_counts": BigInts([len(each.vectors) for each, *_ in rows]),
                "embeddings": HalfVectors([vector for *_, vector in rows]),
            },
        )
        return set(ids)

    async def remove(self, conn: Connection, index: Index, doc_ids: Sequence[int]) -> None:
        await conn.execute(SQL.remove.format(vectors=_table(index)), {"ids": BigInts(doc_ids)})

    async def known(
        self, conn: Connection, space: Space, text_hashes: Sequence[bytes]
    ) -> dict[bytes, Vector]:
        found: dict[bytes, Vector] = {}
        for index in await indexes.of_space(conn, space):
            missing = [text_hash for text_hash in text_hashes if text_hash not in found]
            if not missing:
                break
            sure = SQL.always if index.column is None else SQL.as_noted
            query = SQL.known.format(vectors=_table(index), sure=sure)
            try:
                async with conn.transaction():
                    rows = await conn.execute(query, {"hashes": missing}, binary=True)
            except psycopg.errors.UndefinedTable:
                continue  # dropped since we looked
            found.update({row.text_hash: row.embedding.to_numpy() for row in await rows.fetchall()})
        return found

    async def ahead(self, *_: object, **__: object) -> PgVector:
        return self

    async def nearest(
        self,
        conn: Connection,
        index: Index,
        query: Vector,
        *,
        limit: int,
        tenant: str | None,
        where: Filter | None = None,
    ) -> Scored:
        scan = _Scan(conn, index, query, tenant, where)
        if index.kind.is_approximate:
            found = None if await _is_small(conn, index, tenant) else await scan.approximately(limit)
        else:
            found = await scan.chunks(limit)
        return found if found is not None else await scan.exactly(limit)

    async def is_ready(self, conn: Connection, index: Index, *, tenant: str | None) -> bool:
        if not index.kind.is_approximate or await _is_small(conn, index, tenant):
            return True
        return (await self.built(conn, index)).valid

    def statement(
        self,
        index: Index,
        query: Vector,
        *,
        limit: int,
        tenant: str | None,
        where: Filter | None = None,
    ) -> Statement | None:
        if index.kind.is_approximate:
            return None  # a walk may have to be repeated
        return _statement(SQL.scan_exactly, index, query, limit=limit, tenant=tenant, where=where)

    async def exact(
        self,
        conn: Connection,
        index: Index,
        query: Vector,
        *,
        limit: int,
        tenant: str | None,
        where: Filter | None = None,
    ) -> Scored:
        return await _Scan(conn, index, query, tenant, where).exactly(limit)

    async def scored(
        self,
        conn: Connection,
        index: Index,
        query: Vector,
        doc_ids: Collection[int],
        *,
        tenant: str | None,
    ) -> Scored:
        asked = {"query": HalfVector(half(query)), "ids": BigInts(doc_ids), "tenant": tenant}
        return _scored(await _asked(conn, index, SQL.scored.format(vectors=_table(index)), asked))

    async def vectors(
        self, database: Database, index: Index, doc_ids: Sequence[int], *, tenant: str | None
    ) -> dict[int, list[Vector]]:
        found: dict[int, list[Vector]] = {}
        query = SQL.vectors.format(vectors=_table(index))
        async with database.transaction(role_of(tenant), tenant=tenant) as conn:
            rows = await _asked(conn, index, query, {"ids": BigInts(doc_ids), "tenant": tenant})
        for row in rows:
            found.setdefault(row.doc_id, []).append(row.embedding.to_numpy())
        return found

    async def sample(self, database: Database, index: Index, size: int) -> Sample:
        async with database.transaction("worker") as conn:
            drawn = await self._drawn(conn, index, size, self.draws.sample, self.draws.sample_blocks)
        return Sample([(row.doc_id, row.text_hash, row.embedding.to_numpy()) for row in drawn], len(drawn))

    async def some(self, conn: Connection, index: Index, size: int) -> list[int]:
        drawn = await self._drawn(conn, index, size, self.draws.some, self.draws.some_blocks)
        return [row.doc_id for row in drawn]

    async def _drawn(
        self, conn: Connection, index: Index, size: int, of_all: sql.SQL, of_blocks: sql.SQL
    ) -> list[Any]:
        named = {"vectors": _counted(index).as_string(conn)}
        counted = await (await conn.execute(SQL.rows, named)).fetchone()
        rows = int(counted.rows) if counted else 0
        query = of_blocks if rows > SMALL_TABLE else of_all
        percent = min(100.0, 100 * 40 * size / max(1, rows))
        asked = {"size": size, "percent": percent}
        drawing = query.format(vectors=_table(index), counted=_counted(index))
        return await (await conn.execute(drawing, asked, binary=True)).fetchall()

    async def build(self, conn: Connection, index: Index) -> None:
        if not index.kind.is_approximate:
            return
        await conn.execute(SQL.build_settings)
        await conn.execute(SQL.analyze.format(vectors=_table(index)))
        counted = await (await conn.execute(SQL.rows, {"vectors": _name(index)})).fetchone()
        rows = int(counted.rows) if counted else 0
        kilobytes = str(graphs.build_memory(index.kind, index.space.dims, rows) >> 10)
        await conn.execute(SQL.build_memory, {"kilobytes": kilobytes})
        build = SQL.build.format(
            vectors=_table(index),
            name=sql.Identifier(_ann(index)),
            elements=graphs.elements(index.kind, index.space.dims),
        )
        try:
            async with conn.transaction():
                await conn.execute(build)
        except psycopg.errors.DiskFull:  # of /dev/shm, 64 MB in many containers: alone it needs none
            await conn.execute(SQL.build_alone)
            await conn.execute(build)

    async def built(self, conn: Connection, index: Index) -> Build:
        row = await (
            await conn.execute(SQL.built, {"vectors": _name(index), "name": f"revec.{_ann(index)}"})
        ).fetchone()
        assert row is not None
        return Build(valid=row.valid, running=row.running)

    async def bytes_stored(self, conn: Connection, index: Index) -> int:
        named = {"vectors": _counted(index).as_string(conn)}
        row = await (await conn.execute(SQL.bytes, named)).fetchone()
        assert row is not None
        return int(row.bytes)


@dataclass(frozen=True, slots=True)
class HalfVectors:
    """Vectors of equal length as one halfvec[]: a list of HalfVector takes twice as long to send."""

    vectors: Sequence[Vector]


class HalfVectorsDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: HalfVectors) -> bytes:
        """What array_recv reads: a header, then each element's length and what halfvec_recv reads."""
        assert self.connection is not None
        element_type = self.connection.adapters.types["halfvec"].oid
        dims = len(obj.vectors[0])
        dimensions, has_null, first = 1, 0, 1
        header = struct.pack(">iiIii", dimensions, has_null, element_type, len(obj.vectors), first)
        element = struct.pack(">iHH", 2 + 2 + dims * BYTES_PER_DIM, dims, 0)
        return element.join([header, *(vector.astype(">f2").tobytes() for vector in obj.vectors)])


psycopg.adapters.register_dumper(HalfVectors, HalfVectorsDumper)


@dataclass(frozen=True, slots=True)
class _Scan:
    """One query over one tenant's rows (None: over all) that a filter lets through."""

    conn: Connection
    index: Index
    query: Vector
    tenant: str | None
    where: Filter | None

    async def chunks(self, limit: int) -> Scored | None:
        """Documents of the nearest `limit` chunks; None where these are of too few documents."""
        rows = await self._nearest_rows(limit)
        is_all = len(rows) >= limit or sum(row.chunks for row in rows) < limit
        return _scored(rows) if is_all else None

    async def approximately(self, limit: int) -> Scored | None:
        """Through the graph; None where the walk ended before it had met so many documents."""
        if self.index.kind is not Kind.BINARY:
            return await self._walked(limit)
        await self.conn.execute(SQL.no_sort)
        found = await self._walked(limit)
        await self.conn.execute(SQL.sort_again)
        return found

    async def _walked(self, limit: int) -> Scored | None:
        chunks = self._first(limit)
        while chunks <= MOST_CHUNKS:
            await self.conn.execute(SQL.scan_settings, {"limit": chunks})
            rows = await self._nearest_rows(chunks)
            if self._is_enough(rows, limit, chunks):
                return _scored(rows)[:limit]
            if sum(row.chunks for row in rows) < chunks:
                return None  # it saw all, or `hnsw.max_scan_tuples` rows: nobody can tell
            chunks *= MORE_CHUNKS  # some documents have several among the nearest
        return None

    def _first(self, limit: int) -> int:
        """How many chunks to ask the graph for at first."""
        chunks = limit if self.where is None else MORE_CHUNKS * limit
        if self.index.kind is Kind.BINARY:
            chunks = max(chunks, min(max(LEAST_BY_SIGNS, self._times() * limit), MOST_CHUNKS))
        return chunks

    def _is_enough(self, rows: list[Any], limit: int, chunks: int) -> bool:
        """Whether `limit` documents are there, also for every chunk of theirs enough was looked at."""
        near = sum(row.chunks for row in rows[:limit])
        is_last = chunks * MORE_CHUNKS > MOST_CHUNKS
        return len(rows) >= limit and (near * self._times() <= chunks or is_last)

    def _times(self) -> int:
        """How many chunks to look at for each that is wanted."""
        return max(2, SIGNS_ENOUGH // self.index.space.dims) if self.index.kind is Kind.BINARY else 1

    async def exactly(self, limit: int) -> Scored:
        return _scored(await self._rows(SQL.scan_exactly, limit))

    async def _nearest_rows(self, limit: int) -> list[Any]:
        """Of the documents of the nearest `limit` chunks, best first."""
        rows = await self._rows(SQL.scan, limit)
        return sorted(rows, key=lambda row: (-row.score, row.doc_id))

    async def _rows(self, scan: Any, limit: int) -> list[Any]:
        asked = _statement(scan, self.index, self.query, limit=limit, tenant=self.tenant, where=self.where)
        return await _asked(self.conn, self.index, asked.query, asked.parameters)


async def _is_small(conn: Connection, index: Index, tenant: str | None) -> bool:
    """Whether all of the tenant's rows are read in less time than a walk through everybody's graph needs to
    miss some of them.
    """
    if tenant is None:
        return False
    counting = SQL.is_small.format(vectors=_counted(index))
    ((small,),) = await _asked(conn, index, counting, {"tenant": tenant, "most": SMALL_TENANT})
    return bool(small)


def _statement(
    scan: sql.SQL, index: Index, query: Vector, *, limit: int, tenant: str | None, where: Filter | None
) -> Statement:
    matching, parameters = filters.among(where)
    nearness = graphs.distance(index, sql.SQL("%(query)b"))
    asked = {"query": HalfVector(half(query)), "tenant": tenant, "limit": limit}
    composed = scan.format(vectors=_table(index), matching=matching, nearness=nearness)
    return Statement(composed, asked | parameters)


async def _asked(conn: Connection, index: Index, query: Any, parameters: dict[str, Any]) -> list[Any]:
    try:
        rows = await conn.execute(query, parameters)
    except psycopg.errors.UndefinedTable as error:
        raise NotFound(f"index {index.name} was dropped meanwhile") from error
    return await rows.fetchall()


def _scored(rows: list[Any]) -> Scored:
    return [(row.doc_id, float(row.score)) for row in rows]


def _name(index: Index) -> str:
    return f"revec.vectors_{index.id}"


def _ann(index: Index) -> str:
    return f"vectors_{index.id}_hnsw"


def _table(index: Index) -> sql.Identifier:
    return sql.Identifier("revec", f"vectors_{index.id}")


def _counted(index: Index) -> sql.Identifier:
    """Where its rows are counted: of a column by its ledger, without a look at the user's table."""
    return _table(index) if index.column is None else ledgers.table(index)
