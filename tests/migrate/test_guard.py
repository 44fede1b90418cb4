"""Guards: each fault is seen while users may be affected, acted on once, and held until a person has looked."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import timedelta
from uuid import uuid4

import pytest

from revec.app import App
from revec.migrate import guard, rates
from revec.migrate.canary import Wanted
from revec.migrate.conductor import Conductor
from revec.migrate.deadman import DeadMan
from revec.migrate.guarding import Guarding
from revec.model.errors import (
    AnswerInvalid,
    BadInput,
    InputRefused,
    ProviderUnavailable,
    Refused,
    StoreUnavailable,
    Trouble,
    Unavailable,
)
from revec.model.index import Collection
from revec.model.migration import State
from revec.model.reading import How
from revec.observe import events
from revec.postgres import guards
from revec.postgres.traffic import Second
from revec.search.traffic import of_error
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world

SENTENCE = {
    "errors": r"of openai:fake-b-96#2 failed",
    "timeouts": "were given up",
    "empties": "found nothing",
    "latency": r"were slow \(above 40 ms\)",
    "backlog": "a document waits for openai:fake-b-96#2",
    "model": "drifted",
}


async def traffic(app: App, index: int, requests: int = 200, **more: object) -> None:
    """A second in which an index answered so: as the serving processes tell it."""
    row = {"requests": requests, "errors": 0, "timeouts": 0, "empties": 0, "ms": [20.0] * 100} | more
    await steps.rows(
        app,
        "INSERT INTO revec.traffic (index_id, epoch, requests, errors, timeouts, empties, ms)"
        " SELECT %(index)s, epoch, %(requests)s, %(errors)s, %(timeouts)s, %(empties)s, %(ms)s"
        " FROM revec.route RETURNING 1",
        index=index,
        **row,
    )


async def tick(app: App, made: Collection, times: int = 1) -> None:
    for _ in range(times):
        await guard.Guard(app.tools).tick(await world.migration(app, made))


async def fault(app: App, what: str) -> None:
    """Something is wrong with the new index."""
    match what:
        case "backlog":
            await steps.put(app, await made(app), steps.drafts(1, start=60))
            await steps.rows(
                app, "UPDATE revec.work SET since = since - interval '10 min' WHERE index_id = 2 RETURNING 1"
            )
        case "model":
            await steps.rows(app, "UPDATE revec.index SET fault = 'it drifted' WHERE id = 2 RETURNING 1")
        case "latency":
            await traffic(app, 2, ms=[90.0] * 100)
        case _:
            await traffic(app, 2, **{what: 120})


async def made(app: App) -> Collection:
    ((number, name),) = await steps.rows(app, "SELECT id, name FROM revec.collection")
    return Collection(number, name)


async def reach(app: App, made: Collection, state: State) -> None:
    """Through the verbs, with the old index's usual traffic behind it."""
    await traffic(app, 1)
    await traffic(app, 1)
    if state is State.CANARY:
        await app.commands.canary.show(made, Wanted(share=0.5), why="test")
    elif state is State.LIVE:
        await app.commands.switch.cutover(made, why="test")


@pytest.fixture
def alarms(monkeypatch: pytest.MonkeyPatch) -> list[events.Alarmed]:
    heard: list[events.Event] = []
    monkeypatch.setattr(events, "_listeners", [heard.append])

    class Alarms(list):
        def __iter__(self):
            return (event for event in heard if isinstance(event, events.Alarmed))

    return Alarms()


