"""`make bench-half`: how good search is while a collection moves from one model to another.

    python -m bench.half [--collections cranfield cacm banking77 fonts] [--queries 200]

The product does the work: a worker fills the new index of a migration that is served early and is stopped
where the wanted part of the documents is there, in random order; then the judged queries are asked. Beside
it stand, over the very same vectors, the old index alone (status quo), the halves' answers fused by ranks,
and the new index as it will be. What a search had embedded is taken away again after it, so each one is cold;
how many different documents all of them wanted is printed too: so many they would have embedded together.
A text goes to a model once: what is measured is search, not the models' speed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from psycopg import sql

from bench.lexical import Judged, read
from bench.report import Figure, at_least, at_most, finish, print_machine, reported
from revec.app import App
from revec.migrate.conductor import Conductor
from revec.migrate.early import MOST_PAIRS, NEARLY
from revec.model.document import Draft
from revec.model.index import Collection, Index
from revec.model.migration import Migration
from revec.model.reading import Mode
from revec.postgres import bridges, collections, documents, indexes, migrations
from revec.postgres.arrays import BigInts
from revec.postgres.server import Server
from revec.providers.base import Input, Kind, Provider, TextInput, Vectors
from revec.search.fusion import RANKS
from revec.search.judge import judged, ndcg
from revec.settings import Settings
from revec.statistics.paired import randomisation

OLD, NEW = "local:wordllama-256", "local:minilm-384"
PARTS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
WORSE = ("fonts",)  # the new model is no better there, and the two agree on little: it has to be refused
K = 10
NOISE = 0.05  # a difference that random signs make less often than this is one
CLAIMS = 100  # of a collection: the worker is stopped close to the wanted part
TOGETHER = 20  # documents that are put at once: the product orders these by their keys
DEPTH = 100  # of either half that is fused
PATIENCE = 600.0  # seconds for one part to be filled

Matrix = np.ndarray[Any, np.dtype[np.float32]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


class Remembering:
    """A model that is asked for each text once."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._known: dict[tuple[Input, Kind], Matrix] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)

    async def embed(self, inputs: Sequence[Input], kind: Kind = "document") -> Vectors:
        lacking = list(dict.fromkeys(each for each in inputs if (each, kind) not in self._known))
        if lacking:
            made = await self._provider.embed(lacking, kind)
            self._known.update({(each, kind): row for each, row in zip(lacking, made.matrix, strict=True)})
        return Vectors(np.stack([self._known[each, kind] for each in inputs]), tokens=len(inputs))


@dataclass(slots=True)
class Part:
    """What was seen with a part of the documents migrated; the lists run along the queries."""

    migrated: float
    why: str  # of the bridge
    ours: list[float] = field(default_factory=list)  # nDCG@10
    fused: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)  # of the new index's ten best
    early: list[bool] = field(default_factory=list)
    demanded: list[int] = field(default_factory=list)
    wanted: set[int] = field(default_factory=set)  # documents, by all queries


