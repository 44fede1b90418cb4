"""`make bench-search`: hybrid search of a fleet of tenants, through the library and over HTTP.

    python -m bench.search [--tenants 134] [--each 5000] [--dims 1536] [--queries 600]

Each tenant has its documents, their texts drawn from 20,000 words as often as words are used (Zipf), and
their vectors come from the loopback provider through real workers. Each question is asked three times, in
turn: by the library in this process, over HTTP of a `revec serve` on this machine, and as the same one
statement by a bare driver, in autocommit, with the vector at hand. The model's answers are remembered before
the clock runs, so what is measured is what we add to the database's work. Then a migration begins, a worker
backfills it with its brake on, and the library asks again.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import http.client
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg
from pgvector.psycopg import register_vector_async

from bench.fleet import COLLECTION, WORDS_A_DOCUMENT, is_filling
from bench.processes import Measured, started
from bench.report import Figure, at_least, at_most, finish, print_machine, reported
from revec.app import App
from revec.model.document import Draft
from revec.model.index import Index
from revec.model.reading import Mode
from revec.postgres import collections, documents
from revec.postgres.server import Server
from revec.search import fusion, lexical
from revec.settings import Settings
from revec.stores.base import Vector
from tests.loopback import Loopback

REVEC = (sys.executable, "-m", "revec.cli.main")
VOCABULARY = 20_000
PAGE = 5_000
K = 10
P95_MS = 25.0
OVER_BARE = 1.15
BRAKED = 1.2  # times the idle p95
SETTLE = 30.0  # seconds that the brake has to find its place
KEPT_SECONDS = 60.0  # of searches beside the backfill


@dataclass(frozen=True, slots=True)
class Asked:
    tenant: str
    text: str


class Texts:
    """Words as often as they are used: the n-th 1/n as often as the first (Zipf, 1949)."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._heights = list(accumulate(1 / n for n in range(1, VOCABULARY + 1)))

    def words(self, count: int, *, beyond: int = 0) -> str:
        """`beyond`: not of the so many most frequent ones, as nobody asks for "the"."""
        low = self._heights[beyond - 1] if beyond else 0.0
        draws = (self._chance.uniform(low, self._heights[-1]) for _ in range(count))
        return " ".join(f"word{bisect.bisect_left(self._heights, draw)}" for draw in draws)


def pages(tenants: int, each: int) -> Iterator[list[Draft]]:
    texts = Texts(0)
    for tenant in range(tenants):
        drafts = [
            Draft(f"{tenant}-{n}", f"title {n}", texts.words(WORDS_A_DOCUMENT), name(tenant))
            for n in range(each)
        ]
        for start in range(0, each, PAGE):
            yield drafts[start : start + PAGE]


def name(tenant: int) -> str:
    return f"tenant-{tenant:04}"


def questions(options: argparse.Namespace) -> list[Asked]:
    texts, chance = Texts(1), random.Random(2)
    return [
        Asked(name(chance.randrange(options.tenants)), texts.words(chance.randint(2, 6), beyond=100))
        for _ in range(options.queries)
    ]


async def load(app: App, options: argparse.Namespace) -> None:
    began = time.perf_counter()
    async with app.database.transaction() as conn:
        made = await collections.create(conn, COLLECTION)
        source = await collections.add_source(conn, made, collections.PUSH)
    for page in pages(options.tenants, options.each):
        async with app.database.transaction() as conn:
            await documents.put(conn, source, page)
    await app.start(made, f"openai:fake-a-{options.dims}")
    print(f"loaded in {time.perf_counter() - began:.0f} s", flush=True)


async def fill(app: App, settings: Settings, home: Path) -> None:
    """Vectors by real workers; words folded, statistics gathered, as after some hours of life."""
    began = time.perf_counter()
    hands = [worker(settings, home, "--drain", "--quiet") for _ in range(2)]
    codes = [await asyncio.to_thread(hand.wait) for hand in hands]
    if any(codes):
        sys.exit(f"a worker left with {codes}")
    folder = lexical.Folder(app.database, settled=0.0)
    while await folder.tick():
        pass
    async with app.database.alone() as conn:
        await conn.execute("VACUUM ANALYZE")
    print(f"filled and folded in {time.perf_counter() - began:.0f} s", flush=True)


def worker(settings: Settings, home: Path, *more: str) -> Measured:
    return started((*REVEC, "worker", *more), environment=environment(settings), cwd=home)