@pytest.mark.parametrize("state", [State.READY, State.CANARY, State.LIVE])
@pytest.mark.parametrize("what", SENTENCE)
async def test_each_fault_is_acted_on(
    ready: world.At, loopback: Loopback, what: str, state: State, alarms: list[events.Alarmed]
) -> None:
    """Before users see the new index it pauses, when they do it rolls back, within one tick; and it holds."""
    app, made = ready
    await reach(app, made, state)
    await tick(app, made)
    await fault(app, what)
    began = time.perf_counter()
    await tick(app, made)
    print(f"{what} in {state}: acted on in {1000 * (time.perf_counter() - began):.0f} ms")
    found = await world.migration(app, made)
    assert found.state is State.READY
    assert found.hold is not None
    assert (found.paused_why is not None) == (state is State.READY)
    assert (found.guarded_back_at is not None) == (state is not State.READY)
    assert (await app.serving("c")).id == 1
    with pytest.raises(Refused, match=SENTENCE[what]):
        await app.commands.switch.cutover(made, why="test")
    (told,) = [row for row in await world.history(app, made) if row.who == "guard"]
    assert told.evidence["alert"] == "RETR_DUAL_VARIANCE_HIGH"
    assert [(each.guard, each.alert) for each in alarms] == [(what, "RETR_DUAL_VARIANCE_HIGH")]
    assert await steps.rows(app, "SELECT fault FROM revec.index WHERE id = 1") == [(None,)]


@pytest.mark.parametrize("state", [State.READY, State.CANARY, State.LIVE])
async def test_quiet_traffic_moves_nothing(ready: world.At, loopback: Loopback, state: State) -> None:
    """The complement: as many errors and empty answers as the old index has, and its times, for long."""
    app, made = ready
    await traffic(app, 1, 2_000, errors=6, empties=200)
    await reach(app, made, state)
    for _ in range(30):
        await traffic(app, 2, 200, errors=1, empties=18, ms=[20.0] * 96 + [60.0] * 4)
        await tick(app, made)
    found = await world.migration(app, made)
    assert (found.state, found.hold) == (state, None)
    assert not [row for row in await world.history(app, made) if row.who == "guard"]
    assert any(line.startswith("errors: quiet") for line in (await world.look(app, made)).guard)


async def test_a_flapping_metric_rolls_back_once(ready: world.At, loopback: Loopback) -> None:
    """It stays rolled back while the metric comes and goes; after a person's second try there is an alarm,
    and no second rollback by itself.
    """
    app, made = ready
    await reach(app, made, State.LIVE)
    await fault(app, "errors")
    await tick(app, made)
    for errors in (0, 120, 0, 120):
        await traffic(app, 2, errors=errors)
        await tick(app, made, 2)
    assert await world.state(app, made) is State.READY
    assert [row.became for row in await world.history(app, made)].count("ready") == 2  # proven, rolled back
    assert "the hold: guard errors" in "; ".join(await app.commands.resume(made))
    await app.commands.switch.cutover(made, why="test")
    await tick(app, made)
    await traffic(app, 2, errors=150)
    await tick(app, made, 3)
    assert await world.state(app, made) is State.LIVE
    assert [row.why for row in await world.history(app, made)][-1].startswith("alarm: ")
    assert [row.who for row in await world.history(app, made)].count("guard") == 2


async def test_a_dead_old_model_is_an_alarm(
    live: world.At, loopback: Loopback, alarms: list[events.Alarmed]
) -> None:
    """Nothing to roll back to: said at once, once, by `status` too; nobody is moved, and it mends."""
    app, made = live
    loopback.fault("401", times=None)
    await steps.rows(app, "UPDATE revec.migration SET old_model_seen = NULL RETURNING 1")
    await world.until_told(app, made, "rollback lost")
    assert await world.state(app, made) is State.LIVE
    assert (await world.look(app, made)).rollback.startswith("rollback lost: ")
    assert [each.guard for each in alarms] == ["standby model"]
    await traffic(app, 2, errors=150)
    await tick(app, made, 2)
    assert await world.state(app, made) is State.LIVE
    loopback.clear()
    await steps.rows(
        app, "UPDATE revec.migration SET old_model_gone = NULL, old_model_seen = now() RETURNING 1"
    )
    await tick(app, made, 2)
    assert "standby model" not in await known(app, made)