class World:
    """A judged collection in the product."""

    def __init__(self, app: App, judgements: Judged, made: Collection, queries: list[str]) -> None:
        self.app = app
        self.judgements = judgements
        self.made = made
        self.queries = queries
        self.keys: dict[int, str] = {}
        self.ids = np.empty(0, np.int64)  # of the documents with vectors; both matrices run along it
        self.old: Matrix = np.empty((0, 0), np.float32)
        self.new: Matrix = np.empty((0, 0), np.float32)
        self.full: dict[str, list[str]] = {}  # query → what the new index will say

    @property
    def name(self) -> str:
        return self.judgements.name

    def score(self, query: str, keys: Sequence[str]) -> float:
        return ndcg(keys, self.judgements.qrels[query], K)

    async def search(self, query: str) -> Any:
        text = self.judgements.queries[query]
        return await self.app.retriever.search(self.name, text, k=K, tenant="default", mode=Mode.VECTOR)

    async def vector(self, address: str, query: str) -> Matrix:
        provider = await self.app.provider(address)
        answer = await provider.embed([TextInput(self.judgements.queries[query])], "query")
        return np.asarray(answer.matrix[0])

    async def nearest(self, address: str, query: str, among: Flags | None = None) -> list[int]:
        """By exact search of these documents (None: of all), best first."""
        vectors = self.old if address == OLD else self.new
        scores = vectors @ await self.vector(address, query)
        if among is not None:
            scores[~among] = -np.inf
        best = np.argsort(-scores, kind="stable")[:DEPTH]
        return [int(doc_id) for doc_id in self.ids[best[np.isfinite(scores[best])]]]

    async def fused(self, query: str, migrated: Flags) -> list[str]:
        """By ranks, each half from its own index: what is done without a bridge."""
        halves = [await self.nearest(NEW, query, migrated), await self.nearest(OLD, query, ~migrated)]
        scores = {doc: 1 / (RANKS + rank) for half in halves for rank, doc in enumerate(half, start=1)}
        return self.named(sorted(scores, key=lambda doc: -scores[doc])[:K])

    def named(self, ids: Sequence[int]) -> list[str]:
        return [self.keys[each] for each in ids]


def drawn(judgements: Judged, most: int) -> Judged:
    """So many of its documents at random, as if there were no others."""
    keys = [key for key, text in judgements.texts.items() if text.strip()]
    texts = {key: judgements.texts[key] for key in random.Random(5).sample(keys, min(most, len(keys)))}
    qrels = {
        query: {key: grade for key, grade in grades.items() if key in texts}
        for query, grades in judgements.qrels.items()
        if judgements.queries[query].strip()
    }
    return Judged(judgements.name, texts, judgements.queries, qrels)


async def made_of(app: App, judgements: Judged, most: int) -> World:
    """Filled by the old model, in the random order of its texts: the backfill goes by it."""
    drafts = [Draft(key=key, body=text) for key, text in judgements.texts.items()]
    async with app.database.transaction() as conn:
        made = await collections.create(conn, judgements.name)
        source = await collections.add_source(conn, made, collections.PUSH)
        for start in range(0, len(drafts), TOGETHER):
            await documents.put(conn, source, drafts[start : start + TOGETHER])
    await app.start(made, OLD)
    await app.worker().run(drain=True)
    queries = judged(judgements.qrels)
    chosen = random.Random(7).sample(queries, min(most, len(queries)))
    world = World(app, judgements, made, chosen)
    async with app.database.transaction() as conn:
        asked = "SELECT id, key FROM revec.document WHERE collection_id = %s"
        rows = await (await conn.execute(asked, (made.id,))).fetchall()
    world.keys = {row.id: row.key for row in rows}
    index = await app.serving(made.name)
    world.ids = np.array(sorted(await present(app, index.id)))
    world.old = await vectors_of(world, index)
    return world


async def vectors_of(world: World, index: Index) -> Matrix:
    async with world.app.database.transaction("worker") as conn:
        found = await world.app.store.vectors(conn, index, world.ids.tolist())
    return np.stack([found[each][0] for each in world.ids.tolist()]).astype(np.float32)


async def present(app: App, index_id: int) -> set[int]:
    """The documents that have their vectors."""
    query = sql.SQL("SELECT doc_id FROM {}").format(sql.Identifier("revec", f"vectors_{index_id}"))
    async with app.database.transaction() as conn:
        return {row.doc_id for row in await (await conn.execute(query)).fetchall()}


async def take_away(app: App, index_id: int, ids: set[int]) -> None:
    """What a search had embedded: the next one finds the index as this one did."""
    query = sql.SQL("DELETE FROM {} WHERE doc_id = ANY (%(ids)b::bigint[])").format(
        sql.Identifier("revec", f"vectors_{index_id}")
    )
    async with app.database.transaction() as conn:
        await conn.execute(query, {"ids": BigInts(sorted(ids))})


