"""`make bench-queue`: claim and settle, beside pgqueuer and procrastinate, on one server in one run.

    python -m bench.queue [--seconds 1.0] [--rounds 3]

Ours is the worker's own SQL: a claim in one transaction, the settling in another, in the worker's role,
one connection. The peers run in environments of their own, made here from pinned versions, with
handlers that do nothing; jobs are put into their tables by SQL, with their triggers off, because only
taking and settling is measured. Everybody's commits are durable and finished jobs are deleted. pgqueuer
takes its batch from us and keeps its best driver; procrastinate knows no batch, so its line is for
twenty jobs at once. Ours is shared evenly by the tenants, so a claim holds a few more or fewer jobs than
asked: the mean is printed, and what counts is jobs. Ratios are of neighbouring measurements: the
machine's other work hits both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from bench.report import Figure, at_least, finish, print_machine, reported
from revec.model.index import Index, Kind
from revec.model.space import QueryRecipe, Space
from revec.postgres import collections, indexes, schema
from revec.postgres.database import Database
from revec.postgres.server import Server
from revec.stores.pgvector import PgVector
from revec.work import queue

BATCHES = (1, 10, 100, 1_000)
SIZES = (1_000, 100_000, 1_000_000)
SHORT_QUEUES = 3  # a thousand jobs are over in no time
HELD_SIZE = 100_000
HELD_SECONDS = 4.0  # a held snapshot hurts more and more
TENANTS = 134
LEASE = 60.0
CONCURRENCY = 20  # procrastinate's; other values have not been tried
GOAL = 3.0  # times pgqueuer at batch 100
FLATNESS = 0.5  # of the speed with the shortest queue, with the longest; not slower than half

PEERS = {
    "pgqueuer": ("pgqueuer==1.6.0", "asyncpg==0.32.0"),
    "procrastinate": ("procrastinate==3.10.0", "psycopg[binary]==3.3.9"),
}
ARMS = Path(__file__).parent / "peers"

FILL = {
    "ours": """
        INSERT INTO revec.work (index_id, doc_id, rev, action, lane, tenant)
        SELECT {index}, n, n, 'embed', 2, 'tenant-' || lpad((n % {tenants})::text, 4, '0')
          FROM generate_series(1, {size}) AS n""",
    "pgqueuer": """
        INSERT INTO pgqueuer (priority, entrypoint, status, execute_after)
        SELECT 0, 'nothing', 'queued', now() FROM generate_series(1, {size})""",
    "procrastinate": """
        INSERT INTO procrastinate_jobs (queue_name, task_name)
        SELECT 'default', 'nothing' FROM generate_series(1, {size})""",
}
TABLES = {
    "ours": ("revec.work",),
    "pgqueuer": ("pgqueuer", "pgqueuer_log"),
    "procrastinate": ("procrastinate_jobs", "procrastinate_events"),
}


@dataclass(frozen=True, slots=True)
class Speed:
    jobs: int
    seconds: float
    claims: int = 0  # where it is known

    @property
    def rate(self) -> float:
        return self.jobs / self.seconds


class Scene:
    """One database with everybody's tables."""

    def __init__(self, dsn: str, database: Database, home: Path) -> None:
        self.dsn = dsn
        self.database = database
        self.home = home
        self.admin = psycopg.connect(dsn, autocommit=True)

    async def set(self) -> None:
        async with self.database.transaction() as conn:
            collection = await collections.create(conn, "queue")
            space = Space("bench", "nothing-4", "1", 4, normalise=True)
            await indexes.put_space(conn, space)
            recipe = QueryRecipe(space.address)
            self.index: Index = await indexes.register(conn, collection.id, space, recipe, Kind.EXACT)
            await PgVector().create(conn, self.index)
        for peer, packages in PEERS.items():
            venv.create(self.home / peer, with_pip=True)
            pip = (self.python(peer), "-m", "pip", "install", "-qq", "--disable-pip-version-check")
            subprocess.run([*pip, "--no-input", "--only-binary", ":all:", *packages], check=True)
        subprocess.run(
            [self.python("pgqueuer"), "-m", "pgqueuer", "--pg-dsn", self.dsn, "install"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        subprocess.run([self.python("procrastinate"), "-c", PROCRASTINATE_SCHEMA, self.dsn], check=True)

    def python(self, peer: str) -> Path:
        return self.home / peer / "bin" / "python"

    def fill(self, who: str, size: int) -> None:
        """So many jobs, and no dead rows."""
        self.admin.execute(f"TRUNCATE {', '.join(TABLES[who])} CASCADE")
        self.admin.execute("SET session_replication_role = replica")  # no triggers: they notify or log
        self.admin.execute(FILL[who].format(index=self.index.id, tenants=TENANTS, size=size))
        self.admin.execute("SET session_replication_role = origin")
        self.admin.execute(f"VACUUM ANALYZE {TABLES[who][0]}")

    def left(self, who: str) -> int:
        table = sql.Identifier(*TABLES[who][0].split("."))
        row = self.admin.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()
        assert row is not None
        return int(row[0])

    async def ours(self, batch: int, seconds: float) -> Speed:
        """Claim and settle, again and again, until the time or the work is over."""
        jobs, claims, tenant = 0, 0, ""
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            async with self.database.transaction("worker") as conn:
                claim = await queue.claim(
                    conn, self.index.id, queue.BACKFILL, size=batch, lease=LEASE, after_tenant=tenant
                )
            if not claim.jobs:
                break
            tenant = claim.last_tenant
            async with self.database.transaction("worker") as conn:
                settled = await queue.settle(conn, claim)
            assert settled == len(claim.jobs), "somebody else settled our job, with nobody else there"
            jobs, claims = jobs + settled, claims + 1
        return Speed(jobs, time.perf_counter() - began, claims)

    def peer(self, who: str, batch: int, seconds: float) -> Speed:
        ran = subprocess.run(
            [self.python(who), ARMS / f"{who}_arm.py", self.dsn, str(batch), str(seconds)],
            check=True,
            capture_output=True,
            text=True,
        )
        return Speed(**json.loads(ran.stdout.splitlines()[-1]))

    async def measured(self, who: str, size: int, batch: int, seconds: float) -> Speed:
        """One cell: fresh queues, several short ones after another, or what is left of a million."""
        parts = []
        for _ in range(SHORT_QUEUES if size == min(SIZES) else 1):
            if size < max(SIZES) or self.left(who) < 0.7 * size:
                self.fill(who, size)
            parts.append(await self.run(who, batch, seconds))
        return Speed(
            jobs=sum(part.jobs for part in parts),
            seconds=sum(part.seconds for part in parts),
            claims=sum(part.claims for part in parts),
        )

    async def run(self, who: str, batch: int, seconds: float) -> Speed:
        before = self.left(who)
        if who == "ours":
            speed = await self.ours(batch, seconds)
        else:
            speed = await asyncio.to_thread(self.peer, who, batch, seconds)
        assert before - self.left(who) >= speed.jobs, f"{who} counted jobs that it did not settle"
        return speed

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """A transaction that looked once and then idles, as a dump or a forgotten session does."""
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            conn.execute("SELECT count(*) FROM revec.work")
            yield
            conn.execute("ROLLBACK")


PROCRASTINATE_SCHEMA = """
import sys
from procrastinate import App, SyncPsycopgConnector
with App(connector=SyncPsycopgConnector(conninfo=sys.argv[1])).open() as app:
    app.schema_manager.apply_schema()
"""


async def bench(scene: Scene, options: argparse.Namespace) -> list[Figure]:
    figures: list[Figure] = []
    ratios: list[float] = []
    flat: dict[int, list[float]] = {size: [] for size in SIZES}
    for size in SIZES:
        for batch in BATCHES:
            rounds = options.rounds if batch == 100 else 1
            cells: dict[str, list[Speed]] = {"ours": [], "pgqueuer": []}
            for _ in range(rounds):
                for who, speeds in cells.items():
                    speeds.append(await scene.measured(who, size, batch, options.seconds))
                if batch == 100:
                    ratios.append(cells["ours"][-1].rate / cells["pgqueuer"][-1].rate)
                    flat[size].append(cells["ours"][-1].rate)
            figures += shown(size, f"batch {batch:,}", cells)
        slow = {"procrastinate": [await scene.measured("procrastinate", size, CONCURRENCY, 2.0)]}
        figures += shown(size, f"concurrency {CONCURRENCY}", slow)
    with_snapshot = {}
    for who, batch in (("ours", 100), ("pgqueuer", 100), ("procrastinate", CONCURRENCY)):
        scene.fill(who, HELD_SIZE)
        with scene.snapshot():
            with_snapshot[who] = [await scene.run(who, batch, HELD_SECONDS)]
    figures += shown(HELD_SIZE, "batch 100, a snapshot held elsewhere", with_snapshot)
    flatness = statistics.median(flat[SIZES[-1]]) / statistics.median(flat[SIZES[0]])
    return [
        at_least("ours / pgqueuer, batch 100, median of all sizes", statistics.median(ratios), GOAL),
        at_least("ours, batch 100: 1,000,000 queued over 1,000", flatness, FLATNESS),
        *figures,
    ]


def shown(size: int, how: str, cells: dict[str, list[Speed]]) -> list[Figure]:
    medians = {who: statistics.median(speed.rate for speed in speeds) for who, speeds in cells.items()}
    line = ", ".join(f"{who} {rate:,.0f}" for who, rate in medians.items())
    jobs, claims = (sum(getattr(each, of) for each in cells.get("ours", [])) for of in ("jobs", "claims"))
    mean = f" ({jobs / claims:.0f} jobs in a claim of ours)" if claims else ""
    print(f"{size:,} queued, {how}: jobs/s {line}{mean}", flush=True)
    return [reported(f"{who}, {size:,} queued, {how}, jobs/s", rate) for who, rate in medians.items()]


async def story(dsn: str, home: Path, options: argparse.Namespace) -> list[Figure]:
    async with Database(dsn, connections=1) as database:
        await schema.apply(database)
        scene = Scene(dsn, database, home)
        await scene.set()
        print_machine(dsn)
        versions = ", ".join(" ".join(packages) for packages in PEERS.values())
        print(
            f"peers: {versions}\n"
            f"n: {options.seconds:g} s a cell, {options.rounds} at batch 100, {TENANTS} tenants in our queue"
        )
        return await bench(scene, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="at batch 100")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="revec-bench-"))
    home.chmod(0o755)
    try:
        with Server(home / "home") as server:
            figures = asyncio.run(story(server.dsn, home, options))
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}\n{error.stderr or ''}")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    finish("queue", figures)


if __name__ == "__main__":
    main()