async def test_an_alarm_rolls_back_once_it_can(live: world.At, loopback: Loopback) -> None:
    """Told once while the old model was gone, and nobody moved; rolled back when it is there again."""
    app, made = live
    await steps.rows(app, "UPDATE revec.migration SET old_model_gone = 'no answer' RETURNING 1")
    await fault(app, "errors")
    await tick(app, made, 3)
    assert await world.state(app, made) is State.LIVE
    said = [row.evidence["guard"] for row in await world.history(app, made) if row.who == "guard"]
    assert sorted(said) == ["errors", "standby model"]
    await steps.rows(app, "UPDATE revec.migration SET old_model_gone = NULL RETURNING 1")
    await tick(app, made, 2)
    assert await world.state(app, made) is State.READY
    last = [row for row in await world.history(app, made) if row.who == "guard"][2:]
    assert [(row.evidence["guard"], row.became) for row in last] == [("errors", "ready")]


async def test_no_step_after_an_alarm_that_took_nobody_back(ready: world.At, loopback: Loopback) -> None:
    """Quiet answers or not: a canary waits until a person has looked, and then goes on."""
    app, made = ready
    await reach(app, made, State.CANARY)
    await app.commands.canary.show(made, Wanted(share=0.5, steps=[1.0], quiet=1), why="test")
    await steps.rows(app, "UPDATE revec.migration SET guarded_back_at = now() RETURNING 1")
    await fault(app, "errors")
    await tick(app, made)
    await world.tick(app, 3)
    assert await steps.rows(app, "SELECT share FROM revec.route") == [(0.5,)]
    assert "guard errors has fired" in (await world.look(app, made)).next
    assert "the alarm of guard errors" in "; ".join(await app.commands.resume(made))
    await world.tick(app, 3)
    assert await steps.rows(app, "SELECT share FROM revec.route") == [(1.0,)]


async def known(app: App, made: Collection) -> dict[str, guards.Kept]:
    async with app.database.transaction() as conn:
        return await guards.of(conn, await world.migration(app, made))


async def test_a_lag_of_the_old_index_is_an_alarm(live: world.At, loopback: Loopback) -> None:
    """It is what a rollback would show: said, and nobody is moved to it."""
    app, made = live
    await steps.put(app, made, steps.drafts(1, start=60))
    await steps.rows(
        app, "UPDATE revec.work SET since = since - interval '10 min' WHERE index_id = 1 RETURNING 1"
    )
    assert "would miss 1 documents for now" in (await world.look(app, made)).rollback
    await tick(app, made, 3)
    assert await world.state(app, made) is State.LIVE
    assert [row.why for row in await world.history(app, made) if row.who == "guard"] == [
        f"alarm: {(await known(app, made))['standby backlog'].why}"
    ]
    await steps.drain(app)
    await tick(app, made)  # the worker's last look may have been before its last write
    assert "standby backlog" not in await known(app, made)


async def test_when_both_lag_nobody_is_moved(live: world.At, loopback: Loopback) -> None:
    """No worker, or one model down for both: a rollback mends nothing."""
    app, made = live
    await steps.put(app, made, steps.drafts(1, start=60))
    await steps.rows(app, "UPDATE revec.work SET since = since - interval '10 min' RETURNING 1")
    await tick(app, made, 2)
    assert await world.state(app, made) is State.LIVE
    assert (await world.migration(app, made)).hold is None


async def test_paused_tenants_are_no_backlog(live: world.At, loopback: Loopback) -> None:
    """They wait for a person, however long."""
    app, made = live
    await steps.put(app, made, steps.drafts(1, start=60, tenant="acme"))
    await app.commands.pause_tenants(made, ["acme"], "test")
    await steps.rows(
        app, "UPDATE revec.work SET since = since - interval '10 min' WHERE index_id = 2 RETURNING 1"
    )
    await tick(app, made, 2)
    assert await world.state(app, made) is State.LIVE