async def migrated_to(world: World, part: float) -> tuple[Migration, Index]:
    """A migration whose worker was stopped there; of the bridge everything is known that can be."""
    app = world.app
    await app.start(world.made, NEW, serve_early=True)
    worker = app.worker(claim=max(1, len(world.ids) // CLAIMS), concurrency=1)
    running = asyncio.create_task(worker.run(drain=False))
    try:
        async with asyncio.timeout(PATIENCE):
            while (migration := await migration_of(world)).new_index is None:
                await asyncio.sleep(0.05)
            while part and len(await present(app, migration.new_index)) < part * len(world.ids):
                await asyncio.sleep(0.02)
    finally:
        worker.stop()
        await running
    await told(world, migration)
    async with app.database.transaction() as conn:
        return migration, await indexes.by_id(conn, migration.new_index)


async def migration_of(world: World) -> Migration:
    async with world.app.database.transaction() as conn:
        found = await migrations.latest(conn, world.made.id)
    assert found is not None
    return found


async def told(world: World, migration: Migration) -> None:
    """Conductors tick, and nobody embeds, until the bridge is of all pairs that it would take now."""
    app = world.app
    conductor = Conductor(app.tools, uuid4())
    assert migration.new_index is not None
    there = min(len(await present(app, migration.new_index)), MOST_PAIRS)
    async with asyncio.timeout(PATIENCE):
        while True:
            await conductor.tick()
            kept = await kept_of(app, migration)
            if kept is not None and (
                2 * kept.pairs > there if kept.version else there < NEARLY * kept.drawn or not kept.drawn
            ):
                break
            await asyncio.sleep(0.1)
    await conductor.leave()


async def kept_of(app: App, migration: Migration) -> bridges.Kept | None:
    async with app.database.transaction() as conn:
        return await bridges.kept(conn, migration.id)


async def look(world: World, part: float) -> Part:
    """Ask every query with that part migrated, then give the migration up."""
    app = world.app
    migration, index = await migrated_to(world, part)
    migrated = await present(app, index.id)
    if not world.full:  # the first part is all
        world.new = await vectors_of(world, index)
        world.full = {each: world.named((await world.nearest(NEW, each))[:K]) for each in world.queries}
    flags = np.isin(world.ids, list(migrated))
    kept = await kept_of(app, migration)
    found = Part(len(migrated) / len(world.ids), kept.why if kept else "")
    for query in world.queries:
        reading = await world.search(query)
        added = await present(app, index.id) - migrated if reading.demanded else set()
        await take_away(app, index.id, added)
        keys = [hit.id for hit in reading.hits]
        found.ours.append(world.score(query, keys))
        found.fused.append(world.score(query, await world.fused(query, flags)))
        found.shares.append(len({*keys} & {*world.full[query]}) / K)
        found.early.append(reading.early)
        found.demanded.append(reading.demanded)
        found.wanted |= added
    await app.commands.abort(world.made, "the bench has seen it")
    return found


async def measured(app: App, judgements: Judged, most: int) -> list[Figure]:
    began = time.perf_counter()
    world = await made_of(app, judgements, most)
    status_quo = [world.score(q, [hit.id for hit in (await world.search(q)).hits]) for q in world.queries]
    name, size = world.name, len(world.ids)
    print(f"\n{name}: {size:,} documents, {len(world.queries)} queries; nDCG@10 and the rest, means of them")
    print(
        "wanted  migrated  status quo  RRF of halves   ours   full  share  early  on demand  of all queries"
    )
    parts: dict[float, Part] = {}
    for part in reversed(PARTS):
        parts[part] = seen = await look(world, part)
        full = [world.score(query, world.full[query]) for query in world.queries]
        print(
            f"{part:6.0%}  {seen.migrated:8.1%}  {mean(status_quo):10.3f}  {mean(seen.fused):13.3f}"
            f"  {mean(seen.ours):5.3f}  {mean(full):5.3f}  {mean(seen.shares):5.2f}  {mean(seen.early):5.0%}"
            f"  {mean(seen.demanded):9.1f}  {len(seen.wanted) / size:14.1%}   {seen.why}",
            flush=True,
        )
    print(f"{time.perf_counter() - began:.0f} s")
    return [*shown(name, size, parts, status_quo, full), *verdicts(name, parts, status_quo, full)]


def shown(
    name: str, size: int, parts: dict[float, Part], status_quo: list[float], full: list[float]
) -> list[Figure]:
    found = [
        reported(f"{name}: status quo, nDCG@10", mean(status_quo)),
        reported(f"{name}: full reindex, nDCG@10", mean(full)),
    ]
    for part in PARTS:
        seen, label = parts[part], f"{name} at {part:.0%}"
        found += [
            reported(f"{label}: migrated", seen.migrated),
            reported(f"{label}: RRF of halves, nDCG@10", mean(seen.fused)),
            reported(f"{label}: ours, nDCG@10", mean(seen.ours)),
            reported(f"{label}: share of the new index's ten best", mean(seen.shares)),
            reported(f"{label}: answered early", mean(seen.early)),
            reported(f"{label}: embedded on demand for a query", mean(seen.demanded)),
            reported(f"{label}: different ones, of all documents", len(seen.wanted) / size),
        ]
    return found


def verdicts(name: str, parts: dict[float, Part], status_quo: list[float], full: list[float]) -> list[Figure]:
    if name in WORSE:
        early = max(mean(seen.early) for part, seen in parts.items() if part <= 0.5)
        return [at_most(f"{name}: answered early up to 50%, where it has to be refused", early, 0.0)]
    losses = [loss(seen.ours, status_quo) for seen in parts.values()]
    falls = [loss(parts[after].ours, parts[before].ours) for before, after in pairwise(PARTS)]
    # Above the full reindex, where the old candidates help, there is only one way to go.
    below = [
        min(mean(parts[before].ours), mean(full)) - mean(parts[after].ours)
        for before, after in pairwise(PARTS)
    ]
    return [
        at_most(f"{name}: most below the status quo, beyond noise", max(losses), 0.0),
        at_most(f"{name}: most fallen from part to part, beyond noise", max(falls), 0.0),
        reported(f"{name}: most fallen from part to part, below the full reindex", max(0.0, *below)),
        at_least(f"{name}: of the full reindex at 50%", mean(parts[0.5].ours) / mean(full), 0.93),
        at_least(f"{name}: of the full reindex at 90%", mean(parts[0.9].ours) / mean(full), 0.99),
    ]


def loss(one: list[float], other: list[float]) -> float:
    """How much less one has than the other, where that is no noise; else 0."""
    if one == other:
        return 0.0
    difference, p = randomisation([a - b for a, b in zip(one, other, strict=True)])
    return max(0.0, -difference) if p < NOISE else 0.0


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


async def bench(dsn: str, worlds: list[Judged], most: int) -> list[Figure]:
    # No allowance and no hurry: what is asked is how good the answers are.
    settings = Settings(dsn=dsn, jit_per_minute=1_000_000, early_seconds=60.0)
    async with App(settings, may_apply=True) as app:
        for address in (OLD, NEW):
            provider = Remembering(await app.provider(address))
            dims = (await provider.traits()).dims
            app._providers |= {(address, None): provider, (address, dims): provider}  # noqa: SLF001
        return [figure for world in worlds for figure in await measured(app, world, most)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--collections", nargs="+", default=["cranfield", "cacm", "banking77", "fonts"])
    parser.add_argument("--documents", type=int, default=4_000, help="of each collection, at most")
    parser.add_argument("--queries", type=int, default=200, help="of each collection, at most")
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(f"there are no judged collections in {options.data}: pass --data")
    worlds = [drawn(read(options.data / name), options.documents) for name in options.collections]
    home = Path(tempfile.mkdtemp(prefix="revec-bench-"))
    home.chmod(0o755)  # the server may run as another user
    try:
        with Server(home / "home") as server:
            print_machine(server.dsn)
            print(f"{OLD} to {NEW}, at most {options.queries} queries of each collection")
            found = asyncio.run(bench(server.dsn, worlds, options.queries))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    finish("half", found)


if __name__ == "__main__":
    main()
