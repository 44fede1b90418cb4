"""Put a migration where a test wants it, and move it a step at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

from revec.app import App
from revec.migrate.conductor import Conductor
from revec.migrate.gates import base as gates
from revec.migrate.guarding import Guarding
from revec.migrate.status import Status, status
from revec.model.index import Collection, Index
from revec.model.migration import Migration, State
from revec.model.verdict import Verdict
from revec.postgres import migrations
from tests import steps

At = tuple[App, Collection]  # what the fixtures `ready` and `live` yield

PATIENCE = 20.0  # seconds for a state
NEW_SERVES = {State.LIVE, State.FINISHING, State.FINISHED}


async def force(app: App, state: State) -> None:
    """The first migration between two indexes is in `state`, all else as a person would find it there."""
    (at,) = await steps.rows(
        app, "SELECT * FROM revec.migration WHERE old_index IS NOT NULL ORDER BY id LIMIT 1"
    )
    serving, previous = at.old_index, None
    if state in NEW_SERVES:
        serving, previous = at.new_index, at.old_index
    later = {"id": at.id}
    async with app.database.transaction() as conn:
        for table in ("verdict", "progress", "migration_event", "backfill"):
            await conn.execute(f"DELETE FROM revec.{table} WHERE migration_id > %(id)s", later)
        await conn.execute("DELETE FROM revec.migration WHERE id > %(id)s", later)
        await conn.execute(
            "UPDATE revec.index SET writing = true, held = false, fault = NULL, dropped_at = NULL"
        )
        await conn.execute(
            "UPDATE revec.migration SET state = %(to)s, paused_why = NULL, hold = NULL, drop_after = NULL,"
            " old_model_gone = NULL WHERE id = %(id)s",
            {"id": at.id, "to": state},
        )
        await conn.execute(
            "INSERT INTO revec.migration_event (migration_id, who, became, why)"
            " VALUES (%(id)s, 'test', %(to)s, 'forced')",
            {"id": at.id, "to": state},
        )
        await conn.execute(
            "UPDATE revec.route SET serving = %(serving)s, previous = %(previous)s, epoch = epoch + 1",
            {"serving": serving, "previous": None if state is State.FINISHED else previous},
        )


async def migration(app: App, made: Collection) -> Migration:
    async with app.database.transaction() as conn:
        found = await migrations.latest(conn, made.id)
    assert found is not None
    return found


async def state(app: App, made: Collection) -> State:
    return (await migration(app, made)).state


async def look(app: App, made: Collection) -> Status:
    return await status(app.database, app.store, made, app.limits)


async def judged(app: App, gate: str, index: Index, **limits: Any) -> Verdict:
    """A gate's verdict of an index, outside any migration."""
    tools = replace(app.tools, limits=replace(app.limits, **limits))
    (verdict,) = await gates.judged(gates.Case(tools, index), [gate])
    return verdict


class Steady:
    """What a worker ticks for migrations, in turn: the guard, and the conductor."""

    def __init__(self, app: App) -> None:
        holder = uuid4()
        self._guarding, self._conductor = Guarding(app.tools, holder), Conductor(app.tools, holder)

    async def tick(self) -> bool:
        await self._guarding.tick()
        return await self._conductor.tick()

    async def leave(self) -> None:
        await self._guarding.leave()
        await self._conductor.leave()


def conductor(app: App) -> Steady:
    return Steady(app)


async def tick(app: App, times: int = 1) -> None:
    """Steps of a conductor whose worker embeds nothing."""
    steady = conductor(app)
    for _ in range(times):
        await steady.tick()
    await steady.leave()


async def tick_to(app: App, made: Collection, wanted: State) -> None:
    """Steps until the migration is in that state; a busy machine may let a lock wait."""
    until = asyncio.get_running_loop().time() + PATIENCE
    while asyncio.get_running_loop().time() < until:
        if await state(app, made) is wanted:
            return
        await tick(app)
    last = await look(app, made)
    raise AssertionError(f"it stays {last.state}: {last.next}")


async def until_told(app: App, made: Collection, what: str) -> None:
    """Steps until the history has a line of it."""
    until = asyncio.get_running_loop().time() + PATIENCE
    while not any(what in row.why for row in await history(app, made)):
        assert asyncio.get_running_loop().time() < until, f"nobody says {what!r}"
        await tick(app)


async def history(app: App, made: Collection) -> list[Any]:
    found = await migration(app, made)
    async with app.database.transaction() as conn:
        return await migrations.events(conn, found)


async def age_verdicts(app: App, hours: int) -> None:
    await steps.rows(
        app, "UPDATE revec.verdict SET at = at - make_interval(hours => %(h)s) RETURNING id", h=hours
    )


async def until(app: App, question: str) -> None:
    """Ask the database until it says yes."""
    async with asyncio.timeout(10):
        while await steps.rows(app, question) != [(True,)]:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def working(app: App, **pace: Any) -> AsyncIterator[None]:
    """A worker beside the body; what ends it ends the body too."""
    worker = app.worker(**pace)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run(drain=False))
        try:
            yield
        finally:
            worker.stop()
