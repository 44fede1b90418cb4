"""`make bench-fleet`: the first fill of a fleet of tenants, by real worker processes.

    python -m bench.fleet [--documents 670000] [--tenants 134] [--dims 1536] [--statements]

The provider is the loopback server without any limit, so what is measured is the worker's own cost:
claims, fences, payments, checks of every answer, commits, and the proof at the end. Three fills, each
of a fresh copy of the same database: one worker; two workers; and two workers inside a hard memory
ceiling, one of which is killed every ten seconds and restarted at once. A fill lasts from the start of
the processes until the last one has left by itself (`revec worker --drain`): verified and served.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from bench.processes import (
    Measured,
    cpu_seconds,
    family_cpu_seconds,
    memory_ceiling,
    oom_kills,
    started,
)
from bench.report import Figure, at_least, at_most, finish, print_machine, reported
from revec.app import App
from revec.migrate.check import check
from revec.migrate.sentinels import SENTINELS
from revec.model.document import Draft, text_hash
from revec.postgres import collections, documents
from revec.postgres.server import Server
from revec.providers._hosted import PROBE
from revec.settings import Settings
from tests.loopback import Loopback

FLEET = 670_000
SECONDS, STRETCH = 150, 90  # for the whole fleet; with fewer documents, the same rate
PEAK_MIB = 256
KILL_EVERY = 10.0  # seconds
WORDS_A_DOCUMENT = 60  # about 84 tokens, the mean of the seed's fleet
LOADED, COPY = "revec", "fill"  # the databases that the fills start from, and work in
COLLECTION = "fleet"
PACK = 256
ALONE_PACKS = 100  # sent to the loopback provider by itself
# What every first fill asks besides: how many dims, and what becomes of the sentinels.
FIXED_WORDS = frozenset(text_hash(text).hex() for text in (PROBE, *SENTINELS))
WORKER = (sys.executable, "-m", "revec.cli.main", "worker", "--drain", "--quiet")


@dataclass(slots=True)
class Fill:
    """What one fill took."""

    seconds: float = 0.0
    filled: float = 0.0  # seconds until no document lacked a vector; the rest is the proof
    peak_mib: float = 0.0  # of the largest worker
    cpu: dict[str, float] = field(default_factory=dict)  # seconds: workers, server, provider
    kills: int = 0
    in_flight: int = 0  # texts that killed workers were paying for
    oom_kills: int = 0
    missing: int = 0
    breaches: int = 0
    billed: int = 0  # documents' texts that the provider worked on, until the proof began


@dataclass(frozen=True, slots=True)
class Arm:
    name: str
    workers: int
    ceiling: Path | None = None
    kills: bool = False


class Stage:
    """The server with the loaded documents, and where the workers run."""

    def __init__(self, server: Server, home: Path, options: argparse.Namespace) -> None:
        self.server = server
        self.home = home
        self.options = options

    def dsn(self, database: str) -> str:
        return make_conninfo(self.server.dsn, dbname=database)

    @property
    def postmaster(self) -> int:
        return int((self.server.home / "data" / "postmaster.pid").read_text().split()[0])

    def settings(self, database: str, provider: Loopback) -> Settings:
        return Settings(dsn=self.dsn(database), OPENAI_BASE_URL=provider.url, OPENAI_API_KEY="loopback")  # type: ignore[call-arg]

    async def load(self) -> None:
        """The documents, through the product's own door for them."""
        settings = Settings(dsn=self.server.dsn)
        began = time.perf_counter()
        async with App(settings, may_apply=True) as app:
            async with app.database.transaction() as conn:
                collection = await collections.create(conn, COLLECTION)
                source = await collections.add_source(conn, collection, collections.PUSH)
            for page in pages(self.options):
                async with app.database.transaction() as conn:
                    await documents.put(conn, source, page)
        with psycopg.connect(self.server.dsn, autocommit=True) as conn:
            conn.execute("VACUUM ANALYZE")
        print(
            f"loaded {self.options.documents:,} documents in {time.perf_counter() - began:.0f} s", flush=True
        )

    @contextmanager
    def copy(self) -> Iterator[str]:
        """A database of its own for one fill, dropped afterwards: three of them would take much disk."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {COPY} TEMPLATE {LOADED} STRATEGY file_copy")
            admin.execute(f"ALTER DATABASE {COPY} SET search_path = public")  # as the server's manager does
            admin.execute("CHECKPOINT")
            try:
                yield COPY
            finally:
                admin.execute(f"DROP DATABASE {COPY} WITH (FORCE)")


def pages(options: argparse.Namespace) -> Iterator[list[Draft]]:
    """The fleet's documents in pages of 5,000, tenant by tenant; no two texts are equal."""
    chance = random.Random(0)
    words = [f"word{n}" for n in range(5_000)]
    page = []
    for number in range(options.documents):
        tenant = number * options.tenants // options.documents
        body = " ".join(chance.choices(words, k=WORDS_A_DOCUMENT))
        page.append(Draft(f"{number:07}", f"title {number}", body, f"tenant-{tenant:04}"))
        if len(page) == 5_000:
            yield page
            page = []
    if page:
        yield page