def environment(settings: Settings) -> dict[str, str]:
    return {
        "REVEC_DSN": settings.dsn or "",
        "OPENAI_BASE_URL": settings.openai_base_url or "",
        "OPENAI_API_KEY": "loopback",
    }


class Bare:
    """The same statement by a driver alone."""

    def __init__(self, app: App, conn: psycopg.AsyncConnection[object], index: Index) -> None:
        self._app, self._conn, self._index = app, conn, index

    async def ask(self, asked: Asked, vector: Vector) -> list[str]:
        vectors, words = await fusion.legs(
            self._conn,  # type: ignore[arg-type]
            *(self._app.store, self._index, asked.text, vector),
            depth=fusion.DEPTH,
            tenant=asked.tenant,
        )
        rows = await fusion.hits(
            self._conn,  # type: ignore[arg-type]
            *(self._index, vectors, words),
            tenant=asked.tenant,
            limit=K,
        )
        return [row.key for row in rows]


class Http:
    """One connection that stays open."""

    def __init__(self, url: str, key: str) -> None:
        at = urlsplit(url)
        self._connection = http.client.HTTPConnection(at.hostname or "", at.port)
        self._headers = {"Authorization": f"Bearer {key}"}

    def ask(self, asked: Asked) -> list[str]:
        path = f"/v1/collections/{COLLECTION}/search?q={quote(asked.text)}&k={K}&tenant={asked.tenant}"
        self._connection.request("GET", path, headers=self._headers)
        response = self._connection.getresponse()
        body = json.loads(response.read())
        if response.status != 200 or body["degraded"]:
            sys.exit(f"HTTP {response.status}: {body}")
        return [hit["id"] for hit in body["hits"]]


@asynccontextmanager
async def served(settings: Settings, home: Path) -> AsyncIterator[Http]:
    said = ("--role", "operator", "--all-tenants")
    made = started((*REVEC, "keys", "create", *said), environment=environment(settings), cwd=home)
    assert made.process.stdout
    key = made.process.stdout.read().strip()
    made.wait()
    rate = {"REVEC_REQUESTS_PER_SECOND": "100000"}
    server = started((*REVEC, "serve", "--port", "0"), environment=environment(settings) | rate, cwd=home)
    assert server.process.stdout
    try:
        yield Http(server.process.stdout.readline().strip(), key)
    finally:
        server.process.terminate()
        await asyncio.to_thread(server.wait)


async def library(app: App, asked: Asked) -> list[str]:
    reading = await app.retriever.search(COLLECTION, asked.text, k=K, tenant=asked.tenant, mode=Mode.HYBRID)
    if reading.degraded:
        sys.exit(f"a degraded answer: {reading.why}")
    return [hit.id for hit in reading.hits]


async def compared(app: App, front: Http, asked: list[Asked]) -> list[Figure]:
    """The three ways in turn, the order changing; equal answers or no measurement."""
    index = await app.serving(COLLECTION)
    times: dict[str, list[float]] = {"library": [], "HTTP": [], "bare": []}
    chance, differing, exact = random.Random(3), 0, []
    async with app.database.alone() as conn:
        await register_vector_async(conn)
        bare = Bare(app, conn, index)
        for each in asked:  # both processes learn the vectors
            await library(app, each)
            front.ask(each)
        for each in asked:
            vector = await app.retriever.embedded(index, each.text, tenant=each.tenant)
            ways = {
                "library": lambda each=each: library(app, each),
                "HTTP": lambda each=each: asyncio.to_thread(front.ask, each),
                "bare": lambda each=each, vector=vector: bare.ask(each, vector),
            }
            answers = []
            for way in chance.sample(list(ways), len(ways)):
                began = time.perf_counter()
                answers.append(await ways[way]())
                times[way].append(1000 * (time.perf_counter() - began))
            differing += any(answer != answers[0] for answer in answers)
            exact.append(await recall(app, index, each, vector))
    shares = [one / other for one, other in zip(times["library"], times["bare"], strict=True)]
    return [
        *(figure for way in times for figure in percentiles(way, times[way], goal=P95_MS)),
        at_most("library over bare, p50 of the pairs", statistics.median(shares), OVER_BARE),
        at_most("questions that were not answered alike", differing, 0),
        at_least("recall@10 of the vector leg against exact", statistics.fmean(exact), 1.0),
    ]


