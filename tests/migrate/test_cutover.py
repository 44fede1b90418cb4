"""Cutover and rollback: one row, only on fresh proof, and no reader ever notices more than the change."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from revec.app import App
from revec.migrate import outlook
from revec.migrate.decide import Do, For, decide
from revec.model.errors import GateNotMet, NotFound, Refused
from revec.model.index import Collection, Index
from revec.model.migration import State
from revec.model.reading import Reading
from revec.model.verdict import Outcome, Verdict
from revec.postgres import migrations
from tests import loopback as fake
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world

FLIPS = 200
QUERY = "what nobody wrote"


async def oracle(app: App, made: Collection, query: str) -> dict[int, list[tuple[str, float]]]:
    """The index → (key, score) of every document, best first, recomputed from the models alone."""
    documents = await steps.rows(app, "SELECT key, title, body FROM revec.document ORDER BY id")
    expected = {}
    for index in await steps.written(app, made):
        asked = fake.vector(query, index.space.model)
        stored = fake.vectors([f"{row.title}\n{row.body}" for row in documents], index.space.model)
        scores = stored @ asked
        expected[index.id] = [(documents[n].key, float(scores[n])) for n in np.argsort(-scores)]
    return expected


def assert_of_one_index(seen: Reading, expected: dict[int, list[tuple[str, float]]]) -> None:
    """The same documents, in the same order, with the scores that this index's own model gives."""
    wanted = expected[seen.index_id][: len(seen.hits)]
    assert [hit.id for hit in seen.hits] == [key for key, _ in wanted]
    for hit, (_, score) in zip(seen.hits, wanted, strict=True):
        assert abs(hit.score - score) < 2e-3


async def test_two_hundred_flips_under_readers(ready: world.At, loopback: Loopback) -> None:
    """Every answer is wholly of one index, at an epoch at which that index served; no reader errs."""
    app, made = ready
    expected = await oracle(app, made, QUERY)
    served: dict[int, int] = {}  # epoch → index
    (route,) = await steps.rows(app, "SELECT epoch, serving FROM revec.route")
    served[route.epoch] = route.serving
    readings: list[Reading] = []
    over = asyncio.Event()

    async def read() -> None:
        while not over.is_set():
            readings.append(await app.retriever.search("c", QUERY, k=10, tenant="default"))

    async with asyncio.TaskGroup() as readers:
        for _ in range(2):
            readers.create_task(read())
        for _ in range(FLIPS // 2):
            epoch, _ = await app.commands.switch.cutover(made, why="flip")
            served[epoch] = 2
            epoch, _ = await app.commands.switch.rollback(made, why="flip", now=True)
            served[epoch] = 1
        over.set()

    assert len(served) == FLIPS + 1
    assert max(served) - min(served) == FLIPS  # one epoch a flip, none burnt
    assert len(readings) > FLIPS // 2
    assert {reading.index_id for reading in readings} == {1, 2}
    for reading in readings:
        assert served[reading.epoch] == reading.index_id
        assert_of_one_index(reading, expected)
    await steps.assert_oracle(app, made)


async def test_flips_lose_no_write(ready: world.At, loopback: Loopback) -> None:
    """Documents written between flips are in both indexes, whichever served when they came."""
    app, made = ready
    async with world.working(app):
        for n in range(20):
            await steps.put(app, made, steps.drafts(1, start=100 + n, word="fresh"))
            await (app.commands.switch.cutover if n % 2 == 0 else app.commands.switch.rollback)(
                made, why="flip"
            )
            await steps.delete(app, made, str(n))
    await steps.drain(app)
    assert await steps.rows(app, "SELECT count(*) FROM revec.document") == [(20,)]
    await steps.assert_oracle(app, made)


async def test_cutover_before_ready_is_refused(app: App, loopback: Loopback) -> None:
    """Where it stands, what it needs, and the command that says more; nothing is flipped."""
    made = await steps.filled(app)
    await app.start(made, steps.NEW)
    with pytest.raises(Refused, match=r"c is planned, a cutover needs ready: `revec status c`"):
        await app.commands.switch.cutover(made, why="test")
    assert (await app.serving("c")).id == 1


async def test_old_evidence_refuses_a_cutover(ready: world.At, loopback: Loopback) -> None:
    """Proof older than 24 h is none; a new verification mends it, and so does the conductor by itself."""
    app, made = ready
    await world.age_verdicts(app, 25)
    with pytest.raises(GateNotMet, match=r"completeness passed more than 24 h ago: `revec verify c`"):
        await app.commands.switch.cutover(made, why="test")
    await app.commands.verify(made)
    await app.commands.switch.cutover(made, why="test")
    await app.commands.switch.rollback(made, why="test")

    await world.age_verdicts(app, 25)
    await steps.drain(app)  # ready, stale: judged again without a person
    await app.commands.switch.cutover(made, why="test")


async def test_evidence_of_23_hours_is_fresh(ready: world.At, loopback: Loopback) -> None:
    """The complement: a day is a day."""
    app, made = ready
    await world.age_verdicts(app, 23)
    await app.commands.switch.cutover(made, why="test")


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.INCONCLUSIVE, Outcome.NOT_CONFIGURED])
async def test_only_a_pass_is_a_pass(ready: world.At, loopback: Loopback, outcome: Outcome) -> None:
    """A required gate that failed, cannot tell or was not set up: refused, by the gate's name."""
    app, made = ready
    migration = await world.migration(app, made)
    async with app.database.transaction() as conn:
        await migrations.record(conn, migration, Verdict("fidelity", outcome, "planted"))
    with pytest.raises(GateNotMet, match=rf"gate fidelity has not passed \({outcome}: planted\)"):
        await app.commands.switch.cutover(made, why="test")
    assert (await app.serving("c")).id == 1