async def fill(stage: Stage, arm: Arm) -> Fill:
    """Start the migration, let the workers do it, and count what came of it."""
    done = Fill()
    with Loopback() as provider, stage.copy() as database:
        settings = stage.settings(database, provider)
        async with App(settings) as app:
            async with app.database.transaction() as conn:
                collection = await collections.named(conn, COLLECTION)
            await app.start(collection, f"openai:fake-a-{stage.options.dims}")
        server_before = family_cpu_seconds(stage.postmaster)
        began = time.time()
        workers = await asyncio.to_thread(worked, stage, arm, settings, done)
        done.seconds = time.time() - began
        done.peak_mib = max(worker.peak_mib for worker in workers)
        done.cpu = {
            "workers": sum(worker.cpu for worker in workers),
            "server": family_cpu_seconds(stage.postmaster) - server_before,
            "provider": cpu_seconds(provider.pid),
        }
        if stage.options.statements:
            print_statements(settings)
        verified = became_verifying(settings)
        done.filled = verified - began
        done.billed = sum(
            line["time"] < verified and line["text"] not in FIXED_WORDS for line in provider.bill()
        )
        async with App(settings) as app:
            done.breaches = len(await check(app.database, freshness=settings.freshness))
        done.missing = await asyncio.to_thread(missing, stage, settings)
    told(arm, done, stage.options)
    return done


def worked(stage: Stage, arm: Arm, settings: Settings, done: Fill) -> list[Measured]:
    """All the worker processes there were, once the last one has left by itself."""
    crew = [Hand(stage, arm, settings, place) for place in range(arm.workers)]
    gone: list[Measured] = []
    paying: set[tuple[bytes, str]] = set()
    turn = 0
    while arm.kills and wait_for_all(crew, KILL_EVERY) is None and is_filling(settings):
        hand = crew[turn % arm.workers]
        turn += 1
        gone.append(hand.kill())
        # What a killed worker was paying for is still leased in its name.
        now = leased_payments(settings, hand)
        done.in_flight += len(now - paying)
        paying |= now
        done.kills += 1
        hand.start()
    codes = wait_for_all(crew, None)
    assert codes is not None
    if any(codes):
        sys.exit(f"{arm.name}: a worker left with exit code {codes}")
    if arm.ceiling:
        done.oom_kills = oom_kills(arm.ceiling)
    return [*gone, *(hand.measured for hand in crew)]


class Hand:
    """One worker's place: whoever is killed there is replaced."""

    def __init__(self, stage: Stage, arm: Arm, settings: Settings, place: int) -> None:
        self.name = f"{arm.name}-{place}"
        self._stage, self._arm, self._settings = stage, arm, settings
        self.start()

    def start(self) -> None:
        settings = self._settings
        assert settings.dsn
        assert settings.openai_base_url
        self.measured = started(
            WORKER,
            environment={
                "REVEC_DSN": settings.dsn,
                "OPENAI_BASE_URL": settings.openai_base_url,
                "OPENAI_API_KEY": "loopback",
                "PGAPPNAME": self.name,
            },
            cwd=self._stage.home,
            ceiling=self._arm.ceiling,
        )

    def kill(self) -> Measured:
        self.measured.process.kill()
        self.measured.wait()
        return self.measured


