"""The bridge: learnt from the collection's own documents, judged by them, and used only where it holds."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from revec.app import App
from revec.migrate import early
from revec.migrate.planning.recipe import Long
from revec.model.index import Collection
from revec.model.migration import State
from revec.observe import events
from revec.postgres import bridges
from revec.search import bridge
from revec.work import queue
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world
from tests.work import hands

DOCUMENTS = 600


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """And 500 documents are a sample."""
    monkeypatch.setattr(early, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(early, "SAMPLE", 500)
    monkeypatch.setattr(early, "PART", 1)


async def begun(app: App, count: int = DOCUMENTS, **how: Any) -> Collection:
    """A migration that is to be served early, in its backfill, with nothing embedded."""
    made = await steps.filled(app, count)
    await app.start(made, steps.NEW, serve_early=True, **how)
    await world.tick_to(app, made, State.BACKFILLING)
    await world.tick(app)
    return made


async def kept(app: App, made: Collection) -> bridges.Kept:
    migration = await world.migration(app, made)
    async with app.database.transaction() as conn:
        found = await bridges.kept(conn, migration.id)
    assert found is not None
    return found


async def fitted(app: App, made: Collection, version: int) -> bridges.Kept:
    """A conductor ticks until there is such a fit."""
    steady = world.conductor(app)
    async with asyncio.timeout(30):
        while (found := await kept(app, made)).version < version:
            await steady.tick()
            await asyncio.sleep(0.01)
    await steady.leave()
    return found


async def told(app: App, made: Collection) -> list[str]:
    return [row.why for row in await world.history(app, made) if "early" in row.why]


async def test_of_a_small_collection_a_third_is_sampled(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else most of it would have to be embedded before anybody is answered early; and never too few."""
    monkeypatch.setattr(early, "PART", 3)
    made = await begun(app, 660)
    assert (await kept(app, made)).drawn == 220
    await app.commands.abort(made, "again")
    monkeypatch.setattr(early, "PART", 30)
    await app.start(made, steps.NEW, serve_early=True)
    await world.tick_to(app, made, State.BACKFILLING)
    await world.tick(app)
    assert (await kept(app, made)).drawn == early.FEWEST


async def test_a_sample_goes_first_and_opens_the_way(app: App, loopback: Loopback) -> None:
    """Spread over the collection, in the lane of what somebody waits for; then the way opens by itself."""
    made = await begun(app)
    found = await kept(app, made)
    assert (found.version, found.drawn, found.holds) == (0, early.SAMPLE, False)
    first = [row.doc_id for row in await hands.work(app) if row.lane == queue.JIT]
    assert len(first) == early.SAMPLE
    assert max(first) - min(first) >= DOCUMENTS - 2, "not of one end of the collection"
    await hands.step(app, claim=early.SAMPLE)
    found = await fitted(app, made, 1)
    assert (found.pairs, found.holds) == (early.SAMPLE, True), found.why
    assert found.measure["share"] > bridge.ENOUGH
    assert await told(app, made) == [f"served early: {found.why}"]
    seen = await world.look(app, made)
    assert seen.early == {
        "open": True,
        "why": found.why,
        "pairs": 500,
        "measure": found.measure,
        "documents": 0,
    }
    app.retriever._early._patience = 20.0  # type: ignore[union-attr]
    reading = await app.retriever.search("c", "a question", tenant="default")
    assert reading.early
    seen = await world.look(app, made)
    assert seen.early is not None
    assert seen.early["documents"] == reading.demanded
    await steps.drain(app)
    await steps.assert_oracle(app, made)


