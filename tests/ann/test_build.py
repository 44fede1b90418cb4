"""An approximate index over 50,000 documents: built while everybody goes on, or not there at all."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from psycopg import sql

from revec.app import App
from revec.migrate.gates.base import RECALL
from revec.migrate.gates.recall import NEEDED
from revec.migrate.planning.planned import Plan
from revec.model.document import DEFAULT_TENANT, Draft
from revec.model.index import Collection, Index, Kind
from revec.model.migration import State
from revec.model.verdict import Outcome
from revec.postgres import collections, indexes, migrations
from revec.work import queue
from tests import loopback, servers, steps
from tests.conftest import settings_for
from tests.loopback import Loopback
from tests.migrate import world

DOCUMENTS = 50_000
OTHERS = 20  # tenants that share a tenth of them; the rest is the default tenant's
WORDS = "text of document"
SERVING, BUILT = "openai:fake-64", "openai:fake-b-64"
PAUSE = 0.05  # seconds between a user's writes
SETTLED = 5.0  # seconds for what takes no time, on a busy machine
SLOWEST = 60.0  # seconds for a build or a verification, on a busy machine
WORKER = (sys.executable, "-c", "from revec.cli.main import main; main()", "worker", "--quiet")

LOAD = """
INSERT INTO revec.document (collection_id, source_id, key, tenant, title, body)
SELECT s.collection_id, s.id, n::text,
       CASE WHEN n %% 10 = 0 THEN 'tenant ' || n / 10 %% %(others)s ELSE 'default' END,
       'document ' || n, %(words)s || ' ' || n
  FROM revec.source s, generate_series(1, %(count)s) AS n
"""
BUILDING = "SELECT pid FROM pg_stat_progress_create_index WHERE datname = current_database()"
UNUSABLE = "SELECT indexrelid::regclass::text AS name FROM pg_index WHERE NOT indisvalid"

_numbers = itertools.count(1)


# --- the scene: filled once, copied for each test -----------------------------------------------------


@dataclass(slots=True)
class Loaded:
    """A database whose new index has all its vectors and waits, paused, to be built."""

    maintenance: str
    url: str
    plan: Plan

    @asynccontextmanager
    async def opened(self, *settings: str) -> AsyncIterator[App]:
        """A copy of it, with the database's settings."""
        name = f"ann_{next(_numbers)}"
        with servers.copied(self.maintenance, "ann_loaded", name) as dsn:
            servers.run(dsn, *(f"ALTER DATABASE {name} SET {setting}" for setting in settings))
            async with App(settings_for(dsn, self.url)) as app:
                yield app


@pytest.fixture(scope="module")
def loaded(maintenance: str, provider: Loopback) -> Iterator[Loaded]:
    """50,000 documents in an index that serves, and again in one that is to be approximate."""
    provider.clear()
    with servers.copied(maintenance, "template_revec", "ann_loaded") as dsn:
        began = time.monotonic()
        plan = asyncio.run(_load(dsn, provider.url))
        print(f"\n{DOCUMENTS:,} documents in two indexes after {time.monotonic() - began:.1f} s")
        yield Loaded(maintenance, provider.url, plan)


async def _load(dsn: str, url: str) -> Plan:
    async with App(settings_for(dsn, url)) as app:
        made = await steps.collection(app, model=None)
        async with app.database.transaction() as conn:
            await collections.add_source(conn, made, collections.PUSH)
            await conn.execute(LOAD, {"count": DOCUMENTS, "others": OTHERS, "words": WORDS})
            await conn.execute("ANALYZE revec.document")
        await app.start(made, SERVING, kind=Kind.EXACT)
        await steps.drain(app)
        plan = await app.plan(made, BUILT, kind=Kind.HNSW)
        await app.commands.start(plan)
        working = app.worker()
        task = asyncio.create_task(working.run(drain=False))
        await until(lambda: _is_enumerated(app, made), SLOWEST)
        await app.commands.pause(made, "until a test goes on")
        await steps.rows(app, "UPDATE revec.work SET lane = 0 RETURNING 1")  # a paused backfill waits
        await until(lambda: _is_worked_off(app), SLOWEST)
        working.stop()
        await task
        assert (await migration(app, made)).state is State.BACKFILLING
    return plan


async def _is_enumerated(app: App, made: Collection) -> bool:
    return (await migration(app, made)).cursor_done