async def test_a_gate_that_was_never_judged_refuses(ready: world.At, loopback: Loopback) -> None:
    """Missing data is not a pass."""
    app, made = ready
    await steps.rows(app, "DELETE FROM revec.verdict WHERE gate = 'completeness' RETURNING id")
    with pytest.raises(GateNotMet, match=r"gate completeness has not passed \(not judged yet"):
        await app.commands.switch.cutover(made, why="test")


async def test_the_rehearsal_is_seen_by_nobody(ready: world.At, loopback: Loopback) -> None:
    """It flips and undoes: one epoch for one cutover, its time and both indexes in the evidence."""
    app, made = ready
    (before,) = await steps.rows(app, "SELECT epoch FROM revec.route")
    epoch, seconds = await app.commands.switch.cutover(made, why="test")
    assert epoch == before.epoch + 1
    (rehearsed,) = await steps.rows(app, "SELECT * FROM revec.verdict WHERE gate = 'rehearsal'")
    assert rehearsed.outcome == "PASSED"
    assert rehearsed.evidence["probed"] == ["openai:fake-64#1", "openai:fake-b-96#2"]
    assert 0 < rehearsed.evidence["seconds"] < 5
    assert 0 < seconds < 5


@pytest.mark.parametrize("broken", ["provider", "table"])
async def test_a_failed_rehearsal_flips_nothing(ready: world.At, loopback: Loopback, broken: str) -> None:
    """The new model does not answer, or its table is gone: the gate says so, the old index serves on."""
    app, made = ready
    if broken == "provider":
        loopback.fault("503", times=None, match="document")
    else:
        async with app.database.transaction() as conn:
            await conn.execute("ALTER TABLE revec.vectors_2 RENAME TO elsewhere")
    with pytest.raises(GateNotMet, match="the rehearsal failed, nothing was flipped"):
        await app.commands.switch.cutover(made, why="test")
    assert await world.state(app, made) is State.READY
    loopback.clear()
    assert (await app.retriever.search("c", QUERY, tenant="default")).index_id == 1


async def test_a_held_migration_is_not_cut_over(ready: world.At, loopback: Loopback) -> None:
    """A guard's hold is latched; its reason is in the sentence, and `resume` lifts it."""
    app, made = ready
    await steps.rows(app, "UPDATE revec.migration SET hold = 'errors rose' RETURNING id")
    with pytest.raises(Refused, match=r"errors rose; `revec resume c`"):
        await app.commands.switch.cutover(made, why="test")
    assert "errors rose" in (await world.look(app, made)).next
    await app.commands.resume(made)
    await app.commands.switch.cutover(made, why="test")


async def test_an_index_that_lags_is_not_cut_over_to(ready: world.At, loopback: Loopback) -> None:
    """Proven an hour ago, and an edit waits longer than the goal since: those users would lose it."""
    app, made = ready
    await steps.put(app, made, steps.drafts(1, start=60))
    await steps.rows(
        app, "UPDATE revec.work SET since = since - interval '31 s' WHERE index_id = 2 RETURNING 1"
    )
    with pytest.raises(GateNotMet, match=r"1 documents wait for openai:fake-b-96#2, the oldest for 31 s"):
        await app.commands.switch.cutover(made, why="test")
    await steps.drain(app)
    await app.commands.switch.cutover(made, why="test")


async def test_a_lag_of_the_old_index_is_no_obstacle(ready: world.At, loopback: Loopback) -> None:
    """The complement: it is the new one that users will see."""
    app, made = ready
    await steps.put(app, made, steps.drafts(1, start=60))
    await steps.rows(
        app, "UPDATE revec.work SET since = since - interval '31 s' WHERE index_id = 1 RETURNING 1"
    )
    await app.commands.switch.cutover(made, why="test")


