"""What is to be seen of the work, and what a person does to it: every document counted once, none lost."""

from __future__ import annotations

import json
from uuid import uuid4

import psycopg
import pytest

from revec.app import App
from revec.model.document import Draft
from revec.model.errors import BadInput, NotFound
from revec.model.index import Collection, Index
from revec.postgres import collections
from revec.work import letters, overview, queue, steering
from revec.work.letters import Which
from revec.work.overview import Overview, Stats, Thresholds
from revec.work.queue import Claim
from tests import steps
from tests.loopback import Loopback
from tests.work import hands

EXPIRED = (
    "UPDATE revec.work SET lease_until = now() - interval '1 minute' WHERE token IS NOT NULL RETURNING 1"
)
DEAD = "UPDATE revec.worker SET beat_at = now() - make_interval(secs => %(ago)s) RETURNING id"


async def seen(app: App, made: Collection) -> Overview:
    async with app.database.transaction() as conn:
        return await overview.overview(conn, made)


async def stats(app: App, made: Collection) -> Stats:
    (one,) = (await seen(app, made)).indexes
    return one


async def claimed(app: App, index: Index, *, beats: float) -> Claim:
    """By a worker whose heart beat so many seconds ago."""
    worker = uuid4()
    async with app.database.transaction("worker") as conn:
        await queue.beat(conn, queue.Beat(worker, "ship", 7, 1, 0.0, 100.0, 1.0, None))
        found = await queue.claim(conn, index.id, queue.LIVE, size=2, lease=600, worker=worker)
    await steps.rows(app, DEAD, ago=beats)
    return found


async def rescued(app: App, index: Index, **how: float) -> int:
    async with app.database.transaction("worker") as conn:
        return await steering.rescue(conn, [index.id], **how)


async def cancelled(app: App, index: Index, *keys: str, edits: bool = True) -> int:
    async with app.database.transaction("worker") as conn:
        return await steering.cancel(conn, [index.id], "not wanted", Which(keys=keys or None), edits=edits)


async def test_every_document_is_counted_once(app: App, loopback: Loopback) -> None:
    """Done, waiting, in hand, failed and excluded are all of them, at every moment."""
    loopback.fault("refuse", times=None, match="poison")
    made = await steps.filled(app, 6)
    await steps.put(app, made, [*steps.drafts(1, start=50, word="poison"), *steps.drafts(1, start=60)])
    await steps.put(app, made, [Draft("empty", "", " ")])
    await steps.drain(app)
    await steps.put(app, made, steps.drafts(4, start=100))
    (index,) = await steps.written(app, made)
    await hands.claim(app, index, size=1)
    one = await stats(app, made)
    assert (one.documents, one.done, one.waiting, one.in_hand) == (13, 7, 3, 1)
    assert (one.failed, one.excluded, one.to_come, one.silent) == (1, 1, 0, 0)
    assert len(await steps.rows(app, EXPIRED)) == 1
    assert (await stats(app, made)).expired == 1
    await steps.drain(app)
    assert (await stats(app, made)).done == 11
    await steps.delete(app, made, "50")
    await steps.drain(app)
    await steps.assert_oracle(app, made)


async def test_health_says_what_is_wrong_and_the_way_out(app: App) -> None:
    """Nothing is wrong with an empty queue without a worker; work that nobody does is."""
    made = await steps.filled(app, 3)
    assert all(each.passed for each in overview.judged(await seen(app, made), Thresholds(), name="c"))
    await steps.put(app, made, steps.drafts(2, start=10))
    bad = [each for each in overview.judged(await seen(app, made), Thresholds(), name="c") if not each.passed]
    assert [(each.check, each.why) for each in bad] == [("workers", "0 of 1: run `revec worker`")]
    await steps.rows(app, "UPDATE revec.work SET since = now() - interval '1 hour' RETURNING 1")
    limits = Thresholds(oldest=600, workers=0)
    bad = [each for each in overview.judged(await seen(app, made), limits, name="c") if not each.passed]
    assert [each.check for each in bad] == ["oldest edit"]
    await steps.drain(app)
    await steps.assert_oracle(app, made)


