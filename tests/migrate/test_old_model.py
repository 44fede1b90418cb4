"""A rollback needs the old model: when it is gone, `status` says so at once, and `--now` still works."""

from __future__ import annotations

import pytest

from revec import seams
from revec.migrate.sentinels import SENTINELS
from revec.model.errors import GateNotMet, Refused
from revec.model.migration import State
from revec.providers.base import Options
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world

SENTINEL = SENTINELS[0]  # in a live migration only the old model is asked for it


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("401", "openai:fake-64"),
        ("403", "openai:fake-64"),
        ("404", "openai:fake-64"),
        ("503", "openai:fake-64"),
        ("drift", "is no longer the model that made this index"),
    ],
)
async def test_an_old_model_that_is_gone_is_said_at_once(
    live: world.At, loopback: Loopback, fault: str, said: str
) -> None:
    """Switched off, locked, broken or replaced: `status` and `rollback` say so; `--now` asks nobody."""
    app, made = live
    assert "`revec rollback c`" in (await world.look(app, made)).rollback
    loopback.fault(fault, times=None, match=SENTINEL)
    await steps.drain(app)  # the conductor asks, without being asked
    seen = await world.look(app, made)
    assert seen.rollback.startswith("rollback lost: ")
    assert said in seen.rollback
    with pytest.raises(Refused, match=r"rollback lost: .*`--now` rolls back all the same"):
        await app.commands.switch.rollback(made, why="test")
    assert await world.state(app, made) is State.LIVE

    await app.commands.switch.rollback(made, why="an emergency", now=True)
    assert await world.state(app, made) is State.READY
    assert (await app.serving("c")).id == 1


async def test_rollback_asks_the_old_model_itself(live: world.At, loopback: Loopback) -> None:
    """The hourly look was fine, the model went since: the rollback finds out before it flips."""
    app, made = live
    await steps.drain(app)
    assert "`revec rollback c`" in (await world.look(app, made)).rollback
    loopback.fault("503", times=None, match=SENTINEL)
    with pytest.raises(Refused, match="rollback lost"):
        await app.commands.switch.rollback(made, why="test")
    assert (await world.look(app, made)).rollback.startswith("rollback lost")


async def test_an_old_model_that_came_back_can_be_rolled_back_to(live: world.At, loopback: Loopback) -> None:
    """Lost is what it is now, not for ever."""
    app, made = live
    loopback.fault("503", times=None, match=SENTINEL)
    await steps.drain(app)
    assert (await world.look(app, made)).rollback.startswith("rollback lost")
    loopback.clear()
    await app.commands.switch.rollback(made, why="test")
    assert (await app.serving("c")).id == 1


async def test_one_hiccup_is_not_an_hour_of_loss(live: world.At, loopback: Loopback) -> None:
    """A model that failed once is asked again soon, not after the hour that a healthy one is given."""
    app, made = live
    loopback.fault("503", times=1, match=SENTINEL)
    await world.tick(app)
    assert (await world.look(app, made)).rollback.startswith("rollback lost")
    await steps.rows(
        app, "UPDATE revec.migration SET old_model_seen = now() - interval '2 minutes' RETURNING id"
    )
    await world.tick(app)
    assert "`revec rollback c`" in (await world.look(app, made)).rollback


async def test_the_old_model_is_asked_once_an_hour(live: world.At, loopback: Loopback) -> None:
    """Sentinels cost: a healthy model is not asked with every tick."""
    app, made = live
    await world.tick(app, 3)
    asked = loopback.requests()["requests"]
    await world.tick(app, 5)
    assert loopback.requests()["requests"] == asked
    await steps.rows(
        app, "UPDATE revec.migration SET old_model_seen = now() - interval '61 minutes' RETURNING id"
    )
    await world.tick(app, 5)
    assert loopback.requests()["requests"] == asked + 1
    assert await world.state(app, made) is State.LIVE


async def test_an_old_provider_whose_server_is_gone(live: world.At, loopback: Loopback) -> None:
    """Nothing listens any more where the old model was; the new one, elsewhere, serves on."""
    app, made = live
    with Loopback() as dying:
        elsewhere = seams.provider(steps.OLD, Options(dims=64, base_url=dying.url, api_key="k"))
        app._providers[steps.OLD, 64] = elsewhere
        await steps.drain(app)
        assert "`revec rollback c`" in (await world.look(app, made)).rollback
    with pytest.raises(Refused, match=r"rollback lost: openai:fake-64 at .* cannot be reached"):
        await app.commands.switch.rollback(made, why="test")
    assert (await world.look(app, made)).rollback.startswith("rollback lost: openai:fake-64")
    assert (await app.retriever.search("c", "x", tenant="default")).index_id == 2


async def test_a_model_that_is_gone_is_left_by_who_gives_up_the_way_back(
    ready: world.At, loopback: Loopback
) -> None:
    """The cutover refuses, since the way back cannot be rehearsed; a person says so, and it is in the history."""
    app, made = ready
    loopback.fault("404", times=None, model="fake-64")
    with pytest.raises(GateNotMet, match="rehearsal failed, nothing was flipped: openai:fake-64"):
        await app.commands.switch.cutover(made, why="test")
    await app.commands.override(made, ["rehearsal"], "it was switched off")
    await app.commands.switch.cutover(made, why="test")
    assert (await app.serving("c")).id == 2
    assert (await world.history(app, made))[-1].evidence["overridden"] == {"rehearsal": "it was switched off"}


async def test_nobody_gives_up_the_way_there(ready: world.At, loopback: Loopback) -> None:
    """The complement: a new model that does not answer is not cut over to, whatever was overridden."""
    app, made = ready
    await app.commands.override(made, ["rehearsal"], "no way back is wanted")
    loopback.fault("404", times=None, model="fake-b-96")
    with pytest.raises(GateNotMet, match="rehearsal failed, nothing was flipped: openai:fake-b-96"):
        await app.commands.switch.cutover(made, why="test")
    assert (await app.serving("c")).id == 1
