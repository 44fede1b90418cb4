"""Commands as processes, users who never stop writing, and the trial that a fault is tried in."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Self
from uuid import uuid4
from zlib import crc32

import psycopg
from psycopg import sql

from revec.app import App
from revec.capture.attach import attach
from revec.capture.mapping import Mapping
from revec.migrate.check import check
from revec.migrate.conductor import Conductor
from revec.migrate.sentinels import SENTINELS
from revec.model.document import Draft, text_hash
from revec.model.index import Collection, Kind
from revec.postgres import collections
from tests import servers, steps
from tests.conftest import LOOK_AGAIN, TRIALS, settings_for
from tests.copies import Copies
from tests.forked import Forked
from tests.loopback import Loopback

FILLED, READY = "faults_filled", "faults_ready"  # databases to copy: one index, one more ready
SAME = "words that several documents share"  # and that no writer touches
CLAIM, PAGE = 8, 10
IN_FLIGHT = 3 * CLAIM  # texts that one worker may be paying for at a moment, at its express place too
SLOTS = 2  # trials at once
LEASE = 1.0
POLL = 0.02  # seconds between looks for a signal

COMMAND = "import sys; from revec.cli.main import main; main()"
SMALL_PAGES = (
    f"from revec.migrate import backfill; backfill.PAGE, backfill.WINDOW = {PAGE}, {2 * PAGE}; "
    "from revec.stores import upkeep; upkeep.LEASE = 1.0; "
    f"from revec.migrate import outlook; outlook.VERIFY_EVERY = outlook.timedelta(seconds={LOOK_AGAIN}); "
    + COMMAND
)

_numbers = count(1)


# --- commands -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Command:
    """`revec …` in a process of its own, in a folder of its own."""

    process: asyncio.subprocess.Process | Forked
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def over(self) -> bool:
        return self.process.returncode is not None

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    async def ended(self, within: float = 60.0) -> int:
        """Its exit code; negative is the signal that ended it."""
        try:
            return await asyncio.wait_for(self.process.wait(), within)
        except TimeoutError:
            raise AssertionError(f"still runs after {within} s; it said: {self.said}") from None

    async def killed(self) -> None:
        if not self.over:
            self.process.kill()
            await self.process.wait()

    async def ends_well(self, within: float = 120.0) -> None:
        code = await self.ended(within)
        assert code == 0, f"exit {code}: {self.said}"
        assert "Traceback" not in self.said, self.said


@asynccontextmanager
async def commands(
    folder: Path, *, forked: bool = True, **environment: str
) -> AsyncIterator[Callable[..., Any]]:
    """Start commands; what is left of them is killed at the end. Not `forked`: they import what they need."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    running: list[Command] = []

    async def start(*arguments: str, code: str = COMMAND, **more: str) -> Command:
        place = Path(tempfile.mkdtemp(dir=folder))
        log = place.with_suffix(".log")
        env = {**kept, "HOME": str(place), **environment, **more}
        log.touch()
        process = await (_forked if forked else _spawned)(code, arguments, place, env, log)
        running.append(Command(process, log))
        return running[-1]

    try:
        yield start
    finally:
        for command in running:
            await command.killed()


async def _forked(
    code: str, arguments: tuple[str, ...], place: Path, env: dict[str, str], log: Path
) -> Forked:
    return await asyncio.to_thread(Forked.started, code, arguments, cwd=place, env=env, out=log)


async def _spawned(
    code: str, arguments: tuple[str, ...], place: Path, env: dict[str, str], log: Path
) -> asyncio.subprocess.Process:
    with log.open("wb") as said:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code, *arguments),
            cwd=place,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )


# --- writers --------------------------------------------------------------------------------------


