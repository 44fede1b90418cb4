"""`make bench-console`: fifty open tabs of the console, a million documents, a hundred thousand dead letters.

    python -m bench.console [--documents 1000000] [--letters 100000] [--tabs 50] [--asks 40]

A migration is under way; documents, vectors and letters are written by SQL, as years of use leave them. The
tabs are streams of the live pages, each reading what it is sent. Beside them one person opens every page
again and again, and the memory of the process that serves is read. A worker takes the census, as always.
"""

from __future__ import annotations

import argparse
import asyncio
import html
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psycopg

from bench.processes import MIB, Measured, started
from bench.report import Figure, at_most, finish, print_machine, reported
from revec.app import App
from revec.postgres.server import Server
from revec.settings import Settings
from tests import steps
from tests.loopback import Loopback

NAME = "articles"
WARM = 20  # documents that are really embedded: the others are copies of the last one
TENANTS = 500
CAUSES = 7
SLOWEST = 200.0  # milliseconds, at p95
MOST = 150.0  # MiB
SETTLE = 65.0  # seconds: a census has been taken
LIVE = re.compile(r'data-live="([^"]+)"')
LINK = re.compile(r'<a href="(/console/[^"]*)"[^>]*>')

DOCUMENTS = """
INSERT INTO revec.document (collection_id, source_id, key, tenant, title, body, input_hash, rev)
SELECT d.collection_id, d.source_id, 'made-' || n, 'tenant-' || n %% %(tenants)s, 'Document ' || n,
       'A text that somebody wrote about subject ' || n %% 9973, sha256(n::text::bytea), d.rev
  FROM generate_series(1, %(count)s) n, (SELECT * FROM revec.document ORDER BY id LIMIT 1) d
"""
VECTORS = """
INSERT INTO revec.vectors_1 (doc_id, chunk_no, tenant, input_hash, text_hash, chunk_count, embedding)
SELECT d.id, 0, d.tenant, d.input_hash, d.input_hash, 1, v.embedding
  FROM revec.document d, (SELECT * FROM revec.vectors_1 ORDER BY doc_id LIMIT 1) v
 WHERE d.key LIKE 'made-%%' AND NOT EXISTS (SELECT FROM revec.dead x WHERE x.doc_id = d.id)
"""
LETTERS = """
INSERT INTO revec.dead (index_id, doc_id, rev, input_hash, tenant, cause, attempts, first_at, last_at)
SELECT 1, d.id, d.rev, d.input_hash, d.tenant,
       'the model refused it: reason ' || d.id %% %(causes)s || ', request ' || d.id, 5,
       now() - interval '3 days', now() - d.id %% 86400 * interval '1 s'
  FROM revec.document d WHERE d.key LIKE 'made-%%' ORDER BY d.id LIMIT %(letters)s
"""


@dataclass(slots=True)
class Tabs:
    """What open tabs are sent."""

    events: int = 0
    beginnings: list[float] = field(default_factory=list)  # seconds to the first event


async def main(options: argparse.Namespace) -> None:
    home = Path(tempfile.mkdtemp(prefix="revec-bench-"))
    home.chmod(0o755)
    try:
        with Loopback() as loopback, Server(home / "home") as server:
            print_machine(server.dsn)
            await staged(server.dsn, loopback, options)
            environment = {
                "REVEC_DSN": server.dsn,
                "OPENAI_BASE_URL": loopback.url,
                "OPENAI_API_KEY": "k",
                "REVEC_RECONCILE_EVERY": "0",
                "PYTHONUNBUFFERED": "1",
            }
            finish("console", await measured(home, environment, options))
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def staged(dsn: str, loopback: Loopback, options: argparse.Namespace) -> None:
    """A collection that serves and a migration that is paused, and years of use."""
    began = time.monotonic()
    settings = Settings(dsn=dsn, openai_base_url=loopback.url, openai_api_key="k", idle=0.02)  # type: ignore[arg-type]
    async with App(settings, may_apply=True) as app:
        made = await steps.collection(app, NAME)
        await steps.put(app, made, steps.drafts(WARM))
        await steps.drain(app)
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("SET session_replication_role = replica")  # no trigger makes work of it
            asked = {
                "count": options.documents,
                "tenants": TENANTS,
                "causes": CAUSES,
                "letters": options.letters,
            }
            for statement in (DOCUMENTS, LETTERS, VECTORS):
                conn.execute(statement, asked)
            conn.execute("VACUUM ANALYZE")
        await app.start(made, steps.NEW)
        await app.commands.pause(made, "a bench looks at it")
    print(f"{options.documents:,} documents, {options.letters:,} letters in {time.monotonic() - began:.0f} s")


