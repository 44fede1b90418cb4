"""`make bench-writes`: the guarded write path beside plain INSERT … unnest and a bare COPY.

    python -m bench.writes [--rounds 5] [--rows 10240 5120] [--profile]

Guarded is what a worker does for each claim of 256 once the provider has answered, by the product's
own code: transaction, role, fence, chunk sets, work settled, payments closed, commit. The first peer
inserts the same rows, in batches of 256, one commit each, into an identical table with the same
indexes, batch by batch in turn with us; the second copies them all into a bare table. All from float32
vectors in memory, on one connection each; the figures are medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from pgvector import HalfVector
from pgvector.psycopg import register_vector_async
from psycopg import sql

from bench.report import Figure, at_least, finish, print_machine, reported
from revec.model.document import Draft
from revec.model.index import Index, Kind
from revec.model.space import QueryRecipe, Space
from revec.postgres import collections, documents, indexes, schema
from revec.postgres.database import Database
from revec.postgres.server import Server
from revec.stores.pgvector import PgVector
from revec.work import queue
from revec.work.pack import Worksite
from revec.work.queue import Claim, Payment
from revec.work.reading import Piece, Reader

BATCH = 256
GOALS = {384: 0.7, 1536: 0.8}
LEASE = 3_600.0
WORDS_A_DOCUMENT = 100

# The peers. Their table is made by the store itself; only the statement is theirs.
INSERT = """
INSERT INTO {vectors} (doc_id, chunk_no, tenant, input_hash, text_hash, chunk_count, embedding)
SELECT * FROM unnest(%(doc_ids)b::bigint[], %(chunk_nos)b::int4[], %(tenants)s::text[],
                     %(input_hashes)b::bytea[], %(text_hashes)b::bytea[], %(chunk_counts)b::int4[],
                     %(embeddings)b::halfvec[])
"""
COPY = """
COPY bare (doc_id, chunk_no, tenant, input_hash, text_hash, chunk_count, embedding)
FROM STDIN (FORMAT BINARY)
"""
COPY_TYPES = ("int8", "int4", "text", "bytea", "bytea", "int4", "halfvec")


@dataclass(frozen=True, slots=True)
class Batch:
    """A claim whose texts the provider has just answered."""

    claim: Claim
    pieces: list[Piece]
    payment: Payment
    matrix: np.ndarray  # float32, one row per piece


class Nobody:
    """In the provider's place: its texts are embedded already."""

    def count(self, texts: list[str]) -> list[int]:
        return [1] * len(texts)


