"""Seed 001's story: a live table of questions moves from 768 to 1536 dims, and its application sees nothing of it.

A plain owner, behind a transaction-mode pooler; the application writes and searches through SQL all the while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from revec.app import App
from revec.cli.main import run
from revec.model.migration import State
from revec.search.similar import ByKey
from tests import steps
from tests.adopt import questions
from tests.capture import people
from tests.capture.people import User
from tests.conftest import TRIALS
from tests.loopback import Loopback
from tests.migrate import world

FEW, ALL = 400, 5_000  # questions: in `make test`, in `make stress`
USUAL = 3  # trials of `make test`
PATIENCE = 240.0  # seconds for a state
TWINS = 0.95  # similarity of two rows with one text

Door = Callable[..., Awaitable[str]]


@dataclass
class Application:
    """What users have: it asks its function, adds, edits and deletes questions, and counts what went wrong."""

    dsn: str
    known: list[str]
    writes: int = 0
    asked: int = 0
    errors: list[str] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        async with people.connected(self.dsn) as conn:
            while not self.stopping.is_set():
                try:
                    await self._step(conn)
                except (psycopg.Error, AssertionError) as error:
                    self.errors.append(repr(error))
                await asyncio.sleep(0.02)

    async def _step(self, conn: User) -> None:
        text = self.known[self.asked % len(self.known)]
        hits = await questions.ask(conn, text)
        assert hits, f"nothing is like {text!r}"
        self.asked += 1
        if self.asked % 3 == 0:
            await questions.add(conn, f"new question {self.writes}: {text}", embedded=False)
            await conn.execute(
                "UPDATE app.questions SET question = question || '?' WHERE id ="
                " (SELECT min(id) FROM app.questions"
                " WHERE question NOT LIKE '%??' AND id > 20 AND deleted_at IS NULL)"
            )
            await conn.execute(
                "UPDATE app.questions SET deleted_at = now() WHERE id ="
                " (SELECT max(id) FROM app.questions WHERE deleted_at IS NULL AND id % 7 = 0"
                " AND question NOT LIKE 'written%')"
            )
            self.writes += 3


@asynccontextmanager
async def running(application: Application, app: App) -> Any:
    """The application and a worker, beside everything else."""
    worker = app.worker()
    tasks = [asyncio.create_task(application.run()), asyncio.create_task(worker.run(drain=False))]
    try:
        yield
    finally:
        application.stopping.set()
        worker.stop()
        await asyncio.gather(*tasks)


@pytest.fixture
def revec(pooled_dsn: str, loopback: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Door:
    """The command, in another thread of this process."""
    monkeypatch.setenv("REVEC_DSN", pooled_dsn)
    monkeypatch.setenv("OPENAI_BASE_URL", loopback.url)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("REVEC_MEMORY", "2G")

    async def door(*arguments: str) -> str:
        capsys.readouterr()
        code = await asyncio.to_thread(run, arguments)
        said = capsys.readouterr()
        assert code == 0, f"{arguments}: {said.out}{said.err}"
        return said.out

    return door


async def until(app: App, made: Any, state: State) -> None:
    async with asyncio.timeout(PATIENCE):
        while (now := await world.state(app, made)) is not state:
            assert now is not State.ABORTED
            await asyncio.sleep(0.1)


async def twins(app: App) -> list[str]:
    """Duplicate detection: which rows are like the first."""
    reading = await app.retriever.similar("questions", ByKey("1"), k=5, tenant="default", threshold=TWINS)
    return [hit.id for hit in reading.hits]


async def behind(app: App, index_id: int) -> None:
    """Until the index has every document as it is now, while the application rests."""

    async def none() -> bool:
        rows = await steps.rows(
            app,
            f"SELECT FROM revec.document d WHERE NOT EXISTS (SELECT FROM revec.vectors_{index_id} v"
            "  WHERE v.doc_id = d.id AND v.input_hash = d.input_hash)"
            " UNION ALL SELECT FROM revec.change",
        )
        return not rows

    async with asyncio.timeout(PATIENCE):
        while not await none():
            await asyncio.sleep(0.05)


@pytest.mark.stress
@pytest.mark.parametrize("is_gone", [False, True], ids=["the model answers", "the model is gone"])
async def test_seed_001(
    is_gone: bool, pooled_app: App, pooled_dsn: str, user: User, revec: Door, loopback: Loopback
) -> None:
    """0 errors, 0 lost, a rollback in between, duplicates found all the time, the result is a fresh build."""
    many = ALL if TRIALS > USUAL else FEW
    texts = questions.texts(many)
    texts[1] = texts[0]  # somebody asked twice
    await questions.made(user, texts)
    model = "openai:gone" if is_gone else f"openai:{questions.OLD}"
    how = ["--model-gone", "--writer", "app"] if is_gone else ["--writer", "revec"]
    app = pooled_app

    said = await revec(
        *("init", "--adopt", "--text", "question", "--filter", "deleted_at IS NULL", "--model", model, *how)
    )
    assert "questions: openai:" in said
    assert not [line for line in loopback.log() if is_gone and line["status"] == 200]
    async with app.database.transaction() as conn:
        from revec.postgres import collections

        made = await collections.named(conn, "questions")
    await people.project(app)
    assert await twins(app) == ["2"]
    application = Application(pooled_dsn, texts[2:20])
    async with running(application, app):
        await revec("start", "questions", "--to", f"openai:{questions.NEW}")
        await until(app, made, State.READY)
        await revec("cutover", "questions", "--yes")
        assert (await app.serving("questions")).space.model == questions.NEW
        assert await twins(app) == ["2"]
        since = await questions.add(user, questions.SINCE, embedded=is_gone)

        back = ["--now"] if is_gone else ["--yes"]
        await revec("rollback", "questions", *back)
        assert (await app.serving("questions")).id == 1
        assert await twins(app) == ["2"]
        await asyncio.sleep(0.5)
        await revec("verify", "questions")
        await revec("cutover", "questions", "--yes")
    await steps.drain(app)
    if not is_gone:
        await behind(app, 1)
        assert await questions.far(user, since) < 0.001, "it was written while the new index served"
    assert application.errors == []
    assert application.writes > 10
    said = await revec("finish", "questions", "--yes", "--drop-after", "0")
    assert "ALTER TABLE" in said
    await steps.drain(app)
    assert await world.state(app, made) is State.FINISHED
    assert await twins(app) == ["2"]
    await steps.assert_oracle(app, made)
    assert len(await questions.ask(user, texts[3])) == 5
    left: Any = await (
        await user.execute("SELECT count(*) AS n FROM app.questions WHERE embedding IS NOT NULL")
    ).fetchone()
    assert left.n >= many
    indexes = await (
        await user.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'questions'")
    ).fetchall()
    assert {row.indexname for row in indexes} == {"questions_pkey", "idx_questions_embedding"}
