"""`kill -9` of the conductor in each state, and of the commands that flip the route."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from functools import partial

import pytest

from revec.migrate.sentinels import SENTINELS
from revec.model.document import Draft
from revec.model.index import Kind
from revec.postgres import collections, documents
from tests.faults.harness import FILLED, READY, Command, Stage, Trial

pytestmark = pytest.mark.stress

WAITS = (
    "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
    " WHERE a.datname = current_database() AND NOT l.granted AND l.locktype = %(what)s"
    " AND l.mode = %(mode)s)"
)
TICKS = "SELECT EXISTS (SELECT FROM revec.lease WHERE name = 'conductor' AND until > now())"
INVALID = "SELECT count(*) FROM pg_index WHERE NOT indisvalid OR NOT indisready"


# --- a worker whose conductor is in a state, and cannot leave it before it is killed --------------

State = Callable[[Trial], AbstractAsyncContextManager[Command]]


@asynccontextmanager
async def planned(trial: Trial) -> AsyncIterator[Command]:
    """A user's open transaction keeps the barrier from it."""
    await trial.migrate()
    async with trial.app.database.transaction() as conn:
        source = await collections.add_source(conn, trial.made, "open")
        await documents.put(conn, source, [Draft("open", body="committed late")])
        worker = await trial.worker(drain=False)
        await trial.until(WAITS, what="advisory", mode="ExclusiveLock")
        yield worker


@asynccontextmanager
async def capturing(trial: Trial) -> AsyncIterator[Command]:
    """The index is registered; its model does not answer the sentinel texts."""
    await trial.migrate()
    trial.loopback.fault("hang", times=None, match=SENTINELS[0])
    worker = await trial.worker(drain=False)
    await trial.until_billed("hang")
    yield worker


@asynccontextmanager
async def backfilling(trial: Trial) -> AsyncIterator[Command]:
    """Pages are enqueued and paid for, slowly."""
    await trial.migrate()
    trial.loopback.fault("slow", times=None, delay=0.1)
    worker = await trial.worker(drain=False)
    await trial.until_state("backfilling")
    await asyncio.sleep(trial.rng.uniform(0, 0.1))
    yield worker


@asynccontextmanager
async def indexing(trial: Trial) -> AsyncIterator[Command]:
    """The build waits for a lock on its table; every third time it is let go just before the kill."""
    await trial.migrate(kind=Kind.HNSW)
    await trial.advance("backfilling")
    async with trial.app.database.transaction() as conn:
        await conn.execute("LOCK TABLE revec.vectors_2 IN ROW EXCLUSIVE MODE")
        worker = await trial.worker(drain=False)
        await trial.until(WAITS, what="relation", mode="ShareLock")
        if trial.number % 3 != 2:
            yield worker
            return
    await asyncio.sleep(trial.rng.uniform(0, 0.02))
    yield worker


@asynccontextmanager
async def verifying(trial: Trial) -> AsyncIterator[Command]:
    """The model does not answer the sentinel texts that fidelity asks for."""
    await trial.migrate()
    await trial.advance("backfilling")
    trial.loopback.fault("hang", times=None, match=SENTINELS[0])
    worker = await trial.worker(drain=False)
    await trial.until_billed("hang")
    yield worker


@asynccontextmanager
async def ready(trial: Trial) -> AsyncIterator[Command]:
    """It waits for a person."""
    worker = await trial.worker(drain=False)
    await trial.until(TICKS)
    await asyncio.sleep(trial.rng.uniform(0, 0.1))
    yield worker


@asynccontextmanager
async def live(trial: Trial) -> AsyncIterator[Command]:
    """It asks whether the old model still answers, and hears nothing."""
    await trial.app.commands.switch.cutover(trial.made, why="test")
    trial.loopback.fault("hang", times=None, match=SENTINELS[0])
    worker = await trial.worker(drain=False)
    await trial.until_billed("hang")
    yield worker


@asynccontextmanager
async def finishing(trial: Trial) -> AsyncIterator[Command]:
    """The old index is kept for two more seconds."""
    await trial.app.commands.switch.cutover(trial.made, why="test")
    await trial.app.commands.switch.finish(trial.made, wait=timedelta(seconds=2), why="test")
    worker = await trial.worker(drain=False)
    await trial.until(TICKS)
    await asyncio.sleep(trial.rng.uniform(0, 0.1))
    yield worker


@asynccontextmanager
async def finished(trial: Trial) -> AsyncIterator[Command]:
    """The old index is retired; its table cannot be dropped, because somebody still reads it."""
    await trial.app.commands.switch.cutover(trial.made, why="test")
    async with trial.app.database.transaction() as conn:
        await conn.execute("SELECT count(*) FROM revec.vectors_1")
        await trial.app.commands.switch.finish(trial.made, wait=timedelta(0), why="test")
        worker = await trial.worker(drain=False)
        await trial.until(WAITS, what="relation", mode="AccessExclusiveLock")
        yield worker