async def test_what_a_dead_worker_holds_is_freed(app: App, loopback: Loopback) -> None:
    """Long before its lease runs out; also its right to pay. Whoever comes next does it all, once."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(2))
    loopback.clear()
    claim = await claimed(app, index, beats=60)
    async with app.database.transaction("worker") as conn:
        await queue.lease_payment(conn, index.space.id, [b"text"], 600, worker=claim.token)
    assert (await stats(app, made)).silent == 2
    assert await rescued(app, index) == 2
    assert await steps.rows(app, "SELECT FROM revec.paid WHERE lease_until > now()") == []
    await steps.drain_soon(app)
    assert len(loopback.bill()) == 2
    async with app.database.transaction("worker") as conn:
        assert await queue.settle(conn, claim) == 0, "the dead one came back, and is held off"
    await hands.assert_oracle(app, made)


async def test_a_worker_that_leaves_hands_back_what_it_holds(app: App, loopback: Loopback) -> None:
    """While its heart still beats; and nothing that its neighbour holds."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(1))
    leaving = await claimed(app, index, beats=0)
    await steps.put(app, made, steps.drafts(1, start=5))
    staying = await claimed(app, index, beats=0)
    whose = "SELECT id FROM revec.worker WHERE left(id::text, 18) = left(%(t)s::text, 18)"
    ((worker,),) = await steps.rows(app, whose, t=leaving.token)
    async with app.database.transaction("worker") as conn:
        assert await steering.hand_back(conn, worker) == 1
        assert await queue.settle(conn, leaving) == 0, "it is not its own any more"
    assert len(await steps.rows(app, "SELECT FROM revec.work WHERE lease_until > now()")) == 1
    async with app.database.transaction("worker") as conn:
        await queue.release(conn, staying, blameless=True)
    await steps.drain_soon(app)
    await hands.assert_oracle(app, made)


async def test_nothing_is_taken_from_a_worker_that_lives(app: App) -> None:
    """However long its lease is, and however long it has been at it; a short silence is no death."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(2))
    claim = await claimed(app, index, beats=14)
    assert await rescued(app, index, silence=15) == 0
    with pytest.raises(BadInput, match="every 5 s: say 15 s or more"):
        await rescued(app, index, silence=5)
    async with app.database.transaction("worker") as conn:
        await queue.release(conn, claim, blameless=True)
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def test_cancelled_work_is_left_out_and_taken_up_again(app: App) -> None:
    """With its reason, counted, until the content changes or a person asks for it."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(4))
    assert await cancelled(app, index, "0", "1", "2") == 3
    await steps.drain(app)
    assert ((await stats(app, made)).excluded, (await stats(app, made)).done) == (3, 1)
    await steps.put(app, made, [steps.drafts(1, word="edited")[0]])
    await steps.drain(app)
    assert (await stats(app, made)).excluded == 2
    async with app.database.transaction("worker") as conn:
        assert await steering.readmit(conn, [index.id], Which(keys=["1"])) == 1
        assert await steering.readmit(conn, [index.id], Which()) == 1
    await steps.drain(app)
    assert (await stats(app, made)).done == 4
    await hands.assert_oracle(app, made)


async def test_edits_are_not_cancelled_with_the_backfill(app: App) -> None:
    """Somebody just wrote them; unless they are meant too, or named."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(4))
    await steps.rows(app, "UPDATE revec.work SET lane = 2 WHERE doc_id = 1 RETURNING 1")
    await steps.rows(app, "UPDATE revec.work SET lane = 1 WHERE doc_id = 2 RETURNING 1")
    assert await cancelled(app, index, edits=False) == 1
    assert [row.lane for row in await hands.work(app)] == [1, 0, 0]
    assert await cancelled(app, index, "3", edits=False) == 1
    assert await cancelled(app, index) == 2
    async with app.database.transaction("worker") as conn:
        assert await steering.readmit(conn, [index.id], Which()) == 4
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def test_many_are_estimated_and_said_to_be(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks every second does not read all there is; a figure that was counted is exact."""
    made = await steps.filled(app, 30)
    await steps.put(app, made, steps.drafts(20, start=100))
    assert (await stats(app, made)).rough == ()
    monkeypatch.setattr(overview, "COUNTED", 10)
    async with app.database.transaction() as conn:
        await conn.execute("ANALYZE revec.document, revec.work")
    one = await stats(app, made)
    assert {"documents", "done", "waiting", "live"} <= set(one.rough)
    assert (one.documents, one.waiting, one.done, one.failed) == (50, 20, 30, 0)
    assert "failed" not in one.rough
    await steps.drain(app)
    await steps.assert_oracle(app, made)


