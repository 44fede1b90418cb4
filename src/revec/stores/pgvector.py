"""Vectors in the same database: one typed halfvec table per index, written in the caller's transaction."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from pgvector import HalfVector
from psycopg import sql
from psycopg.adapt import Dumper
from psycopg.pq import Format

from revec.model.errors import NotFound
from revec.model.index import Index, Kind
from revec.model.space import BYTES_PER_DIM, Space
from revec.postgres import indexes
from revec.postgres.arrays import BigInts
from revec.postgres.database import Connection
from revec.postgres.queries import beside
from revec.stores.base import Build, ChunkSet, Vector, half

SQL = beside(__file__)
PLAIN_DIMS = 4_000  # a longer halfvec does not fit a page beside its row
SMALL_TABLE = 200_000  # rows that may be sorted to draw a sample
MORE_CHUNKS = 4  # times, when the nearest chunks were those of too few documents
GRAPH_OVERHEAD = 1.6  # an HNSW element's neighbours and headers, over its vector
BUILD_MEMORY_KB = (64 << 10, 4 << 20)  # least and most maintenance_work_mem


class PgVector:
    """The default store."""

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

    async def replace(self, conn: Connection, index: Index, sets: Sequence[ChunkSet]) -> None:
        await self.remove(conn, index, [each.doc_id for each in sets])
        rows = [
            (each, number, text_hash, vector)
            for each in sets
            for number, (text_hash, vector) in enumerate(zip(each.text_hashes, each.vectors, strict=True))
        ]
        if not rows:
            return
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

    async def remove(self, conn: Connection, index: Index, doc_ids: Sequence[int]) -> None:
        await conn.execute(SQL.remove.format(vectors=_table(index)), {"ids": BigInts(doc_ids)})

    async def known(
        self, conn: Connection, space: Space, text_hashes: Sequence[bytes]
    ) -> dict[bytes, Vector]:
        found: dict[bytes, Vector] = {}
        for index_id in await indexes.of_space(conn, space):
            missing = [text_hash for text_hash in text_hashes if text_hash not in found]
            if not missing:
                break
            query = SQL.known.format(vectors=_table_of(index_id))
            try:
                async with conn.transaction():
                    rows = await conn.execute(query, {"hashes": missing}, binary=True)
            except psycopg.errors.UndefinedTable:
                continue  # dropped since we looked
            found.update({row.text_hash: row.embedding.to_numpy() for row in await rows.fetchall()})
        return found

    async def nearest(
        self, conn: Connection, index: Index, query: Vector, *, limit: int, tenant: str | None
    ) -> list[tuple[int, float]]:
        chunks = limit
        while True:
            if index.kind is Kind.HNSW:
                await conn.execute(SQL.scan_settings, {"limit": chunks})
            rows = await _scan(conn, SQL.scan, index, query, limit=chunks, tenant=tenant)
            if len(rows) >= limit or sum(row.chunks for row in rows) < chunks:
                return _scored(rows)[:limit]
            chunks *= MORE_CHUNKS  # some documents have several among the nearest

    async def exact(
        self, conn: Connection, index: Index, query: Vector, *, limit: int, tenant: str | None
    ) -> list[tuple[int, float]]:
        return _scored(await _scan(conn, SQL.scan_exactly, index, query, limit=limit, tenant=tenant))

    async def stored(
        self, conn: Connection, index: Index, doc_ids: Sequence[int], *, tenant: str | None
    ) -> dict[int, list[list[float]]]:
        query = SQL.stored.format(vectors=_table(index))
        try:
            rows = await conn.execute(query, {"ids": BigInts(doc_ids), "tenant": tenant}, binary=True)
        except psycopg.errors.UndefinedTable as error:
            raise NotFound(f"index {index.name} was dropped meanwhile") from error
        found: dict[int, list[list[float]]] = {}
        for row in await rows.fetchall():
            found.setdefault(row.doc_id, []).append(row.embedding.to_list())
        return found

    async def sample(self, conn: Connection, index: Index, size: int) -> list[tuple[int, bytes, Vector]]:
        counted = await (await conn.execute(SQL.rows, {"vectors": _name(index)})).fetchone()
        rows = int(counted.rows) if counted else 0
        query: Any = SQL.sample
        parameters: dict[str, float] = {"size": size}
        if rows > SMALL_TABLE:
            percent = min(100.0, 100 * 40 * size / rows)
            query, parameters = SQL.sample_blocks, {"size": size, "percent": percent}
        drawn = await conn.execute(query.format(vectors=_table(index)), parameters, binary=True)
        return [(row.doc_id, row.text_hash, row.embedding.to_numpy()) for row in await drawn.fetchall()]

    async def build(self, conn: Connection, index: Index) -> None:
        if index.kind is not Kind.HNSW:
            return
        await conn.execute(SQL.build_settings)
        await conn.execute(SQL.analyze.format(vectors=_table(index)))
        counted = await (await conn.execute(SQL.rows, {"vectors": _name(index)})).fetchone()
        rows = int(counted.rows) if counted else 0
        graph = rows * (index.space.dims * BYTES_PER_DIM + 400) * GRAPH_OVERHEAD / 1024
        least, most = BUILD_MEMORY_KB
        kilobytes = str(int(min(max(graph, least), most)))
        await conn.execute(SQL.build_memory, {"kilobytes": kilobytes})
        build = SQL.build.format(vectors=_table(index), name=sql.Identifier(_ann(index)))
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
        row = await (await conn.execute(SQL.bytes, {"vectors": _name(index)})).fetchone()
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


async def _scan(
    conn: Connection, scan: Any, index: Index, query: Vector, *, limit: int, tenant: str | None
) -> list[Any]:
    try:
        rows = await conn.execute(
            scan.format(vectors=_table(index)),
            {"query": HalfVector(half(query)), "tenant": tenant, "limit": limit},
        )
    except psycopg.errors.UndefinedTable as error:
        raise NotFound(f"index {index.name} was dropped meanwhile") from error
    return await rows.fetchall()


def _scored(rows: list[Any]) -> list[tuple[int, float]]:
    return [(row.doc_id, float(row.score)) for row in rows]


def _name(index: Index) -> str:
    return f"revec.vectors_{index.id}"


def _ann(index: Index) -> str:
    return f"vectors_{index.id}_hnsw"


def _table(index: Index) -> sql.Identifier:
    return _table_of(index.id)


def _table_of(index_id: int) -> sql.Identifier:
    return sql.Identifier("revec", f"vectors_{index_id}")