GOES_ON_TO = {
    planned: (FILLED, "ready"),
    capturing: (FILLED, "ready"),
    backfilling: (FILLED, "ready"),
    indexing: (FILLED, "ready"),
    verifying: (FILLED, "ready"),
    ready: (READY, "ready"),
    live: (READY, "live"),
    finishing: (READY, "finished"),
    finished: (READY, "finished"),
}


@pytest.mark.parametrize("state", GOES_ON_TO, ids=lambda state: state.__name__)
async def test_a_conductor_killed_in_a_state_is_replaced(stage: Stage, state: State) -> None:
    """Users write meanwhile; another worker goes on to where a person is needed."""
    template, goal = GOES_ON_TO[state]
    one = partial(_killed_in, state, goal)
    await stage.trials(f"kill -9 of the conductor, {state.__name__}", one, template=template)


async def _killed_in(state: State, goal: str, trial: Trial) -> None:
    async with trial.writers() as writers:
        async with state(trial) as worker:
            await worker.killed()
            was = await trial.state()
            let_go = state is indexing and trial.number % 3 == 2
            assert was == state.__name__ or (let_go and was in ("verifying", "ready"))
        trial.heal()
        second = await trial.worker()
        await trial.until_state(goal)
        await writers.made_more(5)
    await second.ends_well()

    await trial.assert_well(writers)
    assert await trial.state() == goal
    assert await trial.ask(INVALID) == 0
    if goal == "ready":
        await trial.assert_can_go_both_ways()
    elif goal == "live":
        await trial.app.commands.switch.rollback(trial.made, why="test")
        await trial.assert_can_go_both_ways()
    else:
        assert await trial.ask("SELECT to_regclass('revec.vectors_1')") is None


# --- commands that flip the route ---------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["cutover", "rollback"])
async def test_a_flip_killed_at_any_moment_is_done_or_not_done(stage: Stage, verb: str) -> None:
    """Route and state agree; the same command again works, or says that it is done already."""
    one = partial(_killed_command, verb)
    await stage.trials(f"kill -9 of {verb}", one, template=READY)


async def _killed_command(verb: str, trial: Trial) -> None:
    before, after = ("ready", "live") if verb == "cutover" else ("live", "ready")
    began = time.monotonic()
    if before == "live":
        await (await trial.start("cutover", "c", "--yes")).ends_well()
    else:
        await (await trial.start("status", "c")).ends_well()
    usual = time.monotonic() - began
    for _ in range(3):
        first = await trial.start(verb, "c", "--yes")
        await asyncio.sleep(usual * trial.rng.uniform(0.3, 1.2))
        await first.killed()
        await trial.assert_checked()
        was = await trial.state()
        assert was in (before, after)
        again = await trial.start(verb, "c", "--yes")
        code = await again.ended()
        if was == before:
            assert code == 0, again.said
        else:
            assert code == 5, again.said
            assert f"c is {after}" in again.said
        assert await trial.state() == after
        back = trial.app.commands.switch.rollback if after == "live" else trial.app.commands.switch.cutover
        await back(trial.made, why="once more")
    await trial.assert_checked()


@pytest.mark.parametrize("fault", ["kill -9", "terminated"])
@pytest.mark.parametrize("verb", ["cutover", "rollback"])
async def test_a_flip_that_is_cut_off_in_its_transaction_did_not_happen(
    stage: Stage, verb: str, fault: str
) -> None:
    """The command dies, or its backend does, while it waits for the route: as if never asked for."""
    one = partial(_cut_off, verb, fault)
    await stage.trials(f"{fault} of {verb} in its transaction", one, template=READY, trials=1)


async def _cut_off(verb: str, fault: str, trial: Trial) -> None:
    if verb == "rollback":
        await trial.app.commands.switch.cutover(trial.made, why="test")
    before = await trial.state()
    epoch = await trial.ask("SELECT epoch FROM revec.route")
    async with trial.app.database.transaction() as conn:
        await conn.execute("SELECT FROM revec.route FOR UPDATE")
        command = await trial.start(verb, "c", "--yes")
        await trial.until(WAITS, what="transactionid", mode="ShareLock")
        if fault == "kill -9":
            await command.killed()
        else:
            await conn.execute(
                "SELECT pg_terminate_backend(a.pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
                " WHERE a.datname = current_database() AND NOT l.granted"
            )
            assert await command.ended() in (1, 3), command.said
            assert command.said.startswith("revec: ")
            assert "Traceback" not in command.said
    assert await trial.state() == before
    assert await trial.ask("SELECT epoch FROM revec.route") == epoch
    await trial.assert_checked()
    await (await trial.start(verb, "c", "--yes")).ends_well()
    assert await trial.ask("SELECT epoch FROM revec.route") == epoch + 1
    await trial.assert_checked()