def wait_for_all(crew: list[Hand], seconds: float | None) -> list[int] | None:
    """Their exit codes, or None if somebody still works after so many seconds."""
    give_up_at = None if seconds is None else time.monotonic() + seconds
    while any(hand.measured.process.poll() is None for hand in crew):
        if give_up_at is not None and time.monotonic() > give_up_at:
            return None
        time.sleep(0.05)
    return [hand.measured.wait() for hand in crew]


def leased_payments(settings: Settings, hand: Hand) -> set[tuple[bytes, str]]:
    """(text hash, token) of all open payments, once the server has seen that this worker is gone."""
    gone = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    leased = "SELECT text_hash, token::text FROM revec.paid WHERE vector IS NULL"
    assert settings.dsn
    with psycopg.connect(settings.dsn, autocommit=True) as conn:
        while (conn.execute(gone, (hand.name,)).fetchone() or (0,))[0]:
            time.sleep(0.01)
        return set(conn.execute(leased).fetchall())  # the other worker's too: those of a later kill


def is_filling(settings: Settings) -> bool:
    with psycopg.connect(settings.dsn or "", autocommit=True) as conn:
        row = conn.execute("SELECT state FROM revec.migration ORDER BY id DESC LIMIT 1").fetchone()
        return row is not None and row[0] in {"planned", "capturing", "backfilling"}


def became_verifying(settings: Settings) -> float:
    """When the last document had its vector, as the conductor's own history tells (epoch seconds)."""
    with psycopg.connect(settings.dsn or "", autocommit=True) as conn:
        row = conn.execute(
            "SELECT extract(epoch FROM min(at))::float FROM revec.migration_event WHERE was = 'backfilling'"
        ).fetchone()
        assert row is not None
        return float(row[0])


def missing(stage: Stage, settings: Settings) -> int:
    """Documents without a vector of their present content, by an anti-join that shares no code with us."""
    with psycopg.connect(settings.dsn or "", autocommit=True) as conn:
        (index,) = conn.execute("SELECT serving FROM revec.route").fetchone() or (None,)
        if index is None:
            return int(stage.options.documents)
        query = sql.SQL(
            "SELECT count(*) FROM revec.document d LEFT JOIN {} v ON v.doc_id = d.id AND v.chunk_no = 0"
            " AND v.input_hash = d.input_hash WHERE v.doc_id IS NULL"
        )
        row = conn.execute(query.format(sql.Identifier("revec", f"vectors_{index}"))).fetchone()
        assert row is not None
        return int(row[0])


def told(arm: Arm, done: Fill, options: argparse.Namespace) -> None:
    cpu = ", ".join(f"{name} {seconds:.0f}" for name, seconds in done.cpu.items())
    print(
        f"{arm.name}: {done.seconds:.1f} s ({done.filled:.1f} s until filled, then the proof), "
        f"{options.documents / done.seconds:,.0f} documents/s, peak {done.peak_mib:.0f} MiB, CPU seconds: "
        f"{cpu}; {done.missing} missing, {done.breaches} breaches, {done.billed:,} texts billed, "
        f"{done.kills} kills, {done.in_flight:,} texts in flight at them, {done.oom_kills} out of memory",
        flush=True,
    )


def preload_statistics(home: Path) -> None:
    """For the server's next start."""
    with Server(home) as server, psycopg.connect(server.dsn, autocommit=True) as conn:
        conn.execute("ALTER SYSTEM SET shared_preload_libraries = pg_stat_statements")
        conn.execute("ALTER SYSTEM SET compute_query_id = on")


def print_statements(settings: Settings) -> None:
    """Where the server's time went, by statement."""
    with psycopg.connect(settings.dsn or "", autocommit=True) as conn:
        conn.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        rows = conn.execute(
            "SELECT calls, total_exec_time::int, rows, left(regexp_replace(query, '\\s+', ' ', 'g'), 110)"
            "  FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid"
            " WHERE d.datname = current_database() ORDER BY total_exec_time DESC LIMIT 25"
        ).fetchall()
    for calls, spent, count, query in rows:
        print(f"  {spent:>8,} ms {calls:>8,} calls {count:>9,} rows  {query}")


