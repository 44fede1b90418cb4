"""`make bench-ann`: what an approximate index finds of what an exact scan finds, how fast, and at what size.

    python -m bench.ann [--documents 20000] [--queries 300] [--models wordllama-256 wide:4096]

Documents are passages of real texts: each sentence of the collections, then each two, three … that follow
one another, until there are enough; passages that overlap are near one another, as chunks are. Queries are
those that the collections were judged by. Models: WordLlama (256 dims), MiniLM (minilm-384: a fiftieth of the
speed, so only if asked for), and the tests' model of 4,096 dims (tests/wide.py). Recall@10 is against the ten
nearest by numpy, ties counted as found; times are of one connection, in a transaction each, as a search asks.
The 20,000 that come first are single sentences, and 256 signs too few for those: a miss, and no mistake.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from pgvector import HalfVector
from psycopg import sql

from bench.report import Figure, at_least, finish, print_machine, reported
from revec.migrate.planning.shape import size_of
from revec.model.index import Index, Kind
from revec.model.space import MAX_HNSW_DIMS, QueryRecipe, Space
from revec.postgres import collections, graphs, indexes, schema
from revec.postgres.database import Connection, Database
from revec.postgres.server import Server
from revec.providers import local
from revec.providers.base import Matrix, Options, Provider, TextInput
from revec.stores import pgvector
from revec.stores.base import ChunkSet
from revec.stores.pgvector import LEAST_BY_SIGNS, SMALL_TENANT, PgVector
from tests.wide import ADDRESS, Wide

GOAL, AT = 0.99, 10
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])")
SHORTEST = 20  # characters of a sentence; others are initials and numbers
LONGEST = 12  # sentences of a passage
CALL, WRITE = 1_000, 500  # texts
SCANS = 20  # exact ones are slow, and miss nothing
TIE = 1e-4  # of float16 vectors' cosines, here and in the server
SIZES = """
SELECT pg_relation_size(%(graph)s::regclass) AS graph,
       pg_total_relation_size(%(table)s::regclass) - pg_relation_size(%(graph)s::regclass) AS rows
"""
WALK = "SELECT count(*) FROM (SELECT doc_id FROM {vectors} ORDER BY {nearness} LIMIT %(limit)s) AS near"


def passages(data: Path, names: Sequence[str], count: int) -> list[str]:
    """So many different ones, always the same."""
    lines = [line for name in names for line in (data / name / "docs.jsonl").read_text("utf-8").splitlines()]
    documents = []
    for row in map(json.loads, lines):
        parts = SENTENCE.split(f"{row['title']}. {row['text']}".strip())
        documents.append([part for part in parts if len(part) >= SHORTEST])
    found = list(dict.fromkeys(_of_lengths(documents)))[:count]
    if len(found) < count:
        sys.exit(f"{data} has texts for {len(found):,} passages: ask for fewer")
    random.Random(1).shuffle(found)
    return found


def _of_lengths(documents: list[list[str]]) -> Iterator[str]:
    for length in range(1, LONGEST + 1):
        for parts in documents:
            for start in range(len(parts) - length + 1):
                yield " ".join(parts[start : start + length])


def queries(data: Path, names: Sequence[str], count: int) -> list[str]:
    lines = [
        line for name in names for line in (data / name / "queries.jsonl").read_text("utf-8").splitlines()
    ]
    return [json.loads(line)["text"] for line in random.Random(2).sample(lines, count)]


async def embedded(provider: Provider, texts: Sequence[str]) -> Matrix:
    """As it is stored: float16."""
    answers = [
        (await provider.embed([TextInput(text) for text in texts[at : at + CALL]])).matrix.astype(np.float16)
        for at in range(0, len(texts), CALL)
    ]
    return np.concatenate(answers)


def tenth(matrix: Matrix, asked: Matrix) -> Matrix:
    """The cosine of the tenth nearest, shape (queries,)."""
    best = np.full((len(asked), AT), -1.0)
    of_queries = asked.astype(np.float32)
    for at in range(0, len(matrix), CALL):
        rows = local.unit(matrix[at : at + CALL].astype(np.float32))
        best = np.sort(np.hstack([best, of_queries @ rows.T]), axis=1)[:, -AT:]
    return best[:, 0] / np.linalg.norm(of_queries, axis=1)


@dataclass(frozen=True, slots=True)
class World:
    """One model's vectors of the passages and of the queries."""

    space: Space
    texts: Sequence[str]
    matrix: Matrix
    asked: Matrix
    bars: Matrix  # the cosine of each query's tenth nearest