class Writers:
    """Users: documents are pushed and rows of app.docs are written, edited, moved and deleted.

    What was acknowledged is remembered. A write that fails is an error of the trial.
    """

    def __init__(self, trial: Trial, *, pause: float) -> None:
        self.writes = 0
        self.pushed: dict[str, str] = {}  # key → body
        self._app, self._made, self._pause = trial.app, trial.made, pause
        self._rng, self._number = random.Random(trial.seed + 1), trial.numbers
        self._stopped = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._table = await psycopg.AsyncConnection.connect(
            self._app.database.dsn, autocommit=True, prepare_threshold=None
        )
        self.pushed = await documents_of(self._app, "push")
        touched = [key for key, body in self.pushed.items() if body != SAME]
        rows = await (await self._table.execute("SELECT id FROM app.docs")).fetchall()
        self._tasks = [
            asyncio.create_task(self._repeat(self._push, touched)),
            asyncio.create_task(self._repeat(self._row, [id_ for (id_,) in rows])),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """No further write; one that failed is raised."""
        self._stopped.set()
        try:
            await asyncio.gather(*self._tasks)
        finally:
            await self._table.close()

    async def made_more(self, writes: int) -> None:
        wanted = self.writes + writes
        while self.writes < wanted:
            assert not any(task.done() for task in self._tasks), "a user's write failed"
            await asyncio.sleep(POLL)

    async def _repeat(self, write: Callable[[list[Any]], Awaitable[None]], keys: list[Any]) -> None:
        while not self._stopped.is_set():
            await write(keys)
            self.writes += 1
            await asyncio.sleep(self._rng.uniform(0.5, 1.5) * self._pause)

    async def _push(self, keys: list[str]) -> None:
        number, what = next(self._number), self._rng.random()
        if what < 0.25 and len(keys) > 5:
            key = keys.pop(self._rng.randrange(len(keys)))
            await steps.delete(self._app, self._made, key)
            del self.pushed[key]
            return
        if what < 0.6 and keys:
            key = self._rng.choice(keys)
        else:
            keys.append(key := f"new {number}")
        body = f"version {number} of pushed {key}"
        await steps.put(self._app, self._made, [Draft(key, f"title of {key}", body)])
        self.pushed[key] = body

    async def _row(self, ids: list[int]) -> None:
        number, what = next(self._number), self._rng.random()
        body = f"version {number} of a row"
        if what < 0.25 and len(ids) > 5:
            gone = ids.pop(self._rng.randrange(len(ids)))
            await self._table.execute("DELETE FROM app.docs WHERE id = %s", [gone])
        elif what < 0.5 and ids:
            args = (body, self._rng.choice(ids))
            await self._table.execute("UPDATE app.docs SET body = %s WHERE id = %s", args)
        elif what < 0.6 and ids:
            at = self._rng.randrange(len(ids))
            moved = 100_000 + number
            args = (moved, body, ids[at])
            await self._table.execute("UPDATE app.docs SET id = %s, body = %s WHERE id = %s", args)
            ids[at] = moved
        else:
            ids.append(1_000 + number)
            args = (ids[-1], f"row {number}", body)
            await self._table.execute("INSERT INTO app.docs VALUES (%s, %s, %s)", args)


async def documents_of(app: App, source: str) -> dict[str, str]:
    found = await steps.rows(
        app,
        "SELECT d.key, d.body FROM revec.document d JOIN revec.source s ON s.id = d.source_id"
        " WHERE s.name = %(source)s",
        source=source,
    )
    return {row.key: row.body for row in found}


# --- the trial ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Trial:
    """One database, one provider, one seed."""

    number: int
    seed: int
    app: App
    made: Collection
    loopback: Loopback
    start: Callable[..., Any]  # a command
    folder: Path
    rng: random.Random = field(init=False)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))  # no text is written twice

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    async def worker(self, *, drain: bool = True, claim: int = CLAIM, **more: str) -> Command:
        arguments = ("worker", "--quiet", "--claim", str(claim), *["--drain"] * drain)
        return await self.start(*arguments, code=SMALL_PAGES, **more)

    def writers(self, *, pause: float = 0.05) -> Writers:
        return Writers(self, pause=pause)

    async def migrate(
        self, to: str = steps.NEW, *, sampled: bool = True, kind: Kind | None = None, **how: Any
    ) -> None:
        """Begin to move to the new model. Not `sampled`: no text is paid for only to verify."""
        await self.app.start(self.made, to, kind=kind, **how)
        if not sampled:
            await self.execute("UPDATE revec.migration SET gates = '{completeness}'")

    async def advance(self, state: str) -> None:
        """Tick in this process until the migration is there."""
        app = self.app
        conductor = Conductor(app.tools, uuid4())
        while await self.state() != state:
            assert await conductor.tick(), f"stays {await self.state()}"
        await conductor.leave()

    async def end_idle_transactions(self) -> None:
        """As an operator's server does: whoever is stopped in one holds no locks for long."""
        name = sql.Identifier(self.app.database.dsn.partition("dbname=")[2].split()[0])
        query = "ALTER DATABASE {} SET idle_in_transaction_session_timeout = '1s'"
        async with self.app.database.transaction() as conn:
            await conn.execute(sql.SQL(query).format(name))

    async def execute(self, query: str, **parameters: Any) -> None:
        async with self.app.database.transaction() as conn:
            await conn.execute(query, parameters or None)

    async def ask(self, query: str, **parameters: Any) -> Any:
        """The first column of the first row."""
        found = await steps.rows(self.app, query, **parameters)
        return found[0][0] if found else None

    async def state(self) -> str:
        return await self.ask("SELECT state FROM revec.migration ORDER BY id DESC LIMIT 1")

    async def until(self, query: str, *, within: float = 120.0, **parameters: Any) -> None:
        """Wait for a signal: a query whose answer becomes true."""
        give_up_at = time.monotonic() + within
        while not await self.ask(query, **parameters):
            if time.monotonic() > give_up_at:
                said = "\n".join(log.read_text() for log in self.folder.glob("*.log"))
                raise AssertionError(f"never true: {query}; {await self.state()}; {said}")
            await asyncio.sleep(POLL)

    async def until_state(self, *states: str) -> None:
        await self.until(
            "SELECT state = ANY (%(s)s) FROM revec.migration ORDER BY id DESC LIMIT 1",
            s=list(states),
        )

    async def until_billed(self, fault: str) -> None:
        """Wait until the provider has struck with this fault."""
        give_up_at = time.monotonic() + 30
        while not any(line["fault"] == fault for line in self.loopback.bill()):
            assert time.monotonic() < give_up_at, f"no {fault} within 30 s"
            await asyncio.sleep(0.01)

    def heal(self) -> None:
        """The provider misbehaves no more; its bill stays."""
        self.loopback._call("DELETE", "/fault")

    def bill(self) -> Counter[tuple[str, str]]:
        """(text's hash, model) → how often it was paid for; sentinels are paid for on purpose."""
        on_purpose = {text_hash(text).hex() for text in SENTINELS}
        lines = [line for line in self.loopback.bill() if line["text"] not in on_purpose]
        return Counter((line["text"], line["model"]) for line in lines)

    async def stored(self) -> set[tuple[str, str]]:
        """(text's hash, model) of every vector that the database has, written or kept."""
        found = set()
        for index in await steps.written(self.app, self.made):
            model = index.space.model
            table = sql.Identifier("revec", f"vectors_{index.id}")
            query = sql.SQL(
                "SELECT text_hash FROM {} UNION ALL SELECT text_hash FROM revec.paid"
                " WHERE space_id = %s AND vector IS NOT NULL"
            ).format(table)
            async with self.app.database.transaction() as conn:
                rows = await (await conn.execute(query, [index.space.id])).fetchall()
            found |= {(row.text_hash.hex(), model) for row in rows}
        return found

    async def assert_kept(self, pushed: dict[str, str]) -> None:
        """Every acknowledged write is a document, every acknowledged deletion is none."""
        assert await documents_of(self.app, "push") == pushed
        rows = await steps.rows(self.app, "SELECT id::text AS key, body FROM app.docs")
        assert await documents_of(self.app, "app.docs") == {row.key: row.body for row in rows}

    async def assert_well(self, writers: Writers | None = None) -> None:
        """Documents are what was acknowledged, vectors are what the models say, `check` agrees."""
        if await self.app.outstanding():  # the last drain left between two writes
            await steps.drain(self.app)
        if writers:
            await self.assert_kept(writers.pushed)
        await self.assert_checked()
        leased = "SELECT count(*) FROM revec.work WHERE lease_until IS NOT NULL"
        assert await self.ask(leased) == 0

    async def assert_checked(self) -> None:
        """The oracle agrees, and what `check` finds is shown."""
        breaches = await check(self.app.database, freshness=30)
        assert not breaches, f"{[*map(str, breaches)]}"
        await steps.assert_oracle(self.app, self.made)

    async def assert_can_go_both_ways(self) -> None:
        """A ready migration is cut over, rolled back and cut over again."""
        commands = self.app.commands
        await commands.switch.cutover(self.made, why="test")
        await commands.switch.rollback(self.made, why="test")
        await commands.switch.cutover(self.made, why="test")
        await self.assert_checked()


