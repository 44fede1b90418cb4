"""`make bench-vecshift`: the same table moved to another model by vecshift and by Revec.

    python -m bench.vecshift [--rows 50000] [--latency 0.08] [--outage 60]

Both start from a copy of the same database: a table with a live HNSW index, an application that writes 14
times a second and searches 5 times, and a provider that answers after 80 ms. First each has four requests
under way, which is all that vecshift ever has; then each its own best: of vecshift more texts in a request,
of Revec more claims at once. vecshift writes halfvecs, as Revec does, and has the maintenance memory that its
own plan asks for. The last run of each goes on: a cutover, 80 rows written after it, a rollback. At last a
provider says 401 to everything, for a minute. vecshift is driven by its command line, installed by this bench
into an environment of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from bench.application import Application, Seen, load, quantiles
from bench.report import Figure, at_least, at_most, finish, print_machine, reported
from revec.postgres.server import Server
from tests.loopback import Loopback

PEER = "vecshift==0.4.*"
OLD, NEW = "fake-a-384", "fake-b-512"
BASE, COPY = "revec", "moved"  # the databases that the arms start from, and work in
AT_ONCE = 4  # requests: all that vecshift ever has
GOAL = 8.0
INSERTS, EDITS = 50, 30  # after the cutover
OUTAGE_ROWS = 3_000
TELLING = 10  # seconds that an application alone is watched
REVEC = (sys.executable, "-m", "revec.cli.main")


@dataclass(slots=True)
class Move:
    """What one migration took; times in seconds, latencies in milliseconds."""

    name: str
    rows: int = 0
    backfill: float = 0.0
    index: float = 0.0
    seen: Seen = field(default_factory=Seen)
    requests: int = 0

    @property
    def rate(self) -> float:
        return self.rows / self.backfill


@dataclass(slots=True)
class Switched:
    """What the cutover and the rollback took."""

    cutover: float = 0.0  # seconds of the verb, from the command line
    pauses: list[float] = field(default_factory=list)
    rollback: float = 0.0
    errors: list[str] = field(default_factory=list)
    lost: int = 0


class Stage:
    """The server, the provider, and what both tools are called with."""

    def __init__(self, server: Server, home: Path, options: argparse.Namespace) -> None:
        self.server, self.home, self.options = server, home, options
        self.dsn = make_conninfo(server.tcp_dsn, dbname=COPY)

    def admin(self) -> psycopg.Connection:
        return psycopg.connect(make_conninfo(self.server.dsn, dbname="postgres"), autocommit=True)

    def query(self, statement: sql.SQL | sql.Composed, *parameters: Any) -> Any:
        """The one value that a statement gives."""
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            return (conn.execute(statement, parameters).fetchone() or (None,))[0]

    @contextmanager
    def copy(self, rows: int | None = None) -> Iterator[None]:
        """A database of its own for one arm."""
        with self.admin() as admin:
            admin.execute(f"CREATE DATABASE {COPY} TEMPLATE {BASE} STRATEGY file_copy")
            admin.execute(f"ALTER DATABASE {COPY} SET search_path = public")
            admin.execute(f"ALTER DATABASE {COPY} SET maintenance_work_mem = '512MB'")
            admin.execute("CHECKPOINT")
            try:
                if rows is not None:
                    with psycopg.connect(self.dsn, autocommit=True) as conn:
                        conn.execute("DELETE FROM docs WHERE id > %s", (rows,))
                yield
            finally:
                admin.execute(f"DROP DATABASE {COPY} WITH (FORCE)")

    def application(self) -> Application:
        return Application(self.dsn, self.options.rows, OLD)


class Vecshift:
    """The peer, by its command line."""

    name = "vecshift"
    settings = (64, 256, 1_024)  # texts in a request; 64 is its default

    def __init__(self, stage: Stage) -> None:
        self.stage, self.folder = stage, stage.home / "vecshift"

    @property
    def program(self) -> Path:
        return self.folder / "bin" / "vecshift"

    def install(self) -> str:
        """Its version."""
        venv.create(self.folder, with_pip=True)
        pip = (self.folder / "bin" / "python", "-m", "pip", "install", "-qq", "--disable-pip-version-check")
        subprocess.run([*pip, "--no-input", "--only-binary", ":all:", PEER], check=True)
        return said(self.program, "--version")

    def job(self, provider: Loopback, batch: int) -> None:
        shutil.rmtree(self.folder / ".vecshift", ignore_errors=True)  # what it knows of the last arm
        model = f"compat/{NEW},url={provider.url},dims={NEW.rpartition('-')[2]},price=0,batch={batch}"
        (self.folder / "vecshift.yaml").write_text(
            "version: 1\nname: bench\n"
            "source: {table: public.docs, vector_column: embedding, text_column: content}\n"
            "target: {column: embedding_v2, vector_type: halfvec, index: hnsw}\n"
            f"model: {json.dumps(model)}\n",
            encoding="utf-8",
        )

    async def verb(self, *arguments: str) -> asyncio.subprocess.Process:
        return await spawned(
            (str(self.program), "--no-env-file", *arguments), self.folder, {"VECSHIFT_DSN": self.stage.dsn}
        )

    @asynccontextmanager
    async def on_duty(self, provider: Loopback, batch: int) -> AsyncIterator[None]:  # noqa: ARG002 - as Ours
        """Nothing of it runs between its verbs."""
        yield

    async def begin(self, provider: Loopback) -> None:
        """`working` does."""

    async def move(self, provider: Loopback, batch: int) -> Move:
        self.job(provider, batch)
        move = Move(f"vecshift, {AT_ONCE} requests of {batch:,} texts")
        process = await self.verb("apply", "--yes", "--json")
        began = building = 0.0
        async for event in lines(process):
            now = time.perf_counter()
            match event:
                case {"event": "start"}:
                    began = now
                case {"event": "batch", "rows_written": rows}:
                    move.rows, move.backfill = rows, now - began
                case {"event": "index", "state": "building"}:
                    building = now
                case {"event": "index"}:
                    move.index = now - building
        await ended(process)
        return move

    async def prepare(self, provider: Loopback) -> None:
        """It finds all that it needs."""

    async def cutover(self, provider: Loopback, application: Application) -> None:  # noqa: ARG002 - as Ours
        await ended(await self.verb("cutover", "--yes", "--json"))
        application.knows = NEW  # "Switch the model your app embeds queries with at the same time"

    async def settled(self, rows: list[int]) -> None:
        """Nothing more happens: the application wrote its vectors itself."""

    async def rollback(self, provider: Loopback, application: Application) -> None:  # noqa: ARG002
        await ended(await self.verb("rollback", "--yes", "--json"))
        application.knows = OLD

    def lost(self, rows: list[int]) -> int:
        query = sql.SQL("SELECT count(*) FROM docs WHERE id = ANY(%s) AND embedding IS NULL")
        return int(self.stage.query(query, rows))

    @asynccontextmanager
    async def working(self, provider: Loopback, batch: int) -> AsyncIterator[None]:
        self.job(provider, batch)
        process = await self.verb("apply", "--yes", "--json")
        try:
            yield
        finally:
            await put_down(process)

    def misfiled(self) -> int:
        """Good rows that it holds to be refused by the provider."""
        state = self.folder / ".vecshift" / "bench.state.json"
        return len(json.loads(state.read_text("utf-8"))["failed"]) if state.exists() else 0


class Ours:
    """Revec, by its command line."""

    name = "revec"
    settings = (AT_ONCE, 16)  # claims at once

    def __init__(self, stage: Stage) -> None:
        self.stage, self.folder = stage, stage.home / "ours"
        self.folder.mkdir()

    async def verb(self, provider: Loopback, *arguments: str) -> asyncio.subprocess.Process:
        environment = {
            "REVEC_DSN": self.stage.dsn,
            "OPENAI_BASE_URL": provider.url,
            "OPENAI_API_KEY": "loopback",
        }
        return await spawned((*REVEC, *arguments), self.folder, environment)

    async def prepare(self, provider: Loopback) -> None:
        """The table is captured and the old model's index serves: none of this is timed."""
        (self.folder / "revec.toml").write_text(
            f'[collections.docs]\nmodel = "openai:{OLD}"\nindex = "hnsw"\n'
            '[[collections.docs.sources]]\ntable = "public.docs"\nbody = "content"\n',
            encoding="utf-8",
        )
        await ended(await self.verb(provider, "init"))
        await ended(await self.verb(provider, "worker", "--drain", "--quiet"))

    @asynccontextmanager
    async def working(self, provider: Loopback, claims: int) -> AsyncIterator[None]:
        process = await self.verb(provider, "worker", "--quiet", "--concurrency", str(claims))
        try:
            yield
        finally:
            await put_down(process)

    async def move(self, provider: Loopback, claims: int) -> Move:
        move = Move(f"revec, {claims} claims at once")
        await self.begin(provider)
        while self.state() not in {"ready", "aborted"}:
            await asyncio.sleep(0.2)
        spans = {}
        with psycopg.connect(self.stage.dsn) as conn:
            for was, began, over in conn.execute(SPANS).fetchall():
                spans[was] = (began, over)
            paused = conn.execute("SELECT paused_why FROM revec.migration WHERE id = 2").fetchone()
        if "verifying" not in spans:
            sys.exit(f"{move.name}: the migration is {self.state()}, {paused}")
        move.backfill = spans["backfilling"][1] - spans["planned"][0]
        move.index = spans["indexing"][1] - spans["indexing"][0]
        move.rows = int(self.stage.query(sql.SQL("SELECT count(*) FROM revec.vectors_2")))
        return move

    on_duty = working  # a worker keeps the old index current, as in life

    async def begin(self, provider: Loopback) -> None:
        await ended(await self.verb(provider, "start", "docs", "--to", f"openai:{NEW}", "--index", "hnsw"))

    def state(self) -> str:
        return str(self.stage.query(sql.SQL("SELECT state FROM revec.migration ORDER BY id DESC LIMIT 1")))

    async def cutover(self, provider: Loopback, application: Application) -> None:  # noqa: ARG002 - told nothing
        await ended(await self.verb(provider, "cutover", "docs", "--yes"))

    async def settled(self, rows: list[int]) -> None:
        """Both indexes have what was written."""
        while any(self.lacking(index, rows) for index in (1, 2)):
            await asyncio.sleep(0.1)

    async def rollback(self, provider: Loopback, application: Application) -> None:  # noqa: ARG002
        await ended(await self.verb(provider, "rollback", "docs", "--yes"))

    def lost(self, rows: list[int]) -> int:
        serving = self.stage.query(sql.SQL("SELECT serving FROM revec.route"))
        assert serving == 1, "the old index serves again"
        return self.lacking(serving, rows)

    def lacking(self, index: int, rows: list[int]) -> int:
        """How many of them an index has no vector of the present content of, by an anti-join of our own."""
        query = sql.SQL(
            "SELECT count(*) FROM unnest(%s::bigint[]) AS row(id) JOIN public.docs USING (id)"
            " WHERE NOT EXISTS (SELECT FROM revec.document d JOIN {} v ON v.doc_id = d.id"
            " AND v.input_hash = d.input_hash WHERE d.key = docs.id::text AND d.body = docs.content)"
        )
        return int(self.stage.query(query.format(sql.Identifier("revec", f"vectors_{index}")), rows))

    def misfiled(self) -> int:
        return int(self.stage.query(sql.SQL("SELECT count(*) FROM revec.dead")))


