"""The course of a backfill: whose documents first, whose at all for now, how far, and how many at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from revec.app import App
from revec.migrate import backfill
from revec.model.course import Course, share
from revec.model.document import Draft
from revec.model.errors import BadInput, Refused
from revec.model.index import Collection
from revec.model.migration import State
from revec.postgres import migrations, tenants
from revec.postgres.tenants import Said
from revec.work import control
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world

COUNTS = {"a": 4, "b": 6, "c": 10}


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "PAGE", 4)


async def indexed(app: App, tiers: dict[str, str] | None = None) -> Collection:
    """Three tenants of 4, 6 and 10 documents, in an index that serves."""
    made = await steps.collection(app)
    start = 0
    for tenant, count in COUNTS.items():
        await steps.put(app, made, steps.drafts(count, start=start, tenant=tenant))
        start += count
    await say(app, made, *(Said(tenant, tier=tier) for tenant, tier in (tiers or {}).items()))
    await steps.drain(app)
    return made


async def say(app: App, made: Collection, *said: Said) -> None:
    async with app.database.transaction() as conn:
        await tenants.say(conn, made.id, said)


async def order(app: App, made: Collection, course: Course, **how: Any) -> list[str]:
    """Whose documents its pages pass, in their order; the backfill is at the end of its course."""
    await app.start(made, steps.NEW, course=course, **how)
    await world.tick_to(app, made, State.BACKFILLING)
    return await pages(app, made)


async def pages(app: App, made: Collection) -> list[str]:
    passed: list[str] = []
    seen: dict[str, int] = await through(app)
    while await backfill.enqueue_page(app.database, await world.migration(app, made)):
        now = await through(app)
        passed += [each for each in sorted(now) if now[each] > seen.get(each, 0) and each not in passed[-1:]]
        seen = now
    return passed


async def through(app: App) -> dict[str, int]:
    found = await steps.rows(app, "SELECT tenant, seen FROM revec.backfill")
    return {row.tenant: row.seen for row in found}


async def embedded(app: App) -> dict[str, int]:
    """Documents in the new index, by tenant."""
    found = await steps.rows(app, "SELECT tenant, count(*) AS n FROM revec.vectors_2 GROUP BY tenant")
    return {row.tenant: row.n for row in found}


async def to_the_end(app: App, made: Collection) -> None:
    await steps.drain_soon(app)
    assert await world.state(app, made) is State.READY
    await steps.assert_oracle(app, made)


async def test_the_order_that_was_asked_for_goes_before_priorities(app: App, loopback: Loopback) -> None:
    """Tenants and tiers in one list, each where it stands; the others by their own priority after them."""
    made = await indexed(app, {"a": "gold"})
    await say(app, made, Said("c", priority=1_000_000))
    assert await order(app, made, Course(priority=("b", "gold"))) == ["b", "a", "c"]
    await to_the_end(app, made)


async def test_the_order_is_of_this_migration_alone(app: App, loopback: Loopback) -> None:
    """What was said of the tenants stands as it stood."""
    made = await indexed(app)
    await say(app, made, Said("b", priority=3))
    await order(app, made, Course(priority=("c",)))
    assert await steps.rows(app, "SELECT tenant, priority FROM revec.tenant") == [("b", 3)]
    await to_the_end(app, made)


async def test_a_word_on_a_tenant_leaves_its_place_in_the_order(app: App, loopback: Loopback) -> None:
    """Paused, resumed and given another priority in mid-backfill: it is still first. A tier counts when it is said."""
    made = await indexed(app)
    await app.start(made, steps.NEW, course=Course(priority=("c", "gold")))
    await world.tick_to(app, made, State.BACKFILLING)
    await backfill.enqueue_page(app.database, await world.migration(app, made))
    await app.commands.pause_tenants(made, ["c"], "a moment")
    await app.commands.resume_tenants(made, ["c"], "over")
    await say(app, made, Said("c", priority=-5), Said("b", tier="gold"))
    assert await pages(app, made) == ["c", "b", "a"]
    await to_the_end(app, made)


async def test_only_the_named_tenants_are_backfilled(app: App, loopback: Loopback) -> None:
    """The others wait and it says so; their edits are embedded all the same; `resume` takes some, then all."""
    made = await indexed(app)
    await app.start(made, steps.NEW, course=Course(tenants=("b",)))
    await steps.drain_soon(app)
    assert await embedded(app) == {"b": 6}
    seen = await world.look(app, made)
    assert seen.state == "backfilling"
    assert "left are 14 documents of tenants that it is not for yet: a, c" in seen.next
    assert "`revec resume c --tenants all`" in seen.next
    async with app.database.transaction() as conn:
        rows = await backfill.progress(conn, await world.migration(app, made), 10)
    assert {row.tenant: row.paused for row in rows} == {
        "a": "it waits, the backfill is for others",
        "b": None,
        "c": "it waits, the backfill is for others",
    }
    await steps.put(app, made, [Draft("0", body="an edit of a waiting tenant", tenant="a")])
    await steps.drain_soon(app)
    assert await embedded(app) == {"a": 1, "b": 6}

    with pytest.raises(BadInput, match="nobody: no documents in c"):
        await app.commands.resume(made, course=Course(tenants=("nobody",)))
    await app.commands.resume(made, course=Course(tenants=("a",)))
    await steps.drain_soon(app)
    assert await embedded(app) == {"a": 4, "b": 6}
    assert "left are 10 documents" in (await world.look(app, made)).next
    await app.commands.resume(made, course=Course(tenants=("all",)))
    await to_the_end(app, made)


async def test_who_is_paused_waits_also_among_the_named(app: App, loopback: Loopback) -> None:
    made = await indexed(app)
    await app.commands.pause_tenants(made, ["b"], "not paid")
    await app.start(made, steps.NEW, course=Course(tenants=("a", "b")))
    await steps.drain_soon(app)
    assert await embedded(app) == {"a": 4}
    await app.commands.resume(made, course=Course(tenants=("all",)))
    await steps.drain_soon(app)
    assert "only documents of paused tenants are left: b" in (await world.look(app, made)).next
    await app.commands.resume_tenants(made, ["b"], "paid")
    await to_the_end(app, made)


async def test_it_stops_where_it_was_told_to(app: App, loopback: Loopback) -> None:
    """A pause with a reason, in the history too; edits go on; `resume` may name another end, or none."""
    made = await indexed(app)
    await app.start(made, steps.NEW, course=Course(until=0.5))
    await steps.drain_soon(app)
    assert sum((await embedded(app)).values()) == 10
    seen = await world.look(app, made)
    assert (seen.state, seen.done, seen.all) == ("backfilling", 10, 20)
    assert seen.paused == "10 of 20 documents are through: it was to stop at 50%"
    assert any("paused: 10 of 20" in row.why for row in await world.history(app, made))
    await steps.put(app, made, [Draft("19", body="an edit behind the end", tenant="c")])
    await steps.drain_soon(app)
    assert sum((await embedded(app)).values()) == 11

    lifted = await app.commands.resume(made, course=Course(until=0.75))
    assert lifted[0] == "the backfill's end: it is to stop at 75%"
    await steps.drain_soon(app)
    assert (await world.look(app, made)).paused == "15 of 20 documents are through: it was to stop at 75%"
    await app.commands.resume(made)
    await to_the_end(app, made)


async def test_a_person_s_pause_stands(app: App, loopback: Loopback) -> None:
    """Whoever comes to the end of the course after a person paused, or named another end, changes nothing."""
    made = await indexed(app)
    await app.start(made, steps.NEW, course=Course(until=0.5))
    await world.tick_to(app, made, State.BACKFILLING)
    seen = await world.migration(app, made)
    await app.commands.resume(made, course=Course(until=0.75))
    async with app.database.transaction() as conn:
        assert not await migrations.stop(conn, seen, "the end")
    seen = await world.migration(app, made)
    await app.commands.pause(made, "lunch")
    async with app.database.transaction() as conn:
        assert not await migrations.stop(conn, seen, "the end")
    assert (await world.migration(app, made)).paused_why == "lunch"
    await app.commands.resume(made)
    await steps.drain_soon(app)
    await app.commands.resume(made)
    await to_the_end(app, made)


async def test_an_end_behind_the_last_document_is_none(app: App, loopback: Loopback) -> None:
    """Everybody is through before it: the migration moves on."""
    made = await indexed(app)
    await app.start(made, steps.NEW, course=Course(until=0.99))
    await to_the_end(app, made)


async def test_a_batch_size_is_a_throttle(app: App, loopback: Loopback) -> None:
    """No claim of the backfill is larger; `revec throttle` shows it and lifts it."""
    made = await indexed(app)
    await app.start(made, steps.NEW, course=Course(batch_size=3))
    async with app.database.transaction() as conn:
        assert (await control.throttle_of(conn, made.id)).claim == 3
    await to_the_end(app, made)
    assert await steps.rows(
        app, "SELECT max(inputs) FROM revec.call WHERE lane = 2 AND migration_id = 2"
    ) == [(3,)]


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: share("half"), "'half' is no part of the documents: write 10% or 50%"),
    (lambda: share("0%"), "no part"),
    (lambda: share("100%"), "no part"),
    (lambda: share("-5%"), "no part"),
    (lambda: Course(batch_size=0), "--batch-size is a number of documents"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG)
def test_what_is_no_course(wrong: Callable[[], Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        wrong()
    assert (share("12.5%"), share(" 50 %")) == (0.125, 0.5)


async def test_a_course_of_nothing_is_refused(app: App, loopback: Loopback) -> None:
    """A tenant without documents, before anything is written; an end where no backfill is under way."""
    made = await indexed(app)
    with pytest.raises(BadInput, match="x: no documents in c; `revec tenants list c`"):
        await app.start(made, steps.NEW, course=Course(tenants=("a", "x")))
    assert await steps.rows(app, "SELECT FROM revec.migration WHERE state <> 'finished'") == []
    for course in (Course(until=0.5), Course(tenants=("all",))):
        with pytest.raises(Refused, match="no backfill of c is under way"):
            await app.commands.resume(made, course=course)