async def test_the_breaker_is_dumb(
    live: world.At, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of all fail for seconds: whatever the counting says."""
    app, made = live
    monkeypatch.setattr(rates, "RATES", ())
    await traffic(app, 2, 40, errors=30)
    await tick(app, made)
    assert await world.state(app, made) is State.LIVE  # one moment is none
    await traffic(app, 2, 40, errors=15, timeouts=15)
    await steps.rows(
        app,
        "UPDATE revec.traffic SET at = at - interval '4 s' WHERE id = (SELECT min(id) FROM revec.traffic WHERE index_id = 2) RETURNING 1",
    )
    await tick(app, made)
    assert await world.state(app, made) is State.READY
    assert "60 of 80 requests" in (await world.migration(app, made)).hold


async def test_it_guards_while_the_conductor_is_busy(
    ready: world.At, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verification of minutes, or a store that does not answer: users are taken back all the same."""
    app, made = ready
    await reach(app, made, State.LIVE)
    busy = asyncio.Event()

    async def endless(_: Conductor) -> None:
        busy.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Conductor, "_sweep", endless)
    conductor = asyncio.create_task(Conductor(app.tools, uuid4()).tick())
    await busy.wait()
    await fault(app, "errors")
    guarding = Guarding(app.tools, uuid4())
    await guarding.tick()
    conductor.cancel()
    await asyncio.wait([conductor])
    await guarding.leave()
    assert await world.state(app, made) is State.READY
    assert Guarding.tick in [getattr(duty, "__func__", None) for duty in app.worker()._duties]


async def test_no_step_comes_before_a_rollback(ready: world.At, loopback: Loopback) -> None:
    """Who counts quiet answers has looked at them: a canary is not widened on what fires a guard."""
    app, made = ready
    await reach(app, made, State.CANARY)
    await app.commands.canary.show(made, Wanted(share=0.5, steps=[1.0], quiet=1), why="test")
    await fault(app, "errors")
    await world.tick_to(app, made, State.READY)
    assert [row.evidence["share"] for row in await world.history(app, made) if "share" in row.evidence] == []
    assert await steps.rows(app, "SELECT canary, share FROM revec.route") == [(None, 0.0)]


