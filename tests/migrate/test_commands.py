"""What a person may do, and when: a table of verbs and states, and for the rest a way on."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from revec.app import App
from revec.migrate.canary import Wanted
from revec.model.errors import GateNotMet, Refused, RevecError
from revec.model.index import Collection
from revec.model.migration import FINAL, State
from revec.model.verdict import Outcome, Verdict
from revec.postgres import migrations
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world

UNTIL_READY = {state for state in State if state.can_abort}
OVER = set(FINAL)
# The verbs, and the states in which each is allowed. Everything else is refused.
VERBS: dict[str, set[State]] = {
    "plan": OVER,
    "start": OVER,
    "pause": UNTIL_READY,
    "resume": set(State),
    "abort": UNTIL_READY,
    "cutover": {State.READY, State.CANARY},
    "canary": {State.READY, State.CANARY},
    "rollback": {State.CANARY, State.LIVE},
    "finish": {State.LIVE},
    "finish --cancel": {State.FINISHING},
    "verify": set(State),
    # These look; they are named in sentences and are always allowed.
    "status": set(State),
    "worker": set(State),
}


def call(app: App, made: Collection) -> dict[str, Callable[[], Awaitable[Any]]]:
    to, commands = "openai:fake-c-32", app.commands
    return {
        "plan": lambda: app.plan(made, to),
        "start": lambda: app.start(made, to),
        "pause": lambda: commands.pause(made, "lunch"),
        "resume": lambda: commands.resume(made),
        "abort": lambda: commands.abort(made, "test"),
        "cutover": lambda: commands.switch.cutover(made, why="test"),
        "canary": lambda: commands.canary.show(made, Wanted(share=0.5), why="test"),
        "rollback": lambda: commands.switch.rollback(made, why="test"),
        "finish": lambda: commands.switch.finish(made, wait=timedelta(days=7), why="test"),
        "finish --cancel": lambda: commands.switch.cancel_finish(made, why="test"),
        "verify": lambda: commands.verify(made),
        "status": lambda: world.look(app, made),
    }


def named(sentence: str) -> list[str]:
    """The verbs that a sentence tells a person to use."""
    found = re.findall(r"`revec (\w+)([^`]*)`", sentence)
    return ["finish --cancel" if "--cancel" in rest else verb for verb, rest in found]


async def test_every_verb_in_every_state(ready: world.At, loopback: Loopback) -> None:
    """All pairs: allowed as the table says, or refused in a sentence whose commands are allowed there."""
    app, made = ready
    wrong = []
    for state in State:
        for verb, run in call(app, made).items():
            await world.force(app, state)
            try:
                await run()
                said = None
            except Refused as error:
                said = str(error)
            if (said is None) != (state in VERBS[verb]):
                wrong.append(f"{verb} in {state}: {said or 'was allowed'}")
            if said is not None:
                advice = named(said)
                misled = [other for other in advice if state not in VERBS[other]]
                if not advice or misled:
                    wrong.append(f"{verb} in {state} leads to {misled or 'nowhere'}: {said}")
                if "c" not in said.split("`")[0]:
                    wrong.append(f"{verb} in {state} does not name its collection: {said}")
    assert wrong == []


async def test_verbs_without_any_migration(app: App, loopback: Loopback) -> None:
    """A collection that nobody started: what needs a migration points to `revec start`."""
    made = await steps.collection(app, model=None)
    for verb, run in call(app, made).items():
        if verb in {"plan", "start", "resume", "status"}:
            continue
        with pytest.raises(Refused) as refused:
            await run()
        assert set(named(str(refused.value))) & {"start", "worker"}, verb
    assert await app.commands.resume(made) == []
    assert "revec start c" in (await world.look(app, made)).next


async def test_a_first_fill_cannot_be_rolled_back(app: App, loopback: Loopback) -> None:
    """Live for a moment, nothing before it: refused, also with `--now`, and what serves goes on serving."""
    made = await steps.collection(app)
    await steps.put(app, made, steps.drafts(3))
    await steps.drain(app)
    await steps.rows(app, "UPDATE revec.migration SET state = 'live' RETURNING id")
    for now in (False, True):
        with pytest.raises(Refused, match="first index"):
            await app.commands.switch.rollback(made, why="test", now=now)
    assert (await app.retriever.search("c", "document 1", k=1, tenant="default")).hits


async def test_eight_movers_at_once_move_it_once(ready: world.At, loopback: Loopback) -> None:
    """`move` is a compare-and-set: one wins, seven hear that somebody else did; one line of history."""
    app, made = ready
    seen = await world.migration(app, made)
    together = asyncio.Barrier(8)

    async def move(number: int) -> None:
        async with app.database.transaction() as conn:
            await together.wait()
            await migrations.move(conn, seen, State.LIVE, who=f"mover {number}", why="race")

    results = await asyncio.gather(*map(move, range(8)), return_exceptions=True)
    lost = [result for result in results if isinstance(result, Refused)]
    assert results.count(None) == 1
    assert len(lost) == 7
    assert all("somebody else moved it" in str(error) for error in lost)
    told = [event for event in await world.history(app, made) if event.became == State.LIVE]
    assert len(told) == 1
    assert told[0].who == f"mover {results.index(None)}"


async def test_a_move_without_an_arrow_is_refused_before_the_database(
    ready: world.At, loopback: Loopback
) -> None:
    """From ready there is no way to finished."""
    app, made = ready
    seen = await world.migration(app, made)
    async with app.database.transaction() as conn:
        with pytest.raises(Refused, match="is ready and cannot become finished"):
            await migrations.move(conn, seen, State.FINISHED, who="test", why="test")
    assert await world.state(app, made) is State.READY


@pytest.mark.parametrize("verb", ["cutover", "finish", "abort"])
async def test_two_persons_at_once_do_it_once(ready: world.At, loopback: Loopback, verb: str) -> None:
    """The same command from two places: one does it, the other is refused, the history has one line."""
    app, made = ready
    if verb == "finish":
        await app.commands.switch.cutover(made, why="test")
    results = await asyncio.gather(*(call(app, made)[verb]() for _ in range(2)), return_exceptions=True)
    assert sum(isinstance(result, Refused) for result in results) == 1, results
    assert not any(isinstance(r, Exception) and not isinstance(r, RevecError) for r in results)
    moves = [event for event in await world.history(app, made) if event.became]
    assert len(moves) == len({event.became for event in moves})


async def test_two_starts_at_once(app: App, loopback: Loopback) -> None:
    """Both planned in good faith; the schema lets one of them begin."""
    made = await steps.filled(app)
    plans = [await app.plan(made, model) for model in (steps.NEW, "openai:fake-c-32")]
    results = await asyncio.gather(*(app.commands.start(plan) for plan in plans), return_exceptions=True)
    (refused,) = [result for result in results if isinstance(result, Refused)]
    assert "another migration of this collection is under way" in str(refused)
    await steps.drain(app)
    assert await world.state(app, made) is State.READY
    await steps.assert_oracle(app, made)


async def test_a_second_start_is_refused_and_names_the_first(ready: world.At, loopback: Loopback) -> None:
    """One migration at a time; nothing of the second is left behind."""
    app, made = ready
    before = await steps.rows(app, "SELECT count(*) FROM revec.migration")
    with pytest.raises(Refused, match=r"c is being migrated to openai:fake-b-96 \(ready\)"):
        await app.start(made, "openai:fake-c-32")
    assert await steps.rows(app, "SELECT count(*) FROM revec.migration") == before


async def test_abort_keeps_the_old_index_and_drops_the_new(ready: world.At, loopback: Loopback) -> None:
    """Users see nothing; no table, work or dead letter of the new index is left; another start is fine."""
    app, made = ready
    old, new = await steps.written(app, made)
    loopback.fault("400", times=None, match="poison")
    await steps.put(app, made, steps.drafts(1, start=50, word="poison"))
    loopback.clear()
    await app.commands.abort(made, "changed our mind")
    await steps.drain(app)
    assert (await app.serving("c")).id == old.id
    assert await steps.rows(app, "SELECT to_regclass('revec.vectors_' || %(n)s)", n=new.id) == [(None,)]
    for table in ("work", "dead", "excluded"):
        left = f"SELECT FROM revec.{table} WHERE index_id = %(n)s"
        assert await steps.rows(app, left, n=new.id) == []
    await steps.assert_oracle(app, made)
    await app.start(made, steps.NEW)
    await steps.drain(app)
    assert await world.state(app, made) is State.READY
    await steps.assert_oracle(app, made)


async def test_abort_after_a_rollback(ready: world.At, loopback: Loopback) -> None:
    """The route forgets the new index; its table goes; the old one serves on."""
    app, made = ready
    await app.commands.switch.cutover(made, why="test")
    await app.commands.switch.rollback(made, why="test")
    await app.commands.abort(made, "it was not better")
    await steps.drain(app)
    (route,) = await steps.rows(app, "SELECT serving, previous FROM revec.route")
    assert route.previous is None
    assert [index.id for index in await steps.written(app, made)] == [route.serving]
    await steps.assert_oracle(app, made)


async def test_abort_while_a_worker_is_at_it(app: App, loopback: Loopback) -> None:
    """Texts are at the provider when the index is given up: the worker drops them and goes on."""
    made = await steps.filled(app)
    await app.start(made, steps.NEW)
    await world.tick_to(app, made, State.BACKFILLING)
    await world.tick(app, 2)
    loopback.hold()
    async with world.working(app):
        await asyncio.to_thread(loopback.wait_held)
        await app.commands.abort(made, "test")
        # The same worker's conductor drops the table.
        await world.until(app, "SELECT to_regclass('revec.vectors_2') IS NULL")
        loopback.release()
        await steps.put(app, made, steps.drafts(3, start=90))
        await world.until(app, "SELECT count(*) = 23 FROM revec.vectors_1")
    await steps.assert_oracle(app, made)


async def test_pause_holds_the_backfill_and_lets_edits_through(app: App, loopback: Loopback) -> None:
    """No page is enqueued while paused; a live edit reaches both indexes; resume goes on to ready."""
    made = await steps.filled(app)
    await app.start(made, steps.NEW)
    await world.tick_to(app, made, State.BACKFILLING)
    await app.commands.pause(made, "lunch")
    await steps.put(app, made, steps.drafts(2, start=50))
    await steps.drain(app)
    paused = await world.migration(app, made)
    assert (paused.state, paused.seen, paused.cursor_done) == (State.BACKFILLING, 0, False)
    assert "lunch" in (await world.look(app, made)).next
    _, new = await steps.written(app, made)
    assert len(await steps.stored(app, new)) == 2

    assert await app.commands.resume(made) == ["the pause: lunch"]
    await steps.drain(app)
    assert await world.state(app, made) is State.READY
    await steps.assert_oracle(app, made)


async def test_resume_lifts_everything_that_holds(ready: world.At, loopback: Loopback) -> None:
    """A pause, a model's fault, a guard's hold and a failed gate; each is told."""
    app, made = ready
    migration = await world.migration(app, made)
    assert await app.commands.resume(made) == []
    await app.commands.pause(made, "lunch")
    await steps.rows(app, "UPDATE revec.index SET fault = 'nonsense' WHERE id = 2 RETURNING id")
    await steps.rows(app, "UPDATE revec.migration SET hold = 'p95' WHERE id = 2 RETURNING id")
    async with app.database.transaction() as conn:
        await migrations.record(conn, migration, Verdict("fidelity", Outcome.FAILED, "drifted"))
    with pytest.raises(Refused, match="p95"):
        await app.commands.switch.cutover(made, why="test")

    lifted = await app.commands.resume(made, clear="fidelity", reason="the vendor confirmed")
    assert lifted == [
        "the fault of openai:fake-b-96#2: nonsense",
        "the pause: lunch",
        "the failed verdict of fidelity: the vendor confirmed",
    ]
    told = (await world.history(app, made))[-1]
    assert "the vendor confirmed" in told.why
    assert await app.commands.resume(made) == ["the hold: p95"]
    await app.commands.verify(made)
    await app.commands.switch.cutover(made, why="test")


async def test_clearing_what_did_not_fail_is_refused(ready: world.At, loopback: Loopback) -> None:
    """A clear is about one failed verdict; a typing error changes nothing."""
    app, made = ready
    await app.commands.pause(made, "lunch")
    with pytest.raises(Refused, match=r"gate fidelty has no failed verdict.*`revec status c`"):
        await app.commands.resume(made, clear="fidelty", reason="typo")
    assert (await world.migration(app, made)).paused_why == "lunch"


# --- finish ----------------------------------------------------------------------------------------


async def test_a_cancelled_finish_is_honest(ready: world.At, loopback: Loopback) -> None:
    """What was written between finish and cancel is in the old index too, and a rollback shows it."""
    app, made = ready
    await app.commands.switch.cutover(made, why="test")
    await app.commands.switch.finish(made, wait=timedelta(days=7), why="test")
    await steps.put(app, made, steps.drafts(1, start=70, word="between"))
    await steps.delete(app, made, "3")
    await steps.drain(app)
    assert "revec finish c --cancel" in (await world.look(app, made)).rollback

    await app.commands.switch.cancel_finish(made, why="not yet")
    migration = await world.migration(app, made)
    assert (migration.state, migration.drop_after) == (State.LIVE, None)
    await app.commands.switch.rollback(made, why="test")
    found = await app.retriever.search("c", "between 70\ntext of between 70", k=20, tenant="default")
    assert found.index_id == 1
    assert found.hits[0].id == "70"
    assert "3" not in {hit.id for hit in found.hits}
    await steps.assert_oracle(app, made)


async def test_finishing_refuses_a_rollback(ready: world.At, loopback: Loopback) -> None:
    """Cancel first; with `--now` too, because the drop may be under way."""
    app, made = ready
    await app.commands.switch.cutover(made, why="test")
    await app.commands.switch.finish(made, wait=timedelta(days=7), why="test")
    for now in (False, True):
        with pytest.raises(Refused, match="`revec finish c --cancel`"):
            await app.commands.switch.rollback(made, why="test", now=now)


async def test_what_is_finished_is_gone(ready: world.At, loopback: Loopback) -> None:
    """No table, no cancel, no rollback: the sentence says what would bring the old model back."""
    app, made = ready
    await app.commands.switch.cutover(made, why="test")
    await app.commands.switch.finish(made, wait=timedelta(0), why="test")
    await steps.drain(app)
    assert await steps.rows(app, "SELECT to_regclass('revec.vectors_1')") == [(None,)]
    with pytest.raises(Refused, match=r"nothing to roll back.*`revec start c"):
        await app.commands.switch.rollback(made, why="test")
    with pytest.raises(Refused, match="`revec start c"):
        await app.commands.switch.cancel_finish(made, why="test")
    await steps.assert_oracle(app, made)


async def test_history_tells_who_what_why_and_on_what_evidence(ready: world.At, loopback: Loopback) -> None:
    """Every move in order, by the conductor and the person, with its reason; the cutover with its proof."""
    app, made = ready
    await app.commands.switch.cutover(made, why="quarterly review")
    await app.commands.switch.rollback(made, why="complaints")
    events = await world.history(app, made)
    assert events[0].why == "started"
    assert events[0].evidence["to"] == steps.NEW
    assert events[0].evidence["gates"] == ["completeness", "fidelity"]
    moves = [(event.who, event.was, event.became, event.why) for event in events if event.became]
    me = app.commands.who
    assert [move[:3] for move in moves] == [
        ("conductor", "planned", "capturing"),
        ("conductor", "capturing", "backfilling"),
        ("conductor", "backfilling", "indexing"),
        ("conductor", "indexing", "verifying"),
        ("conductor", "verifying", "ready"),
        (me, "ready", "live"),
        (me, "live", "ready"),
    ]
    assert [move[3] for move in moves[-2:]] == ["quarterly review", "complaints"]
    assert [event.at for event in events] == sorted(event.at for event in events)
    proof = events[-2].evidence
    assert proof["gates"] == {"completeness": "PASSED", "fidelity": "PASSED"}
    assert proof["rehearsal"]["probed"] == ["openai:fake-64#1", "openai:fake-b-96#2"]
    assert events[-1].evidence["epoch"] == proof["epoch"] + 1


async def test_a_first_fill_goes_live_by_itself(app: App, loopback: Loopback) -> None:
    """Nobody is asked, because nobody was served; it ends finished."""
    made = await steps.collection(app)
    await steps.put(app, made, steps.drafts(5))
    with pytest.raises(Refused, match="nothing serves c yet"):
        await app.retriever.search("c", "x", tenant="default")
    await steps.drain(app)
    assert await world.state(app, made) is State.FINISHED
    assert {event.who for event in await world.history(app, made)} == {app.commands.who, "conductor"}
    assert (await app.retriever.search("c", "x", tenant="default")).hits


async def test_a_first_fill_that_failed_its_gate_serves_nobody(app: App, loopback: Loopback) -> None:
    """Ready, and then a verdict fails: it is not cut over, because nothing advances over a failure."""
    made = await steps.collection(app)
    await steps.put(app, made, steps.drafts(5))
    await steps.drain(app)
    await steps.rows(app, "UPDATE revec.migration SET state = 'ready' RETURNING id")
    await steps.rows(app, "UPDATE revec.route SET serving = NULL RETURNING 1")
    async with app.database.transaction() as conn:
        failed = Verdict("fidelity", Outcome.FAILED, "planted")
        await migrations.record(conn, await migrations.by_id(conn, 1), failed)
    await steps.drain(app)
    assert await world.state(app, made) is State.READY
    assert "--clear fidelity" in (await world.look(app, made)).next
    with pytest.raises(GateNotMet, match="fidelity"):
        await app.commands.switch.cutover(made, why="test")