class Stage:
    """What all trials share: the cluster with the databases to copy, one provider a slot."""

    def __init__(self, copies: Copies, loopbacks: Sequence[Loopback]) -> None:
        self._copies = copies
        self._loopbacks = loopbacks
        self.tally: dict[str, list[int]] = {}  # what → [trials, violations]

    async def trials(
        self,
        what: str,
        one: Callable[[Trial], Awaitable[None]],
        *,
        template: str = FILLED,
        trials: int = TRIALS,
    ) -> None:
        """Try `one` that often, some at once; the first violation is raised, all are counted."""
        counted = self.tally.setdefault(what, [0, 0])
        numbers = iter(range(trials))
        violations: list[Exception] = []

        async def slot(loopback: Loopback) -> None:
            for number in numbers:
                seed = crc32(f"{what} {number}".encode())
                try:
                    async with self.trial(loopback, number, seed, template) as trial:
                        await one(trial)
                except Exception as error:  # noqa: BLE001 - counted, and the first one is raised
                    error.add_note(f"in trial {number} of {what}, seed {seed}")
                    violations.append(error)
                counted[0] += 1

        await asyncio.gather(*map(slot, self._loopbacks[:trials]))
        counted[1] += len(violations)
        if violations:
            violations[0].add_note(f"{len(violations)} violations in {trials} trials")
            raise violations[0]

    @asynccontextmanager
    async def trial(self, loopback: Loopback, number: int, seed: int, template: str) -> AsyncIterator[Trial]:
        loopback.clear()
        folder = Path(tempfile.mkdtemp(prefix="revec-faults-"))
        async with AsyncExitStack() as exits:
            exits.callback(shutil.rmtree, folder, ignore_errors=True)
            exits.callback(loopback.clear)
            dsn = exits.enter_context(self._copies.lent(template))
            start = await exits.enter_async_context(commands(folder, **environment(loopback), REVEC_DSN=dsn))
            app = await exits.enter_async_context(App(settings_for(dsn, loopback.url)))
            async with app.database.transaction() as conn:
                made = await collections.named(conn, "c")
            yield Trial(number, seed, app, made, loopback, start, folder)