SPANS = """
SELECT was, extract(epoch FROM lag(at) OVER (ORDER BY id))::float, extract(epoch FROM at)::float
FROM revec.migration_event WHERE migration_id = 2 AND (became IS NOT NULL OR why = 'started') ORDER BY id
"""


async def spawned(
    command: tuple[str, ...], cwd: Path, environment: dict[str, str]
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**os.environ, **environment, "NO_COLOR": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=None,
    )


async def lines(process: asyncio.subprocess.Process) -> AsyncIterator[dict[str, Any]]:
    """The JSON objects that a process prints."""
    assert process.stdout is not None
    async for line in process.stdout:
        if line.startswith(b"{"):
            yield json.loads(line)


async def ended(process: asyncio.subprocess.Process) -> None:
    """It has done what it was told."""
    out, _ = await process.communicate()
    if process.returncode:
        sys.exit(f"exit code {process.returncode}: {out.decode()}")


async def put_down(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(20):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()


def said(*command: Any) -> str:
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    return ran.stdout.strip()


async def moved(stage: Stage, arm: Vecshift | Ours, setting: int, *, switch: bool) -> tuple[Move, Switched]:
    """One migration of a fresh copy, the application beside it; then, if asked, there and back."""
    switched = Switched()
    with stage.copy(), Loopback() as quick, Loopback(latency=stage.options.latency) as provider:
        await arm.prepare(quick)
        application = stage.application()
        async with arm.on_duty(provider, setting), application.running():
            with application.noted() as seen:
                move = await arm.move(provider, setting)
            move.seen, move.requests = seen, provider.requests()["requests"]
            if switch:
                await there_and_back(arm, provider, application, switched)
    told(move)
    return move, switched


async def there_and_back(
    arm: Vecshift | Ours, provider: Loopback, application: Application, switched: Switched
) -> None:
    with application.noted() as seen:
        async with application.longest_pause() as switched.pauses:
            began = time.perf_counter()
            await arm.cutover(provider, application)
            switched.cutover = time.perf_counter() - began
    switched.errors = seen.errors
    rows = await application.fresh(INSERTS, EDITS)
    await arm.settled(rows)
    began = time.perf_counter()
    await arm.rollback(provider, application)
    switched.rollback = time.perf_counter() - began
    switched.lost = arm.lost(rows)


async def outage(stage: Stage, arm: Vecshift | Ours) -> tuple[int, int]:
    """Requests that a provider got that says 401 to all of them, and good rows that were called bad."""
    with stage.copy(OUTAGE_ROWS), Loopback() as well, Loopback() as ill:
        await arm.prepare(well)
        await arm.begin(well)
        ill.fault("401", times=None)
        async with arm.working(ill, arm.settings[0]):
            await asyncio.sleep(stage.options.outage)
            asked, misfiled = ill.requests()["requests"], arm.misfiled()
    print(f"{arm.name}, 401 for {stage.options.outage:g} s: {asked:,} requests, {misfiled:,} rows called bad")
    return asked, misfiled


def told(move: Move) -> None:
    latencies = "; ".join(
        f"{what} " + ", ".join(f"{name} {value:.1f}" for name, value in quantiles(times).items())
        for what, times in (("writes", move.seen.writes), ("searches", move.seen.searches))
    )
    print(
        f"{move.name}: {move.rows:,} rows in {move.backfill:.1f} s, {move.rate:,.0f} rows/s, then the index "
        f"in {move.index:.1f} s; {move.requests:,} requests; application, ms: {latencies}; "
        f"{len(move.seen.errors)} errors",
        flush=True,
    )


def beside(move: Move) -> list[Figure]:
    return [
        reported(f"{move.name}: backfill rows/s", move.rate),
        reported(f"{move.name}: index build s", move.index),
        *latencies(move.name, move.seen),
        reported(f"{move.name}: application's errors", len(move.seen.errors)),
    ]


def latencies(name: str, seen: Seen) -> Iterator[Figure]:
    for what, times in (("write", seen.writes), ("search", seen.searches)):
        for which, value in quantiles(times).items():
            yield reported(f"{name}: application's {what} {which} ms", value)


def around(name: str, switched: Switched) -> list[Figure]:
    return [
        reported(f"{name}: longest pause of a writer at the cutover ms", max(switched.pauses)),
        reported(f"{name}: cutover s", switched.cutover),
        reported(f"{name}: rollback s", switched.rollback),
        reported(f"{name}: application's errors at the cutover", len(switched.errors)),
    ]


async def story(stage: Stage) -> list[Figure]:
    peer, ours = Vecshift(stage), Ours(stage)
    print(f"peer: {peer.install()}", flush=True)
    with stage.copy():
        application = stage.application()
        async with application.running():
            with application.noted() as alone:
                await asyncio.sleep(TELLING)
    moves: dict[str, list[Move]] = {}
    ends: dict[str, Switched] = {}
    for arm in (peer, ours):
        runs = [await moved(stage, arm, each, switch=each == arm.settings[-1]) for each in arm.settings]
        moves[arm.name], ends[arm.name] = [move for move, _ in runs], runs[-1][1]
    refused = {arm.name: await outage(stage, arm) for arm in (peer, ours)}
    best = {name: max(move.rate for move in each) for name, each in moves.items()}
    return [
        at_least(
            "revec / vecshift, backfill rows/s, each at its own best", best["revec"] / best["vecshift"], GOAL
        ),
        reported(
            f"revec / vecshift, backfill rows/s, {AT_ONCE} requests at once",
            moves["revec"][0].rate / moves["vecshift"][0].rate,
        ),
        *latencies("nothing moves", alone),
        *(figure for each in moves.values() for move in each for figure in beside(move)),
        *(figure for name, switched in ends.items() for figure in around(name, switched)),
        at_most(f"revec: of {INSERTS + EDITS} fresh rows, lost at the rollback", ends["revec"].lost, 0),
        reported(f"vecshift: of {INSERTS + EDITS} fresh rows, lost at the rollback", ends["vecshift"].lost),
        at_most("revec: requests to a provider that says 401", refused["revec"][0], 10),
        reported("vecshift: requests to a provider that says 401", refused["vecshift"][0]),
        at_most("revec: good rows called bad for it", refused["revec"][1], 0),
        reported("vecshift: good rows called bad for it", refused["vecshift"][1]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--latency", type=float, default=0.08, help="of the provider, in seconds")
    parser.add_argument("--outage", type=float, default=60.0, help="seconds of 401")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="revec-bench-"))
    home.chmod(0o755)  # the server may run as another user
    try:
        with Server(home / "home") as server:
            print_machine(server.dsn)
            print(f"n: {options.rows:,} rows, {OLD} to {NEW}, provider at {1000 * options.latency:g} ms")
            load(make_conninfo(server.dsn, dbname=BASE), options.rows, OLD)
            figures = asyncio.run(story(Stage(server, home, options)))
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}\n{error.stderr or ''}")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    finish("vecshift", figures)


if __name__ == "__main__":
    main()
