"""`make bench-edit`: how soon one tenant's edit is found while another's documents are backfilled.

    python -m bench.edit [--documents 100000] [--edits 100] [--latency 0.08] [--concurrency 2]

Tenant `large` has all the documents, tenant `small` a hundred; a worker of the product's own, in a
process of its own, moves both to a new model at a provider (the tests' loopback program, also a process)
that takes `--latency` seconds for each answer. Once the backfill runs, single edits of `small` are made
one after another; each is timed from its commit until its new vector is stored both in the index that
serves and in the new one, which is when a search finds it: the tables are exact. The same edits are
timed before the migration began, for comparison.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg import sql

from bench.report import Figure, finish, print_machine, reported
from revec.app import App
from revec.model.document import Draft
from revec.model.index import Collection
from revec.postgres import collections, documents, indexes, migrations
from revec.postgres.server import Server
from revec.settings import Settings
from tests.loopback import Loopback

OLD, NEW = "openai:fake-64", "openai:fake-b-96"
GOAL = 10.0  # seconds, p99
LOOK_EVERY = 0.01  # seconds
PATIENCE = 120.0  # seconds for one edit: longer is no measurement
LARGE, SMALL = "large", "small"
LOAD = """
INSERT INTO revec.document (collection_id, source_id, key, tenant, body)
SELECT %(collection)s, %(source)s, 'large ' || n, 'large', 'the text of document ' || n
  FROM generate_series(1, %(count)s) AS n
"""
FOUND = """
SELECT count(*) AS found FROM {vectors} v JOIN revec.document d ON d.id = v.doc_id
 WHERE d.tenant = 'small' AND d.key = %(key)s AND v.input_hash = d.input_hash
"""


class Scene:
    """A collection of two tenants, and one worker."""

    def __init__(self, app: App, made: Collection, source: int) -> None:
        self.app = app
        self.made = made
        self.source = source
        self.edited = 0

    async def load(self, count: int, small: int) -> None:
        async with self.app.database.transaction() as conn:
            await conn.execute(LOAD, {"collection": self.made.id, "source": self.source, "count": count})
            drafts = [Draft(f"{n}", body=f"small text {n}", tenant=SMALL) for n in range(small)]
            await documents.put(conn, self.source, drafts)
            await conn.execute("ANALYZE revec.document")

    async def edit(self, number: int) -> float:
        """Seconds from the commit of one edit until every written index has it."""
        self.edited += 1
        draft = Draft(f"{number}", body=f"edit {self.edited}", tenant=SMALL)
        async with self.app.database.transaction() as conn:
            await documents.put(conn, self.source, [draft])
        began = time.perf_counter()
        while not await self._is_found(draft.key):
            assert time.perf_counter() - began < PATIENCE, "an edit was not found"
            await asyncio.sleep(LOOK_EVERY)
        return time.perf_counter() - began

    async def _is_found(self, key: str) -> bool:
        async with self.app.database.transaction() as conn:
            written = await indexes.writing(conn, self.made.id)
            found = []
            for index in written:
                query = sql.SQL(FOUND).format(vectors=sql.Identifier("revec", f"vectors_{index.id}"))
                row = await (await conn.execute(query, {"key": key})).fetchone()
                found.append(row is not None and row.found == 1)
        return all(found)

    async def state(self) -> tuple[str, int, int]:
        """The migration's state, documents seen, and open work of its backfill."""
        async with self.app.database.transaction() as conn:
            migration = await migrations.latest(conn, self.made.id)
            asked = await conn.execute("SELECT count(*) AS open FROM revec.work WHERE lane = 2")
            row = await asked.fetchone()
        assert migration is not None
        assert row is not None
        return migration.state, migration.seen, row.open

    async def until(self, *states: str) -> None:
        while (await self.state())[0] not in states:
            await asyncio.sleep(0.05)


@contextmanager
def worker(environment: dict[str, str], concurrency: int) -> Iterator[None]:
    """A process of its own, as people run it."""
    command = [sys.executable, "-m", "revec.cli.main", "worker", "--quiet", "--concurrency", str(concurrency)]
    process = subprocess.Popen(command, env=environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def judged(times: list[float], quiet: list[float], rate: float, left: int) -> list[Figure]:
    ordered = sorted(times)
    p99 = ordered[math.ceil(0.99 * len(ordered)) - 1]
    return [
        Figure("an edit during the backfill, p99 s", round(p99, 3), GOAL, p99 < GOAL),
        reported("an edit during the backfill, median s", statistics.median(times)),
        reported("an edit during the backfill, slowest s", max(times)),
        reported("an edit before the backfill, median s", statistics.median(quiet)),
        reported("an edit before the backfill, slowest s", max(quiet)),
        reported("backfill meanwhile, documents/s", rate),
        reported("documents still to be backfilled after the last edit", left),
    ]


async def bench(dsn: str, provider: str, options: argparse.Namespace) -> list[Figure]:
    settings = Settings(dsn=dsn, openai_base_url=provider, openai_api_key="k")  # type: ignore[arg-type]
    environment = os.environ | {"REVEC_DSN": dsn, "OPENAI_BASE_URL": provider, "OPENAI_API_KEY": "k"}
    async with App(settings, may_apply=True) as app:
        print_machine(dsn)
        print(
            f"n: {options.edits} edits, {options.documents:,} documents in the backfill, "
            f"{options.latency * 1000:.0f} ms per answer, {options.concurrency} claims at once and one more",
            flush=True,
        )
        async with app.database.transaction() as conn:
            made = await collections.create(conn, "edits")
            source = await collections.add_source(conn, made, collections.PUSH)
        await app.start(made, OLD)
        scene = Scene(app, made, source)
        with worker(environment, options.concurrency):
            await scene.load(options.documents, options.edits)
            began = time.perf_counter()
            await scene.until("finished")
            print(f"first fill: {time.perf_counter() - began:.0f} s", flush=True)
            quiet = [await scene.edit(number) for number in range(options.edits)]
            await app.start(made, NEW)
            await scene.until("backfilling")
            began = time.perf_counter()
            times = [await scene.edit(number) for number in range(options.edits)]
            state, seen, left = await scene.state()
            spent = time.perf_counter() - began
            assert state == "backfilling", "the backfill was over before the last edit: more --documents"
            undone = options.documents + options.edits - seen + left
            return judged(times, quiet, (seen - left) / spent, undone)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--edits", type=int, default=100)
    parser.add_argument("--latency", type=float, default=0.08)
    parser.add_argument("--concurrency", type=int, default=2)
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="revec-bench-"))
    home.chmod(0o755)
    try:
        with Server(home / "home") as server, Loopback(latency=options.latency) as provider:
            figures = asyncio.run(bench(server.dsn, provider.url, options))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    for figure in figures:
        verdict = "" if figure.met is None else f"  (goal {figure.goal}: {'met' if figure.met else 'MISSED'})"
        print(f"{figure.what}: {figure.value:,}{verdict}")
    finish("edit", figures)


if __name__ == "__main__":
    main()