class Scene:
    """One space of `dims` dimensions, its documents, and the two peers' tables."""

    def __init__(self, database: Database, plain: psycopg.AsyncConnection, dims: int, rows: int) -> None:
        self.database = database
        self.plain = plain  # as the pages of psycopg and pgvector show it; autocommit
        self.store = PgVector()
        self.space = Space("bench", f"random-{dims}", "1", dims, normalise=True)
        self.rows = rows
        self.rng = np.random.default_rng(dims)

    async def set(self) -> None:
        async with self.database.transaction() as conn:
            self.collection = await collections.create(conn, f"c{self.space.dims}")
            await indexes.put_space(conn, self.space)
            recipe = QueryRecipe(self.space.address)
            self.index = await self._index(conn, recipe)
            self.peer = await self._index(conn, recipe)
            await indexes.retire(conn, self.peer.id)  # documents make no work for it
            await conn.execute("DROP TABLE IF EXISTS bare")
            await conn.execute(
                "CREATE TABLE bare (doc_id bigint, chunk_no integer, tenant text, input_hash bytea,"
                f" text_hash bytea, chunk_count integer, embedding halfvec({self.space.dims}))"
            )
            await conn.execute("ALTER TABLE bare ALTER COLUMN embedding SET STORAGE PLAIN")
        words = np.array([f"word{n}" for n in range(5_000)])
        async with self.database.transaction() as conn:
            source = await collections.add_source(conn, self.collection, collections.PUSH)
            drafts = [
                Draft(f"{n:06}", f"title {n}", " ".join(self.rng.choice(words, WORDS_A_DOCUMENT)))
                for n in range(self.rows)
            ]
            await documents.put(conn, source, drafts)
            await conn.execute("DELETE FROM revec.work")

    async def _index(self, conn: psycopg.AsyncConnection, recipe: QueryRecipe) -> Index:
        index = await indexes.register(conn, self.collection.id, self.space, recipe, Kind.EXACT)
        await self.store.create(conn, index)
        return index

    async def reset(self) -> None:
        """Empty tables without dead rows, and a checkpoint: what changes a page first logs it whole."""
        for table in (*map(_table, (self.index, self.peer)), sql.Identifier("bare")):
            await self.plain.execute(sql.SQL("TRUNCATE {}").format(table))
        await self.plain.execute("TRUNCATE revec.work, revec.paid")
        await self.plain.execute("VACUUM ANALYZE revec.document, revec.excluded, revec.dead")
        await self.plain.execute("CHECKPOINT")

    async def batches(self) -> list[Batch]:
        """All documents claimed, read and paid for, as by a worker; and the provider's answers."""
        async with self.database.transaction() as conn:
            await conn.execute(
                "INSERT INTO revec.work (index_id, doc_id, rev, action, lane, tenant)"
                " SELECT %s, id, rev, 'embed', 2, tenant FROM revec.document"
                "  WHERE collection_id = %s ORDER BY id",
                (self.index.id, self.collection.id),
            )
        ready = []
        while True:
            async with self.database.transaction("worker") as conn:
                claim = await queue.claim(conn, self.index.id, 2, size=BATCH, lease=LEASE)
            if not claim.jobs:
                return ready
            async with self.database.transaction("worker") as conn:
                contents = await documents.contents(conn, await documents.measured(conn, claim.to_embed))
            pieces = Reader(self.space, lambda texts: [1] * len(texts), None).pieces(claim, contents)
            async with self.database.transaction("worker") as conn:
                payment = await queue.lease_payment(
                    conn, self.space.id, sorted(piece.hashes[0] for piece in pieces), LEASE
                )
            matrix = self.rng.standard_normal((len(pieces), self.space.dims), dtype=np.float32)
            matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
            ready.append(Batch(claim, pieces, payment, matrix))

    def site(self) -> Worksite:
        nobody: Any = Nobody()
        return Worksite(self.database, self.store, nobody, nobody, self.index, LEASE)

    # --- the arms: each writes the same rows ----------------------------------------------------------

    async def guarded(self, batches: list[Batch]) -> None:
        site = self.site()
        for batch in batches:
            vectors = dict(zip(_hashes(batch), batch.matrix, strict=True))
            await site._write(  # noqa: SLF001 - this very step is what is measured
                batch.claim, batch.pieces, vectors, batch.payment.token
            )
        assert site.done.written == sum(len(batch.pieces) for batch in batches), (
            "a document was busy, with nobody else there"
        )

    async def inserted(self, batches: list[Batch]) -> None:
        statement = sql.SQL(INSERT).format(vectors=_table(self.peer))
        for batch in batches:
            columns = {
                "doc_ids": [piece.job.doc_id for piece in batch.pieces],
                "chunk_nos": [0] * len(batch.pieces),
                "tenants": [piece.content.tenant for piece in batch.pieces],
                "input_hashes": [piece.content.input_hash for piece in batch.pieces],
                "text_hashes": _hashes(batch),
                "chunk_counts": [1] * len(batch.pieces),
                "embeddings": [HalfVector(row) for row in batch.matrix.astype(np.float16)],
            }
            await self.plain.execute(statement, columns)  # in autocommit: one round trip

    async def copied(self, batches: list[Batch]) -> None:
        async with self.plain.cursor() as cursor, cursor.copy(COPY) as copy:
            copy.set_types(COPY_TYPES)
            for batch in batches:
                matrix = batch.matrix.astype(np.float16)
                for piece, row in zip(batch.pieces, matrix, strict=True):
                    doc, (text_hash,) = piece.content, piece.hashes
                    await copy.write_row(
                        (doc.doc_id, 0, doc.tenant, doc.input_hash, text_hash, 1, HalfVector(row))
                    )

    async def written(self) -> list[int]:
        """Rows in the guarded, the peer's and the bare table; open work; open payments."""
        async with self.database.transaction() as conn:
            counts = sql.SQL(", ").join(
                sql.SQL("(SELECT count(*) FROM {})").format(table)
                for table in (*map(_table, (self.index, self.peer)), sql.Identifier("bare"))
            )
            query = sql.SQL(
                "SELECT ARRAY[{}, (SELECT count(*) FROM revec.work),"
                " (SELECT count(*) FROM revec.paid)] AS counts"
            )
            row = await (await conn.execute(query.format(counts))).fetchone()
            assert row is not None
            return list(row.counts)


