"""The database dies, or is not there: a sentence, and the next command goes on."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from revec.app import App
from revec.model.document import Draft
from revec.model.index import Collection
from revec.postgres.account import socket_folder
from revec.postgres.server import Server
from tests import servers, steps
from tests.conftest import settings_for
from tests.faults.harness import COMMAND, IN_FLIGHT, Stage, Trial, commands, environment
from tests.loopback import Loopback

pytestmark = pytest.mark.stress

TERMINATIONS = 3
DEAD = {
    "nobody listens": "postgresql://revec@127.0.0.1:1/revec",
    "no such host": "postgresql://revec@nowhere.invalid/revec",
    "no DSN at all": "what is this",
}
VERBS = [
    ("worker", "--drain"),
    ("status", "c"),
    ("search", "c", "words"),
    ("ingest", "c", "docs.jsonl"),
    ("cutover", "c", "--yes"),
    ("check",),
]


# --- backends ------------------------------------------------------------------------------------------


async def test_a_worker_whose_backends_are_terminated_goes_on(stage: Stage) -> None:
    """Three times all of them at once, under live writes; it says no traceback and ends well."""
    await stage.trials(f"{TERMINATIONS} x pg_terminate_backend", _terminated)


async def _terminated(trial: Trial) -> None:
    await trial.migrate(sampled=False)
    trial.loopback.fault("slow", times=None, delay=0.1)
    dsn = servers.at(trial.app.database.dsn, application_name="victim")
    async with trial.writers() as writers:
        worker = await trial.worker(REVEC_DSN=dsn)
        await trial.until_state("backfilling", "indexing")
        for _ in range(TERMINATIONS):
            await asyncio.sleep(trial.rng.uniform(0, 0.3))
            await trial.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'victim' AND datname = current_database()"
            )
        trial.heal()
        await trial.until_state("ready")
    await worker.ends_well()
    await trial.assert_well(writers)
    again = [times - 1 for times in trial.bill().values()]
    assert sum(again) <= TERMINATIONS * IN_FLIGHT
    await trial.assert_can_go_both_ways()


async def test_a_worker_whose_transaction_the_server_ended_goes_on(stage: Stage) -> None:
    """Stopped in the middle of one, as on a laptop that sleeps; the server lets nobody wait for it."""
    await stage.trials("idle_in_transaction_session_timeout", _idle_in_transaction, trials=1)


async def _idle_in_transaction(trial: Trial) -> None:
    await trial.end_idle_transactions()
    async with trial.app.database.transaction() as conn:
        await conn.execute("UPDATE app.docs SET body = 'edited' WHERE id = 1")
    async with trial.app.database.transaction() as conn:
        await conn.execute("LOCK TABLE app.docs IN ACCESS EXCLUSIVE MODE")
        sleeper = await trial.worker(drain=False)
        await trial.until(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock' AND query LIKE '%%app%%docs%%')"
        )
        sleeper.send(signal.SIGSTOP)
    await (await trial.worker()).ends_well()  # nothing waits for the sleeper
    sleeper.send(signal.SIGCONT)
    async with trial.writers() as writers:
        await writers.made_more(20)
    await trial.until("SELECT NOT EXISTS (SELECT FROM revec.work)")
    sleeper.send(signal.SIGTERM)
    await sleeper.ends_well()
    assert await trial.ask("SELECT max(fault) FROM revec.source") is None
    await (await trial.worker()).ends_well()
    await trial.assert_well(writers)


# --- no database ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dsn", DEAD.values(), ids=DEAD)
async def test_without_a_database_every_command_says_so_in_a_sentence(
    dsn: str, tmp_path: Path, loopback: Loopback
) -> None:
    """Exit 1, one line, and it names what to look at."""
    file = tmp_path / "docs.jsonl"
    file.write_text('{"id": "1", "text": "words"}\n')
    async with commands(tmp_path, **environment(loopback), REVEC_DSN=dsn) as start:
        verbs = [[str(file) if word == file.name else word for word in verb] for verb in VERBS]
        for command in [await start(*verb) for verb in verbs]:
            assert await command.ended() == 1, command.said
            (line,) = command.said.splitlines()
            assert line.startswith("revec: ")
            assert "REVEC_DSN" in line


# --- the embedded server's postmaster ---------------------------------------------------------------------


@pytest.fixture
def home() -> Iterator[Path]:
    """Of a server of its own; afterwards nothing of it runs or remains."""
    parent = Path(tempfile.mkdtemp(prefix="revec-faults-")).resolve()
    parent.chmod(0o755)
    yield parent / "home"
    with Server(parent / "home"):
        pass  # the last one out stops what a failed test left
    shutil.rmtree(socket_folder(parent / "home"), ignore_errors=True)
    shutil.rmtree(parent)


IMPATIENT = (
    "from revec.work import worker; worker.DATABASE_PATIENCE = 2.0; "
    "from revec.postgres.database import Database; "
    "Database.__init__.__kwdefaults__['patience'] = 1.0; " + COMMAND
)


async def test_a_killed_postmaster_is_brought_back_by_the_next_command(
    home: Path, tmp_path: Path, loopback: Loopback
) -> None:
    """In mid-drain: what was acknowledged is there, and the command that was running goes on, too."""
    with Server(home) as server:
        async with App(settings_for(server.dsn, loopback.url), may_apply=True) as app:
            made = await steps.filled(app, 60)
            await app.start(made, steps.NEW)
        loopback.fault("slow", times=None, delay=0.2)
        writer = asyncio.create_task(_push_until_it_fails(server.dsn, loopback, made))
        here = {**environment(loopback), "REVEC_HOME": str(home), "REVEC_CLAIM": "8"}
        async with commands(tmp_path, **here) as start:
            running = await start("worker", "--drain")
            await _until(server.dsn, "SELECT count(*) > 8 FROM revec.vectors_2")
            os.kill(_postmaster(home), signal.SIGKILL)
            acknowledged, unknown = await writer
            loopback._call("DELETE", "/fault")
            following = await start("worker", "--drain", "--quiet")
            await following.ends_well(120)
            assert await running.ended(120) in (0, 1)
            assert "Traceback" not in running.said, running.said
            assert "the database is gone" in running.said

            async with App(settings_for(server.dsn, loopback.url)) as app:
                await (await start("worker", "--drain", "--quiet")).ends_well()
                await steps.assert_oracle(app, made)
                found = await steps.rows(app, "SELECT key, body FROM revec.document")
                kept = {row.key: row.body for row in found}
                kept.pop(unknown, None)
                acknowledged.pop(unknown, None)
                assert len(acknowledged) > 5
                assert acknowledged.items() <= kept.items()
                cutover = await start("cutover", "c", "--yes")
                await cutover.ends_well()
                await steps.put(app, made, steps.drafts(60, start=500))

            # Nobody brings it back, as with a DSN: the worker says so, and leaves.
            loopback.fault("slow", times=None, delay=0.2)
            here = {"REVEC_DSN": server.dsn, "REVEC_CLAIM": "8"}
            alone = await start("worker", "--drain", "--quiet", code=IMPATIENT, **here)
            await _until(server.dsn, "SELECT EXISTS (SELECT FROM revec.worker)")
            os.kill(_postmaster(home), signal.SIGKILL)
            assert await alone.ended() == 1, alone.said
            assert "Traceback" not in alone.said, alone.said
            (line,) = alone.said.splitlines()
            assert line.startswith("revec: the database is gone")
            loopback._call("DELETE", "/fault")
            await (await start("worker", "--drain", "--quiet")).ends_well(120)
            async with App(settings_for(server.dsn, loopback.url)) as app:
                await steps.assert_oracle(app, made)


async def _push_until_it_fails(dsn: str, loopback: Loopback, made: Collection) -> tuple[dict[str, str], str]:
    """What was acknowledged; the key of the write that failed, which may be either way."""
    acknowledged: dict[str, str] = {}
    number = 0
    key = ""
    with suppress(psycopg.OperationalError):
        async with App(settings_for(dsn, loopback.url)) as app:
            while True:
                number += 1
                key = f"push {number % 40}"
                await steps.put(app, made, [Draft(key, body=f"version {number}")])
                acknowledged[key] = f"version {number}"
                await asyncio.sleep(0.01)
    return acknowledged, key


async def _until(dsn: str, query: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
        for _ in range(3_000):
            with suppress(psycopg.errors.UndefinedTable):
                row = await (await conn.execute(query)).fetchone()
                if row and row[0]:
                    return
            await asyncio.sleep(0.01)
    raise AssertionError(f"never true: {query}")


def _postmaster(home: Path) -> int:
    return int((home / "data" / "postmaster.pid").read_text().split()[0])
