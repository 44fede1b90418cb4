"""The dual-read swap, as the runbook of old has it: from one store to another by its checklist, and back.

Its limits were a score delta below 0.2 and a latency delta below 80 ms, at 2%, 5% and 10% of the queries;
its alert was RETR_DUAL_VARIANCE_HIGH.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from revec.app import App
from revec.migrate import between, evidence
from revec.migrate.evidence import EXPLAINED, RUNGS
from revec.model import place
from revec.model.index import Collection
from revec.model.migration import State
from revec.model.reading import Mode
from revec.observe import events
from revec.postgres.orders import Order
from revec.search.retriever import Served
from revec.stores.preflight import Preflight
from tests import places, steps
from tests.loopback import Loopback
from tests.migrate import world
from tests.migrate.test_shadowing import rate_of
from tests.search import shadowed

SCORE_DELTA, LATENCY_DELTA = 0.2, 80.0  # of percentiles; ms, which a busy machine keeps or not
ENOUGH = 60  # questions of a rung: of so many none may go wrong
MORE = 5  # that may be late on a busy machine
OWNER, ON_CALL = "owner", "on-call"


@pytest.fixture
def chroma() -> Iterator[places.ChromaServer]:
    """One of its own: it goes down on the way."""
    with places.chroma() as server:
        yield server


async def asked(app: App, start: int, count: int = ENOUGH + MORE) -> None:
    """So many questions of the query log, two at a time, as `shadow --replay` does."""
    route, index = await app.retriever.route("c")
    waiting = iter(shadowed.questions(count, start=start))

    async def read_on() -> None:
        for question in waiting:
            await app.dual_reader.replay(
                Served("c", route, index), question, tenant="default", mode=Mode.HYBRID, weight=1
            )

    await asyncio.gather(read_on(), read_on())
    await shadowed.settled(app)


async def assert_low_variance(app: App, made: Collection) -> None:
    """By the old runbook's limits; and no document is missing without a reason."""
    seen = await app.commands.shadow.report(made)
    assert seen["doubt"] is None
    assert seen["variance"]["percentile delta"] < SCORE_DELTA
    assert None not in (seen["latency"]["new search p95"], seen["latency"]["again search p95"])
    assert {*seen["variance"]["lost"], *seen["variance"]["gained"]} <= EXPLAINED


async def cut_over(app: App, made: Collection) -> None:
    """The product owner wants it, who is on call agrees."""
    wanted = replace(app.commands, who=OWNER).orders
    assert isinstance(await wanted.cutover(made, why="the window is open"), Order)
    assert isinstance(
        await replace(app.commands, who=ON_CALL).orders.approve(made, why="all is quiet"), tuple
    )


async def users(app: App, made: Collection, over: asyncio.Event) -> set[str]:
    """Somebody searches and somebody writes until it is over; which indexes answered."""
    answered, number = set(), 1_000
    while not over.is_set():
        await steps.put(app, made, steps.drafts(1, start=number))
        reading = await app.retriever.search("c", f"text of document {number % 40}", tenant="default")
        assert reading.hits
        assert not reading.degraded
        answered.add(reading.index)
        number += 1
    return answered


async def test_a_swap_by_the_checklist(
    app: App, loopback: Loopback, chroma: places.ChromaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Provisioned, compared, shadowed, an incident on the way, cut over under traffic, back, over, and back
    again after hours of writes; the history tells all of it.
    """
    steps.unhurried(app)
    monkeypatch.setattr(evidence, "A_RUNG", ENOUGH)
    app.dual_reader._deadline = shadowed.PATIENCE / 2
    made = await steps.filled(app, 40)

    checked = await Preflight(app.store_at(chroma.url), place.address(chroma.url), 64).run()
    assert [each.check for each in checked if not each.passed] == []
    await app.start(made, steps.OLD, store=chroma.url, shadow=RUNGS[0], approvals=2)
    await steps.drain(app)
    assert await world.state(app, made) is State.SHADOWING
    old, new = await steps.written(app, made)
    assert not (await between.compare(app.database, app.store, old, new)).differ, "the same candidates"

    for number, rate in enumerate(RUNGS):
        assert await rate_of(app) == rate, (await world.look(app, made)).next
        await asked(app, 1_000 * number)
        await assert_low_variance(app, made)
        if number == 1:
            await incident(app, made, chroma)
            assert await rate_of(app) == rate, "increases pause"
            await app.commands.verify(made)
            await app.commands.override(made, ["errors"], "the store was down at noon, see the incident")
            await app.commands.override(made, ["latency"], f"{LATENCY_DELTA:.0f} ms more are agreed on")
            await app.commands.shadow.point(made, rate=rate, to=None)  # this rung begins anew
            await asked(app, 1_000 * number + 500)
        await world.tick(app, 2)
    await app.commands.override(made, ["variance"], "a log of 260 questions is all there is")
    await world.tick_to(app, made, State.READY)

    over = asyncio.Event()
    traffic = asyncio.create_task(users(app, made, over))
    await cut_over(app, made)
    assert (await app.serving("c")).id == new.id
    await app.commands.switch.rollback(made, why="immediate rollback")
    over.set()
    assert await traffic <= {old.name, new.name}
    await steps.drain(app)
    await steps.assert_oracle(app, made)

    await cut_over(app, made)
    await steps.put(app, made, steps.drafts(30, start=5_000))
    await steps.put(app, made, [replace(each, body="edited") for each in steps.drafts(10)])
    await steps.delete(app, made, "20", "21")
    await steps.drain(app)
    await app.commands.switch.rollback(made, why="delayed rollback")
    await steps.drain(app)
    assert not (await between.compare(app.database, app.store, old, new)).differ, "integrity validation"
    await steps.assert_oracle(app, made)
    assert_told(
        [row.why for row in await world.history(app, made)],
        "started",
        "5% from now on",
        "paused by guard",
        "the hold: guard",
        "gate errors counts as passed: the store was down at noon",
        "gate latency counts as passed: 80 ms more",
        "the shadow reads",
        "10% from now on",
        "gate variance counts as passed",
        "every required gate passed",
        "ordered a cutover, if another person approves: the window is open",
        f"approved {OWNER}'s cutover: all is quiet",
        "the window is open (ordered by owner)",
        "immediate rollback",
        "the window is open (ordered by owner)",
        "delayed rollback",
    )


async def incident(app: App, made: Collection, chroma: places.ChromaServer) -> None:
    """The new store goes down: users notice nothing, the guard holds the migration, a person goes on."""
    chroma.end()
    await asked(app, 9_000, 20)
    await world.until_told(app, made, "paused by guard")
    paused = [row for row in await world.history(app, made) if "paused by guard" in row.why]
    assert {row.evidence["alert"] for row in paused} == {events.ALERT}
    route, _ = await app.retriever.route("c")
    assert route.shadow is None, "nothing is asked of it"
    if app.traffic._flushing:
        await app.traffic._flushing  # what failed last is told too, before somebody looks
    await world.tick(app, 2)
    assert (await world.migration(app, made)).hold
    chroma.start()
    assert await app.commands.resume(made)


def assert_told(lines: list[str], *parts: str) -> None:
    """Each part in a line, in this order."""
    rest = iter(lines)
    for part in parts:
        assert any(part in line for line in rest), f"{part!r} is not told, or too early:\n" + "\n".join(lines)