async def test_a_long_backfill_hides_neither_edits_nor_leases(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few rows are looked at: health finds the old edit, and what nobody has taken up again."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(40))
    await steps.rows(app, "UPDATE revec.work SET lane = 2 WHERE doc_id <= 38 RETURNING 1")
    await steps.rows(
        app, "UPDATE revec.work SET since = now() - interval '40 minutes' WHERE lane = 0 RETURNING 1"
    )
    async with app.database.transaction("worker") as conn:
        await queue.claim(conn, index.id, queue.BACKFILL, size=1, lease=60)
    assert len(await steps.rows(app, EXPIRED)) == 1
    monkeypatch.setattr(overview, "COUNTED", 5)
    async with app.database.transaction() as conn:
        await conn.execute("ANALYZE revec.work")
    now = await seen(app, made)
    (one,) = now.indexes
    assert (one.live, one.expired) == (2, 1)
    assert one.oldest_seconds == pytest.approx(2_400, abs=60)
    assert {"backfill", "expired"} <= set(one.rough)
    assert not {"live", "oldest_seconds"} & set(one.rough), "edits were all counted"
    bad = overview.judged(now, Thresholds(workers=0), name="c")
    assert [each.check for each in bad if not each.passed] == ["oldest edit", "stuck"]
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def test_leases_of_a_long_lane_are_not_multiplied(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its head is where leases are: what was seen there is no share of all."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(40))
    claim = await claimed(app, index, beats=60)
    monkeypatch.setattr(overview, "COUNTED", 5)
    async with app.database.transaction() as conn:
        await conn.execute("ANALYZE revec.work")
    one = await stats(app, made)
    assert (one.in_hand, one.silent, one.waiting, one.live) == (2, 2, 38, 40)
    async with app.database.transaction("worker") as conn:
        await queue.release(conn, claim, blameless=True)
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def test_a_look_that_takes_too_long_is_given_up(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await steps.filled(app, 1)
    monkeypatch.setattr(overview, "PATIENCE", 0.05)
    async with app.database.transaction() as holding:
        await holding.execute("LOCK TABLE revec.dead IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(psycopg.errors.QueryCanceled):
            await seen(app, made)


async def test_what_somebody_has_in_hand_is_not_cancelled(app: App) -> None:
    """It is paid for already."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(3))
    claim = await hands.claim(app, index, size=2)
    assert await cancelled(app, index) == 1
    async with app.database.transaction("worker") as conn:
        await queue.release(conn, claim, blameless=True)
        assert await steering.readmit(conn, [index.id], Which()) == 1
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def test_an_edit_is_not_cancelled_with_what_it_replaced(app: App) -> None:
    """Whoever cancels has seen the old content: newer work stays."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(1))
    await steps.rows(
        app, "UPDATE revec.work SET rev = rev + 1 RETURNING rev"
    )  # an edit that we do not see yet
    assert await cancelled(app, index) == 0
    await steps.rows(app, "UPDATE revec.work SET rev = rev - 1 RETURNING rev")
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def test_a_document_is_shown_with_its_timeline(app: App, loopback: Loopback) -> None:
    """Cause, attempts, what was asked for and what came of it, in the order of time; never a text or a key."""
    loopback.fault("refuse", times=None, match="poison")
    made = await steps.filled(app, 2)
    await steps.put(app, made, steps.drafts(1, start=9, word="poison"))
    await steps.drain(app)
    async with app.database.transaction() as conn:
        shown = await overview.shown(conn, made, "9", None)
    (state,) = shown["indexes"]
    assert (state["state"], state["attempts"]) == ("failed", 1)
    assert "not to our taste" in state["cause"]
    assert [event["what"].split(":")[0] for event in shown["timeline"]] == [
        "its content was written",
        "it failed",
    ]
    assert "text of poison" not in json.dumps(shown, default=str)
    loopback.clear()
    (index,) = await steps.written(app, made)
    async with app.database.transaction() as conn:
        await letters.retry(conn, made, [index.id], who="test")
    await steps.drain(app)
    async with app.database.transaction() as conn:
        shown = await overview.shown(conn, made, "9", collections.PUSH)
        with pytest.raises(NotFound, match="no document 'never'"):
            await overview.shown(conn, made, "never", None)
    assert shown["indexes"][0]["state"] == "done"
    assert shown["timeline"][-1]["what"] == "that ended: retry_success"
    await steps.assert_oracle(app, made)


async def test_everything_is_exported_page_by_page(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each document once, whatever became of it."""
    monkeypatch.setattr(overview, "PAGE", 3)
    made = await steps.filled(app, 7)
    await steps.put(app, made, steps.drafts(2, start=20))
    (index,) = await steps.written(app, made)
    lines = [line async for line in overview.exported(app.database, index)]
    assert sorted(line["key"] for line in lines) == sorted([*map(str, range(7)), "20", "21"])
    assert [line["state"] for line in lines].count("done") == 7
    assert {line["state"] for line in lines if line["key"] in ("20", "21")} == {"waiting"}
    await steps.drain(app)
    await steps.assert_oracle(app, made)
