"""Cutovers that wait: for their hour, for a second person; asked for their proofs at that moment."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from revec.app import App
from revec.migrate.commands import Commands
from revec.model.errors import BadInput, GateNotMet, Refused
from revec.model.index import Collection
from revec.model.migration import State
from revec.model.verdict import Outcome, Verdict
from revec.postgres import migrations
from revec.postgres.orders import Order
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world


def later() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


def by(app: App, who: str) -> Commands:
    return replace(app.commands, who=who)


async def due(app: App, *, ago: str = "1 s") -> None:
    await steps.rows(
        app, "UPDATE revec.cutover_order SET due_at = now() - %(ago)s::interval RETURNING 1", ago=ago
    )


async def two(app: App) -> None:
    await steps.rows(app, "UPDATE revec.migration SET approvals = 2 RETURNING 1")


async def test_a_cutover_at_its_hour(ready: world.At, loopback: Loopback) -> None:
    """Written down, told by `status`, done by a worker when its hour comes, in the name of who ordered it."""
    app, made = ready
    order = await by(app, "ada@here").orders.cutover(made, why="at night", at=later())
    assert isinstance(order, Order)
    await world.tick(app, 2)
    assert await world.state(app, made) is State.READY
    assert "ada@here ordered the cutover at" in (await world.look(app, made)).next
    await due(app)
    await world.tick_to(app, made, State.LIVE)
    assert await steps.rows(app, "SELECT count(*) FROM revec.cutover_order") == [(0,)]
    assert (await world.history(app, made))[-1].why == "at night (ordered by ada@here)"
    await steps.assert_oracle(app, made)


async def test_a_cancelled_order_is_not_kept(ready: world.At, loopback: Loopback) -> None:
    """Nor can it be cancelled twice."""
    app, made = ready
    await app.commands.orders.cutover(made, why="test", at=later())
    await app.commands.orders.cancel(made, why="test")
    await world.tick(app, 2)
    assert await world.state(app, made) is State.READY
    with pytest.raises(Refused, match="no cutover of c is ordered: `revec cutover c` orders one"):
        await app.commands.orders.cancel(made, why="test")


@pytest.mark.parametrize("trouble", ["gate", "lag", "missed"])
async def test_gates_are_asked_at_that_moment(ready: world.At, loopback: Loopback, trouble: str) -> None:
    """What is not proven then is not done, and not tried again: the history says why."""
    app, made = ready
    await app.commands.orders.cutover(made, why="test", at=later())
    if trouble == "lag":
        await steps.put(app, made, steps.drafts(1, start=60))
        await steps.rows(app, "UPDATE revec.work SET since = since - interval '40 s' RETURNING 1")
    await due(app, ago="11 minutes" if trouble == "missed" else "1 s")
    if trouble == "gate":  # between the look and the act
        async with app.database.transaction() as conn:
            found = await world.migration(app, made)
            await migrations.record(conn, found, Verdict("fidelity", Outcome.FAILED, "planted"))
        await app.commands.orders.keep(made, found)
    else:
        await world.until_told(app, made, "was not done")
    assert await world.state(app, made) is State.READY
    assert await steps.rows(app, "SELECT count(*) FROM revec.cutover_order") == [(0,)]
    said = (await world.history(app, made))[-1].why
    assert {"gate": "planted", "lag": "documents wait", "missed": "missed by 11 minutes"}[trouble] in said


async def test_an_hour_that_is_over(ready: world.At, loopback: Loopback) -> None:
    """Is a slip of the pen."""
    app, made = ready
    with pytest.raises(BadInput, match="is over: leave --at out"):
        await app.commands.orders.cutover(made, why="test", at=datetime.now(UTC))


async def test_an_unproven_cutover_is_not_even_ordered(ready: world.At, loopback: Loopback) -> None:
    """Better heard now than at that hour."""
    app, made = ready
    await world.age_verdicts(app, 25)
    with pytest.raises(GateNotMet):
        await app.commands.orders.cutover(made, why="test", at=later())


async def test_it_takes_two_people(ready: world.At, loopback: Loopback) -> None:
    """One orders, another approves; the same person on another host is the same person."""
    app, made = ready
    await two(app)
    assert isinstance(await by(app, "ada@here").orders.cutover(made, why="it is good"), Order)
    await world.tick(app, 2)
    assert await world.state(app, made) is State.READY
    assert "once another person says `revec approve c`" in (await world.look(app, made)).next
    with pytest.raises(Refused, match="it takes another person's approval"):
        await by(app, "ada@there").orders.approve(made, why="so it is")
    await by(app, "bob@here").orders.approve(made, why="so it is")
    assert await world.state(app, made) is State.LIVE
    moved = (await world.history(app, made))[-1]
    assert (moved.who, moved.why) == ("bob@here", "it is good (ordered by ada@here)")


async def test_no_way_around_the_second_person(ready: world.At, loopback: Loopback) -> None:
    """Not by the switch itself, nor by an approval that was of another order, nor by one of the day before."""
    app, made = ready
    await two(app)
    with pytest.raises(Refused, match="takes two people"):
        await app.commands.switch.cutover(made, why="test")
    await by(app, "ada@here").orders.cutover(made, why="test", at=later())
    await by(app, "bob@here").orders.approve(made, why="test")
    await by(app, "cyd@here").orders.cutover(made, why="test", at=later())
    await due(app)
    await world.tick(app, 2)
    assert await world.state(app, made) is State.READY
    await due(app, ago="25 hours")
    with pytest.raises(Refused):
        await by(app, "bob@here").orders.approve(made, why="test")
    with pytest.raises(Refused, match="takes two people"):
        await app.commands.switch.cutover(made, why="test")
    assert (await app.serving("c")).id == 1


async def test_an_order_ends_with_a_rollback(ready: world.At, loopback: Loopback) -> None:
    """Whoever took users back did not wish them to come again at night."""
    app, made = ready
    await show_half(app, made)
    await app.commands.orders.cutover(made, why="test", at=later())
    await app.commands.switch.rollback(made, why="test")
    assert await steps.rows(app, "SELECT count(*) FROM revec.cutover_order") == [(0,)]


async def show_half(app: App, made: Collection) -> None:
    from revec.migrate.canary import Wanted

    await app.commands.canary.show(made, Wanted(share=0.5), why="test")