async def _is_worked_off(app: App) -> bool:
    return not await steps.rows(app, "SELECT FROM revec.work LIMIT 1")


async def migration(app: App, made: Collection) -> Any:
    async with app.database.transaction() as conn:
        return await migrations.latest(conn, made.id)


async def found(app: App) -> tuple[Collection, Index, Index]:
    """The collection, the index that serves and the one that is built."""
    async with app.database.transaction() as conn:
        made = await collections.named(conn, "c")
        old, new = await indexes.writing(conn, made.id)
    return made, old, new


async def until(condition: Callable[[], Awaitable[object]], patience: float) -> float:
    """Look again and again, until it is so; the seconds that it took."""
    began = time.monotonic()
    async with asyncio.timeout(patience):
        while not await condition():
            await asyncio.sleep(0.003)
    return time.monotonic() - began


@asynccontextmanager
async def worker(app: App) -> AsyncIterator[asyncio.subprocess.Process]:
    """`revec worker` in a process of its own; killed at the end if it still runs."""
    environment = {
        **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
        "REVEC_DSN": app.database.dsn,
        "REVEC_LEASE": str(app.settings.lease),
        "REVEC_CONDUCTOR_LEASE": str(app.settings.conductor_lease),
        "REVEC_IDLE": str(app.settings.idle),
        "OPENAI_BASE_URL": str(app.settings.openai_base_url),
        "OPENAI_API_KEY": "k",
    }
    process = await asyncio.create_subprocess_exec(*WORKER, env=environment, cwd=Path("/"))
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def is_building(app: App) -> bool:
    return bool(await steps.rows(app, BUILDING))


# --- a user who writes all the time -------------------------------------------------------------------


@dataclass(slots=True)
class Latencies:
    """Seconds of each write: until its commit, and until the serving index has what it says."""

    committed: list[float] = field(default_factory=list)
    served: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            ", ".join(
                f"{name} median {_ms(values, 50):.1f} p95 {_ms(values, 95):.1f} max {_ms(values, 100):.1f} ms"
                for name, values in (("commit", self.committed), ("serving index", self.served))
            )
            + f" (n = {len(self.served)})"
        )


def _ms(seconds: list[float], percent: float) -> float:
    return 1000 * float(np.percentile(seconds, percent))


class User:
    """Inserts, edits and deletes documents, one after the other, and waits until each is served."""

    def __init__(self, app: App, made: Collection, serving: Index) -> None:
        self._app, self._made = app, made
        table = sql.Identifier("revec", f"vectors_{serving.id}")
        self._is_served = sql.SQL(
            "SELECT FROM revec.document d JOIN {} v ON v.doc_id = d.id AND v.input_hash = d.input_hash"
            " WHERE d.key = %(key)s AND d.body = %(body)s"
        ).format(table)
        self._is_held = sql.SQL("SELECT FROM {} WHERE doc_id = %(id)s").format(table)
        self._numbers = itertools.count(1)
        self.deleted: set[str] = set()

    async def writes(self, go_on: Callable[[], Awaitable[object]]) -> Latencies:
        seen = Latencies()
        while await go_on():
            number = next(self._numbers)
            write = (self._insert, self._edit, self._delete)[number % 3]
            began = time.perf_counter()
            committed = await write(number)
            seen.committed.append(committed - began)
            seen.served.append(time.perf_counter() - began)
            await asyncio.sleep(PAUSE)
        return seen

    async def _insert(self, number: int) -> float:
        return await self._put(f"new {number}", f"a new text {number}")

    async def _edit(self, number: int) -> float:
        return await self._put(str(10 * number + 1), f"an edited text {number}")

    async def _put(self, key: str, body: str) -> float:
        await steps.put(self._app, self._made, [Draft(key=key, title=key, body=body)])
        committed = time.perf_counter()
        await until(lambda: self._ask(self._is_served, key=key, body=body), SLOWEST)
        return committed

    async def _delete(self, number: int) -> float:
        key = str(10 * number + 2)
        ((doc_id,),) = await self._ask("SELECT id FROM revec.document WHERE key = %(key)s", key=key)
        await steps.delete(self._app, self._made, key)
        committed = time.perf_counter()
        await until(lambda: self._is_nowhere(doc_id), SLOWEST)
        self.deleted.add(key)
        return committed

    async def _is_nowhere(self, doc_id: int) -> bool:
        return not await self._ask(self._is_held, id=doc_id)

    async def _ask(self, query: Any, **parameters: Any) -> list[Any]:
        async with self._app.database.transaction("worker") as conn:
            return await (await conn.execute(query, parameters)).fetchall()