@dataclass(frozen=True, slots=True)
class Trial:
    """One kind of index over them."""

    database: Database
    store: PgVector
    index: Index
    world: World

    @property
    def label(self) -> str:
        return f"{self.index.space.model}, {self.index.kind}"

    @property
    def table(self) -> sql.Identifier:
        return sql.Identifier("revec", f"vectors_{self.index.id}")

    async def run(self) -> list[Figure]:
        found = [reported(f"{self.label}: rows written a second", await self.filled())]
        if self.index.kind.is_approximate:
            began = time.perf_counter()
            async with self.database.transaction() as conn:
                await self.store.build(conn, self.index)
            rate = len(self.world.texts) / (time.perf_counter() - began)
            found += [reported(f"{self.label}: rows built a second", rate), *await self.sizes()]
        async with self.database.alone() as conn:
            await conn.execute(sql.SQL("VACUUM ANALYZE {}").format(self.table))
        found += await self.searched()
        if self.index.kind is Kind.EXACT:
            found += await self.of_small_tenant()
        if self.index.kind is Kind.BINARY:
            found += await self.walked()
        return found

    async def filled(self) -> float:
        """Rows a second."""
        world, began = self.world, time.perf_counter()
        for at in range(0, len(world.texts), WRITE):
            sets = []
            for number, text in enumerate(world.texts[at : at + WRITE], start=at):
                hashed = sha256(text.encode()).digest()
                tenant = "small" if number < SMALL_TENANT else "large"
                sets.append(ChunkSet(number, tenant, hashed, [hashed], [world.matrix[number]]))
            async with self.database.transaction("worker") as conn:
                await self.store.replace(conn, self.index, sets)
        return len(world.texts) / (time.perf_counter() - began)

    async def timed(
        self, ask: Callable[[Connection, Matrix], Awaitable[Any]], some: int | None = None
    ) -> tuple[list[Any], list[float]]:
        """Answers, and milliseconds, of each query."""
        answers, took = [], []
        for query in self.world.asked[:some]:
            async with self.database.transaction("worker") as conn:
                began = time.perf_counter()
                answers.append(await ask(conn, query))
                took.append(1000 * (time.perf_counter() - began))
        return answers, took

    async def searched(self) -> list[Figure]:
        async def ask(conn: Connection, query: Matrix) -> list[tuple[int, float]]:
            return await self.store.nearest(conn, self.index, query, limit=AT, tenant=None)

        exact = self.index.kind is Kind.EXACT
        await self.timed(ask, SCANS)  # into memory
        answers, took = await self.timed(ask, SCANS if exact else None)
        hits = [
            sum(score >= float(bar) - TIE for _, score in answer) / AT
            for answer, bar in zip(answers, self.world.bars, strict=False)
        ]
        return [
            at_least(f"{self.label}: recall@10", statistics.mean(hits), 1.0 if exact else GOAL),
            reported(f"{self.label}: p50 ms", statistics.median(took)),
            reported(f"{self.label}: p95 ms", statistics.quantiles(took, n=20)[-1]),
        ]

    async def of_small_tenant(self) -> list[Figure]:
        """The largest that is scanned wholly though there is a graph."""

        async def ask(conn: Connection, query: Matrix) -> list[tuple[int, float]]:
            return await self.store.exact(conn, self.index, query, limit=AT, tenant="small")

        _, took = await self.timed(ask, SCANS)
        return [reported(f"{self.label}: p50 ms of a tenant of {SMALL_TENANT:,}", statistics.median(took))]

    async def walked(self) -> list[Figure]:
        """The same walk without a look at any vector: what is missing to the whole is the ranking."""
        nearness = graphs.distance(self.index, sql.SQL("%(query)b"))
        walk = sql.SQL(WALK).format(vectors=self.table, nearness=nearness)

        async def ask(conn: Connection, query: Matrix) -> None:
            await conn.execute(pgvector.SQL.scan_settings, {"limit": LEAST_BY_SIGNS})
            await conn.execute(walk, {"query": HalfVector(query), "limit": LEAST_BY_SIGNS})

        _, took = await self.timed(ask)
        what = f"{self.label}: p50 ms of a walk to {LEAST_BY_SIGNS} rows whose vectors are not read"
        return [reported(what, statistics.median(took))]

    async def sizes(self) -> list[Figure]:
        """On disk, and what `plan` says of it."""
        names = {"table": f"revec.vectors_{self.index.id}", "graph": f"revec.vectors_{self.index.id}_hnsw"}
        async with self.database.transaction() as conn:
            row = await (await conn.execute(SIZES, names)).fetchone()
        assert row is not None
        size = size_of(self.index.kind, self.index.space.dims, len(self.world.texts))
        return [
            reported(f"{self.label}: MB of the graph", row.graph / 2**20),
            reported(f"{self.label}: MB of the graph, planned / real", size.graph / row.graph),
            reported(f"{self.label}: MB of the rows", row.rows / 2**20),
            reported(f"{self.label}: MB of the rows, planned / real", size.vectors / row.rows),
        ]