async def recall(app: App, index: Index, asked: Asked, vector: Vector) -> float:
    async with app.database.transaction("reader", tenant=asked.tenant) as conn:
        found = await app.store.nearest(conn, index, vector, limit=K, tenant=asked.tenant)
        best = await app.store.exact(conn, index, vector, limit=K, tenant=asked.tenant)
    return len({doc_id for doc_id, _ in found} & {doc_id for doc_id, _ in best}) / K


def percentiles(way: str, times: list[float], goal: float | None = None) -> list[Figure]:
    cuts = statistics.quantiles(times, n=100)
    p95 = reported(f"{way}: p95 ms", cuts[94]) if goal is None else at_most(f"{way}: p95 ms", cuts[94], goal)
    return [reported(f"{way}: p50 ms", cuts[49]), p95, reported(f"{way}: p99 ms", cuts[98])]


async def beside_a_backfill(
    app: App, settings: Settings, home: Path, options: argparse.Namespace
) -> list[Figure]:
    """At a steady ten searches a second, first alone, then beside a backfill that the brake holds."""
    asked = questions(options)
    calm = await steady(app, asked, KEPT_SECONDS)
    async with app.database.transaction() as conn:
        made = await collections.named(conn, COLLECTION)
    await app.start(made, f"openai:fake-b-{options.dims}")
    hand = worker(settings, home)
    try:
        await steady(app, asked, SETTLE)
        assert is_filling(settings), "the backfill was over before it was measured: take more --tenants"
        before, began = await written(app), time.perf_counter()
        busy = await steady(app, asked, KEPT_SECONDS)
        speed = (await written(app) - before) / (time.perf_counter() - began)
        assert is_filling(settings), "the backfill was over before it was measured: take more --tenants"
    finally:
        hand.process.terminate()
        await asyncio.to_thread(hand.wait)
    share = statistics.quantiles(busy, n=100)[94] / statistics.quantiles(calm, n=100)[94]
    return [
        *percentiles("ten a second, idle", calm),
        *percentiles("ten a second, beside a backfill", busy),
        at_most("beside a backfill, p95 over idle", share, BRAKED),
        reported("backfill beside searches, documents/s", speed),
    ]


async def steady(app: App, asked: list[Asked], seconds: float) -> list[float]:
    """Milliseconds of each, from the moment when it was due: a queue is not hidden."""
    times: list[float] = []
    began = time.perf_counter()
    while (due := began + len(times) / 10) < began + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await library(app, asked[len(times) % len(asked)])
        times.append(1000 * (time.perf_counter() - due))
    return times


async def written(app: App) -> int:
    """Vectors of the index that is being filled."""
    async with app.database.transaction() as conn:
        row = await (await conn.execute("SELECT max(id) AS id FROM revec.index WHERE writing")).fetchone()
        assert row is not None
        query = psycopg.sql.SQL("SELECT count(*) AS n FROM {}")
        counted = await conn.execute(query.format(psycopg.sql.Identifier("revec", f"vectors_{row.id}")))
        found = await counted.fetchone()
        assert found is not None
        return int(found.n)


async def measure(dsn: str, home: Path, provider: Loopback, options: argparse.Namespace) -> list[Figure]:
    settings = Settings(dsn=dsn, OPENAI_BASE_URL=provider.url, OPENAI_API_KEY="loopback")  # type: ignore[call-arg]
    async with App(settings, may_apply=True) as app:
        await load(app, options)
        await fill(app, settings, home)
        print_machine(dsn)
        async with served(settings, home) as front:
            figures = await compared(app, front, questions(options))
        return figures + await beside_a_backfill(app, settings, home, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tenants", type=int, default=134)
    parser.add_argument("--each", type=int, default=5_000, help="documents of a tenant")
    parser.add_argument("--dims", type=int, default=1536)
    parser.add_argument("--queries", type=int, default=600)
    options = parser.parse_args()
    # The loopback multiplies small matrices: more threads than one only wait for each other, noisily.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    home = Path(tempfile.mkdtemp(prefix="revec-bench-"))
    home.chmod(0o755)  # the server may run as another user
    try:
        with Server(home / "home") as server, Loopback() as provider:
            print(
                f"n: {options.tenants} tenants of {options.each:,} documents of {WORDS_A_DOCUMENT} words, "
                f"{options.dims} dims, {options.queries:,} questions of 2 to 6 words, k {K}"
            )
            figures = asyncio.run(measure(server.dsn, home, provider, options))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    finish("search", figures)


if __name__ == "__main__":
    main()