async def test_a_killed_guard_goes_on(
    ready: world.At, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it counted is gone from the traffic and kept with it: the next one acts."""
    app, made = ready
    await reach(app, made, State.LIVE)

    async def killed(*_: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(guard.Guard, "_act", killed)
        await fault(app, "errors")
        with pytest.raises(asyncio.CancelledError):
            await tick(app, made)
    assert await world.state(app, made) is State.LIVE
    await tick(app, made)
    assert await world.state(app, made) is State.READY


@pytest.mark.parametrize("policy", ["alarm", "rollback"])
async def test_a_dead_guard(
    live: world.At, loopback: Loopback, policy: str, alarms: list[events.Alarmed]
) -> None:
    """Nobody watches while users see the new index: an alarm, once; or the rollback that was wished for."""
    app, made = live
    await steps.rows(app, "UPDATE revec.migration SET guard_dead = %(p)s RETURNING 1", p=policy)
    await tick(app, made)
    man = DeadMan(app.tools, silence=30)
    assert await man.look() == []
    await steps.rows(app, "UPDATE revec.guard_beat SET at = at - interval '31 s' RETURNING 1")
    told = "; ".join((await world.look(app, made)).guard)
    assert re.search(r"nobody has watched for 3\d s: run `revec worker`", told)
    assert len(await man.look()) == 1
    assert await man.look() == []
    assert [(each.guard, each.action) for each in alarms] == [
        ("dead", "rolled back" if policy == "rollback" else "alarm")
    ]
    assert await world.state(app, made) is (State.READY if policy == "rollback" else State.LIVE)
    await steps.rows(app, "UPDATE revec.migration SET hold = NULL RETURNING 1")
    await tick(app, made)
    assert "dead" not in await known(app, made)


async def test_a_dead_guard_leads_nobody_to_a_dead_model(
    live: world.At, loopback: Loopback, alarms: list[events.Alarmed]
) -> None:
    """Whatever was wished for: the old index could embed no query."""
    app, made = live
    await tick(app, made)
    await steps.rows(
        app,
        "UPDATE revec.migration SET guard_dead = 'rollback', old_model_gone = 'switched off' RETURNING 1",
    )
    await steps.rows(app, "UPDATE revec.guard_beat SET at = at - interval '31 s' RETURNING 1")
    await DeadMan(app.tools, silence=30).look()
    assert ("dead", "alarm") in [(each.guard, each.action) for each in alarms]
    assert await world.state(app, made) is State.LIVE


async def test_through_a_pooler_and_as_a_plain_owner(
    any_app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A canary, its traffic, a guard that counts it and rolls back: no session state, no right that an owner
    has not.
    """
    from revec.search import traffic as told

    monkeypatch.setattr(told, "FLUSH_EVERY", 0.01)
    app, made = any_app, await steps.ready(any_app)
    await app.commands.canary.show(made, Wanted(share=1.0, steps=[1.0], quiet=1), why="test")
    assert (await app.retriever.search("c", "document", tenant="default")).index_id == 2
    await world.until(app, "SELECT sum(requests) = 1 FROM revec.traffic")
    await tick(app, made)
    assert await steps.rows(app, "SELECT answered FROM revec.canary") == [(1,)]
    await fault(app, "errors")
    await tick(app, made)
    assert await world.state(app, made) is State.READY
    assert (await app.retriever.search("c", "document", tenant="default")).index_id == 1
    await steps.assert_oracle(app, made)


async def test_a_first_fill_is_not_guarded(app: App, loopback: Loopback) -> None:
    """There is nothing to go back to."""
    made = await steps.filled(app)
    await traffic(app, 1, errors=200)
    await tick(app, made, 2)
    assert await world.state(app, made) is State.FINISHED


async def test_what_is_served_is_counted(
    live: world.At, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer by its index and epoch; a model that fails is a failure though the words answer."""
    from revec.search import traffic as flushing

    app, _ = live
    monkeypatch.setattr(flushing, "FLUSH_EVERY", 0.01)
    (at,) = await steps.rows(app, "SELECT epoch FROM revec.route")
    said: list[events.Event] = []
    with events.heard(said.append):
        for n in range(3):
            await app.retriever.search("c", f"document {n}", tenant="default")
        await app.retriever.search("c", "document", tenant="nobody")
        loopback.fault("503", times=None)
        with pytest.raises(ProviderUnavailable):
            await app.retriever.search("c", "another", tenant="default", deadline=0.5)
    await world.until(app, "SELECT sum(requests) = 5 FROM revec.traffic")
    assert await steps.rows(
        app,
        "SELECT index_id, epoch, sum(requests) AS requests, sum(errors + timeouts) AS failed, sum(empties) AS empties FROM revec.traffic GROUP BY 1, 2",
    ) == [(2, at.epoch, 5, 1, 1)]
    told = [each for each in said if isinstance(each, events.Searched)]
    assert {(each.index, each.epoch) for each in told} == {("openai:fake-b-96#2", at.epoch)}
    assert [each.how for each in told] == ["answered"] * 3 + ["empty", "failed"]
    assert told[-1].embed_seconds is None


@pytest.mark.parametrize(
    ("error", "late", "how"),
    [
        (asyncio.CancelledError(), True, How.LATE),
        (asyncio.CancelledError(), False, None),
        (TimeoutError(), False, How.LATE),
        (ProviderUnavailable("x", trouble=Trouble.TIMEOUT), False, How.LATE),
        (ProviderUnavailable("x"), False, How.FAILED),
        (AnswerInvalid("x"), False, How.FAILED),
        (BadInput("x"), False, None),
        (InputRefused("x"), False, None),
        (StoreUnavailable("x"), False, How.FAILED),
        (Unavailable("x"), False, None),
        (KeyError("x"), False, How.FAILED),
    ],
)
def test_an_error_is_the_index_s_or_it_is_not(error: BaseException, late: bool, how: How | None) -> None:
    """What a caller did wrong, and a client that went away, is held against nobody."""
    assert of_error(error, late=late) is how


def test_a_second_s_sample_has_a_bound() -> None:
    """However many ask."""
    second = Second(1, 1)
    for n in range(1_000):
        second.add(How.ANSWERED, float(n))
    assert (second.requests, len(second.ms)) == (1_000, 100)


async def test_finish_is_not_guarded_away(live: world.At, loopback: Loopback) -> None:
    """Once a person said that the old index may go, nothing rolls back by itself."""
    app, made = live
    await app.commands.switch.finish(made, wait=timedelta(days=1), why="test")
    await traffic(app, 2, errors=200)
    await tick(app, made, 2)
    assert await world.state(app, made) is State.FINISHING
