"""`status` at every moment of a migration: figures, what comes next, what it waits for, the way back."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from revec.app import App
from revec.model.migration import State
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world


async def test_the_whole_road(app: App, loopback: Loopback) -> None:
    """From nothing to finished: state, roles of the indexes, next step and rollback at each stop."""
    made = await steps.collection(app, model=None)
    seen = await world.look(app, made)
    assert (seen.state, seen.serving, seen.indexes, seen.migration) == (None, None, [], None)
    assert seen.next == "`revec start c --to MODEL`"

    await app.start(made, steps.OLD)
    seen = await world.look(app, made)
    assert (seen.state, seen.rollback) == ("planned", "nothing to roll back to")
    assert "no worker seen: run `revec worker`" in seen.next
    await steps.put(app, made, steps.drafts(20))
    await steps.drain(app)
    seen = await world.look(app, made)
    assert (seen.state, seen.serving, seen.documents) == ("finished", "openai:fake-64#1", 20)
    assert seen.next == "finished; `revec start c --to MODEL` begins another"
    assert [(index.role, index.backlog) for index in seen.indexes] == [("serving", 0)]

    await app.start(made, steps.NEW)
    await world.tick_to(app, made, State.BACKFILLING)
    await world.tick(app, 2)  # the page is enqueued, and the cursor knows that it was the last
    seen = await world.look(app, made)
    assert (seen.done, seen.all) == (0, 20)
    assert seen.next.startswith("20 documents are still to be embedded")
    assert [(each.role, each.backlog) for each in seen.indexes] == [("serving", 0), ("next", 20)]
    assert seen.rollback == "not needed: the old index serves"

    await steps.drain(app)
    seen = await world.look(app, made)
    assert (seen.state, seen.done, seen.all) == ("ready", 20, 20)
    assert seen.next.startswith("ready: `revec cutover c`")
    assert set(seen.verdicts or {}) == {"completeness", "fidelity"}
    assert all(said.startswith("PASSED: ") for said in (seen.verdicts or {}).values())

    await app.commands.switch.cutover(made, why="test")
    await world.tick(app)
    seen = await world.look(app, made)
    assert (seen.state, seen.serving) == ("live", "openai:fake-b-96#2")
    assert [each.role for each in seen.indexes] == ["previous", "serving"]
    assert "`revec finish c`" in seen.next
    assert seen.rollback == "`revec rollback c`, nothing is lost, until the old index is dropped"

    await app.commands.switch.finish(made, wait=timedelta(hours=3), why="test")
    seen = await world.look(app, made)
    assert "3 more hours" in seen.next
    assert "`revec finish c --cancel`" in seen.rollback

    await app.commands.switch.cancel_finish(made, why="test")
    await app.commands.switch.finish(made, wait=timedelta(0), why="test")
    await steps.drain(app)
    seen = await world.look(app, made)
    assert (seen.state, seen.rollback) == ("finished", "nothing to roll back to")
    assert [each.name for each in seen.indexes] == ["openai:fake-b-96#2"]


async def test_how_far_and_how_long_in_the_middle(app: App, loopback: Loopback) -> None:
    """Seven of twenty are done: the share, the rate of the last minute, and the time that is left."""
    made = await steps.filled(app, 20)
    await app.start(made, steps.NEW)
    await world.tick_to(app, made, State.BACKFILLING)
    await world.tick(app, 2)
    loopback.hold()
    worker = app.worker(claim=7, concurrency=1)
    running = asyncio.create_task(worker.run(drain=False))
    await asyncio.to_thread(loopback.wait_held)
    assert (await world.look(app, made)).workers == 1
    worker.stop()  # finishes the claim that it holds
    loopback.release()
    await running
    seen = await world.look(app, made)
    assert (seen.done, seen.all, seen.per_second, seen.eta_seconds) == (7, 20, None, None)
    assert seen.workers == 0

    for seconds, done in ((20, 0), (10, 5), (0, 10)):
        await steps.rows(
            app,
            "INSERT INTO revec.progress (migration_id, at, done)"
            " VALUES (2, now() - make_interval(secs => %(s)s), %(d)s) RETURNING 1",
            s=seconds,
            d=done,
        )
    seen = await world.look(app, made)
    assert (seen.per_second, seen.eta_seconds) == (0.5, 26)  # 13 left at one in two seconds


async def test_a_rate_of_nothing_is_no_estimate(app: App, loopback: Loopback) -> None:
    """Standing still, or seen once: no rate, no time left, no division by zero."""
    made = await steps.filled(app, 20)
    await app.start(made, steps.NEW)
    await world.tick_to(app, made, State.BACKFILLING)
    await world.tick(app, 2)
    await steps.rows(app, "DELETE FROM revec.progress RETURNING 1")
    for seconds in (10, 0):
        await steps.rows(
            app,
            "INSERT INTO revec.progress (migration_id, at, done)"
            " VALUES (2, now() - make_interval(secs => %(s)s), 4) RETURNING 1",
            s=seconds,
        )
        seen = await world.look(app, made)
        assert (seen.per_second, seen.eta_seconds) == (None, None)


async def test_backlog_age_dead_and_excluded_of_each_index(app: App, loopback: Loopback) -> None:
    """Every index apart: what waits and how long, what is dead, what is left out."""
    made = await steps.ready(app, 10)
    loopback.fault("400", times=None, match="poison")
    await steps.put(app, made, steps.drafts(1, start=50, word="poison"))
    await steps.put(app, made, [steps.Draft("51"), steps.Draft("52")])
    await steps.drain(app)
    seen = await world.look(app, made)
    assert [(each.dead, each.excluded, each.backlog) for each in seen.indexes] == [(1, 2, 0)] * 2
    assert seen.documents == 13
    await steps.put(app, made, steps.drafts(3, start=60))
    await steps.rows(
        app, "UPDATE revec.work SET since = now() - interval '90 s' WHERE index_id = 2 RETURNING 1"
    )
    old, new = (await world.look(app, made)).indexes
    assert (old.backlog, new.backlog) == (3, 3)
    assert old.oldest_seconds < 30
    assert new.oldest_seconds >= 90
    assert min(old.bytes, new.bytes) > 8_192


async def test_a_pause_and_a_fault_are_in_the_first_line(app: App, loopback: Loopback) -> None:
    """What holds a migration is what `next` says, with the command that lifts it."""
    made = await steps.filled(app)
    await app.start(made, steps.NEW)
    await world.tick_to(app, made, State.BACKFILLING)
    await app.commands.pause(made, "the provider is slow")
    seen = await world.look(app, made)
    assert seen.paused == "the provider is slow"
    assert seen.next.startswith("paused: the provider is slow (`revec resume c`)")
    await app.commands.resume(made)

    loopback.fault("nan", times=1, match="document 3")
    async with world.working(app):
        await world.until(app, "SELECT fault IS NOT NULL FROM revec.index WHERE id = 2")
    seen = await world.look(app, made)
    assert "NaN" in (seen.indexes[1].fault or "")
    assert "NaN" in seen.next
    assert "revec resume" in seen.next
    await app.commands.resume(made)
    await steps.drain(app)
    assert (await world.look(app, made)).state == "ready"
    await steps.assert_oracle(app, made)