def _hashes(batch: Batch) -> list[bytes]:
    return [piece.hashes[0] for piece in batch.pieces]


def _table(index: Index) -> sql.Identifier:
    return sql.Identifier("revec", f"vectors_{index.id}")


async def measured(scene: Scene, rounds: int) -> list[dict[str, float]]:
    """Rows per second of each arm, in each round."""
    arms: dict[str, Callable[[list[Batch]], Awaitable[None]]] = {
        "guarded": scene.guarded,
        "insert": scene.inserted,
        "copy": scene.copied,
    }
    speeds = []
    for number in range(rounds + 1):
        await scene.reset()
        batches = await scene.batches()
        seconds = dict.fromkeys(arms, 0.0)

        async def time_of(name: str, part: list[Batch], seconds: dict[str, float] = seconds) -> None:
            began = time.perf_counter()
            await arms[name](part)
            seconds[name] += time.perf_counter() - began

        for turn, batch in enumerate(batches):  # what else the machine does, it does to both
            for name in ("guarded", "insert") if turn % 2 else ("insert", "guarded"):
                await time_of(name, [batch])
        await time_of("copy", batches)
        assert await scene.written() == [scene.rows, scene.rows, scene.rows, 0, 0]
        speed = {name: scene.rows / spent for name, spent in seconds.items()}
        label = f"round {number}" if number else "warm-up"
        shown = ", ".join(f"{name} {rate:,.0f}" for name, rate in speed.items())
        print(f"{scene.space.dims} dims, {label}: rows/s {shown}", flush=True)
        if number:
            speeds.append(speed)
    return speeds


def judged(dims: int, speeds: list[dict[str, float]]) -> list[Figure]:
    inserts = statistics.median(each["guarded"] / each["insert"] for each in speeds)
    copies = statistics.median(each["guarded"] / each["copy"] for each in speeds)
    return [
        at_least(f"guarded / INSERT … unnest, {dims} dims", inserts, GOALS[dims]),
        reported(f"guarded / COPY into a bare table, {dims} dims", copies),
        *(
            reported(f"{name}, rows/s, {dims} dims", statistics.median(each[name] for each in speeds))
            for name in ("guarded", "insert", "copy")
        ),
    ]


async def profiled(scene: Scene) -> None:
    """Where the guarded path spends its time, on this side of the wire."""
    await scene.reset()
    batches = await scene.batches()
    profile = cProfile.Profile()
    profile.enable()
    await scene.guarded(batches)
    profile.disable()
    pstats.Stats(profile).sort_stats("tottime").print_stats(25)


async def bench(dsn: str, options: argparse.Namespace) -> list[Figure]:
    figures = []
    async with (
        Database(dsn, connections=1) as database,
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as plain,
    ):
        await schema.apply(database)
        await register_vector_async(plain)
        print_machine(dsn)
        print(
            f"n: {options.rounds} rounds of {options.rows[0]:,} rows at 384 dims and "
            f"{options.rows[1]:,} at 1536, batches of {BATCH}, after one round to warm up"
        )
        for dims, rows in zip(GOALS, options.rows, strict=True):
            scene = Scene(database, plain, dims, rows)
            await scene.set()
            if options.profile:
                await profiled(scene)
            else:
                figures += judged(dims, await measured(scene, options.rounds))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs=2, default=[10_240, 5_120], metavar=("384D", "1536D"))
    parser.add_argument("--profile", action="store_true", help="print a profile and no figures")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="revec-bench-"))
    home.chmod(0o755)
    try:
        with Server(home / "home") as server:
            figures = asyncio.run(bench(server.dsn, options))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if figures:
        finish("writes", figures)
    else:
        sys.exit(None if options.profile else "nothing was measured")


if __name__ == "__main__":
    main()