async def measure(dsn: str, models: list[str], texts: list[str], asked: list[str]) -> list[Figure]:
    found: list[Figure] = []
    async with Database(dsn) as database:
        await schema.apply(database)
        print_machine(dsn)
        for name in models:
            began = time.perf_counter()
            world = await embedded_world(name, texts, asked)
            print(f"{name}: embedded in {time.perf_counter() - began:.1f} s", flush=True)
            for kind in Kind:
                if kind is not Kind.HNSW or world.space.dims <= MAX_HNSW_DIMS:
                    found += await of_kind(database, world, kind)
    return found


async def embedded_world(name: str, texts: list[str], asked: list[str]) -> World:
    provider: Provider = Wide() if name == ADDRESS else local.connect(name, Options(threads=2))
    engine, _, model = provider.name.partition(":")
    matrix, of_queries = await embedded(provider, texts), await embedded(provider, asked)
    space = Space(engine, model, "1", matrix.shape[1], normalise=True)
    return World(space, texts, matrix, of_queries, tenth(matrix, of_queries))


async def of_kind(database: Database, world: World, kind: Kind) -> list[Figure]:
    store, space = PgVector(), world.space
    async with database.transaction() as conn:
        made = await collections.create(conn, f"c-{space.dims}-{kind}")
        await indexes.put_space(conn, space)
        index = await indexes.register(conn, made.id, space, QueryRecipe(space.address), kind)
        await store.create(conn, index)
    found = await Trial(database, store, index, world).run()
    async with database.transaction() as conn:
        await store.drop(conn, index)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--models", nargs="+", default=["wordllama-256", ADDRESS])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--collections", nargs="+", default=["banking77", "cacm", "cranfield", "fonts", "pubmedqa"]
    )
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        sys.exit(f"there are no collections of texts in {arguments.data}: pass --data")
    texts = passages(arguments.data, arguments.collections, arguments.documents)
    asked = queries(arguments.data, arguments.collections, arguments.queries)
    home = Path(tempfile.mkdtemp(prefix="revec-bench-"))
    home.chmod(0o755)  # the server may run as another user
    try:
        with Server(home / "home") as server:
            print(f"{len(texts):,} passages, {len(asked):,} queries")
            found = asyncio.run(measure(server.dsn, arguments.models, texts, asked))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    finish("ann", found)


if __name__ == "__main__":
    main()