async def test_an_index_that_is_not_written_is_not_cut_over_to(ready: world.At, loopback: Loopback) -> None:
    """Its model lost our trust after the proof: `status` and `cutover` say so, `resume` mends it."""
    app, made = ready
    await steps.rows(app, "UPDATE revec.index SET fault = 'NaN, again' WHERE id = 2 RETURNING 1")
    assert (await world.look(app, made)).next.startswith("NaN, again")
    with pytest.raises(Refused, match=r"fake-b-96#2 is not written: NaN, again; `revec resume c`"):
        await app.commands.switch.cutover(made, why="test")
    await app.commands.resume(made)
    await app.commands.switch.cutover(made, why="test")


async def test_a_rollback_to_an_index_that_is_not_written(live: world.At, loopback: Loopback) -> None:
    """It would miss what came since: said by `status`, refused, and possible with `--now`."""
    app, made = live
    await steps.rows(app, "UPDATE revec.index SET fault = 'NaN, again' WHERE id = 1 RETURNING 1")
    assert "a rollback would miss what came since: NaN, again" in (await world.look(app, made)).rollback
    with pytest.raises(Refused, match=r"NaN, again; `--now` rolls back all the same"):
        await app.commands.switch.rollback(made, why="test")
    await app.commands.switch.rollback(made, why="test", now=True)
    assert (await app.serving("c")).id == 1


# --- the drop --------------------------------------------------------------------------------------


async def test_the_drop_waits_longer_than_a_request(ready: world.At, loopback: Loopback) -> None:
    """`--drop-after 0` still keeps the table until no request that began before the flip can be alive."""
    app, made = ready
    await app.commands.switch.cutover(made, why="test")
    await app.commands.switch.finish(made, wait=timedelta(0), why="test")
    patient = outlook.Limits(freshness=30, deadline=3_600, sample=10, lease=1)
    migration = await world.migration(app, made)
    seen = await outlook.snapshot(app.database, app.store, migration, patient)
    action = decide(seen)
    assert (action.do, action.wait_for) == (Do.WAIT, For.CLOCK)
    assert 3_500 < action.seconds <= 3_600


async def test_the_drop_waits_as_long_as_asked(ready: world.At, loopback: Loopback) -> None:
    """And says how long; nothing else ends the wait."""
    app, made = ready
    await app.commands.switch.cutover(made, why="test")
    await app.commands.switch.finish(made, wait=timedelta(days=7), why="test")
    await steps.drain(app)
    assert await world.state(app, made) is State.FINISHING
    assert "7 more days" in (await world.look(app, made)).next
    await steps.rows(app, "UPDATE revec.route SET changed_at = now() - interval '1 hour' RETURNING 1")
    await steps.rows(app, "UPDATE revec.migration SET drop_after = now() RETURNING 1")
    await steps.drain(app)
    assert await world.state(app, made) is State.FINISHED


async def in_flight(app: App, made: Collection, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A search that has its vector of the old index; the rest of it waits for the event."""
    reached, go_on = asyncio.Event(), asyncio.Event()
    embedded = app.retriever.embedded

    async def held(index: Index, query: str, **how: Any) -> Any:
        vector = await embedded(index, query, **how)
        if query == QUERY and not reached.is_set():
            reached.set()
            await go_on.wait()
        return vector

    monkeypatch.setattr(app.retriever, "embedded", held)
    search = asyncio.create_task(app.retriever.search("c", QUERY, k=10, tenant="default"))
    await reached.wait()
    return search, go_on


async def test_a_search_in_flight_at_the_flip_stays_on_its_index(
    ready: world.At, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It embedded its query for the old index, so it answers from the old index."""
    app, made = ready
    expected = await oracle(app, made, QUERY)
    search, go_on = await in_flight(app, made, monkeypatch)
    await app.commands.switch.cutover(made, why="test")
    go_on.set()
    reading = await search
    assert reading.index_id == 1
    assert_of_one_index(reading, expected)
    assert (await app.retriever.search("c", QUERY, tenant="default")).index_id == 2


async def test_a_search_in_flight_at_the_drop_is_routed_again(
    ready: world.At, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its table went away under it: it asks the route once more and answers wholly from the new index."""
    app, made = ready
    expected = await oracle(app, made, QUERY)
    search, go_on = await in_flight(app, made, monkeypatch)
    await app.commands.switch.cutover(made, why="test")
    await app.commands.switch.finish(made, wait=timedelta(0), why="test")
    await steps.drain(app)
    assert await steps.rows(app, "SELECT to_regclass('revec.vectors_1')") == [(None,)]
    go_on.set()
    reading = await search
    assert reading.index_id == 2
    assert_of_one_index(reading, expected)


async def test_a_search_is_routed_again_once(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, not for ever: a table that is missing for another reason is an error."""
    await steps.filled(app)
    asked = []

    async def nearest(_conn: Any, index: Index, *_: Any, **__: Any) -> Any:
        asked.append(index.id)
        raise NotFound("the table is not there")

    monkeypatch.setattr(app.store, "nearest", nearest)
    with pytest.raises(NotFound):
        await app.retriever.search("c", QUERY, tenant="default")
    assert asked == [1, 1]
