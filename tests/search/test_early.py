"""Served early: while an index is being filled it answers already, wholly, or the old one does as ever."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from revec.app import App
from revec.model.index import Collection, Index, Kind
from revec.model.migration import Migration, State
from revec.model.reading import Mode, Reading
from revec.observe import events
from revec.postgres import bridges, migrations
from revec.search import bridge
from revec.work import demand, queue
from tests import loopback as fake
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world
from tests.work import hands

QUERY = "a question"


def learnt(pairs: int = 400) -> bridge.Bridge:
    """From the new fake model to the old one, of texts that are in no collection."""
    texts = [f"a text to learn from, number {n}" for n in range(pairs)]
    return bridge.fit(fake.vectors(texts, "fake-64"), fake.vectors(texts, "fake-b-96"))


async def opened(app: App, made: Collection, *, holds: bool = True) -> Migration:
    """The migration has a bridge that holds."""
    migration = await world.migration(app, made)
    async with app.database.transaction() as conn:
        await bridges.begin(conn, migration.id, drawn=0, why="a test")
        seen = await bridges.kept(conn, migration.id)
        assert seen is not None
        fit = learnt()
        await bridges.put(
            conn,
            migration.id,
            seen,
            pairs=fit.pairs,
            bridge=fit.dumps(),
            holds=holds,
            why="a test says so",
            measure={},
        )
    return migration


async def half(app: App, count: int = 60, embedded: int = 30, **how: Any) -> Collection:
    """A migration with so many documents embedded by the new model, the others waiting in the backfill."""
    made = await steps.filled(app, count)
    await app.start(made, steps.NEW, serve_early=True, **how)
    await world.tick_to(app, made, State.BACKFILLING)
    await world.tick(app)
    await opened(app, made)
    if embedded:
        await hands.step(app, claim=embedded)
    return made


async def search(app: App, query: str = QUERY, **how: Any) -> Reading:
    asked: dict[str, Any] = {"k": 10, "tenant": "default", "mode": Mode.VECTOR} | how
    return await app.retriever.search("c", query, **asked)


async def index_of(app: App, made: Collection, model: str) -> Index:
    return next(index for index in await steps.written(app, made) if index.space.address == model)


def ids(reading: Reading) -> list[str]:
    return [hit.id for hit in reading.hits]


@pytest.mark.parametrize("mode", [Mode.VECTOR, Mode.HYBRID])
async def test_half_migrated_it_is_answered_as_the_new_index_will_be(
    app: App, loopback: Loopback, mode: Mode
) -> None:
    """The candidates that lack a vector are embedded, and all are ranked in the new space alone."""
    made = await half(app)
    reading = await search(app, mode=mode)
    assert (reading.early, reading.demanded, reading.index) == (True, 30, f"{steps.NEW}#2")
    await steps.drain(app)
    assert await world.state(app, made) is State.READY
    await app.commands.cutover(made, why="a test")
    after = await search(app, mode=mode)
    assert (after.early, after.index) == (False, reading.index)
    assert reading.hits == after.hits
    await steps.assert_oracle(app, made)