def provider_alone(dims: int) -> float:
    """Documents/s that the loopback provider gives to two clients that do nothing else."""
    with Loopback() as provider:
        url = urlsplit(provider.url)

        def ask(name: int) -> None:
            connection = http.client.HTTPConnection(url.hostname or "", url.port)
            for turn in range(ALONE_PACKS // 2):
                texts = [f"title {name} {turn} {n} " + "word1234 " * WORDS_A_DOCUMENT for n in range(PACK)]
                body = {"model": f"fake-a-{dims}", "input": texts, "encoding_format": "base64"}
                connection.request("POST", f"{url.path}/embeddings", json.dumps(body))
                connection.getresponse().read()

        began = time.perf_counter()
        clients = [threading.Thread(target=ask, args=(name,)) for name in range(2)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        return ALONE_PACKS * PACK / (time.perf_counter() - began)


def judged(arm: Arm, done: Fill, options: argparse.Namespace) -> list[Figure]:
    n = options.documents
    speed = n / done.seconds
    figures = [
        at_least(f"{arm.name}: documents/s", speed, round(FLEET / SECONDS)),
        reported(f"{arm.name}: documents/s over the stretch goal", speed / (FLEET / STRETCH)),
        reported(f"{arm.name}: wall seconds", done.seconds),
        reported(f"{arm.name}: wall seconds until filled", done.filled),
        at_most(f"{arm.name}: peak RSS of a worker, MiB", done.peak_mib, PEAK_MIB),
    ]
    figures += [reported(f"{arm.name}: CPU seconds, {name}", seconds) for name, seconds in done.cpu.items()]
    if arm.kills:
        figures[0] = reported(f"{arm.name}: documents/s", speed)
        figures += [
            reported(f"{arm.name}: kills", done.kills),
            reported(f"{arm.name}: processes that ran out of memory", done.oom_kills),
            at_most(f"{arm.name}: documents lost", done.missing + done.breaches, 0),
            at_most(
                f"{arm.name}: texts billed (unique {n:,} + in flight at the kills {done.in_flight:,})",
                done.billed,
                n + done.in_flight,
            ),
        ]
    return figures


async def bench(stage: Stage) -> list[Figure]:
    options = stage.options
    await stage.load()
    print_machine(stage.server.dsn)
    print(
        f"n: {options.documents:,} documents of {WORDS_A_DOCUMENT} words, {options.tenants} tenants, "
        f"{options.dims} dims; goals are for {FLEET:,} in {SECONDS} s"
    )
    alone = provider_alone(options.dims)
    print(f"the loopback provider by itself: {alone:,.0f} documents/s")
    figures = [reported("loopback provider by itself, documents/s", alone)]
    with memory_ceiling(PEAK_MIB) as ceiling:
        name = f"killed in {PEAK_MIB} MiB" if ceiling else "killed"
        if ceiling is None:
            print("no cgroup can be made here: the last fill has no ceiling")
        arms = [
            Arm("one worker", 1),
            Arm("two workers", 2),
            Arm(name, 2, ceiling, kills=True),
        ]
        for number in options.arms:
            arm = arms[number - 1]
            figures += judged(arm, await fill(stage, arm), options)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", type=int, default=FLEET)
    parser.add_argument("--tenants", type=int, default=134)
    parser.add_argument("--dims", type=int, default=1536)
    parser.add_argument("--arms", type=int, nargs="+", default=[1, 2, 3], choices=(1, 2, 3))
    parser.add_argument("--statements", action="store_true", help="print where the server's time went")
    options = parser.parse_args()
    # The loopback multiplies small matrices: more threads than one only wait for each other, noisily.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    home = Path(tempfile.mkdtemp(prefix="revec-bench-"))
    home.chmod(0o755)
    try:
        if options.statements:
            preload_statistics(home / "home")
        with Server(home / "home") as server:
            figures = asyncio.run(bench(Stage(server, home, options)))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    finish("fleet", figures)


if __name__ == "__main__":
    main()