# --- the story, told once -----------------------------------------------------------------------------


@dataclass(slots=True)
class Story:
    """What was seen from the eve of a build to the migration's being ready."""

    app: App
    made: Collection
    serving: Index
    built: Index
    plan: Plan
    idle: Latencies
    during: Latencies
    states: set[str]  # of the migration, while the build was seen
    held: set[bool]  # the index, likewise
    waiting: int  # rows of the new index's work that gathered
    leased: int  # of those, the ones that anybody ever claimed
    deleted: set[str]
    seconds: float


@pytest.fixture(scope="module")
def telling() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def story(loaded: Loaded, telling: asyncio.Runner) -> Iterator[Story]:
    scene = _told(loaded)
    yield telling.run(anext(scene))
    telling.run(scene.aclose())


async def _told(loaded: Loaded) -> AsyncIterator[Story]:
    async with loaded.opened() as app:
        made, serving, built = await found(app)
        user = User(app, made, serving)
        states, held = set(), set()
        most = leased = 0

        async def is_building_still() -> bool:
            nonlocal most, leased
            state = (await migration(app, made)).state
            async with app.database.transaction() as conn:
                hold = (await indexes.by_id(conn, built.id)).held
                work = (await queue.open_work(conn, [built.id]))[built.id]
            if not await is_building(app):
                return False
            states.add(state)
            held.add(hold)
            most, leased = max(most, work.open), max(leased, work.leased)
            return True

        async with worker(app):
            await user.writes(_times(5))  # the first ones open connections
            await app.commands.resume(made)
            await until(lambda: is_building(app), SLOWEST)
            began = time.monotonic()
            during = await user.writes(is_building_still)
            seconds = time.monotonic() - began
            await until(lambda: _has_come_to(app, made, State.READY), SLOWEST)
            idle = await user.writes(_times(len(during.served)))
        print(f"\nbuilt in {seconds:.1f} s\nidle:   {idle}\nduring: {during}")
        yield Story(
            app=app,
            made=made,
            serving=serving,
            built=built,
            plan=loaded.plan,
            idle=idle,
            during=during,
            states=states,
            held=held,
            waiting=most,
            leased=leased,
            deleted=user.deleted,
            seconds=seconds,
        )


def _times(count: int) -> Callable[[], Awaitable[bool]]:
    left = iter(range(count))

    async def go_on() -> bool:
        return next(left, None) is not None

    return go_on


async def _has_come_to(app: App, made: Collection, state: State) -> bool:
    return (await migration(app, made)).state is state


def test_it_is_planned_when_asked_for(story: Story) -> None:
    """The plan says which kind, why, what it takes, and that recall will be judged."""
    assert story.plan.kind is Kind.HNSW
    assert story.plan.why_kind.startswith("asked for")
    assert RECALL in story.plan.gates
    assert story.plan.size.graph > 0
    assert any("USING hnsw" in statement for statement in story.plan.sql)


def test_it_is_built_in_its_own_state(story: Story, telling: asyncio.Runner) -> None:
    """The build was seen in `indexing` and in no other state, and left a valid index."""
    assert story.states == {State.INDEXING}
    built = telling.run(_built(story))
    assert built.valid
    assert not built.running
    assert telling.run(steps.rows(story.app, UNUSABLE)) == []


async def _built(story: Story) -> Any:
    async with story.app.database.transaction() as conn:
        return await story.app.store.built(conn, story.built)


def test_its_work_waits_for_the_build(story: Story, telling: asyncio.Runner) -> None:
    """Writes of the build's time make work that nobody claims; afterwards it is done."""
    assert story.held == {True}
    assert story.waiting > 0
    assert story.leased == 0
    summary = telling.run(steps.drain(story.app))
    assert summary.stuck == []
    verdict = telling.run(world.judged(story.app, "completeness", story.built, freshness=0.0))
    assert verdict.outcome is Outcome.PASSED, verdict.why
    assert verdict.evidence["missing"] == verdict.evidence["stale"] == 0


