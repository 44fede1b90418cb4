"""Two tools that move a table to another model, each by its command line, and the stage they do it on."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
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

from bench.application import Application, Seen
from revec.postgres.server import Server
from tests.loopback import Loopback

PEER = "vecshift==0.4.*"
OLD, NEW = "fake-a-384", "fake-b-512"
BASE, COPY = "revec", "moved"  # the databases that the arms start from, and work in
AT_ONCE = 4  # requests: all that vecshift ever has
REVEC = (sys.executable, "-m", "revec.cli.main")


@dataclass(slots=True)
class Move:
    """What one migration took; times in seconds, latencies in milliseconds."""

    name: str
    rows: int = 0
    backfill: float = 0.0
    index: float = 0.0
    proof: float = 0.0  # that nothing is missing or worse; vecshift has none of its own
    seen: Seen = field(default_factory=Seen)
    requests: int = 0

    @property
    def rate(self) -> float:
        return self.rows / self.backfill


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
        move.proof = spans["verifying"][1] - spans["verifying"][0]
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