async def test_it_is_fitted_again_when_the_pairs_have_doubled(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not before; the history hears of it where the verdict changes."""
    monkeypatch.setattr(early, "SAMPLE", 250)
    made = await begun(app)
    await hands.step(app, claim=250)
    assert (await fitted(app, made, 1)).pairs == 250
    await world.tick(app, 3)
    await hands.step(app, claim=200)
    await world.tick(app, 3)
    assert (await kept(app, made)).version == 1
    await hands.step(app, claim=100)
    again = await fitted(app, made, 2)
    assert (again.pairs, again.holds) == (550, True)
    assert len(await told(app, made)) == 1


async def looks(app: App, count: int = 5) -> int:
    """How often a conductor has fitted anew when it has looked so often, and has ended each fit."""
    steady, before = world.conductor(app), (await steps.rows(app, "SELECT version FROM revec.bridge"))[0]
    for _ in range(count):
        await steady.tick()
        if (fitting := steady._conductor._bridging._fitting) is not None:
            await fitting
    await steady.leave()
    return int((await steps.rows(app, "SELECT version FROM revec.bridge"))[0].version - before.version)


@pytest.mark.parametrize("missing", [1, DOCUMENTS])
async def test_a_document_without_an_old_vector_is_no_reason_to_fit_for_ever(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch, missing: int
) -> None:
    """Fewer pairs are found than documents are counted, or none at all: once is enough, at the most and below."""
    monkeypatch.setattr(early, "SAMPLE", 250)
    made = await begun(app)
    some = "SELECT id FROM revec.document ORDER BY id LIMIT %(missing)s"
    await steps.rows(
        app, f"DELETE FROM revec.vectors_1 WHERE doc_id IN ({some}) RETURNING 1", missing=missing
    )
    await hands.step(app, claim=250)
    assert await looks(app) == 1
    found = await kept(app, made)
    assert (found.pairs, found.counted) == (max(0, 250 - missing), 250)
    await hands.step(app, claim=250)
    monkeypatch.setattr(early, "MOST_PAIRS", 500)
    assert await looks(app) == 1
    assert (await kept(app, made)).counted == 500
    await hands.step(app, claim=250)
    assert await looks(app) == 0


async def test_later_verdicts_are_of_the_sample_too(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the backfill embedded since is learnt from, and measures nothing."""
    monkeypatch.setattr(early, "SAMPLE", 250)
    made = await begun(app)
    await hands.step(app, claim=250)
    await fitted(app, made, 1)
    await hands.step(app, claim=300)
    again = await fitted(app, made, 2)
    assert (again.pairs, again.measure["pairs"]) == (550, 250)


async def test_a_fit_that_fails_ends_nothing(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker says so, goes on, and tries again later."""
    told: list[Any] = []
    monkeypatch.setattr(events, "emit", told.append)
    made = await begun(app)
    await hands.step(app, claim=early.SAMPLE)

    def broken(*_: Any) -> None:
        raise np.linalg.LinAlgError("SVD did not converge")

    with monkeypatch.context() as patch:
        patch.setattr(bridge, "fit", broken)
        assert await looks(app) == 0
    said = [each.why for each in told if isinstance(each, events.TryAgain)]
    assert said == ["the bridge of migration 2: SVD did not converge"], "once: it rests"
    assert (await fitted(app, made, 1)).holds


async def test_pairs_are_no_more_than_the_memory_holds(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of models of many dims fewer documents are drawn, and fitted on."""
    each = early.COPIES * 4 * (64 + 96)
    monkeypatch.setattr(early, "MOST_BYTES", 220 * each)
    made = await begun(app)
    assert (await kept(app, made)).drawn == 220
    await hands.step(app, claim=300)
    assert (await fitted(app, made, 1)).pairs == 220
    assert await looks(app) == 0


async def test_where_it_does_not_hold_nobody_is_answered_early(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status` and the history say why; more pairs are another chance."""
    monkeypatch.setattr(early, "SAMPLE", 250)
    with monkeypatch.context() as patch:
        patch.setattr(bridge, "ENOUGH", 1.1)
        made = await begun(app)
        await hands.step(app, claim=250)
        found = await fitted(app, made, 1)
    assert not found.holds
    assert await told(app, made) == [f"not served early: {found.why}"]
    seen = await world.look(app, made)
    assert seen.early is not None
    assert (seen.early["open"], seen.early["why"]) == (False, found.why)
    reading = await app.retriever.search("c", "a question", tenant="default")
    assert (reading.early, reading.index) == (False, f"{steps.OLD}#1")
    await asyncio.gather(*app.demand._in_hand)
    for _ in range(2):  # what that search has shown goes first
        await hands.step(app, claim=300)
    assert (await fitted(app, made, 2)).holds
    assert len(await told(app, made)) == 2


async def refused(app: App, made: Collection) -> str:
    """Nothing is drawn, nothing is ever fitted, and the migration goes its way."""
    assert [row.lane for row in await hands.work(app) if row.lane == queue.JIT] == []
    found = await kept(app, made)
    assert (found.drawn, found.holds) == (0, False)
    await steps.drain(app)
    assert await world.state(app, made) is State.READY
    assert (await kept(app, made)).version == 0
    assert not (await app.retriever.search("c", "a question", tenant="default")).early
    assert await told(app, made) == [f"not served early: {found.why}"]
    await steps.assert_oracle(app, made)
    return found.why


async def test_other_chunks_are_refused(app: App, loopback: Loopback) -> None:
    """The pairs would not be of the same texts; `plan` says so before anything is begun."""
    long = Long(chunk="64 tokens, 8 overlap")
    made = await steps.filled(app, 30)
    plan = await app.plan(made, steps.NEW, long=long, serve_early=True)
    assert plan.facts["early"].startswith("refused: its chunks are others")
    await app.start(made, steps.NEW, long=long, serve_early=True)
    await world.tick_to(app, made, State.BACKFILLING)
    await world.tick(app)
    assert (await refused(app, made)).startswith("its chunks are others (64 tokens, 8 overlap")


async def test_too_few_documents_are_refused(app: App, loopback: Loopback) -> None:
    """The plan says so already, in the same words."""
    made = await steps.filled(app, 30)
    why = "30 documents are too few for a bridge, and soon embedded"
    assert (await app.plan(made, steps.NEW, serve_early=True)).facts["early"] == f"refused: {why}"
    await app.start(made, steps.NEW, serve_early=True)
    await world.tick_to(app, made, State.BACKFILLING)
    await world.tick(app)
    assert await refused(app, made) == why


async def test_a_first_fill_is_refused(app: App, loopback: Loopback) -> None:
    made = await steps.collection(app, model=None)
    plan = await app.plan(made, steps.NEW, serve_early=True)
    assert plan.facts["early"].startswith("refused: nothing serves yet")
    await app.start(made, steps.NEW, serve_early=True)
    await steps.put(app, made, steps.drafts(30))
    await steps.drain(app)
    assert (await app.serving("c")).space.address == steps.NEW
    assert await steps.rows(app, "SELECT FROM revec.bridge WHERE drawn <> '{}'") == []


async def test_nobody_asked_for_it(app: App, loopback: Loopback) -> None:
    """Off unless somebody says so: nothing is drawn, and `status` is silent."""
    made = await steps.filled(app, 300)
    assert (await app.plan(made, steps.NEW)).facts["serve_early"] is False
    await app.start(made, steps.NEW)
    await world.tick_to(app, made, State.BACKFILLING)
    await world.tick(app, 3)
    assert await steps.rows(app, "SELECT FROM revec.bridge") == []
    assert {row.lane for row in await hands.work(app)} == {queue.BACKFILL}
    assert (await world.look(app, made)).early is None


async def test_a_paused_migration_begins_nothing(app: App, loopback: Loopback) -> None:
    made = await steps.filled(app, 300)
    await app.start(made, steps.NEW, serve_early=True)
    await app.commands.pause(made, "a test")
    await world.tick(app, 3)
    assert await steps.rows(app, "SELECT FROM revec.bridge") == []


async def test_a_fit_of_yesterday_does_not_replace_todays(app: App, loopback: Loopback) -> None:
    """Two conductors fitted: the second one to come finds that another look is due."""
    made = await begun(app)
    seen, migration = await kept(app, made), await world.migration(app, made)
    more: dict[str, Any] = {"counted": 500, "bridge": None, "holds": False, "measure": {}}
    async with app.database.transaction() as conn:
        assert await bridges.put(conn, migration.id, seen, pairs=500, why="the first", **more)
        assert not await bridges.put(conn, migration.id, seen, pairs=600, why="the second", **more)
    assert (await kept(app, made)).why == "the first"


async def test_a_fit_that_ends_after_the_cutover_puts_nothing_back(app: App, loopback: Loopback) -> None:
    """Nor is anything ever fitted again: not after a rollback either."""
    made = await begun(app)
    await hands.step(app, claim=early.SAMPLE)
    seen, migration = await kept(app, made), await world.migration(app, made)
    async with app.database.transaction() as conn:
        await bridges.close(conn, migration.id, "over")
        more: dict[str, Any] = {"bridge": b"megabytes", "holds": True, "measure": {}}
        assert not await bridges.put(conn, migration.id, seen, pairs=500, counted=500, why="late", **more)
    assert await looks(app) == 0
    assert (await kept(app, made)).why == "over"


async def test_the_bridge_goes_with_the_migration(app: App, loopback: Loopback) -> None:
    """It may be megabytes: after the cutover or an abort nobody needs it."""
    made = await begun(app)
    await hands.step(app, claim=early.SAMPLE)
    await fitted(app, made, 1)
    await app.commands.abort(made, "a test")
    assert await steps.rows(app, "SELECT bridge, holds, why FROM revec.bridge") == [
        (None, False, "the migration is aborted")
    ]
    await steps.drain(app)
    await steps.assert_oracle(app, made)