def test_nobody_waits_for_the_build(story: Story) -> None:
    """Writes commit, and reach the serving index, as fast as without a build beside them."""
    for name in ("committed", "served"):
        idle, during = getattr(story.idle, name), getattr(story.during, name)
        assert len(during) >= 20
        assert _ms(during, 95) <= 3 * _ms(idle, 95) + 50, f"{name}: {story.during} after {story.idle}"


def test_recall_is_judged_before_anybody_sees_it(story: Story, telling: asyncio.Runner) -> None:
    """The verdict has its evidence and its bound, and another count agrees with it."""
    at = telling.run(_verdict(story))
    assert at.outcome is Outcome.PASSED
    assert at.evidence["queries"] >= 300
    assert NEEDED <= at.evidence["bound"] <= at.evidence["recall"] <= 1
    counted = telling.run(_recall(story, queries=100))
    print(f"\nrecall: the gate says {at.why}; counted {counted:.4f}")
    assert counted >= at.evidence["bound"] - 0.02


async def _verdict(story: Story) -> Any:
    async with story.app.database.transaction() as conn:
        under_way = await migrations.latest(conn, story.made.id)
        assert under_way is not None
        verdict, _ = (await migrations.verdicts(conn, under_way))[RECALL]
    return verdict


async def _recall(story: Story, queries: int) -> float:
    """Against a scan by numpy over all that is stored: no query of it is a stored document."""
    stored = await steps.stored(story.app, story.built)
    matrix = np.stack(list(stored.values())).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    hits = 0
    for number in range(queries):
        query = loopback.vector(f"question {number}", "fake-b-64")
        scores = matrix @ query
        bar = np.partition(scores, -10)[-10] - 1e-3  # float16 on the way
        async with story.app.database.transaction("worker") as conn:
            near = await story.app.store.nearest(conn, story.built, query, limit=10, tenant=None)
        hits += sum(score >= bar for _, score in near)
    return hits / (10 * queries)


class Explaining:
    """A connection that has each statement explained, and then runs it."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self.plans: list[str] = []

    async def execute(self, query: Any, parameters: Any = None, **more: Any) -> Any:
        rows = await (await self._conn.execute(sql.SQL("EXPLAIN ") + query, parameters)).fetchall()
        self.plans.append("\n".join(row[0] for row in rows))
        return await self._conn.execute(query, parameters, **more)


@pytest.mark.parametrize("tenant", [None, DEFAULT_TENANT], ids=["of all", "of the large tenant"])
def test_the_search_uses_it(story: Story, telling: asyncio.Runner, tenant: str | None) -> None:
    """The product's own query, as planned by the server: from the first request on."""
    plan = telling.run(_explained(story, tenant))
    assert f"Index Scan using vectors_{story.built.id}_hnsw" in plan, plan


async def _explained(story: Story, tenant: str | None) -> str:
    query = loopback.vector("a question", "fake-b-64")
    role = "worker" if tenant is None else "reader"
    async with story.app.database.transaction(role, tenant=tenant) as conn:
        explaining = Explaining(conn)
        await story.app.store.nearest(
            explaining,  # type: ignore[arg-type]
            story.built,
            query,
            limit=20,
            tenant=tenant,
        )
    return explaining.plans[-1]


def test_searches_miss_nothing_and_show_nothing_deleted(story: Story, telling: asyncio.Runner) -> None:
    """After the cutover: k live hits, the best first, though the best ten were just deleted."""
    telling.run(_searched(story))


async def _searched(story: Story) -> None:
    app, made = story.app, story.made
    await app.commands.switch.cutover(made, why="test")
    assert (await app.serving("c")).id == story.built.id
    text = f"document 4321\n{WORDS} 4321"
    before = await app.retriever.search("c", text, k=30, tenant=DEFAULT_TENANT)
    assert before.hits[0].id == "4321"
    assert len(before.hits) == 30
    assert not {hit.id for hit in before.hits} & story.deleted
    gone = [hit.id for hit in before.hits[:20]]
    await steps.delete(app, made, *gone)  # and no worker runs: their vectors are still there
    after = await app.retriever.search("c", text, k=10, tenant=DEFAULT_TENANT)
    assert [hit.id for hit in after.hits] == [hit.id for hit in before.hits[20:]]
    for tenant in ("tenant 3", "tenant 17"):
        few = await app.retriever.search("c", text, k=10, tenant=tenant)
        assert {hit.tenant for hit in few.hits} == {tenant}
        assert len(few.hits) == 10


