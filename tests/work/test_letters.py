"""Dead letters by cause, what a person does to them, and that taken back: as far as nothing touched them since."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from revec.app import App
from revec.model.errors import NotFound, Refused
from revec.model.index import Collection, Index
from revec.work import letters, overview, queue, steering
from revec.work.letters import Cause, Deed, Which
from tests import steps
from tests.loopback import Loopback
from tests.work import hands

SAME = (
    (
        "the input (400: 9,012 tokens, at most 8192): shorten it",
        "the input (400: 12 tokens, at most 8192): shorten it",
    ),
    ("document 'my 7th' of req_8f3a-11", "document 'Ωmega' of req_00"),
    ("https://a.b/v1/batches/8f3 said  no", "https://a.b/v1/batches/91 said no"),
    ('the model said "first"', 'the model said "second"'),
)
OLD = "UPDATE revec.deed SET at = now() - interval '1 hour' RETURNING id"


async def failed(app: App, loopback: Loopback, count: int = 3) -> tuple[Collection, Index]:
    """So many documents are refused; their neighbour is done."""
    made, index = await hands.indexed(app)
    loopback.fault("refuse", times=None, match="poison")
    await steps.put(app, made, [*steps.drafts(count, word="poison"), *steps.drafts(1, start=50)])
    await steps.drain(app)
    loopback.clear()
    return made, index


async def retried(app: App, made: Collection, index: Index, which: Which = letters.EVERY) -> Deed:
    async with app.database.transaction("worker") as conn:
        return await letters.retry(conn, made, [index.id], which, who="ann")


async def discarded(app: App, made: Collection, index: Index, which: Which = letters.EVERY) -> Deed:
    async with app.database.transaction("worker") as conn:
        return await letters.discard(conn, made, [index.id], "drafts", which, who="ann")


async def undone(app: App, made: Collection, deed: int | None = None, *, who: str = "ann") -> Deed:
    async with app.database.transaction("worker") as conn:
        return await letters.undo(conn, made, deed, who=who)


async def causes(app: App, index: Index) -> list[Cause]:
    async with app.database.transaction("worker") as conn:
        return await letters.causes(conn, [index.id])


async def waiting(app: App, index: Index) -> list[str]:
    """The keys of the letters that wait for a person."""
    async with app.database.transaction("worker") as conn:
        return sorted(row.key for row in await letters.listed(conn, [index.id]))


async def assert_all_done(app: App, made: Collection, index: Index) -> None:
    """Whatever was done before: another try of all that is dead, and nothing is lost."""
    await retried(app, made, index)
    await steps.drain(app)
    async with app.database.transaction("worker") as conn:
        await steering.readmit(conn, [index.id], letters.EVERY)
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def kept(app: App) -> list[Any]:
    """All that a letter is."""
    return await steps.rows(app, "SELECT d::text FROM revec.dead d ORDER BY index_id, doc_id")


@pytest.mark.parametrize(("one", "other"), SAME)
async def test_causes_that_differ_in_ids_and_numbers_are_one(app: App, one: str, other: str) -> None:
    """And another trouble is another one."""
    patterns = (
        "SELECT revec.pattern(%(a)s) AS a, revec.pattern(%(b)s) AS b, revec.pattern('no such model') AS c"
    )
    (row,) = await steps.rows(app, patterns, a=one, b=other)
    assert row.a == row.b != row.c == "no such model"


async def test_letters_are_counted_by_cause_with_a_sample(app: App, loopback: Loopback) -> None:
    """The most frequent first; what was tried again is no longer among them."""
    made, index = await failed(app, loopback)
    await steps.rows(
        app, "UPDATE revec.dead SET cause = 'too long: ' || doc_id WHERE doc_id % 2 = 1 RETURNING 1"
    )
    found = await causes(app, index)
    assert [each.letters for each in found] == [2, 1]
    assert "too long: #" in {each.pattern for each in found}
    assert {each.key for each in found} <= {"0", "1", "2"}
    await retried(app, made, index, Which(like=found[0].pattern))
    assert [each.letters for each in await causes(app, index)] == [1]
    await assert_all_done(app, made, index)


async def test_a_page_of_letters_goes_on_behind_the_last(app: App, loopback: Loopback) -> None:
    _, index = await failed(app, loopback)
    async with app.database.transaction("worker") as conn:
        first = await letters.listed(conn, [index.id], 2)
        last = first[-1]
        rest = await letters.listed(conn, [index.id], 2, after=(index.id, last.pattern, last.doc_id))
    assert [len(first), len(rest)] == [2, 1]
    assert {row.key for row in (*first, *rest)} == {"0", "1", "2"}


async def test_a_retry_is_taken_back(app: App, loopback: Loopback) -> None:
    """The letters are what they were, nothing is embedded, and the deed says who did what."""
    made, index = await failed(app, loopback)
    before = await kept(app)
    loopback.clear()
    deed = await retried(app, made, index)
    assert (deed.letters, deed.who, deed.undo_seconds > 0) == (3, "ann", True)
    assert await waiting(app, index) == []
    back = await undone(app, made, deed.id, who="bob")
    assert (back.id, back.returned, back.undone_by, back.undo_seconds) == (deed.id, 3, "bob", 0)
    assert await kept(app) == before
    await steps.drain(app)
    assert len(loopback.bill()) == 0
    await assert_all_done(app, made, index)


async def test_what_was_touched_since_is_not_taken_back(app: App, loopback: Loopback) -> None:
    """A worker has one in hand, another was edited, a third deleted: theirs goes on."""
    made, index = await failed(app, loopback, 4)
    await retried(app, made, index)
    held = await hands.claim(app, index, size=1)
    (key,) = await steps.rows(app, "SELECT key FROM revec.document WHERE id = %(id)s", id=held.jobs[0].doc_id)
    edited, gone, untouched = [each for each in ("0", "1", "2", "3") if each != key.key]
    await steps.put(app, made, [steps.drafts(1, start=int(edited), word="honey")[0]])
    await steps.delete(app, made, gone)
    assert (await undone(app, made)).returned == 1
    assert await waiting(app, index) == [untouched]
    assert len(await hands.work(app)) == 3
    await hands.expire(app)
    await steps.drain(app)
    assert await waiting(app, index) == [untouched]
    await assert_all_done(app, made, index)


async def test_an_undo_touches_its_own_only(app: App, loopback: Loopback) -> None:
    """What another deed tried again, or discarded, stays so."""
    made, index = await failed(app, loopback, 4)
    first = await retried(app, made, index, Which(keys=["0"]))
    await retried(app, made, index, Which(keys=["1"]))
    out = await discarded(app, made, index, Which(keys=["2"]))
    await discarded(app, made, index, Which(keys=["3"]))
    assert (await undone(app, made, first.id)).returned == 1
    assert await waiting(app, index) == ["0"]
    assert (await undone(app, made, out.id)).returned == 1
    assert await waiting(app, index) == ["0", "2"]
    assert len(await hands.work(app)) == 1
    await assert_all_done(app, made, index)


async def test_an_undo_without_a_number_is_of_one_s_own_last_deed(app: App, loopback: Loopback) -> None:
    """What somebody else did later stays; who did nothing hears how to take back what others did."""
    made, index = await failed(app, loopback)
    mine = await retried(app, made, index, Which(keys=["0"]))
    async with app.database.transaction("worker") as conn:
        await letters.retry(conn, made, [index.id], Which(keys=["1"]), who="bob")
    assert (await undone(app, made)).id == mine.id
    assert await waiting(app, index) == ["0", "2"]
    with pytest.raises(NotFound, match="eve did nothing to dead letters of c: .* --deed N` takes one"):
        await undone(app, made, who="eve")
    assert (await undone(app, made, who="bob")).returned == 1
    await assert_all_done(app, made, index)


async def test_a_retry_and_a_burial_wait_for_each_other_in_one_order(app: App, loopback: Loopback) -> None:
    """A retry that waits for work which a worker has in hand holds no letter that the worker writes next."""
    made, index = await failed(app, loopback, 2)
    _, second = await steps.rows(app, "SELECT doc_id, input_hash FROM revec.dead ORDER BY index_id, doc_id")
    async with app.database.transaction("worker") as conn:
        await queue.enqueue(conn, index.id, [second.doc_id], queue.LIVE)
    claim = await hands.claim(app, index)
    async with app.database.transaction("worker") as worker:
        await worker.execute("SELECT FROM revec.work WHERE doc_id = %s FOR UPDATE", (second.doc_id,))
        retry = asyncio.create_task(retried(app, made, index))
        await hands.until(lambda: hands.lock_waiters(app))
        burying = queue.bury(worker, claim, claim.jobs[0], second.input_hash, "again")
        assert not await hands.has_to_wait(worker, burying)
    assert (await retry).letters == 2
    assert len(await hands.work(app)) == 2  # also of what was buried meanwhile
    await steps.drain(app)
    await assert_all_done(app, made, index)


async def test_a_retry_that_waits_for_a_discard_brings_nothing_back(app: App, loopback: Loopback) -> None:
    """What was decided meanwhile stays decided."""
    made, index = await failed(app, loopback)
    async with app.database.transaction("worker") as conn:
        await letters.discard(conn, made, [index.id], "drafts", who="bob")
        retry = asyncio.create_task(retried(app, made, index))
        await hands.until(lambda: hands.lock_waiters(app))
    assert (await retry).letters == 0
    assert await hands.work(app) == []
    await steps.drain(app)
    assert len(await steps.rows(app, "SELECT FROM revec.excluded")) == 3


async def test_a_discard_is_taken_back(app: App, loopback: Loopback) -> None:
    """As if nobody had; but a document that was edited since has its own way."""
    made, index = await failed(app, loopback)
    before = await kept(app)
    deed = await discarded(app, made, index)
    assert deed.letters == 3
    assert len(await steps.rows(app, "SELECT FROM revec.excluded")) == 3
    assert (await undone(app, made)).returned == 3
    assert await kept(app) == before
    assert await steps.rows(app, "SELECT FROM revec.dead_settled") == []
    await discarded(app, made, index)
    await steps.put(app, made, steps.drafts(1, word="honey"))
    assert (await undone(app, made)).returned == 2
    assert await waiting(app, index) == ["1", "2"]
    await steps.drain(app)
    async with app.database.transaction() as conn:
        (one,) = (await overview.overview(conn, made)).indexes
    assert (one.done, one.failed, one.excluded) == (2, 2, 0)
    await assert_all_done(app, made, index)


async def test_what_is_undone_or_long_ago_is_not_undone(app: App, loopback: Loopback) -> None:
    """Each is refused in a sentence; so is a deed of another collection."""
    made, index = await failed(app, loopback)
    other = await steps.collection(app, "d", model=None)
    with pytest.raises(NotFound, match="ann did nothing"):
        await undone(app, made)
    await retried(app, made, index, Which(keys=["0"]))
    with pytest.raises(NotFound, match="no deed 1"):
        await undone(app, other, 1)
    await undone(app, made)
    with pytest.raises(Refused, match="undone already"):
        await undone(app, made)
    await retried(app, made, index, Which(keys=["0"]))
    await steps.rows(app, OLD)
    with pytest.raises(Refused, match="more than 10 minutes old"):
        await undone(app, made)
    assert [each.undo_seconds for each in await deeds(app, made)] == [0, 0]
    await assert_all_done(app, made, index)


async def deeds(app: App, made: Collection) -> list[Deed]:
    async with app.database.transaction("worker") as conn:
        return await letters.deeds(conn, made)
