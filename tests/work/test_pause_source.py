"""A source that a person holds back: nothing of it is read, nothing of it is lost, and everybody says so."""

from __future__ import annotations

import asyncio

import pytest

from revec.app import App
from revec.capture import projector
from revec.model.errors import GateNotMet, NotFound, Refused
from revec.model.index import Collection
from revec.model.migration import State
from revec.model.verdict import Outcome
from tests import steps
from tests.capture import people
from tests.migrate import world
from tests.work import hands

DOCS = "app.docs"


async def table(app: App, count: int = 5) -> Collection:
    """A collection whose rows are in a table of the user's, read and indexed."""
    async with people.connected(app.database.dsn) as user:
        await user.execute("CREATE SCHEMA app")
        await user.execute(people.DOCS)
    await write(app, 1, count)
    made = await steps.collection(app, model=None)
    await people.attached(app, made)
    await app.start(made, steps.OLD)
    await steps.drain(app)
    return made


async def write(app: App, first: int, last: int) -> None:
    async with people.connected(app.database.dsn) as user:
        await user.execute(
            f"INSERT INTO app.docs SELECT n, 'title ' || n, 'body' FROM generate_series({first}, {last}) n"
        )


async def changes(app: App) -> int:
    ((count,),) = await steps.rows(app, "SELECT count(*) FROM revec.change")
    return int(count)


async def test_a_paused_source_keeps_its_changes(app: App) -> None:
    """A drain leaves them where they are and ends; resumed, every one becomes a document."""
    made = await table(app)
    await app.commands.pause_source(made, DOCS, "a bulk load")
    await write(app, 6, 20)
    assert (await steps.drain(app)).stuck == []
    assert (await changes(app), len(await people.documents(app, made))) == (15, 5)
    seen = await world.look(app, made)
    assert seen.sources[0]["paused"] == "a bulk load"
    assert seen.unprojected == 15
    assert await app.commands.resume_source(made, DOCS) == "a bulk load"
    await steps.drain(app)
    assert (await changes(app), len(await people.documents(app, made))) == (0, 20)
    await steps.assert_oracle(app, made)


async def test_nothing_is_read_after_the_pause_was_acknowledged(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A projector that had seen the changes before it comes too late."""
    made = await table(app)
    await write(app, 6, 6)
    going, go_on = asyncio.Event(), asyncio.Event()
    project_source = projector._project_source

    async def held(*arguments: object) -> bool:
        going.set()
        await go_on.wait()
        return await project_source(*arguments)

    monkeypatch.setattr(projector, "_project_source", held)
    projecting = asyncio.create_task(projector.project(app.database))
    async with asyncio.timeout(hands.PATIENCE):
        await going.wait()
    await app.commands.pause_source(made, DOCS, "lunch")
    go_on.set()
    assert not await projecting
    assert await changes(app) == 1


async def test_no_completeness_while_a_source_is_paused(app: App) -> None:
    """The gate cannot tell and says whose fault that is; it passes as soon as all is read."""
    made = await table(app)
    (index,) = await steps.written(app, made)
    await app.commands.pause_source(made, DOCS, "lunch")
    verdict = await world.judged(app, "completeness", index)
    assert (verdict.outcome, verdict.why) == (Outcome.INCONCLUSIVE, "app.docs is paused: lunch")
    await app.commands.resume_source(made, DOCS)
    assert (await world.judged(app, "completeness", index)).outcome is Outcome.PASSED


async def test_a_migration_waits_for_a_paused_source_and_says_so(app: App) -> None:
    """It neither begins to backfill nor finds itself proven; the way on is in its words."""
    made = await table(app)
    await app.commands.pause_source(made, DOCS, "lunch")
    await app.start(made, steps.NEW)
    await world.tick(app, 5)
    assert await world.state(app, made) is State.CAPTURING
    assert (await steps.drain(app)).stuck == []
    assert (await world.look(app, made)).next == (
        "app.docs is paused: lunch (`revec resume c --source …`); no worker seen: run `revec worker`"
    )
    await app.commands.resume_source(made, DOCS)
    await steps.drain(app)
    assert await world.state(app, made) is State.READY
    whys = [row.why for row in await world.history(app, made)]
    assert "app.docs is read again" in whys


async def test_no_cutover_while_a_source_is_paused(app: App) -> None:
    """The proof is of before; what was written since is in no index."""
    made = await table(app)
    await app.start(made, steps.NEW)
    await steps.drain(app)
    await app.commands.pause_source(made, DOCS, "lunch")
    with pytest.raises(GateNotMet, match="app.docs is paused: lunch"):
        await app.commands.switch.cutover(made, why="test")
    await app.commands.resume_source(made, DOCS)
    await app.commands.switch.cutover(made, why="test")
    await steps.assert_oracle(app, made)


async def test_what_nobody_reads_cannot_be_paused(app: App) -> None:
    """Pushed documents, and what is no source, with what there is."""
    made = await steps.filled(app, 1)
    with pytest.raises(Refused, match="stop `revec ingest`"):
        await app.commands.pause_source(made, "push", "lunch")
    with pytest.raises(NotFound, match=r"no source 'app.docs' \(it has push\)"):
        await app.commands.pause_source(made, DOCS, "lunch")