# --- what may happen to a build -----------------------------------------------------------------------


async def test_a_worker_killed_in_mid_build_leaves_nothing_behind(loaded: Loaded) -> None:
    """No unusable index, and no build that goes on by itself; the next worker builds it and finishes."""
    async with loaded.opened() as app:
        made, _, built = await found(app)
        async with worker(app) as first:
            await app.commands.resume(made)
            await until(lambda: is_building(app), SLOWEST)
            await asyncio.sleep(0.5)
            assert await is_building(app)
            first.send_signal(signal.SIGKILL)
            await first.wait()
        seconds = await until(lambda: _has_stopped(app), SETTLED)
        print(f"\nthe orphaned build ended {seconds:.2f} s after its worker")
        assert await steps.rows(app, UNUSABLE) == []
        ann = f"to_regclass('revec.vectors_{built.id}_hnsw') IS NULL AS gone"
        assert await steps.rows(app, f"SELECT {ann}") == [(True,)]
        assert (await migration(app, made)).state is State.INDEXING

        second = app.worker()
        task = asyncio.create_task(second.run(drain=True))
        await asyncio.wait_for(task, 2 * SLOWEST)
        assert (await migration(app, made)).state is State.READY
        assert (await steps.rows(app, UNUSABLE)) == []
        async with app.database.transaction() as conn:
            assert (await app.store.built(conn, built)).valid
            assert not (await indexes.by_id(conn, built.id)).held


async def _has_stopped(app: App) -> bool:
    return not await is_building(app)


async def test_an_abort_ends_the_build(loaded: Loaded) -> None:
    """The table is gone long before the build would have been over; the old index goes on."""
    # A build by one process takes longer than SETTLED.
    async with loaded.opened("max_parallel_maintenance_workers = 0") as app:
        made, serving, built = await found(app)
        async with worker(app) as working:
            await app.commands.resume(made)
            await until(lambda: is_building(app), SLOWEST)
            await app.commands.abort(made, why="test")
            table = f"SELECT FROM pg_class WHERE relname = 'vectors_{built.id}'"
            seconds = await until(lambda: _is_empty(app, table), SETTLED)
            print(f"\nthe aborted build and its table were gone after {seconds:.2f} s")
            assert not await is_building(app)
            user = User(app, made, serving)
            await user.writes(_times(3))
            assert working.returncode is None, "the worker did not survive the abort"
        assert (await app.serving("c")).id == serving.id
        reading = await app.retriever.search("c", f"document 7\n{WORDS} 7", k=1, tenant="default")
        assert reading.hits[0].id == "7"
        assert await steps.rows(app, "SELECT FROM revec.work WHERE index_id = %(i)s", i=built.id) == []


async def _is_empty(app: App, query: str) -> bool:
    return not await steps.rows(app, query)


async def test_a_held_index_gives_no_claims(any_app: App) -> None:
    """Also not to a worker that looked before: whoever holds the index waits for claims in the making."""
    app = any_app
    made = await steps.collection(app)
    await world.conductor(app).tick()
    await steps.put(app, made, steps.drafts(10))
    (index,) = await steps.written(app, made)
    async with app.database.transaction("worker") as conn:
        assert (index.id, queue.LIVE) in await queue.ready(conn)
    async with app.database.transaction() as conn:
        await indexes.hold(conn, index.id, held=True)
    async with app.database.transaction("worker") as conn:
        assert not (await queue.claim(conn, index.id, queue.LIVE, size=5, lease=60)).jobs
    async with app.database.transaction() as conn:
        await indexes.hold(conn, index.id, held=False)

    async with app.database.transaction("worker") as conn:
        claim = await queue.claim(conn, index.id, queue.LIVE, size=5, lease=60)
        assert len(claim.jobs) == 5
        holding = asyncio.create_task(_hold(app, index))
        await until(lambda: _somebody_waits(app), SETTLED)
        assert not holding.done()
    await holding
    async with app.database.transaction() as conn:
        assert (await queue.open_work(conn, [index.id]))[index.id].leased == 5


async def _hold(app: App, index: Index) -> None:
    async with app.database.transaction() as conn:
        await indexes.hold(conn, index.id, held=True)


async def _somebody_waits(app: App) -> bool:
    waiting = "SELECT FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0"
    return bool(await steps.rows(app, waiting))