async def measured(home: Path, environment: dict[str, str], options: argparse.Namespace) -> list[Figure]:
    revec = [sys.executable, "-m", "revec.cli.main"]
    serve = [*revec, "serve", "--no-auth", "--port", "0"]
    worker = started([*revec, "worker", "--quiet"], environment=environment, cwd=home)
    serving = started(serve, environment=environment, cwd=home)
    try:
        assert serving.process.stdout
        url = serving.process.stdout.readline().split()[0]
        async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
            await asyncio.sleep(options.settle)
            return await looked(client, serving, options)
    finally:
        for each in (serving, worker):
            each.process.terminate()
            each.wait()


async def looked(client: httpx2.AsyncClient, serving: Measured, options: argparse.Namespace) -> list[Figure]:
    """Every page of the navigation, while the tabs are open."""
    front = await client.get("/console/", params={"collection": NAME})
    pages = {path.partition("?")[0] for path in map(html.unescape, LINK.findall(front.text))}
    pages = {path for path in pages if path.count("/") <= 2}
    alone = serving.peak_mib
    async with open_tabs(client, sorted(pages), options.tabs) as tabs:
        figures = [await asked(client, path, options.asks) for path in sorted(pages)]
        await asyncio.sleep(2)
    print(f"{tabs.events:,} events to {options.tabs} tabs, the first within {max(tabs.beginnings):.1f} s")
    return [
        *figures,
        reported("memory before the tabs, MiB", alone),
        at_most(f"memory with {options.tabs} tabs, MiB", resident(serving.process.pid), MOST),
        reported("memory at its peak, MiB", serving.peak_mib),
        reported("events a tab", tabs.events / options.tabs),
    ]


async def asked(client: httpx2.AsyncClient, path: str, times: int) -> Figure:
    """Milliseconds that a page takes at p95, one person asking again and again."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        answer = await client.get(path, params={"collection": NAME})
        answer.raise_for_status()
        took.append(1000 * (time.perf_counter() - began))
        await asyncio.sleep(0.05)
    print(f"{path}: {statistics.median(took):.0f} ms at the median, {max(took):.0f} ms at most")
    return at_most(f"{path} p95, ms", sorted(took)[int(0.95 * (times - 1))], SLOWEST)


@asynccontextmanager
async def open_tabs(client: httpx2.AsyncClient, pages: list[str], count: int) -> AsyncIterator[Tabs]:
    """So many streams, of all the live pages in turn."""
    addresses: list[str] = []
    for path in pages:
        page = await client.get(path, params={"collection": NAME})
        addresses += [html.unescape(each) for each in LIVE.findall(page.text)]
    tabs, over = Tabs(), asyncio.Event()
    async with AsyncExitStack() as exits:
        tasks = await exits.enter_async_context(asyncio.TaskGroup())
        own = await exits.enter_async_context(
            httpx2.AsyncClient(
                base_url=client.base_url, timeout=None, limits=httpx2.Limits(max_connections=count)
            )
        )
        watching = [
            tasks.create_task(watched(own, addresses[number % len(addresses)], tabs, over))
            for number in range(count)
        ]
        async with asyncio.timeout(60):
            while len(tabs.beginnings) < count:
                await asyncio.sleep(0.05)
        yield tabs
        over.set()
        for task in watching:
            task.cancel()


async def watched(client: httpx2.AsyncClient, address: str, tabs: Tabs, over: asyncio.Event) -> None:
    began, first = time.perf_counter(), True
    async with client.stream("GET", address, headers={"accept": "text/event-stream"}) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if over.is_set():
                return
            if line:
                continue
            tabs.events += 1
            if first:
                tabs.beginnings.append(time.perf_counter() - began)
                first = False


def resident(pid: int) -> float:
    """MiB of it that are in memory now."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) * 1024 / MIB if found else 0.0


def cli() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-console", description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--letters", type=int, default=100_000)
    parser.add_argument("--tabs", type=int, default=50)
    parser.add_argument("--asks", type=int, default=40, help="times that each page is opened")
    parser.add_argument("--settle", type=float, default=SETTLE, help="seconds for a census to be taken")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(cli()))