def environment(loopback: Loopback) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": loopback.url,
        "OPENAI_API_KEY": "k",
        "GEMINI_BASE_URL": loopback.url_for("gemini"),
        "GEMINI_API_KEY": "k",
        "REVEC_LEASE": str(LEASE),
        "REVEC_CONDUCTOR_LEASE": "1",
        "REVEC_IDLE": "0.02",
        "REVEC_REQUEST_DEADLINE": "0.2",
        "REVEC_FIDELITY_SAMPLE": "5",
    }


@contextmanager
def stage(maintenance: str, copies: Copies) -> Iterator[Stage]:
    with ExitStack() as exits:
        loopbacks = [exits.enter_context(Loopback()) for _ in range(SLOTS)]
        asyncio.run(_make_templates(maintenance, loopbacks[0]))
        yield Stage(copies, loopbacks)


async def _make_templates(maintenance: str, loopback: Loopback) -> None:
    """A collection with pushed documents and a table, indexed; and the same one migration on."""
    servers.run(maintenance, f"CREATE DATABASE {FILLED} TEMPLATE template_revec")
    dsn = servers.at(maintenance, dbname=FILLED)
    async with App(settings_for(dsn, loopback.url)) as app:
        await fill(app)
    servers.run(maintenance, f"CREATE DATABASE {READY} TEMPLATE {FILLED}")
    dsn = servers.at(maintenance, dbname=READY)
    async with App(settings_for(dsn, loopback.url)) as app:
        async with app.database.transaction() as conn:
            made = await collections.named(conn, "c")
        await app.start(made, steps.NEW)
        await steps.drain(app)


async def fill(app: App) -> Collection:
    servers.run(
        app.database.dsn,
        "CREATE SCHEMA app",
        "CREATE TABLE app.docs (id bigint PRIMARY KEY, title text NOT NULL, body text NOT NULL)",
        "INSERT INTO app.docs SELECT n, 'row ' || n, 'body of row ' || n FROM generate_series(1, 24) AS n",
    )
    made = await steps.collection(app)
    await attach(app.database, made, Mapping("app.docs", ("id",), body="body", title="title"))
    same = [Draft(f"same {n}", body=SAME) for n in range(4)]
    await steps.put(app, made, [*steps.drafts(32), *same])
    await steps.drain(app)
    return made
